"""Springs with 3 to 7 particles in one training set, samples missing, one particle arriving late.

A tenth of all samples is missing at random, and one entity of every scene is not seen for a random part of it, up to
a half, from the start. Learned from unlabelled scenes of all sizes at once, read on others with the same gaps.

    python experiments/mixed.py --out experiments/results/mixed_springs.json
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Generator

from bouncegrad import Springs, fit, from_arrays, infer, match_relations, simulate
from bouncegrad.models.model import Model
from bouncegrad.recipes import Recipe
from bouncegrad.reproduce.result import hardware
from bouncegrad.scenes import Scenes, stack_scenes
from bouncegrad.training.run_folder import versions

SIZES = (3, 4, 5, 6, 7)
MISSING, LATEST = 0.1, 0.5


def recordings(num_scenes: int, seed: int) -> Scenes:
    """So many scenes of each size, without gaps, in random order."""
    sets = []
    for size in SIZES:
        found = simulate(Springs(size), num_scenes, generator=100 * seed + size, num_steps=5000)
        sets.append(from_arrays(found.loc, found.vel, found.edges, time_step=found.time_step))
    everything = stack_scenes(sets)
    return everything.at(torch.randperm(everything.num_scenes, generator=Generator().manual_seed(seed)))


def with_gaps(scenes: Scenes, seed: int) -> Scenes:
    """A tenth of the samples missing, and one entity of every scene late."""
    generator = Generator().manual_seed(seed)
    mask = scenes.mask & (torch.rand(scenes.mask.shape, generator=generator) >= MISSING)
    arrivals = (torch.rand(scenes.num_scenes, generator=generator) * LATEST * scenes.num_times).long()
    counts = scenes.present.sum(1)
    late = (torch.rand(scenes.num_scenes, generator=generator) * counts).long()
    before = torch.arange(scenes.num_times) < arrivals[:, None]
    is_late = torch.nn.functional.one_hot(late, scenes.num_entities).bool()
    return replace(scenes, mask=mask & ~(before[:, :, None] & is_late[:, None]))


def accuracy(model: Model, scenes: Scenes) -> dict[str, float]:
    """Share of relations right, of all and of each size of scene."""
    found, known = infer(model, scenes).relations, scenes.known_relations
    assert known is not None
    match = match_relations(found, known, scenes.present)
    right = torch.tensor(match.relabelling)[found.clamp_min(0)] == known
    sizes = scenes.present.sum(1)
    shares = {"all": match.accuracy}
    for size in SIZES:
        asked = scenes.pairs & (sizes == size)[:, None, None]
        shares[str(size)] = float(right[asked].double().mean())
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=60, help="scenes of each size to learn from")
    parser.add_argument("--test", type=int, default=40, help="scenes of each size to be read")
    parser.add_argument("--passes", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    train = with_gaps(recordings(options.train, 1 + options.seed), options.seed)
    whole = recordings(options.test, 1001 + options.seed)
    recipe = Recipe()
    recipe = replace(recipe, training=replace(recipe.training, num_passes=options.passes))
    started = time.process_time()
    model = fit(
        replace(train, relations=None),
        recipe,
        seed=options.seed,
        watch=lambda report: print(report.number, report.temperature, report.held_out, flush=True),
    )
    seconds = time.process_time() - started
    result = {
        "experiment": "springs with 3 to 7 entities mixed, samples missing, one entity late",
        "scenes": {"train": train.num_scenes, "test": whole.num_scenes},
        "missing": MISSING,
        "measured": float(train.mask[train.present[:, None].expand_as(train.mask)].double().mean()),
        "passes": options.passes,
        "seed": options.seed,
        "prior": model.reading.prior,
        "accuracy": accuracy(model, with_gaps(whole, 1000 + options.seed)),
        "accuracy_without_gaps": accuracy(model, whole),
        "cpu_seconds": round(seconds, 1),
        "hardware": hardware(),
        "versions": versions(),
    }
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
