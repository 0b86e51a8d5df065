"""Point sets: functions of which only some points are known."""

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
        inputs: ``[task, point, in]``; where a task has no such point, anything that its function can be asked about.
        outputs: ``[task, point, out]``, likewise.
        given: ``[task, point]``, the points that a task is known by: its structure is searched on them, and its
            weights adapted.
        asked: ``[task, point]``, the points on which what was found is judged, and from which modules learn.
        names: ``[task]``, what each task is called.
    """

    inputs: Float[Tensor, "task point in"]
    outputs: Float[Tensor, "task point out"]
    given: Bool[Tensor, "task point"]
    asked: Bool[Tensor, "task point"]
    names: tuple[str, ...]

    @property
    def num_tasks(self) -> int:
        """How many tasks there are."""
        return len(self.inputs)

    def at(self, tasks: Sequence[int] | Tensor) -> PointSets:
        """Some of the tasks, by their numbers; one may be named several times."""
        chosen = torch.as_tensor(tasks)
        names = tuple(self.names[task] for task in chosen.tolist())
        parts = {field.name: getattr(self, field.name)[chosen] for field in fields(self) if field.name != "names"}
        return PointSets(**parts, names=names)

    def only_given(self) -> PointSets:
        """Without the points that are not given; as few columns as that takes."""
        order = (~self.given).int().argsort(dim=1, stable=True)[:, : max(1, int(self.given.sum(1).max()))]
        inputs = self.inputs.gather(1, order[..., None].expand(-1, -1, self.inputs.shape[2]))
        outputs = self.outputs.gather(1, order[..., None].expand(-1, -1, self.outputs.shape[2]))
        given = self.given.gather(1, order)
        return PointSets(inputs, outputs, given, torch.zeros_like(given), self.names)

    def given_anew(self, generator: Generator) -> PointSets:
        """With other points given, as many as before and drawn from all that a task has."""
        there = self.given | self.asked
        order = torch.rand(there.shape, generator=generator).masked_fill(~there, 2.0).argsort(1).argsort(1)
        given = order < self.given.sum(1, keepdim=True)
        return replace(self, given=given, asked=there & ~given)


def point_sets(
    tasks: Sequence[tuple[ArrayLike, ArrayLike]],
    share_given: float = 0.2,
    names: Sequence[str] | None = None,
    seed: int = 0,
) -> PointSets:
    """Tasks of one's own, with random points given and all others asked.

    Args:
        tasks: inputs ``[point]`` or ``[point, in]`` and outputs ``[point]`` or ``[point, out]`` of each; the number of
            points may differ.
        share_given: of the points of each task, but at least one, and all but one at most.
        names: of the tasks; by default their numbers.
        seed: draws which points are given.

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
    """Both as ``[point, size]``."""
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
    """Up to a length with the last point again: another number might be one that a function has no value for."""
    return values[torch.arange(length).clamp_max(len(values) - 1)]


@dataclass(frozen=True, slots=True)
class MetaSplits:
    """Tasks to learn from, to choose by, and to be scored on.

    Attributes:
        train: modules are learned from these.
        valid: the best modules are chosen by these.
        test: unseen until the end.
    """

    train: PointSets
    valid: PointSets
    test: PointSets


def split_tasks(tasks: PointSets, groups: Sequence[Sequence[int]]) -> MetaSplits:
    """Three groups of tasks, by their numbers."""
    train, valid, test = (tasks.at(list(group)) for group in groups)
    return MetaSplits(train, valid, test)
