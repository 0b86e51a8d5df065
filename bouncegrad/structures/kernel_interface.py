"""The interface of search kernels over structures (latent graphs): a pair ``(init, step)``, its state and its info.

A kernel performs one step of the E-step ("bounce" in Alet et al. 2019). A proposal is one of its parts.
"""

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
    """One proposed structure for each task, with its Hastings correction.

    Attributes:
        structures: ``[task, slot]``, the proposed structures.
        log_ratio: ``[task]``, ``log q(old | new) - log q(new | old)``; 0 for symmetric proposals.
    """

    structures: Structures
    log_ratio: Float[Tensor, "task"]


Proposal: TypeAlias = Callable[[Structures, Generator], Proposed]
"""Current structures, generator -> one proposed structure for each task."""


@dataclass(frozen=True, slots=True)
class SearchState:
    """State of a search: current structures, their losses, and the temperature of the next step.

    Attributes:
        structures: ``[task, slot]``, the current structures.
        losses: ``[task]``, the losses of the current structures.
        temperature: divisor of the loss: the target is ``exp(-loss / temperature + log_prior)``.
    """

    structures: Structures
    losses: Losses
    temperature: float


@dataclass(frozen=True, slots=True)
class SearchInfo:
    """Statistics of one search step.

    Attributes:
        changed: ``[task]``, whether the structure differs from that before the step.
        accepted: ``[task]``, whether a different structure is proposed and accepted (rejection-free kernels accept
            every proposal).
        worse: ``[task]``, whether the proposal has a finite loss above that of the current structure, so that a higher
            temperature makes its acceptance more probable.
        num_evaluations: number of loss evaluations for each task.
    """

    changed: Bool[Tensor, "task"]
    accepted: Bool[Tensor, "task"]
    worse: Bool[Tensor, "task"]
    num_evaluations: int


@dataclass(frozen=True, slots=True)
class Kernel:
    """A search algorithm: a pair of functions that act on all tasks at once.

    Attributes:
        init: ``init(structures, loss_fn, temperature) -> state``.
        step: ``step(state, loss_fn, generator) -> (state, info)``.
    """

    init: Callable[[Structures, LossFn, float], SearchState]
    step: Callable[[SearchState, LossFn, Generator], tuple[SearchState, SearchInfo]]


def draw_choices(scores: Float[Tensor, "*batch choice"], generator: Generator) -> Int[Tensor, "*batch"]:
    """Categorical draws from unnormalised log probabilities, by the Gumbel-max trick (Gumbel 1954)."""
    uniforms = torch.rand(scores.shape, generator=generator, dtype=torch.float64, device=scores.device)
    return (scores - torch.log(-torch.log(uniforms.clamp_min(1e-300)))).argmax(-1)
