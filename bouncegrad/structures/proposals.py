"""Proposals: which structure to try next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from bouncegrad.structures.kernels import Proposal, Proposed, draw_choices
from bouncegrad.types import Structures


def without_correction(proposal: Proposal) -> Proposal:
    """Drop the Hastings term, as published (Alet et al. 2019): fine for annealing, wrong for probabilities."""

    def propose(structures: Structures, generator: Generator) -> Proposed:
        proposed = proposal(structures, generator)
        return Proposed(proposed.structures, torch.zeros_like(proposed.log_ratio))

    return propose


Beliefs: TypeAlias = Callable[[Structures], Float[Tensor, "task slot kind"]]
"""Structures -> log probabilities of the kinds on every slot; minus infinity where a slot does not take a kind."""


BeliefsFn: TypeAlias = Callable[[Generator], Beliefs]
"""Draws the circumstances of one proposal."""


def uniform_beliefs(num_kinds: Sequence[int]) -> BeliefsFn:
    """All kinds that a slot takes alike, whatever the structure.

    Args:
        num_kinds: ``[slot]``, how many kinds each slot takes.
    """
    counts = torch.tensor(list(num_kinds))[:, None]
    table = torch.where(torch.arange(int(counts.max())) < counts, -counts.log(), -torch.inf)
    return lambda generator: lambda structures: table.expand(len(structures), -1, -1)


def block_proposal(beliefs_fn: BeliefsFn, blocks: Int[Tensor, "block width"], *, flip: bool = False) -> Proposal:
    """All slots of one random block of each task are redrawn from the beliefs, each on its own.

    ``log q(old | new) - log q(new | old)`` is the sum over the block of ``log p(old) - log p(new)``, and with ``flip``
    also of ``log (1 - p(old)) - log (1 - p(new))``.
    Source: Alet et al. 2019, section 4.2: blocked Gibbs over the incoming edges of a node.

    Args:
        beliefs_fn: says how probable each kind is.
        blocks: ``[block, width]``, the slots of each block.
        flip: every slot of the block gets another kind than it has.
    """

    def propose(structures: Structures, generator: Generator) -> Proposed:
        beliefs = beliefs_fn(generator)
        slots = blocks[torch.randint(len(blocks), (len(structures),), generator=generator)]
        old = structures.gather(1, slots)
        there = _at(beliefs(structures), slots)
        there = _without(there, old) if flip else there
        new = draw_choices(there, generator)
        proposed = structures.scatter(1, slots, new)
        back = _at(beliefs(proposed), slots)
        back = _without(back, new) if flip else back
        return Proposed(proposed, (_of(back, old) - _of(there, new)).sum(1))

    return propose


def slot_proposal(beliefs_fn: BeliefsFn, num_slots: int, *, flip: bool = True) -> Proposal:
    """One slot of each task is redrawn from the beliefs.

    With ``flip`` the slot and its new kind are drawn together, in proportion to the probability of that kind, from all
    changes that there are (as the released code of Alet et al. 2019 does): the least credible slots change first.
    Without it a slot is drawn at random, then its kind, perhaps the one it has.

    Args:
        beliefs_fn: says how probable each kind is.
        num_slots: of each task.
        flip: the slot gets another kind than it has.
    """
    if not flip:
        return block_proposal(beliefs_fn, torch.arange(num_slots)[:, None])

    def propose(structures: Structures, generator: Generator) -> Proposed:
        beliefs = beliefs_fn(generator)
        there = _changes(beliefs(structures), structures)
        tasks, num_kinds = torch.arange(len(structures)), there.shape[1] // num_slots
        drawn = draw_choices(there, generator)
        slots, kinds = drawn // num_kinds, drawn % num_kinds
        old = structures[tasks, slots]
        proposed = structures.clone()
        proposed[tasks, slots] = kinds
        back = _changes(beliefs(proposed), proposed)
        return Proposed(proposed, back[tasks, slots * num_kinds + old] - there[tasks, drawn])

    return propose


def _at(beliefs: Float[Tensor, "task slot kind"], slots: Int[Tensor, "task width"]) -> Float[Tensor, "task width kind"]:
    return beliefs.gather(1, slots[:, :, None].expand(-1, -1, beliefs.shape[2]))


def _of(beliefs: Float[Tensor, "*batch kind"], kinds: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    return beliefs.gather(-1, kinds[..., None]).squeeze(-1)


def _without(beliefs: Float[Tensor, "*batch kind"], kinds: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch kind"]:
    """Normalised anew with these kinds ruled out; slots that take no other kind keep theirs."""
    others = beliefs.scatter(-1, kinds[..., None], -torch.inf)
    alone = (others == -torch.inf).all(-1, keepdim=True)
    return torch.where(alone, beliefs, others.log_softmax(-1))


def _changes(beliefs: Float[Tensor, "task slot kind"], structures: Structures) -> Float[Tensor, "task change"]:
    """Log probabilities of all pairs of a slot and another kind for it, slot-major; of staying if there is none."""
    others = beliefs.scatter(2, structures[:, :, None], -torch.inf).flatten(1)
    stuck = (others == -torch.inf).all(1, keepdim=True)
    return torch.where(stuck, beliefs.flatten(1), others).log_softmax(1)
