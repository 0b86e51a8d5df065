"""A pass of ``alet2019`` at the published size: where its time goes, and how far it is from the matrix-multiply limit.

Prints JSON and, with ``--write``, leaves it in ``benchmarks/results/passes.json``. With ``--other``, the seconds that
another implementation took for one pass over as many scenes, measured beside this on one thread, the ratio as well.
Run from the root of the project: ``OMP_NUM_THREADS=1 python -m benchmarks.passes``.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.super_graph import seconds_of
from bouncegrad.recipes import RECIPES
from bouncegrad.scenes import from_arrays
from bouncegrad.simulate import Springs, simulate
from bouncegrad.training import BounceGrad

RESULT = Path(__file__).parent / "results" / "passes.json"
PRODUCTS = ("aten::addmm", "aten::mm", "aten::bmm", "aten::baddbmm", "aten::addmm_")


def trainer_of(recipe: str, num_scenes: int, temperature: float) -> BounceGrad:
    """A training on springs; ``temperature`` infinite: every proposal is accepted; near 0: none that is worse."""
    found = simulate(Springs(5), num_scenes, generator=0)
    scenes = from_arrays(found.loc, found.vel, found.edges)
    chosen = RECIPES[recipe]
    bounce = replace(chosen.training.bounce, heat="scheduled", hottest=temperature, coolest=temperature)
    training = replace(chosen.training, bounce=bounce, learning_rate=1e-5)
    return BounceGrad(scenes, scenes.at(range(2)), chosen.model, training, 0)


def product_limit(rows: int, width: int) -> float:
    """Floating-point operations a second of the largest product of a pass, alone and from the cache."""
    left, right, bias = torch.randn(rows, width), torch.randn(width, width), torch.randn(width)
    return 2 * rows * width**2 / seconds_of(lambda: torch.addmm(bias, left, right), 30)


def parts_of(trainer: BounceGrad) -> dict[str, float]:
    """Seconds of the parts of one pass."""
    spent: dict[str, float] = {}
    assert trainer.learner
    for owner, name in ((trainer.bounce, "search"), (trainer, "_grad"), (trainer.learner, "learn")):
        _time(owner, name, spent)
    begin = perf_counter()
    trainer.run_epoch()
    whole = perf_counter() - begin
    parts = {"search": spent["search"], "grad": spent["_grad"], "proposal network": spent["learn"]}
    return parts | {"rest": whole - sum(parts.values()), "whole": whole}


def _time(owner: object, name: str, spent: dict[str, float]) -> None:
    done: Callable[..., object] = getattr(owner, name)

    def timed(*words: object) -> object:
        begin = perf_counter()
        found = done(*words)
        spent[name] = spent.get(name, 0.0) + perf_counter() - begin
        return found

    setattr(owner, name, timed)


def measured(recipe: str, num_scenes: int, temperature: float) -> dict[str, object]:
    """One pass, timed, counted and profiled."""
    trainer = trainer_of(recipe, num_scenes, temperature)
    trainer.run_epoch()
    parts = parts_of(trainer)
    with FlopCounterMode(display=False) as counter:
        trainer.run_epoch()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        trainer.run_epoch()
    events = profiled.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    products = sum(event.self_cpu_time_total for event in events if event.key in PRODUCTS)
    per_task = counter.get_total_flops() / num_scenes
    hidden = trainer.model.config.network.hidden
    limit = product_limit(round(1e6 / hidden), hidden)
    return {
        "recipe": recipe,
        "num_scenes": num_scenes,
        "temperature": temperature,
        "milliseconds_per_task": {name: 1e3 * spent / num_scenes for name, spent in parts.items()},
        "gigaflop_per_task": per_task / 1e9,
        "gigaflops": per_task * num_scenes / parts["whole"] / 1e9,
        "limit_gigaflops": limit / 1e9,
        "share_of_limit": per_task * num_scenes / parts["whole"] / limit,
        "share_in_products": products / total,
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="alet2019")
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--other", type=float, help="seconds of another implementation for one pass")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    rows = [measured(options.recipe, options.scenes, temperature) for temperature in (math.exp(-9.8), 1e-12)]
    found: dict[str, object] = {"passes": rows}
    if options.other:
        ours = [row["milliseconds_per_task"]["whole"] * options.scenes / 1e3 for row in rows]  # pyright: ignore
        found |= {"other_seconds": options.other, "times_as_fast": [options.other / seconds for seconds in ours]}
    print(json.dumps(found, indent=1))
    if options.write:
        RESULT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
