"""Simulated annealing of the search over structures (latent graphs): rules for the temperature at each step.

The temperature follows a fixed schedule, or is steered so that the acceptance rate of worse proposals follows a target.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Generator

from bouncegrad.structures.kernel_interface import Kernel, SearchInfo, SearchState
from bouncegrad.types import LossFn, Schedule, Structures

COLDEST, HOTTEST = 1e-30, 1e30
"""Bounds of a steered temperature; multiplicative steps could not leave 0 or infinity."""


def as_schedule(value: float | Schedule) -> Schedule:
    """The schedule itself, or the constant schedule of a number."""
    return value if callable(value) else lambda step: float(value)


def exponential(start: float, stop: float, num_steps: int) -> Schedule:
    """Exponential schedule ``start (stop / start)^(step / num_steps)``, constant ``stop`` after ``num_steps``.

    Raises:
        ValueError: a temperature that is not positive, or fewer than one step.
    """
    if start <= 0 or stop <= 0 or num_steps < 1:
        raise ValueError(
            f"expected positive start and stop and at least one step, got {start}, {stop}, {num_steps}: "
            "a search at temperature 0 is as_schedule(0.0)"
        )
    return lambda step: start * (stop / start) ** min(1.0, step / num_steps)


@dataclass(frozen=True, slots=True)
class AnnealingState:
    """State of an annealing rule.

    Attributes:
        step: number of search steps done.
        temperature: temperature of the next step.
        share: running estimate of the acceptance rate of worse proposals.
    """

    step: int
    temperature: float
    share: float


@dataclass(frozen=True, slots=True)
class Annealing:
    """A rule for the temperature: a pair of functions.

    Attributes:
        init: ``init() -> state``.
        next: ``next(state, info) -> state``, after each search step.
    """

    init: Callable[[], AnnealingState]
    next: Callable[[AnnealingState, SearchInfo], AnnealingState]


def schedule_annealing(temperature: float | Schedule) -> Annealing:
    """The rule that follows a schedule of the temperature, independent of the search."""
    schedule = as_schedule(temperature)

    def proceed(state: AnnealingState, info: SearchInfo) -> AnnealingState:
        return AnnealingState(state.step + 1, schedule(state.step + 1), _update_share(state.share, info))

    return Annealing(lambda: AnnealingState(0, schedule(0), 1.0), proceed)


def acceptance_target(slope_steps: int) -> Schedule:
    """Target acceptance rate of worse proposals, ``exp(-5 step / slope_steps)`` (Alet et al. 2019, released code).

    Raises:
        ValueError: ``slope_steps`` is not positive.
    """
    if not slope_steps > 0:
        raise ValueError(f"expected a positive number of steps, got {slope_steps}")
    return lambda step: math.exp(-5 * step / slope_steps)


def acceptance_annealing(target: float | Schedule, start: float = 1.0, gain: float = 0.3) -> Annealing:
    """The rule that steers the temperature so that the acceptance rate of worse proposals follows ``target``.

    After each step the temperature is multiplied by ``exp(gain (logit(target) - logit(share)))``, limited to a factor
    of 2 either way and to the range from :data:`COLDEST` to :data:`HOTTEST`. The share is a moving average with
    pseudo-counts, so it never reaches 0 or 1 and no state absorbs (in the released code an estimate of 0 stays 0).

    Args:
        target: step -> acceptance rate, between 0 and 1.
        start: initial temperature.
        gain: gain of the controller.

    Raises:
        ValueError: ``start`` is not positive and finite, or ``gain`` is not positive.
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
    """Running acceptance rate of worse proposals, as the released code of Alet et al. 2019 estimates it.

    Each worse proposal moves ``(taken, seen)`` towards ``(its acceptance, 1)`` by the weight ``min(0.01, share)``, with
    the share before the batch. A share near 0 has a weight near 0: unlike :func:`acceptance_annealing`, the estimate
    can stay near 0 for good.

    Attributes:
        taken: running count of accepted worse proposals.
        seen: running count of all worse proposals.
    """

    taken: float = 1e-9
    seen: float = 1e-9

    @property
    def share(self) -> float:
        """The estimated acceptance rate, ``taken / seen``."""
        return self.taken / self.seen

    def after(self, info: SearchInfo) -> AcceptedWorse:
        """The estimate updated by the worse proposals of one more step."""
        taken, seen, weight = self.taken, self.seen, min(0.01, self.share)
        for accepted in info.accepted[info.worse].tolist():
            taken, seen = (1 - weight) * taken + weight * accepted, (1 - weight) * seen + weight
        return AcceptedWorse(taken, seen)


STEP = 1.1
"""Factor by which the released code of Alet et al. 2019 raises or lowers the temperature after each epoch."""


def step_temperature(temperature: float, share: float, target: float) -> float:
    """The temperature times :data:`STEP` if the acceptance rate ``share`` is below the target, else divided by it."""
    return min(HOTTEST, max(COLDEST, temperature * STEP if share < target else temperature / STEP))


def anneal(
    kernel: Kernel, annealing: Annealing, loss_fn: LossFn, structures: Structures, num_steps: int, generator: Generator
) -> tuple[SearchState, list[SearchInfo]]:
    """Run a kernel for ``num_steps`` steps, each at the temperature of the annealing rule.

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
    """Moving average of the acceptance rate: ten worse proposals weigh as much as the past; pseudo-counts of 0.01."""
    num_worse = int(info.worse.sum())
    num_accepted = int((info.worse & info.accepted).sum())
    weight = num_worse / (num_worse + 10)
    observed = (num_accepted + 0.01) / (num_worse + 0.02)
    return (1 - weight) * share + weight * observed


def _logit(share: float) -> float:
    inside = min(1 - 1e-4, max(1e-4, share))
    return math.log(inside / (1 - inside))
