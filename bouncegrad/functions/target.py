"""Target of a search over structures of point sets: losses, and tables of all losses."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from bouncegrad.functions.adaptation import adapted_loss_fn, mean_squares
from bouncegrad.functions.compositions import Sum
from bouncegrad.functions.model import FunctionModel
from bouncegrad.functions.points import PointSets
from bouncegrad.structures.factors import FactorTables
from bouncegrad.types import LossFn, Structures

CELL_BUDGET = 10_000_000
"""Outputs (sums times points) that are in memory together; bounds the number of tasks of a chunk."""


class PointTarget(NamedTuple):
    """Tasks whose structures are searched on their given points.

    Attributes:
        model: the library of modules.
        batch: the tasks.
    """

    model: FunctionModel
    batch: PointSets

    def loss_fn(self) -> LossFn:
        """Structures -> loss of the given points of every task, after adaptation."""
        return adapted_loss_fn(self.model, self.batch)

    def at(self, tasks: Tensor) -> PointTarget:
        """The target of some of the tasks, by their numbers."""
        return PointTarget(self.model, self.batch.at(tasks))

    def automatic_temperature(self, structures: Structures) -> float:
        """``2 L / n``, at which ``exp(-loss / T)`` is the likelihood of n independent residuals of mean square L."""
        numbers = float(self.batch.given.sum(1).float().mean()) * self.batch.outputs.shape[2]
        return 2 * float(self.loss_fn()(structures).mean()) / max(1.0, numbers)


class TabulatedTarget(PointTarget):
    """The same target with the losses of all structures computed in advance (tables)."""

    def loss_fn(self) -> LossFn:
        """Tables of all losses, from which a search draws structures without further evaluations."""
        return tables_of(self)


@torch.no_grad()
def tables_of(target: PointTarget) -> FactorTables:
    """The losses of all structures of all tasks, as one factor that depends on every slot.

    For a sum without adaptation every module is evaluated once; other compositions are evaluated once per structure.
    """
    space = target.model.space
    if type(target.model.composition) is Sum and not target.model.adaptation.num_steps:
        return FactorTables(_sums_of(target), space.blocks, space.num_kinds)
    empty = FactorTables(torch.empty(0), space.blocks, space.num_kinds)
    every = empty.structures_of(torch.arange(space.num_structures)[:, None])
    num_tasks = target.batch.num_tasks
    tasks = torch.arange(num_tasks).repeat_interleave(len(every))
    given = PointTarget(target.model, target.batch.only_given())
    losses = given.at(tasks).loss_fn()(every.repeat(num_tasks, 1))
    return FactorTables(losses.view(num_tasks, 1, len(every)), empty.slots, space.num_kinds)


def _sums_of(target: PointTarget) -> Float[Tensor, "task 1 combination"]:
    """The mean squared errors of all sums, computed in chunks of tasks."""
    model, points = target.model, target.batch.only_given()
    found = []
    for tasks in torch.arange(points.num_tasks).split(
        max(1, CELL_BUDGET // (points.outputs[0].numel() * model.space.num_structures))
    ):
        some = points.at(tasks)
        inputs, outputs = model.normalized(some)
        sums = torch.zeros_like(outputs)[:, None]
        for library in model.slot_libraries:
            outputs_of = model.library(library).every_kind(inputs).transpose(0, 1)
            sums = (sums[:, :, None] + outputs_of[:, None]).flatten(1, 2)
        found.append(mean_squares(sums, outputs[:, None], some.given[:, None]))
    return torch.cat(found)[:, None]
