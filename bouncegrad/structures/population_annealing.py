"""Population annealing: particles, each a structure (latent graph), are cooled from the prior to the posterior.

The sampler sees energies only (:class:`bouncegrad.structures.factors.Factors`). Each rung of the temperature ladder
reweights the particles of a task, resamples them by their weights, and redraws their slots from the exact conditionals
of small blocks (blocked Gibbs, heat bath). The product over rungs of the mean weights estimates the evidence.
Source: Hukushima and Iba 2003, "Population annealing and its application to a spin glass"; Machta 2010.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, Shaped
from torch import Generator, Tensor

from bouncegrad.structures.factors import ChainState, Factors

LEAP = 4.0
"""Largest ratio of the inverse temperatures of two successive rungs, however small the spread of the energies."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """Effort of population annealing: number of particles, step in temperature, number of sweeps.

    Attributes:
        num_particles: particles for each task; None: 320 divided by the number of factors, at least 8, at most 64.
        stride: standard deviation of the log weights of a task that one rung may cause, nats.
        num_sweeps: sweeps over all slots at the last temperature; one sweep at all others.
        seed: seed of the random numbers, so that a result depends on the factors only.
    """

    num_particles: int | None = None
    stride: float = 0.3
    num_sweeps: int = 4
    seed: int = 0


THOROUGH = Ladder()
"""For final results (inference)."""

QUICK = Ladder(8, 1.0, 1)
"""For training, where errors of one epoch are corrected in the next."""


@dataclass(frozen=True, slots=True)
class Round:
    """One parallel Gibbs update: each group of factors redraws its blocks jointly and independently of other groups.

    Attributes:
        positions: ``[factor, block]``, the block of each factor; arbitrary and unused for factors in no group.
        groups: ``[group, member]``, factors that change together; no factor is in two groups.
        codes: ``[assignment, member]``, the codes of the members' blocks under each joint assignment of a group.
        log_prior: ``[assignment]``, log prior of each joint assignment, up to a constant.
    """

    positions: Int[Tensor, "factor block"]
    groups: Int[Tensor, "group member"]
    codes: Int[Tensor, "assignment member"]
    log_prior: Float[Tensor, "assignment"]


@dataclass(frozen=True, slots=True)
class Moves:
    """The interface of a prior to the sampler.

    Attributes:
        draw: ``(num_tasks, num_particles, generator) -> kinds [task, chain, factor, width]``, samples of the prior.
        sweep: ``generator -> rounds`` that together redraw every slot at least once.
        log_prior: ``kinds -> [task, chain, factor]``, the contribution of each factor to the log prior.
        separate: whether factors are independent under the prior too, so that each is weighted and resampled on its
            own.
    """

    draw: Callable[[int, int, Generator], Tensor]
    sweep: Callable[[Generator], Iterable[Round]]
    log_prior: Callable[[Tensor], Tensor]
    separate: bool = False

    def by_unit(self, values: Float[Tensor, "task chain factor"]) -> Float[Tensor, "task chain unit"]:
        """Sum over each unit of resampling: all factors of a task, or single factors if they are independent."""
        return values.double() if self.separate else values.double().sum(2, keepdim=True)


@dataclass(frozen=True, slots=True, eq=False)
class Particles:
    """The particles of all tasks at one temperature.

    Attributes:
        temperature: temperature of the losses.
        kinds: ``[task, chain, factor, width]``, equally weighted samples.
        marginals: ``[task, factor, width, kind]``, mean over particles of the conditionals of their last redraws.
        log_evidence: ``[task]``, log of the prior mean of ``exp(-loss / temperature)``.
        best: ``[task, factor, width]``, the visited kinds of largest posterior probability at the final temperature.
    """

    temperature: float
    kinds: Int[Tensor, "task chain factor width"]
    marginals: Float[Tensor, "task factor width kind"]
    log_evidence: Float[Tensor, "task"]
    best: Int[Tensor, "task factor width"]


@torch.no_grad()
def anneal_population(factors: Factors, moves: Moves, coolest: float, ladder: Ladder = THOROUGH) -> Iterator[Particles]:
    """Cool particles from the prior to ``coolest``; yields the particles of every rung, the last at ``coolest``."""
    generator = Generator().manual_seed(ladder.seed)
    state = factors.chain_state(moves.draw(factors.num_tasks, _num_particles(factors, ladder), generator))
    log_evidence, colder = torch.zeros((), dtype=torch.float64), 0.0
    best = _best_of(state, moves, coolest)
    while colder < 1 / coolest:
        energies, previous = moves.by_unit(state.energies), colder
        colder = _next(previous, energies, 1 / coolest, ladder.stride)
        # importance weights from the previous to the new temperature; their means multiply to the evidence
        log_weights = (previous - colder) * energies
        log_evidence = log_evidence + (torch.logsumexp(log_weights, 1) - math.log(energies.shape[1])).sum(1)
        state = factors.chain_state(_resample(state.kinds, log_weights, generator))
        shares = []
        for _ in range(ladder.num_sweeps if colder * coolest >= 1 else 1):
            state, marginals = sweep(factors, state, moves.sweep(generator), colder, generator)
            shares.append(marginals)
            best = _better(best, _best_of(state, moves, coolest))
        if colder * coolest >= 1:
            best = _climb(factors, best, moves, coolest, generator)
        marginals = torch.stack(shares).mean(0)
        yield Particles(1 / colder, state.kinds, marginals, log_evidence.float(), best.kinds[:, 0])


def sweep(
    factors: Factors, state: ChainState, rounds: Iterable[Round], colder: float, generator: Generator | None
) -> tuple[ChainState, Float[Tensor, "task factor width kind"]]:
    """Blocked Gibbs sweep: redraw blocks round by round from their conditionals at inverse temperature ``colder``.

    Without a generator every group takes its most probable assignment.

    Returns:
        The new state of the chains, and for each slot the conditional of its last redraw, averaged over chains.
    """
    num_kinds = max(factors.num_kinds)
    num_tasks, _, num_factors, width = state.kinds.shape
    marginals = torch.zeros(num_tasks, num_factors, width, num_kinds)
    for this in rounds:
        alternatives = factors.alternatives(state, this.positions)
        members = range(this.groups.shape[1])
        # energy of every joint assignment of a group: the sum over its members of the energies of their codes
        parts = [alternatives[:, :, this.groups[:, member]][..., this.codes[:, member]] for member in members]
        probabilities = torch.softmax(this.log_prior.double() - colder * sum(parts).double(), 3)  # pyright: ignore[reportAttributeAccessIssue]
        codes = state.codes_at(this.positions, factors.num_kinds[int(this.positions[0, 0])])
        codes[:, :, this.groups] = this.codes[_draw(probabilities, generator)]
        state = factors.move(state, this.positions, codes)
        state = replace(state, energies=alternatives.gather(3, codes[..., None]).squeeze(3))
        _write_marginals(marginals, factors, this, probabilities.mean(1).float())
    return state, marginals


def by_slot(
    values: Shaped[Tensor, "task factor width *rest"], slots: Int[Tensor, "factor width"]
) -> Shaped[Tensor, "task slot *rest"]:
    """Values by factor and position rearranged into slot order, such as kinds into structures."""
    flat = values.flatten(1, 2)
    return torch.empty_like(flat).index_copy(1, slots.flatten(), flat)


def _num_particles(factors: Factors, ladder: Ladder) -> int:
    return ladder.num_particles or min(64, max(8, 320 // len(factors.slots)))


def _next(colder: float, energies: Float[Tensor, "task chain unit"], coldest: float, stride: float) -> float:
    """The next inverse temperature: the largest step for which log weights have standard deviation ``stride``."""
    spread = float(energies.var(1, correction=0).sum(1).sqrt().mean())
    allowed = colder + stride / max(spread, 1e-300)
    return min(coldest, allowed if colder == 0 else min(allowed, LEAP * colder))


def _resample(kinds: Tensor, log_weights: Float[Tensor, "task chain unit"], generator: Generator) -> Tensor:
    """Systematic resampling: the same number of particles, drawn in proportion to their weights."""
    cumulative = torch.softmax(log_weights, 1).cumsum(1).transpose(1, 2).contiguous()
    num_particles = cumulative.shape[2]
    offsets = torch.rand((*cumulative.shape[:2], 1), generator=generator, dtype=torch.float64)
    points = (offsets + torch.arange(num_particles)) / num_particles
    chosen = torch.searchsorted(cumulative, points).clamp_max(num_particles - 1).transpose(1, 2)
    return kinds.gather(1, chosen[..., None].expand(kinds.shape))


def _draw(probabilities: Tensor, generator: Generator | None) -> Tensor:
    if generator is None:
        return probabilities.argmax(-1)
    uniforms = torch.rand((*probabilities.shape[:-1], 1), generator=generator, dtype=torch.float64)
    return (uniforms > probabilities.cumsum(-1)[..., :-1]).sum(-1)


def _write_marginals(
    marginals: Tensor, factors: Factors, this: Round, shares: Float[Tensor, "task group assignment"]
) -> None:
    """Write the conditionals of the slots that a round redraws into ``marginals``."""
    count, size = factors.num_kinds[int(this.positions[0, 0])], this.positions.shape[1]
    for member in range(this.groups.shape[1]):
        rows = this.groups[:, member]
        for place in range(size):
            kinds = this.codes[:, member] // count ** (size - 1 - place) % count
            one_hot = torch.nn.functional.one_hot(kinds, marginals.shape[3]).float()
            marginals[:, rows, this.positions[rows, place]] = shares @ one_hot


def _best_of(state: ChainState, moves: Moves, temperature: float) -> ChainState:
    """The most probable particle (of each factor on its own if separate), with log posteriors in place of energies."""
    scores = moves.by_unit(moves.log_prior(state.kinds).double() - state.energies.double() / temperature)
    chosen = scores.argmax(1, keepdim=True)
    kinds = state.kinds.gather(1, chosen[..., None].expand(-1, -1, *state.kinds.shape[2:]))
    return ChainState(kinds, scores.gather(1, chosen), kinds)


def _better(old: ChainState, new: ChainState) -> ChainState:
    """For each unit the kinds with the higher score."""
    improved = new.energies > old.energies
    kinds = torch.where(improved[..., None], new.kinds, old.kinds)
    return ChainState(kinds, torch.where(improved, new.energies, old.energies), kinds)


def _climb(factors: Factors, best: ChainState, moves: Moves, temperature: float, generator: Generator) -> ChainState:
    """Iterated conditional modes from the best particle so far, until no block improves it."""
    for _ in range(10):
        state, _ = sweep(factors, factors.chain_state(best.kinds), moves.sweep(generator), 1 / temperature, None)
        climbed = _better(best, _best_of(state, moves, temperature))
        if torch.equal(climbed.kinds, best.kinds):
            break
        best = climbed
    return best
