"""The rows that no recipe does: ``(data folder, run folder, order) -> reading -> figures``.

This is the one place that knows :mod:`bouncegrad.reproduce.baselines`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from bouncegrad.devices import Device
from bouncegrad.fit import error_unit
from bouncegrad.reproduce.baselines.lstm import LSTMConfig
from bouncegrad.reproduce.baselines.lstm_run import TRAINING, LSTMRun, run_lstm
from bouncegrad.reproduce.baselines.simple import correlation_accuracy, path_features, static_errors
from bouncegrad.reproduce.readings import error_figures
from bouncegrad.scenes import Normalization, read_scenes
from bouncegrad.training import EpochReport

Figures: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Reading, "prediction" or "relations" -> some of :data:`bouncegrad.reproduce.readings.FIGURES`."""

Watch: TypeAlias = Callable[[EpochReport], None]
"""Called after each epoch of a training."""


@dataclass(frozen=True, slots=True)
class Order:
    """How a function is to do a row.

    Attributes:
        seed: of all randomness.
        num_passes: over the training scenes; None where nothing is trained.
        watch: called after each epoch.
        device: where networks compute.
    """

    seed: int
    num_passes: int | None
    watch: Watch
    device: Device = "cpu"


RowFunction: TypeAlias = Callable[[Path, Path, Order], Figures]
"""Reads scenes in the data folder, leaves what it needs to resume in the run folder."""


def unit_of(data: Path) -> tuple[str, Normalization]:
    """The unit of errors that the scenes of a row name.

    Raises:
        ValueError: they name none.
    """
    unit = error_unit(data)
    if unit is None:
        raise ValueError(f"{data} does not say in which unit errors are given: delete it, to have it simulated again")
    return unit


def static(data: Path, run: Path, order: Order) -> Figures:
    """The last state seen, repeated: learns nothing, so it shows that scenes, windows, steps and unit are right."""
    name, unit = unit_of(data)
    return {"prediction": error_figures(static_errors(read_scenes(data, "test"), unit), name)}


def correlation(data: Path, run: Path, order: Order) -> Figures:
    """Correlations of the trajectories."""
    train, test = read_scenes(data, "train"), read_scenes(data, "test")
    features_fn = partial(path_features, unit=Normalization.fit(train))
    return {"relations": {"relation_accuracy": correlation_accuracy(train, test, features_fn)}}


def lstm(data: Path, run: Path, order: Order, *, joint: bool) -> Figures:
    """A recurrent network; of single entities also the correlations of its states."""
    assert order.num_passes is not None
    training = replace(TRAINING, num_passes=order.num_passes)
    config = LSTMRun(str(data), LSTMConfig(joint=joint), training, seed=order.seed)
    found = run_lstm(config, run, order.watch, order.device)
    errors = {str(step): error if math.isfinite(error) else None for step, error in found.mse.items()}
    figures: Figures = {"prediction": {"mse": errors, "mse_unit": found.unit}}
    if found.correlation_accuracy is None:
        return figures
    return {**figures, "relations": {"relation_accuracy": found.correlation_accuracy}}


FUNCTIONS: dict[str, RowFunction] = {
    "static": static,
    "correlation": correlation,
    "lstm_single": partial(lstm, joint=False),
    "lstm_joint": partial(lstm, joint=True),
}
