"""Tables of all combinations of incoming edges, beside plain evaluations of the loss.

What a search wants to know are the exact conditionals of all edges: at N = 5 and K = 2, what the loss would be under
each of 20 changes, so 21 evaluations. Tables answer that and hold the energies of all 2^20 structures. For one step and
for rollouts of receivers over several, under both updates and both tails of a learned scale. Seconds are those of one
core's work (process time), so other programs do not count.

Prints one line of JSON for each row and writes all to ``benchmarks/results/tables.json``.
Run from the root of the project: ``OMP_NUM_THREADS=1 python -m benchmarks.tables``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from time import process_time

import torch
from torch import Generator

from bouncegrad.energies import loss_fn, receiver_energies, receiver_tables
from bouncegrad.energies.windows import Batch, Windows, cut_windows, pack
from bouncegrad.models.decoder import NetworkConfig
from bouncegrad.models.model import Model, ModelConfig
from bouncegrad.models.noise import NoiseConfig
from bouncegrad.scenes import Normalization, from_arrays
from bouncegrad.simulate import Springs, simulate
from bouncegrad.types import Structures

NUM_ENTITIES = 5
RESULTS = Path(__file__).parent / "results" / "tables.json"


@dataclass(frozen=True, slots=True)
class Case:
    """Which energy is tabulated."""

    update: str
    degrees_of_freedom: float | None
    horizon: int = 1

    def target(self, num_tasks: int) -> tuple[Model, Batch, Windows]:
        """A model of random weights, and scenes."""
        found = simulate(Springs(NUM_ENTITIES), num_tasks, generator=0)
        scenes = from_arrays(found.loc, found.vel)
        config = ModelConfig(NetworkConfig(update=self.update), NoiseConfig("learned", self.degrees_of_freedom))
        model = Model(config, Normalization.fit(scenes), scenes.feature_names, Generator().manual_seed(0))
        batch = pack(model, scenes)
        one_step = cut_windows(batch)
        model.network.fit_skip(one_step.states.flatten(0, 1), one_step.targets[:, :, 0].flatten(0, 1))
        return model, batch, cut_windows(batch, self.horizon, rollout="receiver")


def cases() -> list[Case]:
    return [Case(*parts) for parts in product(("superposed", "general"), (None, 4.0), (1, 2, 5))]


def seconds_of(work: Callable[[], object], repeats: int) -> float:
    """The best of some repeats, after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        begin = process_time()
        work()
        times.append(process_time() - begin)
    return min(times[1:])


def changes_of(structures: Structures) -> Iterator[Structures]:
    """The structures themselves, and with each slot's kind changed."""
    yield structures
    for slot in range(structures.shape[1]):
        yield structures.index_copy(1, torch.tensor([slot]), 1 - structures[:, slot : slot + 1])


@torch.no_grad()
def largest_difference(target: tuple[Model, Batch, Windows]) -> float:
    """Between tables and plain energies, over all combinations of all receivers, relative to the energies.

    Or to their mean where they are smaller: nats pass through 0.
    """
    tables = receiver_tables(*target)
    num_tasks, num_receivers, num_combinations = tables.energies.shape
    plain = []
    for combination in range(num_combinations):
        combinations = torch.full((num_tasks, num_receivers), combination)
        plain.append(receiver_energies(*target, tables.structures_of(combinations)))
    expected = torch.stack(plain, 2)
    size = expected.abs().clamp_min(float(expected.abs().mean()))
    return float(((tables.energies - expected).abs() / size).max())


def measured(case: Case, num_tasks: int, repeats: int) -> dict[str, float | int | str | None]:
    model, batch, windows = case.target(num_tasks)
    losses = loss_fn(model, batch, windows)
    structures = model.layout(NUM_ENTITIES).random(num_tasks, Generator().manual_seed(1))
    tabulated = seconds_of(lambda: receiver_tables(model, batch, windows), repeats)
    one_by_one = seconds_of(lambda: [losses(changed) for changed in changes_of(structures)], repeats)
    num_evaluations = 1 + structures.shape[1]
    return {
        "update": case.update,
        "degrees_of_freedom": case.degrees_of_freedom,
        "horizon": case.horizon,
        "num_tasks": num_tasks,
        "threads": torch.get_num_threads(),
        "tables_seconds": round(tabulated, 4),
        "evaluations_seconds": round(one_by_one, 4),
        "num_evaluations": num_evaluations,
        "ratio": round(one_by_one / tabulated, 2),
        "tables_in_evaluations": round(tabulated / one_by_one * num_evaluations, 2),
        "max_relative_difference": largest_difference((model, batch, windows)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-tasks", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    rows = []
    for case in cases():
        rows.append(measured(case, given.num_tasks, given.repeats))
        print(json.dumps(rows[-1]), flush=True)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps({"machine": "one core", "torch": torch.__version__, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
