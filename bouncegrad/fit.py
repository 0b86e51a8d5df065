"""Fitting: from scenes and a recipe to a trained model, in memory or in a run folder that resumes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from bouncegrad.devices import Device
from bouncegrad.energies.windows import pack
from bouncegrad.evaluation.score import SHORTEST, score
from bouncegrad.models.checkpoint import save_model
from bouncegrad.models.model import Model
from bouncegrad.recipes import Recipe, recipe_named, with_kinds
from bouncegrad.scenes import Normalization, Scenes, has_split, read_meta, read_part, split
from bouncegrad.settings import is_positive
from bouncegrad.training import BounceGrad, PassReport
from bouncegrad.training.forecaster import add_forecaster
from bouncegrad.training.rollout_tuning import polish
from bouncegrad.training.run_folder import fingerprint, train_folder, write_summary


@dataclass(frozen=True, slots=True)
class RunConfig:
    """What a run was asked to do.

    Attributes:
        data: where the scenes lie: a folder or a ``.npz``.
        recipe: the name of the method.
        settings: all that the method is made of.
        minutes: how long to learn; None: for ``settings.training.num_passes`` passes.
        seed: of all randomness.
        kinds: how many kinds of relation to begin with, as in :func:`bouncegrad.fit.fit`; None: as many as
            ``settings`` have, all of which stay.

    Raises:
        ValueError: minutes, a seed or a number of kinds that cannot be.
    """

    data: str
    recipe: str
    settings: Recipe
    minutes: float | None = None
    seed: int = 0
    kinds: int | Literal["auto"] | None = None

    def __post_init__(self) -> None:
        with_kinds(self.settings, self.kinds, 2)
        if self.minutes is not None and not is_positive(self.minutes):
            raise ValueError(f"expected a positive, finite number of minutes, got {self.minutes}; or leave it out")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"expected a seed from 0 to 2^63 - 1, got {self.seed}")


def fit_folder(
    config: RunConfig,
    out: str | os.PathLike[str],
    watch: Callable[[PassReport], None] | None = None,
    device: Device = "cpu",
) -> Model:
    """Learn from the scenes at ``config.data`` and leave everything in the run folder ``out``.

    A run that was interrupted goes on from its last pass when it is called again with the same configuration, and ends
    in the same bits as if it had not been interrupted (unless ``minutes`` bounds it: seconds are not repeatable). A
    setting that its ``config.yaml`` does not name, because there was none yet, had its default.

    At the end the model is scored on the ``test`` split, or without one on the held-out scenes. Where these are too
    short to predict from there is no ``summary.json``.

    Args:
        config: what to do.
        out: the run folder; made where it does not exist.
        watch: called after each pass, for live progress.
        device: where the model computes (:mod:`bouncegrad.devices`). A run may go on elsewhere than it began, but then
            not to the same bits.

    Raises:
        DataError: unusable scenes, an unwritable folder, or a folder that holds a run of another configuration.
        ValueError: a device that is not there.
    """
    scenes, held_out = training_scenes(config.data, config.seed)
    unseen = unseen_scenes(config.data, held_out)
    settings = with_kinds(config.settings, config.kinds, scenes.num_entities)
    trainer = BounceGrad(scenes, held_out, settings.model, settings.training, config.seed, device=device)
    pack(trainer.model, unseen.at(0))  # would fail at the end of the training, where the features are others
    folder = Path(out)
    train_folder(folder, config, trainer, fingerprint(scenes, held_out), watch)
    model = polish(trainer.best_model(), scenes, held_out, config.settings.polish, config.seed)

    def train(training: BounceGrad) -> None:
        whole = replace(config, minutes=None)
        train_folder(folder / "forecaster", whole, training, fingerprint(scenes, held_out), watch)

    model = add_forecaster(model, scenes, held_out, config.settings.forecaster, config.seed, train)
    save_model(folder / "model", model)
    if unseen.num_times >= SHORTEST + model.config.network.history:
        write_summary(folder, score(model, unseen, error_unit(config.data)), model.kinds)
    return model


def training_scenes(data: str | os.PathLike[str], seed: int) -> tuple[Scenes, Scenes]:
    """The scenes to learn from and those, unlabelled as well, by which the best modules are chosen.

    A folder's ``train`` and ``valid`` splits (of the latter at most 200 scenes). Without ``valid``, and for a ``.npz``,
    a tenth is held out at random; fewer than ten scenes are both.
    """
    train = read_part(data, "train")
    if has_split(data, "valid"):
        valid = read_part(data, "valid")
        return train, valid.at(range(min(HELD_OUT, valid.num_scenes)))
    return hold_out(train, seed)


def unseen_scenes(data: str, held_out: Scenes) -> Scenes:
    """What the summary is about; read before the training, so that a damaged file costs no time."""
    return read_part(data, "test") if has_split(data, "test") else held_out


def error_unit(data: str | os.PathLike[str]) -> tuple[str, Normalization] | None:
    """The name and the normalisation in which the data want errors to be given, where they say so.

    ``simulate --canonical`` writes that of the published training sets, so that errors can stand beside published ones.
    """
    constants = read_meta(data).get("normalization")
    return ("canonical training set", Normalization.from_dict(constants)) if constants else None


HELD_OUT = 200
"""Scenes at most by which the best modules are chosen: more would cost time and change little."""


def fit(
    scenes: Scenes,
    recipe: str | Recipe = "fast",
    *,
    kinds: int | Literal["auto"] | None = None,
    minutes: float | None = None,
    seed: int = 0,
    watch: Callable[[PassReport], None] | None = None,
    device: Device = "cpu",
) -> Model:
    """Learn modules from scenes whose relations nobody knows.

    Args:
        scenes: to learn from; a tenth of them (at most 200) only chooses between passes. Relations are not looked at.
        recipe: the name of a method, or one of your own.
        kinds: how many kinds of relation to begin with, or "auto" for a few; those that are not needed are merged, and
            ``model.kinds`` says which. None: as many as the recipe has, all of which stay.
        minutes: how long to learn, what comes after it left out (polish, forecaster); None: for the recipe's number of
            passes, on the CPU repeatable to the bit.
        seed: of all randomness.
        watch: called after each pass, of the forecaster's training as well.
        device: where the model computes, then and later (:mod:`bouncegrad.devices`); ``model.cpu()`` brings it home.

    Returns:
        The model of the pass that explained the held-out scenes best, polished and with a forecaster if the recipe says
        so.

    Raises:
        ValueError: an unknown recipe, scenes too short for its horizon, or a device that is not there.
    """
    chosen = with_kinds(recipe_named(recipe) if isinstance(recipe, str) else recipe, kinds, scenes.num_entities)
    kept, held_out = hold_out(scenes, seed)
    trainer = BounceGrad(kept, held_out, chosen.model, chosen.training, seed, device=device)
    _watched(trainer.passes(minutes), watch)
    model = polish(trainer.best_model(), kept, held_out, chosen.polish, seed)
    return add_forecaster(
        model, kept, held_out, chosen.forecaster, seed, lambda training: _watched(training.passes(), watch)
    )


def _watched(passes: Iterable[PassReport], watch: Callable[[PassReport], None] | None) -> None:
    for report in passes:
        if watch:
            watch(report)


def hold_out(scenes: Scenes, seed: int) -> tuple[Scenes, Scenes]:
    """Nine tenths to learn from, the rest (at most 200) to choose by; fewer than ten scenes are both."""
    if scenes.num_scenes < 10:
        return scenes, scenes
    kept, held_out = split(scenes, (0.9, 0.1), torch.Generator().manual_seed(seed))
    return kept, held_out.at(range(min(HELD_OUT, held_out.num_scenes)))
