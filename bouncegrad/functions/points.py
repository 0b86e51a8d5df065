"""Point sets: regression tasks, each given by some points of a function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from torch import Generator, Tensor

from bouncegrad.scenes import DataError


@dataclass(frozen=True, slots=True)
class PointSets:
    """Regression tasks, each a set of points of one function.

    Attributes:
        inputs: ``[task, point, in]``; padding (neither given nor asked) holds any value in its domain.
        outputs: ``[task, point, out]``, likewise.
        given: ``[task, point]``, True for the points used for the search of the structure and for adaptation (support
            set).
        asked: ``[task, point]``, True for the points used for training modules and for scores (query set).
        names: ``[task]``, names of the tasks.
    """

    inputs: Float[Tensor, "task point in"]
    outputs: Float[Tensor, "task point out"]
    given: Bool[Tensor, "task point"]
    asked: Bool[Tensor, "task point"]
    names: tuple[str, ...]

    @property
    def num_tasks(self) -> int:
        """Number of tasks."""
        return len(self.inputs)

    def at(self, tasks: Sequence[int] | Tensor) -> PointSets:
        """The tasks with these numbers; a number may occur several times."""
        chosen = torch.as_tensor(tasks)
        names = tuple(self.names[task] for task in chosen.tolist())
        parts = {field.name: getattr(self, field.name)[chosen] for field in fields(self) if field.name != "names"}
        return PointSets(**parts, names=names)

    def only_given(self) -> PointSets:
        """The given points alone, with as few columns as possible."""
        order = (~self.given).int().argsort(dim=1, stable=True)[:, : max(1, int(self.given.sum(1).max()))]
        inputs = self.inputs.gather(1, order[..., None].expand(-1, -1, self.inputs.shape[2]))
        outputs = self.outputs.gather(1, order[..., None].expand(-1, -1, self.outputs.shape[2]))
        given = self.given.gather(1, order)
        return PointSets(inputs, outputs, given, torch.zeros_like(given), self.names)

    def given_anew(self, generator: Generator) -> PointSets:
        """Draw the given points again from all points of a task, as many as before; the others are asked."""
        exists = self.given | self.asked
        order = torch.rand(exists.shape, generator=generator).masked_fill(~exists, 2.0).argsort(1).argsort(1)
        given = order < self.given.sum(1, keepdim=True)
        return replace(self, given=given, asked=exists & ~given)


def point_sets(
    tasks: Sequence[tuple[ArrayLike, ArrayLike]],
    share_given: float = 0.2,
    names: Sequence[str] | None = None,
    seed: int = 0,
) -> PointSets:
    """Point sets from arrays, with random points given and all others asked.

    Args:
        tasks: inputs ``[point]`` or ``[point, in]`` and outputs ``[point]`` or ``[point, out]`` of each task; numbers
            of points may differ.
        share_given: share of given points of each task; at least one point is given and at least one is asked.
        names: names of the tasks; by default their numbers.
        seed: seed of the choice of given points.

    Raises:
        DataError: no task, a task of fewer than two points, numbers that are not finite, or sizes that do not agree.
    """
    if not 0 < share_given < 1:
        raise DataError(f"share_given must be between 0 and 1, got {share_given}: some points are given, some asked")
    names = tuple(str(number) for number in range(len(tasks))) if names is None else tuple(names)
    if not tasks or len(names) != len(tasks):
        raise DataError(f"expected at least one task and a name for each, got {len(tasks)} tasks, {len(names)} names")
    columns = [_columns(name, *task) for name, task in zip(names, tasks, strict=True)]
    sizes = {(inputs.shape[1], outputs.shape[1]) for inputs, outputs in columns}
    if len(sizes) > 1:
        raise DataError(f"all tasks must have inputs and outputs of one size, got (in, out) of {sorted(sizes)}")
    most, generator = max(len(inputs) for inputs, _ in columns), Generator().manual_seed(seed)
    given, asked = torch.zeros(2, len(tasks), most, dtype=torch.bool)
    for task, (inputs, _) in enumerate(columns):
        number = min(len(inputs) - 1, max(1, round(share_given * len(inputs))))
        order = torch.randperm(len(inputs), generator=generator)
        given[task, order[:number]], asked[task, order[number:]] = True, True
    inputs, outputs = (torch.stack([_filled(each, most) for each in both]) for both in zip(*columns, strict=True))
    return PointSets(inputs, outputs, given, asked, names)


def _columns(name: str, inputs: ArrayLike, outputs: ArrayLike) -> tuple[Tensor, Tensor]:
    """Inputs and outputs as tensors ``[point, size]``."""
    try:
        found = [torch.as_tensor(each, dtype=torch.float32) for each in (inputs, outputs)]
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"task {name!r}: expected arrays of numbers ({error})") from error
    found = [each[:, None] if each.dim() == 1 else each for each in found]
    if found[0].dim() != 2 or found[1].dim() != 2 or len(found[0]) != len(found[1]) or len(found[0]) < 2:
        raise DataError(
            f"task {name!r}: expected inputs [point, in] and outputs [point, out] of the same two or more points, got "
            f"shapes {tuple(found[0].shape)} and {tuple(found[1].shape)}"
        )
    if not all(bool(each.isfinite().all()) for each in found):
        raise DataError(f"task {name!r}: some numbers are not finite; leave those points out")
    return found[0], found[1]


def _filled(values: Tensor, length: int) -> Tensor:
    """Pad with the last point up to ``length``: another value might be outside the domain of the function."""
    return values[torch.arange(length).clamp_max(len(values) - 1)]


@dataclass(frozen=True, slots=True)
class MetaSplits:
    """Training, validation and test tasks.

    Attributes:
        train: tasks for training modules.
        valid: held-out tasks that select the best epoch.
        test: tasks for the final score.
    """

    train: PointSets
    valid: PointSets
    test: PointSets


def split_tasks(tasks: PointSets, groups: Sequence[Sequence[int]]) -> MetaSplits:
    """Split tasks into three groups, given by their numbers."""
    train, valid, test = (tasks.at(list(group)) for group in groups)
    return MetaSplits(train, valid, test)
