"""One pass of search and gradient over many functions at once, beside the same functions one by one.

Prints one line of JSON for each composition: how many times faster, and by how much the numbers differ. One by one is
plain code for a single task; with adaptation it is the batched code on one task at a time.
Run from the root of the project: ``OMP_NUM_THREADS=1 python -m benchmarks.functions``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Generator, Tensor

from bouncegrad.functions import (
    AdaptationConfig,
    FunctionConfig,
    FunctionModel,
    PointSets,
    PointTarget,
    adapted_losses,
    sums_of_functions,
)
from bouncegrad.functions.compositions import Chain, Composition, Sum
from bouncegrad.structures.mcmc import metropolis
from bouncegrad.structures.proposals import Proposal, slot_proposal, uniform_beliefs
from bouncegrad.types import Structures

SHAPES: dict[str, tuple[Composition, int]] = {
    "sum": (Sum(2), 0),
    "chain": (Chain(2), 0),
    "sum, adapted": (Sum(2), 5),
}
"""Name -> composition, and steps of adaptation."""


@dataclass(frozen=True, slots=True)
class Tasks:
    """Some tasks and their structures."""

    model: FunctionModel
    points: PointSets
    structures: Structures

    @property
    def proposal(self) -> Proposal:
        """Another module on one slot."""
        space = self.model.space
        return slot_proposal(uniform_beliefs(space.num_kinds), space.num_slots)

    def run(self, generator: Generator) -> Tensor:
        """Propose once and judge, then add the gradient of the asked points; returns their losses."""
        losses = PointTarget(self.model, self.points).loss_fn()
        kernel = metropolis(self.proposal)
        kernel.step(kernel.init(self.structures, losses, 1.0), losses, generator)
        found = adapted_losses(self.model, self.structures, self.points, self.points.asked)
        found.sum().backward()
        return found.detach()

    def run_plainly(self, generator: Generator) -> Tensor:
        """The same without any batching, as somebody would write it for one task; weights do not adapt."""
        proposed = self.proposal(self.structures, generator).structures
        with torch.no_grad():
            for structures in (self.structures, proposed):
                self._plain_loss(structures, self.points.given)
        found = self._plain_loss(self.structures, self.points.asked)
        found.backward()
        return found.detach()[None]

    def _plain_loss(self, structures: Structures, counted: Tensor) -> Tensor:
        inputs, outputs = (values[0][counted[0]] for values in self.model.normalized(self.points))
        banks = [self.model.library(number) for number in self.model.slot_libraries]
        kinds = structures[0].tolist()
        weights = tuple(
            tuple(parameter[kind] for pair in zip(bank.weights, bank.biases, strict=True) for parameter in pair)
            for bank, kind in zip(banks, kinds, strict=True)
        )
        return ((self.model.output(weights, inputs) - outputs) ** 2).mean()

    def at(self, tasks: Sequence[int]) -> Tasks:
        return Tasks(self.model, self.points.at(tasks), self.structures[list(tasks)])

    def slopes(self) -> list[Tensor]:
        """The gradient of every parameter, which is then forgotten."""
        slopes = [parameter.grad.clone() for parameter in self.model.parameters() if parameter.grad is not None]
        self.model.zero_grad()
        return slopes


def measured(name: str, num_tasks: int, repeats: int) -> dict[str, object]:
    """Both ways, in turns, so that whatever else the machine does meets both."""
    composition, num_steps = SHAPES[name]
    points = sums_of_functions(0).train.at(range(num_tasks))
    config = FunctionConfig(adaptation=AdaptationConfig(num_steps=num_steps))
    model = FunctionModel(composition, config, points, Generator().manual_seed(0))
    tasks = Tasks(model, points, model.space.random(num_tasks, Generator().manual_seed(1)))
    singles = [tasks.at([number]) for number in range(num_tasks)]
    way = Tasks.run if num_steps else Tasks.run_plainly
    tasks.run(Generator())
    way(singles[0], Generator())
    tasks.slopes()
    together, alone, batched, single, slopes, others = [], [], torch.empty(0), torch.empty(0), [], []
    for _ in range(repeats):
        started = perf_counter()
        batched = tasks.run(Generator())
        together.append(perf_counter() - started)
        slopes = tasks.slopes()
        started = perf_counter()
        single = torch.cat([way(one, Generator()) for one in singles])
        alone.append(perf_counter() - started)
        others = tasks.slopes()
    largest = max(float(slope.abs().max()) for slope in slopes)
    return {
        "composition": name,
        "tasks": num_tasks,
        "seconds_together": round(min(together), 4),
        "seconds_one_by_one": round(min(alone), 4),
        "times_faster": round(min(alone) / min(together), 1),
        "losses_differ_by": float((batched - single).abs().max() / single.abs().max()),
        "gradients_differ_by": max(float((a - b).abs().max()) for a, b in zip(slopes, others, strict=True)) / largest,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-tasks", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in SHAPES:
        print(json.dumps(measured(name, given.num_tasks, given.repeats)))


if __name__ == "__main__":
    main()
