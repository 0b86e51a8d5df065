"""The whole method behind one object: fit it to scenes, then ask it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from typing import Literal, Self, TypeAlias

from jaxtyping import Float, Int
from torch import Tensor

from bouncegrad.devices import Device, device_named
from bouncegrad.evaluation.score import Score, score
from bouncegrad.fit import fit
from bouncegrad.hidden import Effort, HiddenCount, HiddenPosterior, count_hidden, find_hidden
from bouncegrad.inference import Mode, Posterior, infer, place_start, predict, weakest_kind
from bouncegrad.inference.search import check_prior
from bouncegrad.model_card import Origin, origin_of_fit, read_origin, save_pretrained
from bouncegrad.models.checkpoint import load_model
from bouncegrad.models.model import Model
from bouncegrad.recipes import RECIPES, Recipe, recipe_named, with_kinds, with_prior
from bouncegrad.scenes import Scenes, read_part
from bouncegrad.structures.priors import check_possible
from bouncegrad.training import EpochReport

Source: TypeAlias = Scenes | str | os.PathLike[str]
"""Scenes, or where they lie: one ``.npz``, or a folder of splits, of which "train" is fitted to and "test" asked
about."""

STEP_TOLERANCE = 0.01
"""Relative difference up to which two time steps are the same."""


class NotFittedError(ValueError, AttributeError):
    """Something was asked of an estimator that knows nothing yet."""


class RelationalModel:
    """Who acts on whom, in which way, and what happens next: learned from scenes, asked of others.

    Each method is one of the functions of the package (:func:`bouncegrad.fit`, :func:`bouncegrad.infer`, ...) on
    the model that was learned or loaded, which is :attr:`model`. Scenes are :class:`bouncegrad.Scenes` or where they
    lie (:func:`bouncegrad.read_scenes`); of a folder, ``fit`` takes the split "train" and all others "test".

    Args:
        recipe: the name of a recipe, or a recipe of your own.
        kinds: number of edge types to begin with, of which those that are not needed are merged; "auto": a few,
            where the recipe can merge kinds (search "exact", no silent kind), else None; None: as many as the recipe
            has, all of which stay.
        prior: the prior over latent graphs, a name in :data:`bouncegrad.structures.priors.PRIORS`, in training with
            an exact search and in inference; "auto": the one with the most evidence on held-out scenes.
        minutes: how long to learn; None: for the recipe's number of epochs, on the CPU repeatable to the bit.
        seed: of all randomness.
        device: where modules compute (:mod:`bouncegrad.devices`); they are saved as from anywhere.

    Raises:
        ValueError: an unknown recipe or prior, kinds that cannot be, or that the prior cannot treat, or a device that
            is not there.

    Example:
        >>> RelationalModel(kinds=3, seed=1)
        RelationalModel(kinds=3, seed=1)
        >>> RelationalModel.from_pretrained("springs5").model.feature_names
        ('x', 'y', 'vx', 'vy')
    """

    def __init__(
        self,
        recipe: str | Recipe = "fast",
        kinds: int | Literal["auto"] | None = "auto",
        *,
        prior: str = "auto",
        minutes: float | None = None,
        seed: int = 0,
        device: Device = "cpu",
    ) -> None:
        check_prior(prior)
        device_named(device)
        self.recipe, self.prior, self.minutes, self.seed, self.device = recipe, prior, minutes, seed, str(device)
        self.kinds: int | Literal["auto"] | None = kinds
        network = with_kinds(self._settings(), self._kinds(), 2).model.network
        check_possible(prior, network.num_edge_kinds, network.num_node_kinds)
        self._learned: tuple[Model, Origin] | None = None

    def __repr__(self) -> str:
        defaults = {"recipe": "fast", "kinds": "auto", "prior": "auto", "minutes": None, "seed": 0, "device": "cpu"}
        set_here = {name: getattr(self, name) for name in defaults if getattr(self, name) != defaults[name]}
        shown = (f"{name}={'Recipe(...)' if isinstance(x, Recipe) else repr(x)}" for name, x in set_here.items())
        return f"RelationalModel({', '.join(shown)})"

    @property
    def model(self) -> Model:
        """The modules that were learned or loaded.

        Raises:
            NotFittedError: there are none yet.
        """
        return self._known()[0]

    @property
    def origin(self) -> Origin:
        """Where they come from.

        Raises:
            NotFittedError: there are none yet.
        """
        return self._known()[1]

    def fit(self, scenes: Source, watch: Callable[[EpochReport], None] | None = None) -> Self:
        """Learn from unlabelled scenes (:func:`bouncegrad.fit`); returns itself.

        Args:
            scenes: to learn from; a tenth of them is held out and only chooses between epochs.
            watch: called after each epoch.
        """
        data, kinds = _read(scenes, "train"), self._kinds()
        how = {"minutes": self.minutes, "seed": self.seed, "device": self.device}
        model = fit(data, self._settings(), kinds=kinds, watch=watch, **how)
        self._learned = model, origin_of_fit(model, data, self.recipe, kinds, self.seed)
        return self

    def infer(self, scenes: Source, *, horizon: int = 1, mode: Mode = "search") -> Posterior:
        """Who acts on whom, with probabilities (:func:`bouncegrad.infer`)."""
        data = self._asked(scenes)
        return infer(self.model, data, prior=self.prior, horizon=horizon, mode=mode, seed=self.seed)

    def predict(
        self,
        scenes: Source,
        *,
        start: int = -1,
        num_steps: int,
        structures: Int[Tensor, "scene slot"] | None = None,
    ) -> Float[Tensor, "scene step entity feature"]:
        """What comes after sample ``start`` (-1 = the last), in the units of the scenes (:func:`bouncegrad.predict`).

        Args:
            scenes: where to start from.
            start: index of the sample.
            num_steps: how far.
            structures: ``posterior.structures``; None: they are inferred from the samples up to ``start``.

        Raises:
            DataError: a start outside the scenes, too few samples up to it to infer from, or no step to predict.
        """
        data = self._asked(scenes)
        if structures is None:
            data, start = place_start(self.model, data, start)
            structures = infer(self.model, data.between(0, start + 1), prior=self.prior, seed=self.seed).structures
        return predict(self.model, data, structures, start=start, num_steps=num_steps)

    def score(self, scenes: Source) -> Score:
        """How good it is on scenes it has not seen (:func:`bouncegrad.score`); relations are compared if known."""
        return score(self.model, self._asked(scenes), prior=self.prior)

    def weakest_kind(self, scenes: Source) -> int | None:
        """The kind that does nothing, None where every kind acts (:func:`bouncegrad.inference.weakest_kind`)."""
        return weakest_kind(self.model, self._asked(scenes))

    def find_hidden(
        self, scenes: Source, num_hidden: int = 1, *, effort: Effort | None = None, widening: float = 1.0
    ) -> HiddenPosterior:
        """Entities that were not observed: tracks, bands, relations (:func:`bouncegrad.find_hidden`)."""
        options = {"prior": self.prior, "effort": effort, "widening": widening, "seed": self.seed}
        return find_hidden(self.model, self._asked(scenes), num_hidden, **options)

    def count_hidden(
        self, scenes: Source, candidates: Sequence[int] = (0, 1, 2), *, effort: Effort | None = None
    ) -> HiddenCount:
        """How many entities are hidden (:func:`bouncegrad.count_hidden`)."""
        data = self._asked(scenes)
        return count_hidden(self.model, data, candidates, prior=self.prior, effort=effort, seed=self.seed)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write weights, configuration and a card into a folder (:func:`bouncegrad.model_card.save_pretrained`)."""
        save_pretrained(folder, self.model, self.origin)

    @classmethod
    def from_pretrained(
        cls, folder: str | os.PathLike[str], *, prior: str = "auto", seed: int = 0, device: Device = "cpu"
    ) -> Self:
        """A fitted estimator, from a folder or run folder, or by one of :func:`bouncegrad.pretrained_names`.

        Its ``recipe`` and ``kinds`` are those of the fit where they are known; else the settings of the model with the
        default training, and None.

        Args:
            folder: where it lies, or its name; a folder that holds a model goes before a name.
            prior: under which graphs are read from now on.
            seed: of what is drawn from now on.
            device: where modules compute from now on.

        Raises:
            CheckpointError: there is no model, it was written by a newer version, or its files were changed.
            ValueError: a device that is not there.
        """
        model, origin = load_model(folder, device), read_origin(folder)
        recipe = origin.recipe if origin.recipe in RECIPES else Recipe(model.config)
        loaded = cls(recipe, origin.kinds, prior=prior, seed=seed, device=device)
        loaded._learned = model, origin
        return loaded

    def _settings(self) -> Recipe:
        return with_prior(recipe_named(self.recipe) if isinstance(self.recipe, str) else self.recipe, self.prior)

    def _kinds(self) -> int | Literal["auto"] | None:
        """With "auto" only where kinds can be merged."""
        recipe = self._settings()
        can_merge = recipe.training.bounce.search == "exact" and not recipe.model.network.silent_first
        return None if self.kinds == "auto" and not can_merge else self.kinds

    def _known(self) -> tuple[Model, Origin]:
        if self._learned is None:
            raise NotFittedError(
                "this RelationalModel has learned nothing yet: call .fit(scenes) first, or load one with "
                "RelationalModel.from_pretrained"
            )
        return self._learned

    def _asked(self, scenes: Source) -> Scenes:
        """The scenes asked about, with a warning where samples lie further apart than those that were learned from."""
        known = self.origin.time_step
        data = _read(scenes, "test")
        if known is not None and abs(data.time_step / known - 1) > STEP_TOLERANCE:
            warnings.warn(
                f"the model was fitted to samples {known:g} apart, these are {data.time_step:g} apart: it predicts "
                "from one sample to the next, so take samples as far apart as those, or fit a model to these",
                stacklevel=3,
            )
        return data


def _read(scenes: Source, split: str) -> Scenes:
    if isinstance(scenes, Scenes):
        return scenes
    return read_part(scenes, split)
