"""Scenes simulated in a second, beside a loop over one scene at a time. Prints one line of JSON for each system.

Run from the root of the project: ``OMP_NUM_THREADS=1 python -m benchmarks.simulate``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from time import perf_counter

import numpy as np
from numpy import ndarray

from bouncegrad.simulate import CentralForce, Charged, Springs, Start, integrate, simulate
from bouncegrad.simulate.motion import BOX, MAX_FORCE, SAMPLE_EVERY, STEP

Strengths = Callable[[ndarray, ndarray], ndarray]


def spring_strengths(loc: ndarray, edges: ndarray) -> ndarray:
    return -0.1 * edges


def charge_strengths(loc: ndarray, edges: ndarray) -> ndarray:
    squares = (loc**2).sum(0)
    distances = squares[:, None] + squares - 2 * loc.T @ loc
    np.fill_diagonal(distances, 1.0)
    return edges / distances**1.5


def plain_force(strengths: Strengths, loc: ndarray, edges: ndarray) -> ndarray:
    pulls = strengths(loc, edges) * (loc[:, :, None] - loc[:, None])
    return np.clip(pulls.sum(-1), -MAX_FORCE, MAX_FORCE)


def plain_scene(strengths: Strengths, start: Start, num_steps: int) -> list[ndarray]:
    """One scene by the plainest loop over arrays of its five entities."""
    loc, vel, edges = start.loc[0].copy(), start.vel[0].copy(), start.edges[0]
    vel += STEP * plain_force(strengths, loc, edges)
    samples = []
    for step in range(1, num_steps):
        loc += STEP * vel
        for sign in (1, -1):
            beyond = sign * loc > BOX
            loc[beyond] = sign * 2 * BOX - loc[beyond]
            vel[beyond] = -sign * np.abs(vel[beyond])
        if step % SAMPLE_EVERY == 0:
            samples.append(loc.copy())
        vel += STEP * plain_force(strengths, loc, edges)
    return samples


def some_start(system: CentralForce) -> Start:
    first = simulate(system, 1, generator=0, num_steps=2 * SAMPLE_EVERY)
    return Start(first.loc[:, 0], first.vel[:, 0], first.edges)


def scenes_per_second(work: Callable[[], object], num_scenes: int) -> float:
    begin = perf_counter()
    work()
    return num_scenes / (perf_counter() - begin)


def measured(
    system: CentralForce, strengths: Strengths, num_scenes: int, num_steps: int
) -> dict[str, float | int | str]:
    start = some_start(system)
    plain = scenes_per_second(lambda: plain_scene(strengths, start, num_steps), 1)
    fast = scenes_per_second(lambda: simulate(system, num_scenes, generator=0, num_steps=num_steps), num_scenes)
    once = integrate(system, start, num_steps=501).loc[0]
    return {
        "system": type(system).__name__,
        "num_scenes": num_scenes,
        "num_steps": num_steps,
        "scenes_per_second": round(fast, 1),
        "plain_scenes_per_second": round(plain, 2),
        "ratio": round(fast / plain, 1),
        "deviation_at_step_500": float(np.abs(once[-1] - plain_scene(strengths, start, 501)[-1]).max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-scenes", type=int, default=2_000)
    parser.add_argument("--num-steps", type=int, default=5_000)
    given = parser.parse_args()
    for system, strengths in ((Springs(), spring_strengths), (Charged(), charge_strengths)):
        print(json.dumps(measured(system, strengths, given.num_scenes, given.num_steps)))


if __name__ == "__main__":
    main()
