"""Proposal distributions of Metropolis-Hastings over structures (latent graphs), with their Hastings corrections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from bouncegrad.structures.kernel_interface import Proposal, Proposed, draw_choices
from bouncegrad.types import Structures


def without_correction(proposal: Proposal) -> Proposal:
    """The proposal without its Hastings correction, as published (Alet et al. 2019).

    This is sufficient for optimisation by annealing, but samples are then not from the target.
    """

    def propose(structures: Structures, generator: Generator) -> Proposed:
        proposed = proposal(structures, generator)
        return Proposed(proposed.structures, torch.zeros_like(proposed.log_ratio))

    return propose


Beliefs: TypeAlias = Callable[[Structures], Float[Tensor, "task slot kind"]]
"""Structures -> log probabilities of the kinds (edge types) on every slot; -inf for kinds that a slot does not take."""


BeliefsFn: TypeAlias = Callable[[Generator], Beliefs]
"""Generator -> the proposal probabilities of one step, after drawing their random parts (such as dropout)."""


def uniform_beliefs(num_kinds: Sequence[int]) -> BeliefsFn:
    """Uniform proposal probabilities over the kinds of each slot, independent of the structure.

    Args:
        num_kinds: ``[slot]``, the number of kinds of each slot.
    """
    counts = torch.tensor(list(num_kinds))[:, None]
    table = torch.where(torch.arange(int(counts.max())) < counts, -counts.log(), -torch.inf)
    return lambda generator: lambda structures: table.expand(len(structures), -1, -1)


def block_proposal(beliefs_fn: BeliefsFn, blocks: Int[Tensor, "block width"], *, flip: bool = False) -> Proposal:
    """Redraw all slots of one random block of each task, independently, from proposal probabilities.

    ``log q(old | new) - log q(new | old)`` is the sum over the block of ``log p(old) - log p(new)``, and with ``flip``
    also of ``log (1 - p(old)) - log (1 - p(new))``.
    Source: Alet et al. 2019, section 4.2: blocked Gibbs over the incoming edges of a node.

    Args:
        beliefs_fn: the proposal probabilities of the kinds on every slot.
        blocks: ``[block, width]``, the slots of each block.
        flip: whether every slot of the block must change its kind.
    """

    def propose(structures: Structures, generator: Generator) -> Proposed:
        beliefs = beliefs_fn(generator)
        slots = blocks[torch.randint(len(blocks), (len(structures),), generator=generator)]
        old = structures.gather(1, slots)
        forward = _at(beliefs(structures), slots)
        forward = _without(forward, old) if flip else forward
        new = draw_choices(forward, generator)
        proposed = structures.scatter(1, slots, new)
        reverse = _at(beliefs(proposed), slots)
        reverse = _without(reverse, new) if flip else reverse
        return Proposed(proposed, (_of(reverse, old) - _of(forward, new)).sum(1))

    return propose


def slot_proposal(beliefs_fn: BeliefsFn, num_slots: int, *, flip: bool = True) -> Proposal:
    """Redraw one slot of each task from proposal probabilities.

    With ``flip`` the slot and its new kind are drawn jointly from all possible changes, in proportion to the
    probability of the new kind (as in the released code of Alet et al. 2019): slots whose current kind is improbable
    change most often. Without ``flip`` a slot is drawn uniformly, then its kind, possibly the current one.

    Args:
        beliefs_fn: the proposal probabilities of the kinds on every slot.
        num_slots: number of slots of each task.
        flip: whether the slot must change its kind.
    """
    if not flip:
        return block_proposal(beliefs_fn, torch.arange(num_slots)[:, None])

    def propose(structures: Structures, generator: Generator) -> Proposed:
        beliefs = beliefs_fn(generator)
        forward = _changes(beliefs(structures), structures)
        tasks, num_kinds = torch.arange(len(structures)), forward.shape[1] // num_slots
        drawn = draw_choices(forward, generator)
        slots, kinds = drawn // num_kinds, drawn % num_kinds
        old = structures[tasks, slots]
        proposed = structures.clone()
        proposed[tasks, slots] = kinds
        reverse = _changes(beliefs(proposed), proposed)
        return Proposed(proposed, reverse[tasks, slots * num_kinds + old] - forward[tasks, drawn])

    return propose


def _at(beliefs: Float[Tensor, "task slot kind"], slots: Int[Tensor, "task width"]) -> Float[Tensor, "task width kind"]:
    return beliefs.gather(1, slots[:, :, None].expand(-1, -1, beliefs.shape[2]))


def _of(beliefs: Float[Tensor, "*batch kind"], kinds: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    return beliefs.gather(-1, kinds[..., None]).squeeze(-1)


def _without(beliefs: Float[Tensor, "*batch kind"], kinds: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch kind"]:
    """Log probabilities renormalised without these kinds; unchanged on slots that take no other kind."""
    others = beliefs.scatter(-1, kinds[..., None], -torch.inf)
    alone = (others == -torch.inf).all(-1, keepdim=True)
    return torch.where(alone, beliefs, others.log_softmax(-1))


def _changes(beliefs: Float[Tensor, "task slot kind"], structures: Structures) -> Float[Tensor, "task change"]:
    """Log probabilities of all changes (slot, different kind), slot-major; of no change if no slot can change."""
    others = beliefs.scatter(2, structures[:, :, None], -torch.inf).flatten(1)
    stuck = (others == -torch.inf).all(1, keepdim=True)
    return torch.where(stuck, beliefs.flatten(1), others).log_softmax(1)
