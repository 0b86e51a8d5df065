"""Tasks of Alet, Lozano-Perez and Kaelbling, 2018: sums of two out of sixteen functions, and sines."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Generator, Tensor

from bouncegrad.functions.points import MetaSplits, PointSets, split_tasks
from bouncegrad.settings import check_settings, is_count

STEEPNESS = 4.0
"""Factor of the argument in the steep functions, as in the released code of 2018."""

PARTS: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "arcsinh": lambda x: torch.asinh(STEEPNESS * x) / math.asinh(STEEPNESS),
    "arctan": lambda x: torch.atan(STEEPNESS * x) / math.atan(STEEPNESS),
    "cbrt": lambda x: x.sign() * x.abs() ** (1 / 3),
    "ceil": torch.ceil,
    "cos": lambda x: torch.cos(STEEPNESS * math.pi * x),
    "cosh": lambda x: torch.cosh(STEEPNESS * x) / math.cosh(STEEPNESS),
    "exp2": lambda x: torch.exp2(STEEPNESS * x) / 2**STEEPNESS,
    "floor": torch.floor,
    "id": lambda x: x,
    "rint": torch.round,
    "sign": torch.sign,
    "sin": lambda x: torch.sin(STEEPNESS * math.pi * x),
    "sinc": lambda x: torch.sinc(STEEPNESS * math.pi * x),
    "square": torch.square,
    "tanh": torch.tanh,
}
"""Name -> function of numbers from -1 to 1, sixteen in all; a task is half the sum of two of them."""

SHARES = (0.8, 0.1, 0.1)
"""Shares of training, validation and test tasks."""


@dataclass(frozen=True)
class PointsConfig:
    """Number of points of a task, and how many of them are given.

    Attributes:
        num_points: number of points of each task, uniform from -1 to 1.
        share_given: share of given points, for the search of structures and for adaptation; all others are asked.

    Raises:
        ValueError: fewer than two points, no given point, or no asked point.
    """

    num_points: int = 80
    share_given: float = 0.2

    def __post_init__(self) -> None:
        check_settings(self, counts=("num_points",), positive=("share_given",), below_one=("share_given",))
        if not 0 < self.num_given < self.num_points:
            raise ValueError(f"expected some points given and some asked, got {self.num_given} of {self.num_points}")

    @property
    def num_given(self) -> int:
        """Number of given points of each task."""
        return round(self.share_given * self.num_points)

    def points_of(
        self, functions: list[Callable[[Tensor], Tensor]], names: list[str], generator: Generator
    ) -> PointSets:
        """Draw points of each function; the first :attr:`num_given` are given."""
        inputs = 2 * torch.rand(len(functions), self.num_points, 1, generator=generator) - 1
        outputs = torch.stack([function(each) for function, each in zip(functions, inputs, strict=True)])
        given = (torch.arange(self.num_points) < self.num_given).expand(len(functions), -1)
        return PointSets(inputs, outputs, given, ~given, tuple(names))


def sums_of_functions(seed: int, config: PointsConfig | None = None) -> MetaSplits:
    """All 120 pairs of the sixteen functions, ``(a(x) + b(x)) / 2``, split so that no test pair is a training pair.

    Every function is in at least three training pairs.

    Args:
        seed: seed of the split and the points.
        config: numbers of points.

    Example:
        >>> splits = sums_of_functions(seed=0)
        >>> splits.train.num_tasks, splits.valid.num_tasks, splits.test.num_tasks
        (96, 12, 12)
    """
    generator, pairs = Generator().manual_seed(seed), list(combinations(PARTS, 2))
    functions = [_half_sum(*pair) for pair in pairs]
    tasks = (config or PointsConfig()).points_of(functions, ["+".join(pair) for pair in pairs], generator)
    while True:
        groups = _groups(len(pairs), generator)
        learned = [name for number in groups[0] for name in pairs[number]]
        if min(learned.count(name) for name in PARTS) >= 3:
            return split_tasks(tasks, groups)


def sines(num_tasks: int, seed: int, config: PointsConfig | None = None) -> MetaSplits:
    """``sin(pi (w x + p))`` with random frequency w from 0.1 to 5 and phase p from 0 to pi, as in the released code.

    Args:
        num_tasks: number of tasks of all splits, ten or more.
        seed: seed of tasks, split and points.
        config: numbers of points.

    Raises:
        ValueError: fewer than ten tasks.
    """
    if not is_count(num_tasks) or num_tasks < 10:
        raise ValueError(f"expected ten or more tasks, so that each split has some; got {num_tasks}")
    generator = Generator().manual_seed(seed)
    drawn = torch.rand(num_tasks, 2, generator=generator)
    waves = (torch.tensor([0.1, 0.0]) + drawn * torch.tensor([4.9, math.pi])).tolist()
    names = [f"sin pi ({frequency:.3f} x + {phase:.3f})" for frequency, phase in waves]
    tasks = (config or PointsConfig()).points_of([_sine(*wave) for wave in waves], names, generator)
    return split_tasks(tasks, _groups(num_tasks, generator))


def _half_sum(one: str, other: str) -> Callable[[Tensor], Tensor]:
    return lambda x: (PARTS[one](x) + PARTS[other](x)) / 2


def _sine(frequency: float, phase: float) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.sin(math.pi * (frequency * x + phase))


def _groups(num_tasks: int, generator: Generator) -> list[list[int]]:
    order = torch.randperm(num_tasks, generator=generator).tolist()
    first = round(SHARES[0] * num_tasks)
    second = first + round(SHARES[1] * num_tasks)
    return [order[:first], order[first:second], order[second:]]
