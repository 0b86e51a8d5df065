"""A real double pendulum, its middle joint covered and found again from the pivot and the tip alone.

    python experiments/pendulum.py --table double_pendulum.parquet     # train (or resume) and write the figures

The table has the columns ``scene, time, agent, x, y`` (IBM Double Pendulum Chaotic, CDLA-Sharing-1.0; pixels, 100 Hz).
Runs are cut into stretches of 50 samples, velocities are differences. Modules are learned from twelve runs with all
joints seen, the last four are the test. ``experiments/results/pendulum.json`` has the distance of the found middle
joint from the true one in pixels, beside a linear regression from the other joints' positions at the same time and a
few samples around it, fitted on the same twelve runs with the middle joint given.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars
import torch
from torch import Tensor

from bouncegrad.fit import RunConfig, fit_folder
from bouncegrad.hidden import score_hidden
from bouncegrad.hidden.alternating_search import Effort
from bouncegrad.recipes import RECIPES, Recipe
from bouncegrad.scenes import Scenes, read_scenes, write_folder

RESULTS = Path(__file__).parent / "results"
JOINTS = ("pivot", "middle", "tip")
MIDDLE = 1
LENGTH, TIME_STEP = 50, 0.01
AROUND = range(-5, 6)
"""Samples that the linear regression sees."""


EFFORT = Effort(num_starts=64, first_rounds=6, last_rounds=12)
"""With so few entities there are few patterns, so more random beginnings. Tried on stretches of the validation runs:
the default is 609 pixels away, half as many starts as these 198."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--passes", type=int, default=100)
    parser.add_argument("--every", type=int, default=12, help="look at each so many-th test stretch")
    options = parser.parse_args()
    data, run = Path("data/pendulum"), Path("runs/pendulum")
    if not data.exists():
        write_folder(data, training_windows(options.table), "pendulum")
    began = time.process_time()
    model = fit_folder(RunConfig(str(data), "fast", recipe(options.passes)), run)
    trained = time.process_time() - began
    train, test = read_scenes(data, "train"), read_scenes(data, "test")
    test = test.at(range(0, test.num_scenes, options.every))
    began = time.process_time()
    found = score_hidden(model, test, (MIDDLE,), effort=EFFORT)
    sought = time.process_time() - began
    errors = {
        "found": away(found.posterior.best_tracks[:, 0], test),
        "linear": away(regressed(train, test), test),
        "mean": away(train.states[:, :, MIDDLE].mean((0, 1)).expand(test.num_scenes, test.num_times, -1), test),
    }
    figures = {
        "passes": options.passes,
        "train_cpu_seconds": trained,
        "search_cpu_seconds": sought,
        "num_train": train.num_scenes,
        "num_test": test.num_scenes,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, shared",
        "threads": torch.get_num_threads(),
        "coverage": float(found.covered.mean()),
        "pixels": {name: spread(values) for name, values in errors.items()},
    }
    (RESULTS / "pendulum.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


def recipe(num_passes: int) -> Recipe:
    """Rods pull along themselves however all joints move: messages of two states, and a network over their sum."""
    fast = RECIPES["fast"]
    network = replace(fast.model.network, update="general", inputs="absolute")
    training = replace(fast.training, num_passes=num_passes)
    return replace(fast, model=replace(fast.model, network=network), training=training)


def training_windows(table: Path) -> dict[str, Scenes]:
    """Ten runs to learn from, two to choose by, four to test."""
    frame = polars.read_parquet(table).sort("scene", "agent", "time")
    runs = frame["scene"].unique().sort().to_list()
    parts = {"train": runs[:10], "valid": runs[10:12], "test": runs[12:]}
    return {split: cut([frame.filter(polars.col("scene") == run) for run in chosen]) for split, chosen in parts.items()}


def cut(runs: list[polars.DataFrame]) -> Scenes:
    """Positions and backward differences, in stretches side by side."""
    pieces = []
    for run in runs:
        joints = [run.filter(polars.col("agent") == joint).select("x", "y").to_numpy() for joint in JOINTS]
        places = np.stack(joints, 1).astype(float)
        states = np.concatenate([places[1:], np.diff(places, axis=0) / TIME_STEP], 2)
        pieces += [states[begin : begin + LENGTH] for begin in range(0, len(states) - LENGTH + 1, LENGTH)]
    states = torch.tensor(np.stack(pieces))
    mask = torch.ones(states.shape[:3], dtype=torch.bool)
    return Scenes(states, mask, TIME_STEP, ("x", "y", "vx", "vy"), JOINTS)


def regressed(train: Scenes, test: Scenes) -> Tensor:
    """The middle joint as a linear function of the others' positions around the same time: ``[scene, time, 2]``."""
    solution = torch.linalg.lstsq(inputs_of(train).flatten(0, 1), train.states[:, :, MIDDLE, :2].flatten(0, 1)).solution
    return inputs_of(test) @ solution


def inputs_of(scenes: Scenes) -> Tensor:
    """Positions of the seen joints at all samples in :data:`AROUND`, cut at the ends, and 1."""
    times = torch.arange(scenes.num_times)
    seen = scenes.states[:, :, [joint for joint in range(3) if joint != MIDDLE], :2].flatten(2)
    columns = [seen[:, (times + shift).clamp(0, scenes.num_times - 1)] for shift in AROUND]
    return torch.cat([*columns, torch.ones_like(seen[..., :1])], 2)


def away(supposed: Tensor, test: Scenes) -> Tensor:
    """Root mean square distance of each stretch, in pixels."""
    return (supposed[..., :2] - test.states[:, :, MIDDLE, :2]).square().sum(2).mean(1).sqrt()


def spread(values: Tensor) -> dict[str, float]:
    """Of the stretches."""
    low, median, high = values.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=values.dtype)).tolist()
    root = float(values.square().mean().sqrt())
    return {"root_mean_square": root, "median": median, "lower_quartile": low, "upper_quartile": high}


if __name__ == "__main__":
    main()
