"""Alet et al. 2019 on a thousand scenes: what learned proposals buy, and how far the published method comes on a CPU.

    python experiments/alet2019.py springs5_small springs5_uniform    # train (or resume) and write these rows
    python experiments/alet2019.py --list                             # what rows there are
    python experiments/alet2019.py --figures                          # draw what has been written

Each row writes ``experiments/results/alet2019_<row>.json``: the log of the training (relation accuracy of the training
structures and of the proposal network, share of proposals accepted, errors of rollouts at the first and the tenth
step, all against passes and seconds) and figures on 1,000 test scenes. Scenes and run folders lie in ``data/`` and
``runs/``. Labels are used by the figures only.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from fast import Row as Scenes
from matplotlib.figure import Figure

from bouncegrad.cli.evaluate import evaluate
from bouncegrad.fit import RunConfig, fit_folder
from bouncegrad.models.checkpoint import load_model
from bouncegrad.recipes import RECIPES, Recipe

RESULTS = Path(__file__).parent / "results"
SYSTEMS = {"springs5": Scenes("springs", 5, 1000, 0), "charged5": Scenes("charged", 5, 1000, 0)}
PUBLISHED_RATES = {"springs5": 0.01, "charged5": 1e-4}


@dataclass(frozen=True)
class Variant:
    """One way to run the method.

    Attributes:
        recipe: where it starts from.
        minutes: how long; None: for ``num_passes``.
        num_passes: over the scenes.
        bounce: settings of the search that differ.
        proposer: settings of the proposal network that differ.
    """

    recipe: str = "alet2019-small"
    minutes: float | None = None
    num_passes: int = 100
    bounce: tuple[tuple[str, object], ...] = ()
    proposer: tuple[tuple[str, object], ...] = ()


VARIANTS = {
    "small": Variant(minutes=60),
    "published": Variant("alet2019", minutes=60),
    "learned": Variant(),
    "uniform": Variant(bounce=(("proposals", "uniform"),), proposer=(("sees", "nothing"),)),
    "edge": Variant(bounce=(("block", "edge"), ("flip", True))),
    "structures": Variant(proposer=(("sees", "structures"),)),
    "both": Variant(proposer=(("sees", "both"),)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    rows = [f"{system}_{variant}" for system in SYSTEMS for variant in VARIANTS]
    parser.add_argument("rows", nargs="*", choices=[*rows, []], help="which rows")
    parser.add_argument("--minutes", type=float, help="in place of the hour of the rows that are bounded by time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--figures", action="store_true")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{row}: {VARIANTS[row.split('_')[1]]}" for row in rows))
    for row in options.rows:
        work(row, options.minutes, options.seed)
    if options.figures:
        draw()


def recipe_of(system: str, variant: Variant) -> Recipe:
    """The recipe of a row; at the published size also with the published learning rate."""
    recipe = RECIPES[variant.recipe]
    training = replace(
        recipe.training,
        bounce=replace(recipe.training.bounce, **dict(variant.bounce)),
        proposer=replace(recipe.training.proposer, **dict(variant.proposer)),
    )
    if variant.recipe == "alet2019":
        training = replace(training, learning_rate=PUBLISHED_RATES[system])
    if variant.minutes is None:
        training = replace(training, num_passes=variant.num_passes)
    return replace(recipe, training=training)


def work(row: str, minutes: float | None, seed: int) -> None:
    """Train one row, read it on the test scenes, write its figures."""
    system, _, name = row.partition("_")
    row = f"{row}_seed{seed}" if seed else row
    variant, folder, run = VARIANTS[name], SYSTEMS[system].simulate(), Path("runs") / f"alet2019_{row}"
    allowed = (minutes or variant.minutes) if variant.minutes else None
    if not (run / "summary.json").exists():
        began = time.process_time()
        fit_folder(RunConfig(str(folder), variant.recipe, recipe_of(system, variant), allowed, seed), run)
        (run / "cpu_seconds.json").write_text(json.dumps(time.process_time() - began))
    model = load_model(run)
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    cpu = run / "cpu_seconds.json"
    found = {
        "row": row,
        "seed": seed,
        "minutes": allowed,
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, shared",
        "seconds": log[-1]["seconds"],
        "cpu_seconds": json.loads(cpu.read_text()) if cpu.exists() else None,
        "last": log[-1],
        "test": evaluate(model, folder, "test", "none").to_dict(),
        "log": log,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"alet2019_{row}.json").write_text(json.dumps(found, indent=1) + "\n")
    print(row, log[-1]["relation_accuracy"], log[-1]["proposal_accuracy"], found["test"]["relation_accuracy"])


def draw() -> None:
    """The figures: variants side by side, the long runs, and ``fast`` beside them at equal seconds."""
    for system in SYSTEMS:
        rows = {name: logged(f"alet2019_{system}_{name}") for name in VARIANTS}
        compared = {name: log for name, log in rows.items() if log and not VARIANTS[name].minutes}
        long = {name: log for name, log in rows.items() if log and VARIANTS[name].minutes}
        if compared:
            plot(f"alet2019_{system}_proposals", compared, ["passes", "seconds"], ["relations", "network", "accepted"])
        if long:
            plot(
                f"alet2019_{system}",
                long,
                ["passes", "seconds"],
                ["relations", "network", "accepted", "step 1", "step 10"],
            )
            fast = {"fast": logged(f"fast_{system}_seed0")}
            plot(f"alet2019_{system}_and_fast", fast | long, ["seconds"], ["relations"])


def logged(name: str) -> list[dict[str, Any]]:
    """The log of a row, empty where it has not been run."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text())["log"] if path.exists() else []


def value(entry: dict[str, Any], quantity: str) -> float:
    """One number of one pass; NaN where there is none."""
    steps = entry.get("step_errors") or (math.nan, math.nan)
    proposed = entry.get("proposed") or math.nan
    found = {
        "passes": entry["number"],
        "seconds": entry["seconds"],
        "relations": entry["relation_accuracy"],
        "network": entry.get("proposal_accuracy"),
        "accepted": entry["acceptance"] / proposed,
        "step 1": steps[0],
        "step 10": steps[1],
    }[quantity]
    return math.nan if found is None else found


LABELS = {
    "relations": "relations right, training scenes",
    "network": "guesses of the network right",
    "accepted": "share of new proposals accepted",
    "step 1": "error of step 1",
    "step 10": "error of step 10",
}


def plot(name: str, rows: dict[str, list[dict[str, Any]]], across: list[str], up: list[str]) -> None:
    """A grid of curves: one column for each quantity, one row for each axis."""
    figure = Figure(figsize=(3.4 * len(up), 2.8 * len(across)), layout="constrained")
    axes = figure.subplots(len(across), len(up), squeeze=False)
    for line, horizontal in zip(axes, across, strict=True):
        for axis, vertical in zip(line, up, strict=True):
            for row, log in rows.items():
                axis.plot([value(e, horizontal) for e in log], [value(e, vertical) for e in log], label=row)
            axis.set(xlabel=horizontal, ylabel=LABELS[vertical])
            if vertical.startswith("step"):
                axis.set_yscale("log")
    axes[0][0].legend(fontsize=8)
    figure.savefig(RESULTS / f"{name}.png", dpi=90)


if __name__ == "__main__":
    main()
