"""Rows of baselines, which are functions ``(data folder, run folder, order) -> reading -> figures`` and not recipes.

This is the only file that imports :mod:`bouncegrad.reproduce.baselines`.
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
    """Settings of a row that a function computes.

    Attributes:
        seed: seed of all randomness.
        num_passes: number of epochs; None where nothing is trained.
        watch: called after each epoch.
        device: device of the networks.
    """

    seed: int
    num_passes: int | None
    watch: Watch
    device: Device = "cpu"


RowFunction: TypeAlias = Callable[[Path, Path, Order], Figures]
"""Function of data folder (scenes), run folder (files for resuming) and order, which returns figures."""


def unit_of(data: Path) -> tuple[str, Normalization]:
    """The unit of errors that a data folder specifies: its name and normalisation.

    Raises:
        ValueError: it specifies none.
    """
    unit = error_unit(data)
    if unit is None:
        raise ValueError(f"{data} does not specify the unit of errors: delete it, so that it is simulated again")
    return unit


def static(data: Path, run: Path, order: Order) -> Figures:
    """Baseline "static": the last observed state, repeated; checks scenes, windows, steps and unit without training."""
    name, unit = unit_of(data)
    return {"prediction": error_figures(static_errors(read_scenes(data, "test"), unit), name)}


def correlation(data: Path, run: Path, order: Order) -> Figures:
    """Baseline: correlations of trajectories as relations."""
    train, test = read_scenes(data, "train"), read_scenes(data, "test")
    features_fn = partial(path_features, unit=Normalization.fit(train))
    return {"relations": {"relation_accuracy": correlation_accuracy(train, test, features_fn)}}


def lstm(data: Path, run: Path, order: Order, *, joint: bool) -> Figures:
    """Baseline: a recurrent network; with ``joint`` False also correlations of its states as relations."""
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
