"""Reading and learning against the number of entities: seconds and peak memory, on springs with four partners each.

Every measurement is a process of its own, so that its peak memory is its own. Writes JSON and a picture to
``benchmarks/results/``. Run from the root of the project, with a model of springs (any number of entities):
``OMP_NUM_THREADS=1 python -m benchmarks.large_graphs --model runs/springs5``.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time

from bouncegrad.evaluation.metrics import match_relations
from bouncegrad.inference import infer
from bouncegrad.models.checkpoint import load_model
from bouncegrad.models.model import Model
from bouncegrad.recipes import RECIPES
from bouncegrad.scenes import Scenes, from_arrays
from bouncegrad.simulate import Springs, simulate
from bouncegrad.training import BounceGrad

SIZES = (5, 10, 20, 40, 70, 100)
PARTNERS, EDGES = 4, 800
WORKS = ("none", "symmetric", "fit")
"""Two priors to read under, and one pass of learning under the weaker one."""

RESULTS = Path(__file__).parent / "results"


def sparse_springs(num_scenes: int, num_entities: int) -> Scenes:
    density = min(0.5, PARTNERS / (num_entities - 1))
    found = simulate(
        Springs(num_entities, probabilities=(1 - density, density)), num_scenes, generator=3, num_steps=5000
    )
    return from_arrays(found.loc, found.vel, found.edges, time_step=found.time_step)


def accuracy_of_reading(model: Model, scenes: Scenes, prior: str) -> float:
    assert scenes.relations is not None
    return match_relations(infer(model, scenes, prior=prior).relations, scenes.relations, scenes.present).accuracy


def loss_of_one_pass(scenes: Scenes) -> float:
    recipe = RECIPES["fast"]
    training = replace(recipe.training, num_passes=10, bounce=replace(recipe.training.bounce, prior="none"))
    return BounceGrad(scenes, scenes.at(range(1)), recipe.model, training, 0).run_epoch().loss


def measured(work: str, num_entities: int, model: Model) -> dict[str, float | int | str]:
    num_scenes = max(1, EDGES // (num_entities * (num_entities - 1)))
    scenes = sparse_springs(num_scenes, num_entities)
    tasks: dict[str, Callable[[], float]] = {"fit": lambda: loss_of_one_pass(scenes)}
    begin, begin_cpu = perf_counter(), process_time()
    found = tasks.get(work, lambda: accuracy_of_reading(model, scenes, work))()
    return {
        "work": work,
        "num_entities": num_entities,
        "num_scenes": num_scenes,
        "seconds_per_scene": round((perf_counter() - begin) / num_scenes, 3),
        "cpu_seconds_per_scene": round((process_time() - begin_cpu) / num_scenes, 3),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "loss" if work == "fit" else "relation_accuracy": round(found, 4),
    }


def draw(rows: list[dict[str, float | int | str]], picture: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    figures = ("cpu_seconds_per_scene", "peak_memory_mib", "relation_accuracy")
    for axes, name in zip(figure.subplots(1, 3), figures, strict=True):
        for work in WORKS:
            points = [(row["num_entities"], row[name]) for row in rows if row["work"] == work and name in row]
            axes.plot(*zip(*points, strict=True), marker="o", label=work) if points else None
        axes.set(xlabel="entities", title=name.replace("_", " "), xscale="log")
        axes.set_yscale("linear" if name == "relation_accuracy" else "log")
        axes.legend()
    figure.savefig(picture, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--works", nargs="+", choices=WORKS, default=WORKS)
    parser.add_argument("--alone", action="store_true", help="measure here, and print; nothing is written")
    given = parser.parse_args()
    wanted = [(work, size) for size in given.sizes for work in given.works]
    if given.alone:
        for work, size in wanted:
            print(json.dumps(measured(work, size, load_model(given.model))))
        return
    rows = []
    for work, size in wanted:
        options = ["--model", given.model, "--sizes", str(size), "--works", work]
        command = [sys.executable, "-m", "benchmarks.large_graphs", "--alone", *options]
        rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        print(json.dumps(rows[-1]), flush=True)
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "large_graphs.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
        draw(rows, RESULTS / "large_graphs.png")


if __name__ == "__main__":
    main()
