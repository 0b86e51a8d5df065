"""Kernels that wrap other kernels: a random mixture, and a memory of the best structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator

from bouncegrad.structures.kernel_interface import Kernel, SearchInfo, SearchState
from bouncegrad.types import Losses, LossFn, Structures


@dataclass(frozen=True, slots=True)
class BestState(SearchState):
    """A search state that also holds the best structure of each task.

    Attributes:
        best_structures: ``[task, slot]``, the structures of smallest loss so far.
        best_losses: ``[task]``, the losses of the best structures.
    """

    best_structures: Structures
    best_losses: Losses


def mixture(weighted: Sequence[tuple[float, Kernel]]) -> Kernel:
    """A kernel that steps with one of several kernels, drawn at each step in proportion to its weight.

    The state is initialised by the first kernel.

    Raises:
        ValueError: an empty list, or a weight that is not positive.
    """
    if not weighted or not all(weight > 0 for weight, _ in weighted):
        raise ValueError(f"expected kernels with positive weights, got weights {[weight for weight, _ in weighted]}")
    weights = torch.tensor([weight for weight, _ in weighted])

    def step(state: SearchState, loss_fn: LossFn, generator: Generator) -> tuple[SearchState, SearchInfo]:
        chosen = int(torch.multinomial(weights, 1, generator=generator))
        return weighted[chosen][1].step(state, loss_fn, generator)

    return Kernel(weighted[0][1].init, step)


def best_so_far(kernel: Kernel) -> Kernel:
    """A kernel that searches as ``kernel`` does and keeps the best structure of each task in a :class:`BestState`.

    The best losses are not evaluated again, so it is valid only while the modules are fixed.
    """

    def init(structures: Structures, loss_fn: LossFn, temperature: float) -> BestState:
        return _remember(kernel.init(structures, loss_fn, temperature), None)

    def step(state: SearchState, loss_fn: LossFn, generator: Generator) -> tuple[BestState, SearchInfo]:
        assert isinstance(state, BestState)
        moved, info = kernel.step(state, loss_fn, generator)
        return _remember(moved, state), info

    return Kernel(init, step)


def _remember(state: SearchState, before: BestState | None) -> BestState:
    if before is None:
        return BestState(state.structures, state.losses, state.temperature, state.structures, state.losses)
    better = state.losses < before.best_losses
    best_structures = torch.where(better[:, None], state.structures, before.best_structures)
    best_losses = torch.where(better, state.losses, before.best_losses)
    return BestState(state.structures, state.losses, state.temperature, best_structures, best_losses)
