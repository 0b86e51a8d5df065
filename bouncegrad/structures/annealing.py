"""Temperatures: how hot the search is at each step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Generator

from bouncegrad.structures.kernels import Kernel, SearchInfo, SearchState
from bouncegrad.types import LossFn, Schedule, Structures

COLDEST, HOTTEST = 1e-30, 1e30
"""Where steering stops: a temperature that reached 0 or infinity would stay there."""


def as_schedule(value: float | Schedule) -> Schedule:
    """Lift a number to the schedule that always says it."""
    return value if callable(value) else lambda step: float(value)


def exponential(start: float, stop: float, num_steps: int) -> Schedule:
    """From ``start`` to ``stop`` in ``num_steps`` equal factors, then ``stop``: ``start (stop / start)^(step / num)``.

    Raises:
        ValueError: a temperature that is not positive, or no step.
    """
    if start <= 0 or stop <= 0 or num_steps < 1:
        raise ValueError(
            f"expected positive start and stop and at least one step, got {start}, {stop}, {num_steps}: "
            "a search at temperature 0 is as_schedule(0.0)"
        )
    return lambda step: start * (stop / start) ** min(1.0, step / num_steps)


@dataclass(frozen=True, slots=True)
class AnnealingState:
    """Where the annealing stands.

    Attributes:
        step: search steps done.
        temperature: for the next step.
        share: estimated share of worse proposals that are accepted at present.
    """

    step: int
    temperature: float
    share: float


@dataclass(frozen=True, slots=True)
class Annealing:
    """A rule for the temperature: a pair of functions, ``init() -> state`` and ``next(state, info) -> state``."""

    init: Callable[[], AnnealingState]
    next: Callable[[AnnealingState, SearchInfo], AnnealingState]


def schedule_annealing(temperature: float | Schedule) -> Annealing:
    """The temperature of a schedule, whatever the search does."""
    schedule = as_schedule(temperature)

    def proceed(state: AnnealingState, info: SearchInfo) -> AnnealingState:
        return AnnealingState(state.step + 1, schedule(state.step + 1), _update_share(state.share, info))

    return Annealing(lambda: AnnealingState(0, schedule(0), 1.0), proceed)


def acceptance_target(slope_steps: int) -> Schedule:
    """``exp(-5 step / slope_steps)``: the share of worse moves to accept (Alet et al. 2019, released code).

    Raises:
        ValueError: a number of steps that is not positive.
    """
    if not slope_steps > 0:
        raise ValueError(f"expected a positive number of steps, got {slope_steps}")
    return lambda step: math.exp(-5 * step / slope_steps)


def acceptance_annealing(target: float | Schedule, start: float = 1.0, gain: float = 0.3) -> Annealing:
    """Steer the temperature so that the share of worse proposals that are accepted follows ``target``.

    After each step the temperature is multiplied by ``exp(gain (logit(target) - logit(share)))``, cut to a factor of
    2 either way and kept within :data:`COLDEST` and :data:`HOTTEST`. The share is a moving average with pseudo-counts,
    so it never reaches 0 or 1 and no state absorbs (the released code's estimate stays at 0 once it is there).

    Args:
        target: step -> share between 0 and 1.
        start: the first temperature.
        gain: how hard to steer.

    Raises:
        ValueError: a start that is not positive and finite, or a gain that is not positive.
    """
    if not 0 < start < math.inf:
        raise ValueError(f"expected a positive and finite first temperature, got {start}")
    if not gain > 0:
        raise ValueError(f"expected a positive gain, got {gain}: a fixed temperature is schedule_annealing(start)")
    schedule = as_schedule(target)

    def proceed(state: AnnealingState, info: SearchInfo) -> AnnealingState:
        moved = replace(state, step=state.step + 1, share=_update_share(state.share, info))
        if not info.worse.any():
            return moved
        push = gain * (_logit(schedule(moved.step)) - _logit(moved.share))
        temperature = state.temperature * math.exp(min(math.log(2), max(-math.log(2), push)))
        return replace(moved, temperature=min(HOTTEST, max(COLDEST, temperature)))

    return Annealing(lambda: AnnealingState(0, start, schedule(0)), proceed)


@dataclass(frozen=True, slots=True)
class AcceptedWorse:
    """Running share of worse proposals that are accepted, as the released code of Alet et al. 2019 counts it.

    Each worse proposal moves both numbers towards (its acceptance, 1) by ``min(0.01, share)``, the share as it was
    before the batch. Once next to nothing is accepted the share hardly moves any more: unlike
    :func:`acceptance_annealing`, this can get stuck near 0.

    Attributes:
        taken: running count of those that are accepted.
        seen: of all.
    """

    taken: float = 1e-9
    seen: float = 1e-9

    @property
    def share(self) -> float:
        """The estimate."""
        return self.taken / self.seen

    def after(self, info: SearchInfo) -> AcceptedWorse:
        """With the worse proposals of one more step."""
        taken, seen, weight = self.taken, self.seen, min(0.01, self.share)
        for accepted in info.accepted[info.worse].tolist():
            taken, seen = (1 - weight) * taken + weight * accepted, (1 - weight) * seen + weight
        return AcceptedWorse(taken, seen)


STEP = 1.1
"""Factor by which the released code of Alet et al. 2019 heats or cools at each pass."""


def step_temperature(temperature: float, share: float, target: float) -> float:
    """A tenth hotter where fewer worse proposals than the target are accepted, else a tenth cooler."""
    return min(HOTTEST, max(COLDEST, temperature * STEP if share < target else temperature / STEP))


def anneal(
    kernel: Kernel, annealing: Annealing, loss_fn: LossFn, structures: Structures, num_steps: int, generator: Generator
) -> tuple[SearchState, list[SearchInfo]]:
    """Run a kernel for ``num_steps``, each at the temperature that the annealing gives.

    Returns:
        The final state, and the info of every step.
    """
    heat = annealing.init()
    state = kernel.init(structures, loss_fn, heat.temperature)
    infos = []
    for _ in range(num_steps):
        state, info = kernel.step(replace(state, temperature=heat.temperature), loss_fn, generator)
        heat = annealing.next(heat, info)
        infos.append(info)
    return state, infos


def _update_share(share: float, info: SearchInfo) -> float:
    """Moving average over worse proposals; ten of them carry as much as the past, one pseudo-proposal each way."""
    num_worse = int(info.worse.sum())
    num_accepted = int((info.worse & info.accepted).sum())
    weight = num_worse / (num_worse + 10)
    observed = (num_accepted + 0.01) / (num_worse + 0.02)
    return (1 - weight) * share + weight * observed


def _logit(share: float) -> float:
    inside = min(1 - 1e-4, max(1e-4, share))
    return math.log(inside / (1 - inside))
