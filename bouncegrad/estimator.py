"""Estimator in the manner of scikit-learn: fit a relational model to scenes, then infer, predict and score with it."""

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
"""Scenes, or the path of their file: one ``.npz``, or a folder of splits, of which ``fit`` reads "train" and all other
methods "test"."""

STEP_TOLERANCE = 0.01
"""Relative difference up to which two time steps count as equal."""


class NotFittedError(ValueError, AttributeError):
    """An estimator without a fitted or loaded model is asked to infer, predict or score."""


class RelationalModel:
    """Relational model with ``fit``, ``infer``, ``predict`` and ``score``: edge types and dynamics learned from scenes.

    Each method applies a function of the package (:func:`bouncegrad.fit`, :func:`bouncegrad.infer`, ...) to
    :attr:`model`, the fitted or loaded one. Scenes are :class:`bouncegrad.Scenes` or a path
    (:func:`bouncegrad.read_scenes`); from a folder, ``fit`` reads the split "train" and all other methods "test".

    Args:
        recipe: the name of a recipe, or a :class:`bouncegrad.Recipe`.
        kinds: number of edge types at the start of training; those that are not needed are merged. "auto": a few,
            where the recipe can merge edge types (search "exact", no silent kind), else None. None: as many as the
            recipe has, none of which are merged.
        prior: prior over latent graphs, a name in :data:`bouncegrad.structures.priors.PRIORS`, used during training
            with search "exact" and for inference; "auto": the prior with the most evidence on held-out scenes.
        minutes: training time; None: the recipe's number of epochs, on the CPU repeatable to the bit.
        seed: seed of all randomness.
        device: device of the modules (:mod:`bouncegrad.devices`); a saved model loads on any device.

    Raises:
        ValueError: an unknown recipe or prior, an impossible number of edge types, one for which the prior is not
            defined, or a device that does not exist.

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
        """The fitted or loaded model.

        Raises:
            NotFittedError: there is none yet.
        """
        return self._fitted()[0]

    @property
    def origin(self) -> Origin:
        """Provenance of the model: recipe, data, figures and versions.

        Raises:
            NotFittedError: there is no model yet.
        """
        return self._fitted()[1]

    def fit(self, scenes: Source, watch: Callable[[EpochReport], None] | None = None) -> Self:
        """Train on unlabelled scenes (:func:`bouncegrad.fit`); returns itself.

        Args:
            scenes: training scenes; a tenth of them is held out and only selects the best epoch.
            watch: called after each epoch.
        """
        data, kinds = _read(scenes, "train"), self._kinds()
        how = {"minutes": self.minutes, "seed": self.seed, "device": self.device}
        model = fit(data, self._settings(), kinds=kinds, watch=watch, **how)
        self._learned = model, origin_of_fit(model, data, self.recipe, kinds, self.seed)
        return self

    def infer(self, scenes: Source, *, horizon: int = 1, mode: Mode = "search") -> Posterior:
        """Posterior of the edge type of each ordered pair (:func:`bouncegrad.infer`)."""
        data = self._scenes_of(scenes)
        return infer(self.model, data, prior=self.prior, horizon=horizon, mode=mode, seed=self.seed)

    def predict(
        self,
        scenes: Source,
        *,
        start: int = -1,
        num_steps: int,
        structures: Int[Tensor, "scene slot"] | None = None,
    ) -> Float[Tensor, "scene step entity feature"]:
        """Rollout from sample ``start`` (-1 = the last), in the units of the scenes (:func:`bouncegrad.predict`).

        Args:
            scenes: scenes with the start states.
            start: index of the sample from which the rollout starts.
            num_steps: number of predicted steps.
            structures: structures (latent graphs) such as ``posterior.structures``; None: inferred from the samples up
                to ``start``.

        Raises:
            DataError: a start outside the scenes, too few samples up to it to infer from, or no step to predict.
        """
        data = self._scenes_of(scenes)
        if structures is None:
            data, start = place_start(self.model, data, start)
            structures = infer(self.model, data.between(0, start + 1), prior=self.prior, seed=self.seed).structures
        return predict(self.model, data, structures, start=start, num_steps=num_steps)

    def score(self, scenes: Source) -> Score:
        """Score on held-out scenes (:func:`bouncegrad.score`); inferred relations are compared with labels, if any."""
        return score(self.model, self._scenes_of(scenes), prior=self.prior)

    def weakest_kind(self, scenes: Source) -> int | None:
        """The edge type without effect; None where all have one (:func:`bouncegrad.inference.weakest_kind`)."""
        return weakest_kind(self.model, self._scenes_of(scenes))

    def find_hidden(
        self, scenes: Source, num_hidden: int = 1, *, effort: Effort | None = None, widening: float = 1.0
    ) -> HiddenPosterior:
        """Tracks, bands and relations of unobserved entities (:func:`bouncegrad.find_hidden`)."""
        options = {"prior": self.prior, "effort": effort, "widening": widening, "seed": self.seed}
        return find_hidden(self.model, self._scenes_of(scenes), num_hidden, **options)

    def count_hidden(
        self, scenes: Source, candidates: Sequence[int] = (0, 1, 2), *, effort: Effort | None = None
    ) -> HiddenCount:
        """Posterior of the number of unobserved entities (:func:`bouncegrad.count_hidden`)."""
        data = self._scenes_of(scenes)
        return count_hidden(self.model, data, candidates, prior=self.prior, effort=effort, seed=self.seed)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write weights, configuration and model card to a folder (:func:`bouncegrad.model_card.save_pretrained`)."""
        save_pretrained(folder, self.model, self.origin)

    @classmethod
    def from_pretrained(
        cls, folder: str | os.PathLike[str], *, prior: str = "auto", seed: int = 0, device: Device = "cpu"
    ) -> Self:
        """Load a fitted estimator from a model or run folder, or by a name in :func:`bouncegrad.pretrained_names`.

        ``recipe`` and ``kinds`` are those of the fit where they are known; else ``recipe`` has the settings of the
        model with the default training, and ``kinds`` is None.

        Args:
            folder: path or name; a folder that holds a model takes precedence over a name.
            prior: prior over latent graphs for later inference.
            seed: seed of later inference.
            device: device of the modules.

        Raises:
            CheckpointError: there is no model, a newer version wrote it, or its files were changed.
            ValueError: a device that does not exist.
        """
        model, origin = load_model(folder, device), read_origin(folder)
        recipe = origin.recipe if origin.recipe in RECIPES else Recipe(model.config)
        loaded = cls(recipe, origin.kinds, prior=prior, seed=seed, device=device)
        loaded._learned = model, origin
        return loaded

    def _settings(self) -> Recipe:
        return with_prior(recipe_named(self.recipe) if isinstance(self.recipe, str) else self.recipe, self.prior)

    def _kinds(self) -> int | Literal["auto"] | None:
        """The number of edge types: "auto" becomes None where the recipe cannot merge edge types."""
        recipe = self._settings()
        can_merge = recipe.training.bounce.search == "exact" and not recipe.model.network.silent_first
        return None if self.kinds == "auto" and not can_merge else self.kinds

    def _fitted(self) -> tuple[Model, Origin]:
        if self._learned is None:
            raise NotFittedError(
                "this RelationalModel is not fitted: call .fit(scenes) first, or load a model with "
                "RelationalModel.from_pretrained"
            )
        return self._learned

    def _scenes_of(self, scenes: Source) -> Scenes:
        """The scenes of a query, with a warning where their time step differs from that of the training scenes."""
        known = self.origin.time_step
        data = _read(scenes, "test")
        if known is not None and abs(data.time_step / known - 1) > STEP_TOLERANCE:
            warnings.warn(
                f"the model was fitted to samples {known:g} apart, these are {data.time_step:g} apart: it predicts "
                "from one sample to the next, so resample to that time step, or fit a model to these scenes",
                stacklevel=3,
            )
        return data


def _read(scenes: Source, split: str) -> Scenes:
    if isinstance(scenes, Scenes):
        return scenes
    return read_part(scenes, split)
