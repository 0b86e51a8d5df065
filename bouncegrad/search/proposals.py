"""Proposals: which structure to try next."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from bouncegrad.types import Proposal, Proposed, Structures


def uniform_slot(num_kinds: Sequence[int]) -> Proposal:
    """One random slot of each task gets another kind, all others alike. Symmetric.

    Args:
        num_kinds: ``[slot]``, how many kinds each slot takes; slots of one kind are never chosen.

    Raises:
        ValueError: no slot has a choice.
    """
    counts = torch.tensor(list(num_kinds))
    free = (counts > 1).nonzero().flatten()
    if not len(free):
        raise ValueError(f"expected at least one slot with two or more kinds, got {list(num_kinds)}: nothing to search")

    def propose(structures: Structures, generator: Generator) -> Proposed:
        tasks = torch.arange(len(structures))
        slots = free[torch.randint(len(free), (len(structures),), generator=generator)]
        uniform = torch.rand(len(structures), generator=generator)
        shifts = 1 + (uniform * (counts[slots] - 1)).long()
        proposed = structures.clone()
        proposed[tasks, slots] = (structures[tasks, slots] + shifts) % counts[slots]
        return Proposed(proposed, torch.zeros(len(structures)))

    return propose


def node_block(blocks: Int[Tensor, "block width"], num_kinds: Sequence[int]) -> Proposal:
    """All slots of one random block of each task are redrawn uniformly. Symmetric; may propose no change.

    With a receiver's incoming edges as blocks this is the block of Alet et al. 2019, section 3.3, with uniform draws
    in place of their network's.

    Args:
        blocks: ``[block, width]``, the slots of each block.
        num_kinds: ``[slot]``, how many kinds each slot takes.

    Raises:
        ValueError: no block, or slots that do not exist.
    """
    check_blocks(blocks, num_kinds)
    counts = torch.tensor(list(num_kinds))

    def propose(structures: Structures, generator: Generator) -> Proposed:
        slots = blocks[torch.randint(len(blocks), (len(structures),), generator=generator)]
        uniform = torch.rand(slots.shape, generator=generator)
        drawn = (uniform * counts[slots]).long()
        return Proposed(structures.scatter(1, slots, drawn), torch.zeros(len(structures)))

    return propose


def check_blocks(blocks: Int[Tensor, "block width"], num_kinds: Sequence[int]) -> None:
    """Raise a ValueError unless there are blocks, and ``num_kinds`` knows all their slots."""
    if blocks.dim() != 2 or not blocks.numel():
        raise ValueError(f"expected at least one block of slots, [block, width], got shape {tuple(blocks.shape)}")
    if blocks.min() < 0 or blocks.max() >= len(num_kinds):
        raise ValueError(
            f"expected slots from 0 to {len(num_kinds) - 1}, one number of kinds for each, "
            f"got slots from {int(blocks.min())} to {int(blocks.max())}"
        )


def without_correction(proposal: Proposal) -> Proposal:
    """Drop the Hastings term, as published (Alet et al. 2019): fine for annealing, wrong for probabilities."""

    def propose(structures: Structures, generator: Generator) -> Proposed:
        proposed = proposal(structures, generator)
        return Proposed(proposed.structures, torch.zeros_like(proposed.log_ratio))

    return propose
