"""The rows that no recipe does: ``(data folder, run folder, seed, watch) -> reading -> figures``.

This is the one place that knows :mod:`bouncegrad.baselines`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

from bouncegrad.reproduce.readings import error_figures
from bouncegrad.run import error_unit
from bouncegrad.scenes import Normalization, read_scenes
from bouncegrad.score import STEPS, num_observed, prediction_errors
from bouncegrad.train import PassReport

Figures: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Reading, "prediction" or "relations" -> some of :data:`bouncegrad.reproduce.readings.FIGURES`."""

Watch: TypeAlias = Callable[[PassReport], None]
"""Called after each pass of a training."""

RowFunction: TypeAlias = Callable[[Path, Path, int, Watch], Figures]
"""Reads scenes in the data folder, leaves what it needs to resume in the run folder, tells who watches of each pass."""


def unit_of(data: Path) -> tuple[str, Normalization]:
    """The unit of errors that the scenes of a row name.

    Raises:
        ValueError: they name none.
    """
    unit = error_unit(data)
    if unit is None:
        raise ValueError(f"{data} does not say in which unit errors are given: delete it, to have it simulated again")
    return unit


def static(data: Path, run: Path, seed: int, watch: Watch) -> Figures:
    """The last state seen, repeated: learns nothing, so it shows that scenes, windows, steps and unit are right."""
    scenes, unit = read_scenes(data, "test"), unit_of(data)
    start = num_observed(scenes)
    errors = prediction_errors(scenes.states[:, [start] * max(STEPS)], scenes, start, unit[1])
    return {"prediction": error_figures(errors, unit[0])}


def _baseline(name: str) -> RowFunction:
    """A function of :mod:`bouncegrad.baselines`, looked up when it is called."""

    def do(data: Path, run: Path, seed: int, watch: Watch) -> Figures:
        try:
            found = getattr(import_module("bouncegrad.baselines"), name)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"this version has no baseline {name!r}: leave its rows out") from error
        return found(data, run, seed, watch)

    return do


FUNCTIONS: dict[str, RowFunction] = {
    "static": static,
    "correlation": _baseline("correlation"),
    "lstm_single": _baseline("lstm_single"),
    "lstm_joint": _baseline("lstm_joint"),
}
