"""Markov chain Monte Carlo over structures (latent graphs): Metropolis-Hastings, blocked Gibbs and exact draws.

All are search kernels (``init``, ``step``) with the target ``exp(-loss / temperature + log_prior)``. A kernel acts on
all tasks at once and evaluates structures only through a :data:`bouncegrad.types.LossFn`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from bouncegrad.structures.factors import FactorTables
from bouncegrad.structures.kernel_interface import Kernel, Proposal, SearchInfo, SearchState, draw_choices
from bouncegrad.types import LogPrior, Losses, LossFn, Structures

ENUMERATION_LIMIT = 2**16
"""Largest number of structures that one step of :func:`exact` or :func:`gibbs` evaluates one by one."""


def init_state(structures: Structures, loss_fn: LossFn, temperature: float) -> SearchState:
    """The search state at these structures, with newly evaluated losses (the modules differ from earlier epochs)."""
    return SearchState(structures, _finite(loss_fn(structures)), temperature)


def metropolis(proposal: Proposal, log_prior: LogPrior | None = None) -> Kernel:
    """Accept proposals with probability ``min(1, exp(-d loss / T + d log_prior + log q(old|new) / q(new|old)))``.

    At temperature 0 only moves that lower the loss are accepted (ties are decided by the rest of the exponent).
    Impossible structures (the loss is NaN or infinite, or the prior is 0) are never accepted in place of possible ones;
    a chain whose current structure is impossible accepts every proposal.
    Source: Metropolis et al. 1953; Hastings 1970.
    """
    prior = log_prior or _uniform

    def step(state: SearchState, loss_fn: LossFn, generator: Generator) -> tuple[SearchState, SearchInfo]:
        proposed = proposal(state.structures, generator)
        losses = _finite(loss_fn(proposed.structures))
        log_priors = prior(state.structures)
        bonus = prior(proposed.structures) - log_priors + proposed.log_ratio
        log_ratio = _divide(state.losses - losses, state.temperature) + bonus
        uniforms = torch.rand(len(losses), generator=generator, dtype=torch.float64)
        # on an impossible structure accept every proposal, so that the chain can leave it
        accepted = (uniforms.log() < log_ratio) | ~_possible(state.losses, log_priors)
        new = SearchState(
            torch.where(accepted[:, None], proposed.structures, state.structures),
            torch.where(accepted, losses, state.losses),
            state.temperature,
        )
        different = (proposed.structures != state.structures).any(1)
        worse = different & (losses > state.losses) & losses.isfinite()
        return new, SearchInfo(accepted & different, accepted & different, worse, 1)

    return Kernel(init_state, step)


def gibbs(blocks: Int[Tensor, "block width"], num_kinds: Sequence[int], log_prior: LogPrior | None = None) -> Kernel:
    """Blocked Gibbs sampling: redraw one block from its exact conditional, the same random block in all tasks.

    A step costs one loss evaluation for each joint assignment of the block.

    Args:
        blocks: ``[block, width]``, the slots of each block.
        num_kinds: ``[slot]``, the number of kinds of each slot.
        log_prior: log prior of whole structures; None: uniform.

    Raises:
        ValueError: no block, slots that do not exist, or more than :data:`ENUMERATION_LIMIT` assignments of a block.
    """
    _check_blocks(blocks, num_kinds)
    most = max(math.prod(num_kinds[slot] for slot in block) for block in blocks.tolist())
    if most > ENUMERATION_LIMIT:
        raise ValueError(
            f"{most} joint assignments of one block are too many (limit {ENUMERATION_LIMIT}): choose smaller blocks"
        )
    prior = log_prior or _uniform

    def step(state: SearchState, loss_fn: LossFn, generator: Generator) -> tuple[SearchState, SearchInfo]:
        block = blocks[int(torch.randint(len(blocks), (1,), generator=generator))]
        kinds = _assignments([num_kinds[slot] for slot in block.tolist()])
        candidates = [_assign(state.structures, block, row) for row in kinds]
        return _redraw(state, candidates, loss_fn, prior, generator)

    return Kernel(init_state, step)


def exact(num_kinds: Sequence[int], log_prior: LogPrior | None = None) -> Kernel:
    """Draw whole structures exactly from the target, independent of the current ones.

    Without a prior and with :class:`FactorTables` as loss, factors are independent and each is drawn by look-ups.
    Otherwise all structures are enumerated.

    Raises:
        ValueError: (when stepping) more than :data:`ENUMERATION_LIMIT` structures to enumerate.
    """

    def step(state: SearchState, loss_fn: LossFn, generator: Generator) -> tuple[SearchState, SearchInfo]:
        if log_prior is None and isinstance(loss_fn, FactorTables):
            return _draw_factors(state, loss_fn, generator)
        if math.prod(num_kinds) > ENUMERATION_LIMIT:
            raise ValueError(
                f"{math.prod(num_kinds)} structures are too many to enumerate (limit {ENUMERATION_LIMIT}): "
                "give factor tables as loss, or use gibbs or metropolis"
            )
        candidates = [row.expand(len(state.structures), -1) for row in _assignments(num_kinds)]
        return _redraw(state, candidates, loss_fn, log_prior or _uniform, generator)

    return Kernel(init_state, step)


def _draw_factors(state: SearchState, tables: FactorTables, generator: Generator) -> tuple[SearchState, SearchInfo]:
    energies = _finite(tables.energies)
    scores = _scores(energies, torch.zeros_like(energies), state.temperature)
    structures = tables.structures_of(draw_choices(scores, generator))
    return _next_state(state, structures, _finite(tables(structures)), 1)


def _redraw(
    state: SearchState, candidates: list[Structures], loss_fn: LossFn, prior: LogPrior, generator: Generator
) -> tuple[SearchState, SearchInfo]:
    """Draw one of the candidates for each task with probability proportional to the target."""
    losses = torch.stack([_finite(loss_fn(candidate)) for candidate in candidates], 1)
    log_priors = torch.stack([prior(candidate) for candidate in candidates], 1)
    drawn = draw_choices(_scores(losses, log_priors, state.temperature), generator)
    structures = torch.stack(candidates, 1)[torch.arange(len(drawn)), drawn]
    return _next_state(state, structures, losses.gather(1, drawn[:, None]).squeeze(1), len(candidates))


def _next_state(
    state: SearchState, structures: Structures, losses: Losses, num_evaluations: int
) -> tuple[SearchState, SearchInfo]:
    changed = (structures != state.structures).any(1)
    worse = changed & (losses > state.losses) & losses.isfinite()
    info = SearchInfo(changed, changed, worse, num_evaluations)
    return SearchState(structures, losses, state.temperature), info


def _scores(losses: Tensor, log_priors: Tensor, temperature: float) -> Float[Tensor, "*batch choice"]:
    """``-loss / temperature + log_prior`` up to a constant; uniform where no choice is possible."""
    possible = _possible(losses, log_priors)
    least = losses.masked_fill(~possible, math.inf).amin(-1, keepdim=True)
    scores = _divide(least - losses, temperature) + log_priors
    return scores.masked_fill(~possible, -math.inf).masked_fill(~possible.any(-1, keepdim=True), 0.0)


def _divide(differences: Tensor, temperature: float) -> Tensor:
    """``differences / temperature`` in double precision, for very small temperatures; the limit at temperature 0."""
    if temperature > 0:
        return differences.double() / temperature
    return torch.where(differences == 0, 0.0, differences.double() * math.inf)


def _possible(losses: Tensor, log_priors: Tensor) -> Tensor:
    return losses.isfinite() & log_priors.isfinite()


def _finite(losses: Tensor) -> Tensor:
    """Losses with NaN as +inf, so that a diverged rollout is never accepted and never traps a chain."""
    return losses.nan_to_num(nan=math.inf, posinf=math.inf)


def _assignments(num_kinds: Sequence[int]) -> Int[Tensor, "combination slot"]:
    return torch.tensor(list(product(*(range(count) for count in num_kinds))), dtype=torch.long)


def _assign(structures: Structures, block: Tensor, kinds: Tensor) -> Structures:
    assigned = structures.clone()
    assigned[:, block] = kinds.to(structures.device)
    return assigned


def _uniform(structures: Structures) -> Float[Tensor, "task"]:
    """The uniform prior: ``log p = 0`` up to a constant."""
    return torch.zeros(len(structures), device=structures.device)


def _check_blocks(blocks: Int[Tensor, "block width"], num_kinds: Sequence[int]) -> None:
    """Raise a ValueError if there is no block, or a block has a slot without an entry in ``num_kinds``."""
    if blocks.dim() != 2 or not blocks.numel():
        raise ValueError(f"expected at least one block of slots, [block, width], got shape {tuple(blocks.shape)}")
    if blocks.min() < 0 or blocks.max() >= len(num_kinds):
        raise ValueError(
            f"expected slots from 0 to {len(num_kinds) - 1}, one number of kinds for each, "
            f"got slots from {int(blocks.min())} to {int(blocks.max())}"
        )
