"""Population annealing: particles, each a structure, are cooled from the prior to a temperature.

Knows integers and energies (:class:`bouncegrad.structures.factors.Factors`). Each rung of the ladder reweighs the
particles of a task, resamples them by their weights, and redraws their slots by exact conditionals of small
blocks (heat bath). The mean weights of all rungs multiply to the evidence.
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
"""Factor by which a rung may be colder than the one before, however little the energies differ."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """How carefully particles are cooled.

    Attributes:
        num_particles: for each task; None: 320 for all factors together, at least 8, at most 64.
        stride: standard deviation of the log weights of a task that one rung may cause, nats.
        num_sweeps: over all slots, at the last temperature; rungs above have one.
        seed: of the randomness, so that an answer depends on the factors alone.
    """

    num_particles: int | None = None
    stride: float = 0.3
    num_sweeps: int = 4
    seed: int = 0


THOROUGH = Ladder()
"""For answers."""

QUICK = Ladder(8, 1.0, 1)
"""For learning, where the next pass forgives."""


@dataclass(frozen=True, slots=True)
class Round:
    """Slots of many factors that are redrawn at once, each group of factors exactly and on its own.

    Attributes:
        positions: ``[factor, block]``, the block of each factor; of those in no group any, that stays.
        groups: ``[group, member]``, factors that change together; no factor is in two groups.
        codes: ``[assignment, member]``, the codes of the members' blocks under each joint assignment of a group.
        log_prior: ``[assignment]``.
    """

    positions: Int[Tensor, "factor block"]
    groups: Int[Tensor, "group member"]
    codes: Int[Tensor, "assignment member"]
    log_prior: Float[Tensor, "assignment"]


@dataclass(frozen=True, slots=True)
class Moves:
    """What a prior tells the sampler.

    Attributes:
        draw: ``(num_tasks, num_particles, generator) -> kinds [task, chain, factor, width]``, from the prior.
        sweep: ``generator -> rounds`` that redraw every slot at least once.
        log_prior: ``kinds -> [task, chain, factor]``, in parts that may be added.
        separate: factors do not know of each other, neither through the prior: each is weighed and drawn on its own.
    """

    draw: Callable[[int, int, Generator], Tensor]
    sweep: Callable[[Generator], Iterable[Round]]
    log_prior: Callable[[Tensor], Tensor]
    separate: bool = False

    def by_unit(self, values: Float[Tensor, "task chain factor"]) -> Float[Tensor, "task chain unit"]:
        """Add up what is weighed together: all factors of a task, or each on its own."""
        return values.double() if self.separate else values.double().sum(2, keepdim=True)


@dataclass(frozen=True, slots=True, eq=False)
class Particles:
    """The particles of all tasks at one temperature.

    Attributes:
        temperature: of the losses.
        kinds: ``[task, chain, factor, width]``, equally probable samples.
        marginals: ``[task, factor, width, kind]``, the mean of the conditionals from which they were drawn.
        log_evidence: ``[task]``, log of the prior mean of ``exp(-loss / temperature)``.
        best: ``[task, factor, width]``, the kinds with the largest posterior at the last temperature of all seen.
    """

    temperature: float
    kinds: Int[Tensor, "task chain factor width"]
    marginals: Float[Tensor, "task factor width kind"]
    log_evidence: Float[Tensor, "task"]
    best: Int[Tensor, "task factor width"]


@torch.no_grad()
def anneal_population(factors: Factors, moves: Moves, coolest: float, ladder: Ladder = THOROUGH) -> Iterator[Particles]:
    """Cool particles from the prior to ``coolest``, rung by rung; the last rung is at ``coolest``."""
    generator = Generator().manual_seed(ladder.seed)
    state = factors.chain_state(moves.draw(factors.num_tasks, _num_particles(factors, ladder), generator))
    log_evidence, colder = torch.zeros((), dtype=torch.float64), 0.0
    best = _best_of(state, moves, coolest)
    while colder < 1 / coolest:
        energies, previous = moves.by_unit(state.energies), colder
        colder = _next(previous, energies, 1 / coolest, ladder.stride)
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
    """Redraw blocks round by round from their conditionals at an inverse temperature.

    Without a generator every group takes its most probable assignment.

    Returns:
        The new state of the chains, and the mean conditionals, of the last round that redrew a slot.
    """
    num_kinds = max(factors.num_kinds)
    num_tasks, _, num_factors, width = state.kinds.shape
    marginals = torch.zeros(num_tasks, num_factors, width, num_kinds)
    for this in rounds:
        alternatives = factors.alternatives(state, this.positions)
        members = range(this.groups.shape[1])
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
    """What is on the slots of each factor, such as kinds, in the order of the slots: kinds become structures."""
    flat = values.flatten(1, 2)
    return torch.empty_like(flat).index_copy(1, slots.flatten(), flat)


def _num_particles(factors: Factors, ladder: Ladder) -> int:
    return ladder.num_particles or min(64, max(8, 320 // len(factors.slots)))


def _next(colder: float, energies: Float[Tensor, "task chain unit"], coldest: float, stride: float) -> float:
    """The next inverse temperature: as much colder as the spread of the energies allows."""
    spread = float(energies.var(1, correction=0).sum(1).sqrt().mean())
    allowed = colder + stride / max(spread, 1e-300)
    return min(coldest, allowed if colder == 0 else min(allowed, LEAP * colder))


def _resample(kinds: Tensor, log_weights: Float[Tensor, "task chain unit"], generator: Generator) -> Tensor:
    """As many particles, each as often as its weight says, by systematic resampling."""
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
    """Write the marginals of the slots that a round redraws."""
    count, size = factors.num_kinds[int(this.positions[0, 0])], this.positions.shape[1]
    for member in range(this.groups.shape[1]):
        rows = this.groups[:, member]
        for place in range(size):
            kinds = this.codes[:, member] // count ** (size - 1 - place) % count
            one_hot = torch.nn.functional.one_hot(kinds, marginals.shape[3]).float()
            marginals[:, rows, this.positions[rows, place]] = shares @ one_hot


def _best_of(state: ChainState, moves: Moves, temperature: float) -> ChainState:
    """The most probable particle, of each factor on its own where they are separate; its energies become scores."""
    scores = moves.by_unit(moves.log_prior(state.kinds).double() - state.energies.double() / temperature)
    chosen = scores.argmax(1, keepdim=True)
    kinds = state.kinds.gather(1, chosen[..., None].expand(-1, -1, *state.kinds.shape[2:]))
    return ChainState(kinds, scores.gather(1, chosen), kinds)


def _better(old: ChainState, new: ChainState) -> ChainState:
    """The kinds with the higher score."""
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
