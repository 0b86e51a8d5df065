"""What a search kernel is: a pair ``(init, step)``, its state, and what a step reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from bouncegrad.types import Losses, LossFn, Structures


@dataclass(frozen=True, slots=True)
class Proposed:
    """Structures to try, and how much likelier the way back is than the way there.

    Attributes:
        structures: ``[task, slot]``.
        log_ratio: ``[task]``, ``log q(old | new) - log q(new | old)``; 0 for symmetric proposals.
    """

    structures: Structures
    log_ratio: Float[Tensor, "task"]


Proposal: TypeAlias = Callable[[Structures, Generator], Proposed]
"""Structures -> one proposal for each task."""


@dataclass(frozen=True, slots=True)
class SearchState:
    """What the next step of a search needs.

    Attributes:
        structures: ``[task, slot]``, the current structures.
        losses: ``[task]``, their losses.
        temperature: divides the loss: the target is ``exp(-loss / temperature + log_prior)``.
    """

    structures: Structures
    losses: Losses
    temperature: float


@dataclass(frozen=True, slots=True)
class SearchInfo:
    """What a report on one step needs.

    Attributes:
        changed: ``[task]``, the structure is another one than before the step.
        accepted: ``[task]``, another structure was proposed and accepted (rejection-free kernels accept every one).
        worse: ``[task]``, the proposal had a larger loss than the current structure, and a finite one: a hotter search
            would have accepted it more easily.
        num_evaluations: loss evaluations spent on each task.
    """

    changed: Bool[Tensor, "task"]
    accepted: Bool[Tensor, "task"]
    worse: Bool[Tensor, "task"]
    num_evaluations: int


@dataclass(frozen=True, slots=True)
class Kernel:
    """A search algorithm: a pair of functions over all tasks at once.

    ``init(structures, loss_fn, temperature) -> state`` and
    ``step(state, loss_fn, generator) -> (state, info)``.
    """

    init: Callable[[Structures, LossFn, float], SearchState]
    step: Callable[[SearchState, LossFn, Generator], tuple[SearchState, SearchInfo]]


def draw_choices(scores: Float[Tensor, "*batch choice"], generator: Generator) -> Int[Tensor, "*batch"]:
    """Categorical draws from unnormalised log probabilities, by the Gumbel-max trick (Gumbel 1954)."""
    uniforms = torch.rand(scores.shape, generator=generator, dtype=torch.float64, device=scores.device)
    return (scores - torch.log(-torch.log(uniforms.clamp_min(1e-300)))).argmax(-1)
