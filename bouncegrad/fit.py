"""Fit: from scenes and a recipe to a trained model, in memory or in a run folder from which it resumes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
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
from bouncegrad.training import BounceGrad, EpochReport
from bouncegrad.training.forecaster import add_forecaster
from bouncegrad.training.rollout_tuning import tune_rollouts
from bouncegrad.training.run_folder import InMemory, Run, RunFolder, fingerprint, write_summary


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Configuration of a run, as stored in ``config.yaml``.

    Attributes:
        data: path of the scenes, a folder or a ``.npz``; for scenes in memory their fingerprint.
        recipe: name of the recipe.
        settings: all settings of the recipe.
        minutes: how long to train; None: for ``settings.training.num_passes`` epochs.
        seed: seed of all randomness.
        kinds: initial number of kinds (edge types), as in :func:`bouncegrad.fit.fit`; None: as many as ``settings``
            have, of which all stay.

    Raises:
        ValueError: minutes, a seed or a number of kinds out of range.
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
    watch: Callable[[EpochReport], None] | None = None,
    device: Device = "cpu",
) -> Model:
    """Train on the scenes at ``config.data`` and write everything to the run folder ``out``.

    An interrupted run resumes from its last epoch when it is called again with the same configuration, with a result
    that is the same to the bit (unless ``minutes`` bounds it: seconds are not repeatable). Settings that its
    ``config.yaml`` lacks, because they are newer, have their defaults.

    At the end the model is scored on the ``test`` split, or without one on the held-out scenes. Where these are too
    short to predict from there is no ``summary.json``.

    Args:
        config: configuration of the run.
        out: the run folder; created where it does not exist.
        watch: called after each epoch, for live progress.
        device: where the model computes (:mod:`bouncegrad.devices`). A run may resume on another device, but then not
            to the same bits.

    Raises:
        DataError: unusable scenes, a folder that cannot be written, or one that holds a run of another configuration.
        ValueError: a device that does not exist.
    """
    scenes, held_out = training_scenes(config.data, config.seed)
    data = FitData(scenes, held_out, unseen_scenes(config.data, held_out), error_unit(config.data))
    settings = with_kinds(config.settings, config.kinds, scenes.num_entities)
    return _fit(data, settings, config.seed, device, RunFolder(Path(out), config, data.fingerprint, watch))


@dataclass(frozen=True, slots=True)
class FitData:
    """The scenes of a fit.

    Attributes:
        scenes: training scenes.
        held_out: scenes that choose between epochs, priors and temperatures; their labels are not used.
        unseen: scenes of the figures in a run folder.
        unit: name and normalisation in which errors are given; None: those of the training scenes.
    """

    scenes: Scenes
    held_out: Scenes
    unseen: Scenes
    unit: tuple[str, Normalization] | None = None

    @property
    def fingerprint(self) -> str:
        """A checksum of the training and held-out scenes."""
        return fingerprint(self.scenes, self.held_out)


def _fit(data: FitData, settings: Recipe, seed: int, device: Device, run: Run) -> Model:
    """The pipeline of every fit of scenes: train, tune rollouts, add a forecaster, and write the run folder if any."""
    scenes, held_out = data.scenes, data.held_out
    trainer = BounceGrad(scenes, held_out, settings.model, settings.training, seed, device=device)
    pack(trainer.model, data.unseen.at(0))  # refuse other features now, not at the end of the training
    run.train(trainer)
    model = tune_rollouts(trainer.best_model(), scenes, held_out, settings.polish, seed, run.stage("polish"))
    model = add_forecaster(model, scenes, held_out, settings.forecaster, seed, run.stage("forecaster"))
    if isinstance(run, RunFolder):
        save_model(run.path / "model", model)
        if data.unseen.num_times >= SHORTEST + model.config.network.history:
            write_summary(run.path, score(model, data.unseen, data.unit), model.kinds)
    return model


def training_scenes(data: str | os.PathLike[str], seed: int) -> tuple[Scenes, Scenes]:
    """Training scenes, and held-out scenes that choose the best weights without labels.

    A folder's ``train`` and ``valid`` splits (of the latter at most 200 scenes). Without ``valid``, and for a ``.npz``,
    a tenth is held out at random; fewer than ten scenes serve as both.
    """
    train = read_part(data, "train")
    if has_split(data, "valid"):
        valid = read_part(data, "valid")
        return train, valid.at(range(min(HELD_OUT, valid.num_scenes)))
    return hold_out(train, seed)


def unseen_scenes(data: str, held_out: Scenes) -> Scenes:
    """The scenes of the summary: the ``test`` split, or without one the held-out scenes.

    They are read before the training, so that a damaged file costs no time.
    """
    return read_part(data, "test") if has_split(data, "test") else held_out


def error_unit(data: str | os.PathLike[str]) -> tuple[str, Normalization] | None:
    """Name and normalisation in which errors are given, where the metadata of the data hold one; else None.

    ``simulate --canonical`` writes that of the published training sets, so that errors compare with published ones.
    """
    constants = read_meta(data).get("normalization")
    return ("canonical training set", Normalization.from_dict(constants)) if constants else None


HELD_OUT = 200
"""Greatest number of held-out scenes: more would cost time and change little."""


def fit(
    scenes: Scenes,
    recipe: str | Recipe = "fast",
    *,
    kinds: int | Literal["auto"] | None = None,
    minutes: float | None = None,
    seed: int = 0,
    watch: Callable[[EpochReport], None] | None = None,
    device: Device = "cpu",
    folder: str | os.PathLike[str] | None = None,
) -> Model:
    """Train modules on scenes whose relations are unknown.

    Args:
        scenes: training scenes; a tenth of them (at most 200) is held out to choose between epochs. Relations are not
            used.
        recipe: the name of a recipe, or a recipe of your own.
        kinds: initial number of kinds (edge types), or "auto" for a few; those that are not needed are merged, and
            ``model.kinds`` reports which. None: as many as the recipe has, of which all stay.
        minutes: how long to train, without the later stages (rollout tuning, forecaster); None: for the recipe's number
            of epochs, on the CPU repeatable to the bit.
        seed: seed of all randomness.
        watch: called after each epoch, of the later stages as well.
        device: where the model computes, then and later (:mod:`bouncegrad.devices`); ``model.cpu()`` moves it back.
        folder: a run folder, as :func:`fit_folder` writes it, from which an interrupted fit resumes when it is called
            again with the same scenes; None: nothing is written.

    Returns:
        The model of the epoch with the least held-out loss, with tuned rollouts and a forecaster if the recipe has
        them.

    Raises:
        DataError: a folder that cannot be written, or that holds a run of another configuration or on other scenes.
        ValueError: an unknown recipe, scenes too short for its horizon, or a device that does not exist.
    """
    chosen = recipe_named(recipe) if isinstance(recipe, str) else recipe
    settings = with_kinds(chosen, kinds, scenes.num_entities)
    kept, held_out = hold_out(scenes, seed)
    data = FitData(kept, held_out, held_out)
    if folder is None:
        return _fit(data, settings, seed, device, InMemory(minutes, watch))
    checksum = data.fingerprint
    config = RunConfig(checksum, recipe if isinstance(recipe, str) else "", chosen, minutes, seed, kinds)
    return _fit(data, settings, seed, device, RunFolder(Path(folder), config, checksum, watch))


def hold_out(scenes: Scenes, seed: int) -> tuple[Scenes, Scenes]:
    """Split scenes at random into nine tenths for training and the held-out rest (at most 200).

    With fewer than ten scenes both parts are all scenes.
    """
    if scenes.num_scenes < 10:
        return scenes, scenes
    kept, held_out = split(scenes, (0.9, 0.1), torch.Generator().manual_seed(seed))
    return kept, held_out.at(range(min(HELD_OUT, held_out.num_scenes)))
