"""Data of figure 3: relation accuracy against training scenes, and scenes that each method needs for an accuracy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from bouncegrad.reproduce.result import Result

CURVES = {"nri": "proposal", "alet2019": "none", "fast": "auto"}
"""Method -> reading (:mod:`bouncegrad.reproduce.readings`) along the curve."""

FAST, SLOW = "fast", "nri"
"""The two methods that must have a curve before numbers of scenes are compared."""

ACCURACIES = (0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
"""Relation accuracies at which numbers of scenes are compared."""


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a curve: number of training scenes, and the relation accuracy of each seed."""

    num_scenes: int
    accuracies: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median accuracy over seeds."""
        return median(self.accuracies)


Curve = Sequence[Point]
"""Points in ascending order of scenes."""


@dataclass(frozen=True, slots=True)
class Between:
    """Bounds of a number: equal where it is known, 0 or infinite where there is no bound."""

    low: float
    high: float

    def __str__(self) -> str:
        if self.low == self.high:
            return _three_digits(self.low)
        if math.isinf(self.high):
            return f"more than {_three_digits(self.low)}" if self.low else "unknown"
        return f"{_three_digits(self.high)} or less" if not self.low else f"{self.low:.3g} to {self.high:.3g}"


def _three_digits(number: float) -> str:
    return f"{round(number):,}" if number >= 100 else f"{number:.3g}"


def curve_of(results: Iterable[Result], method: str, system: str, scale: str) -> list[Point]:
    """The points of a method that have results."""
    reading = CURVES[method]
    found: dict[int, list[float]] = {}
    for result in results:
        if (result.method, result.system, result.scale) == (method, system, scale):
            accuracy = result.figures.get(reading, {}).get("relation_accuracy")
            if accuracy is not None:
                found.setdefault(result.num_scenes, []).append(accuracy)
    return [Point(num_scenes, tuple(found[num_scenes])) for num_scenes in sorted(found)]


def scenes_needed(curve: Curve, accuracy: float) -> Between:
    """Number of scenes at which the median over seeds first reaches an accuracy.

    Interpolation is linear in the logarithm of scenes. Where the first point reaches the accuracy, the number
    has only an upper bound; where no point does, only a lower bound.

    Raises:
        ValueError: a curve without points.

    Example:
        >>> curve = [Point(100, (0.6,)), Point(400, (0.8,))]
        >>> print(scenes_needed(curve, 0.7), scenes_needed(curve, 0.5), scenes_needed(curve, 0.9), sep="; ")
        200; 100 or less; more than 400
    """
    if not curve:
        raise ValueError("expected a curve of at least one point, got none: compute its rows first")
    if curve[0].median >= accuracy:
        return Between(0.0, curve[0].num_scenes)
    for before, after in pairwise(curve):
        if after.median >= accuracy:
            share = (accuracy - before.median) / (after.median - before.median)
            found = before.num_scenes * (after.num_scenes / before.num_scenes) ** share
            return Between(found, found)
    return Between(curve[-1].num_scenes, math.inf)


def times_fewer(few: Between, many: Between) -> Between:
    """Bounds of the ratio ``many / few``.

    Example:
        >>> print(times_fewer(Between(100, 100), Between(1000, 1000)), times_fewer(Between(0, 50), Between(400, 400)))
        10 more than 8
    """
    low = 0.0 if math.isinf(few.high) else many.low / few.high
    high = math.inf if few.low == 0 or math.isinf(many.high) else many.high / few.low
    return Between(low, high)
