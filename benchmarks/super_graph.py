"""One pass of search and gradient over many tasks as one super-graph, beside the same tasks one by one.

Prints one line of JSON for each shape. A pass packs its scenes, searches once, and adds the gradient.
Run from the root of the project: ``OMP_NUM_THREADS=1 python -m benchmarks.super_graph``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Generator, Tensor

from bouncegrad.energies import loss_fn, receiver_energies, receiver_tables
from bouncegrad.energies.windows import Batch, Windows, cut_windows, pack
from bouncegrad.models.model import Model
from bouncegrad.recipes import RECIPES
from bouncegrad.scenes import Normalization, Scenes, from_arrays
from bouncegrad.simulate import Springs, simulate
from bouncegrad.structures.kernel_interface import Kernel
from bouncegrad.structures.mcmc import exact, metropolis
from bouncegrad.structures.proposals import block_proposal, uniform_beliefs
from bouncegrad.training import TrainingConfig
from bouncegrad.types import LossFn, Structures

SHAPES = {"paper": "alet2019-small", "fast": "fast"}
"""What is measured: the network, loss, horizon and search of a recipe."""

NUM_ENTITIES = 5


@dataclass(frozen=True, slots=True)
class Tasks:
    """Some tasks and all that a pass over them needs."""

    model: Model
    kernel: Kernel
    scenes: Scenes
    training: TrainingConfig
    structures: Structures

    @property
    def batch(self) -> Batch:
        return pack(self.model, self.scenes)

    @property
    def windows(self) -> Windows:
        return cut_windows(self.batch, self.training.horizon, self.training.stride)

    def target_of(self, batch: Batch, windows: Windows) -> LossFn:
        tables = windows.targets.shape[2] == 1
        return (receiver_tables if tables else loss_fn)(self.model, batch, windows)

    @property
    def target(self) -> LossFn:
        return self.target_of(self.batch, self.windows)

    def loss(self) -> Tensor:
        """Of all tasks together, with a gradient."""
        return receiver_energies(self.model, self.batch, self.windows, self.structures).sum()

    def run(self, generator: Generator) -> None:
        """Search once, then add the gradient under what was found."""
        batch = self.batch
        windows = cut_windows(batch, self.training.horizon, self.training.stride)
        target = self.target_of(batch, windows)
        state, _ = self.kernel.step(self.kernel.init(self.structures, target, 1.0), target, generator)
        receiver_energies(self.model, batch, windows, state.structures).sum().backward()


@dataclass(frozen=True, slots=True)
class Difference:
    """Largest differences between together and one by one, relative to the largest number."""

    losses: float
    gradients: float


def some_scenes(num_tasks: int) -> Scenes:
    found = simulate(Springs(NUM_ENTITIES), num_tasks, generator=0)
    return from_arrays(found.loc, found.vel, found.edges)


def tasks_of(model: Model, recipe: str, scenes: Scenes, structures: Structures) -> Tasks:
    chosen, layout = RECIPES[recipe], model.layout(NUM_ENTITIES)
    searches = {
        "exact": exact(layout.num_kinds),
        "metropolis": metropolis(block_proposal(uniform_beliefs(layout.num_kinds), layout.blocks)),
    }
    return Tasks(model, searches[chosen.training.bounce.search], scenes, chosen.training, structures)


def together_and_alone(recipe: str, num_tasks: int) -> tuple[Tasks, list[Tasks]]:
    scenes, generator = some_scenes(num_tasks), Generator().manual_seed(0)
    model = Model(RECIPES[recipe].model, Normalization.fit(scenes), scenes.feature_names, generator)
    structures = model.layout(NUM_ENTITIES).random(num_tasks, generator)
    parts = [tasks_of(model, recipe, scenes.at(i), structures[i : i + 1]) for i in range(num_tasks)]
    return tasks_of(model, recipe, scenes, structures), parts


def gradients(model: Model, losses: Callable[[], list[Tensor]]) -> Tensor:
    model.zero_grad()
    for loss in losses():
        loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def compared(recipe: str, num_tasks: int) -> Difference:
    """The same structures on both sides: how far apart are losses and summed gradients?"""
    together, parts = together_and_alone(recipe, num_tasks)
    losses = together.target(together.structures)
    alone = torch.cat([part.target(part.structures) for part in parts])
    summed = gradients(together.model, lambda: [together.loss()])
    added = gradients(together.model, lambda: [part.loss() for part in parts])
    return Difference(
        float((losses - alone).abs().max() / alone.abs().max()),
        float((summed - added).abs().max() / added.abs().max()),
    )


def seconds_of(work: Callable[[], object], repeats: int) -> float:
    """The best of some repeats, after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        begin = perf_counter()
        work()
        times.append(perf_counter() - begin)
    return min(times[1:])


def measured(shape: str, num_tasks: int, repeats: int) -> dict[str, float | int | str]:
    recipe = SHAPES[shape]
    together, parts = together_and_alone(recipe, num_tasks)
    generator = Generator().manual_seed(1)
    one = seconds_of(lambda: together.run(generator), repeats)
    many = seconds_of(lambda: [part.run(generator) for part in parts], repeats)
    difference = compared(recipe, num_tasks)
    return {
        "shape": shape,
        "num_tasks": num_tasks,
        "threads": torch.get_num_threads(),
        "together_seconds": round(one, 4),
        "one_by_one_seconds": round(many, 4),
        "ratio": round(many / one, 1),
        "max_loss_difference": difference.losses,
        "max_gradient_difference": difference.gradients,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-tasks", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    for shape in SHAPES:
        print(json.dumps(measured(shape, given.num_tasks, given.repeats)))


if __name__ == "__main__":
    main()
