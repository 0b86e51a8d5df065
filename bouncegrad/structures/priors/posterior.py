"""The record of a posterior over whole graphs, and the interface of priors that lead to one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from bouncegrad.structures.factors import Factors, FactorTables
from bouncegrad.structures.layout import Layout
from bouncegrad.structures.population_annealing import THOROUGH, Ladder, Particles, by_slot
from bouncegrad.types import Structures

LISTED_AT_ONCE = 256
"""Graphs for each task that are evaluated beside each other where there are no tables."""


class GraphPosterior(Protocol):
    """What is known of the structures of some tasks once their losses are."""

    @property
    def log_evidence(self) -> Float[Tensor, "task"]:
        """Log of the prior mean of ``exp(-loss / temperature)``: how well the prior foresaw the data."""
        ...

    def best(self) -> Structures:
        """The most probable structure of each task."""
        ...

    def draw(self, generator: Generator) -> Structures:
        """One sample for each task, exact where graphs can be listed."""
        ...

    def marginals(self) -> Float[Tensor, "task slot kind"]:
        """The probability of each kind on each slot."""
        ...

    def usage(self) -> Float[Tensor, "choice"]:
        """How often each of the prior's own choices was made, expected and summed over tasks."""
        ...


class GraphPrior(Protocol):
    """A belief about whole graphs, with weights of its own that are learned from the scenes.

    A new prior is one frozen dataclass with these members and an entry in :data:`bouncegrad.structures.priors.PRIORS`.
    """

    @property
    def log_weights(self) -> Float[Tensor, "choice"]:
        """Log probabilities of the prior's own choices (kinds, or maps from classes to kinds)."""
        ...

    def log_probability(self, structures: Structures) -> Float[Tensor, "task"]:
        """Normalised over all structures; -inf for those that cannot be."""
        ...

    def posterior(self, factors: Factors, temperature: float, ladder: Ladder = THOROUGH) -> GraphPosterior:
        """Combine with the losses of tasks: exactly where that can be done, else by samples down a ladder."""
        ...

    def cooling(self, factors: Factors, coolest: float, ladder: Ladder) -> Iterator[SampledPosterior] | None:
        """The sampled posteriors on the way from the prior to ``coolest``; None where posteriors are exact."""
        ...

    def with_weights(self, log_weights: Float[Tensor, "choice"]) -> GraphPrior:
        """The same belief with other weights."""
        ...


def fit_weights(prior: GraphPrior, usage: Float[Tensor, "choice"], pseudo_count: float = 10.0) -> GraphPrior:
    """The M-step of a prior: its weights become the relative use of its choices, ``pseudo_count`` added to each."""
    return prior.with_weights(torch.log((usage + pseudo_count) / (usage + pseudo_count).sum()))


@dataclass(frozen=True, slots=True, eq=False)
class FactoredPosterior:
    """Receivers do not know of each other.

    Attributes:
        tables: of the tasks.
        log_probabilities: ``[task, factor, combination]``, normalised.
        log_evidence: ``[task]``.
        choices: ``[combination, kind]``, how many edges of each kind each combination has.
    """

    tables: FactorTables
    log_probabilities: Float[Tensor, "task factor combination"]
    log_evidence: Float[Tensor, "task"]
    choices: Float[Tensor, "combination kind"]

    def best(self) -> Structures:
        """The most probable structure of each task."""
        return self.tables.structures_of(self.log_probabilities.argmax(2))

    def draw(self, generator: Generator) -> Structures:
        """One exact sample for each task."""
        return self.tables.structures_of(categorical(self.log_probabilities, generator))

    def marginals(self) -> Float[Tensor, "task slot kind"]:
        """The probability of each kind on each slot."""
        probabilities = self.log_probabilities.exp()
        digits = combination_kinds(self.tables)
        num_kinds, slots = max(self.tables.num_kinds), self.tables.slots.flatten()
        marginals = probabilities.new_zeros(len(probabilities), len(slots), num_kinds)
        for kind in range(num_kinds):
            marginals[:, slots, kind] = (probabilities @ (digits == kind).float()).flatten(1)
        return marginals

    def usage(self) -> Float[Tensor, "kind"]:
        """How often each kind is on an edge."""
        return (self.log_probabilities.exp() @ self.choices).sum((0, 1))


@dataclass(frozen=True, slots=True, eq=False)
class EnumeratedPosterior:
    """All graphs that the prior allows, one by one.

    Attributes:
        structures: ``[graph, slot]``; one may stand there more than once, where the prior has several reasons for it.
        same: ``[graph]``, one number for all places where the same structure stands; None where all differ.
        log_probabilities: ``[task, graph]``, normalised.
        log_evidence: ``[task]``.
        choices: ``[graph, choice]``, how often each graph makes each of the prior's choices.
    """

    structures: Int[Tensor, "graph slot"]
    same: Int[Tensor, "graph"] | None
    log_probabilities: Float[Tensor, "task graph"]
    log_evidence: Float[Tensor, "task"]
    choices: Float[Tensor, "graph choice"]

    def best(self) -> Structures:
        """The most probable structure of each task, all reasons for it counted."""
        if self.same is None:
            return self.structures[self.log_probabilities.argmax(1)]
        probabilities = self.log_probabilities.exp()
        total = torch.zeros_like(probabilities).index_add(1, self.same, probabilities)
        return self.structures[total[:, self.same].argmax(1)]

    def draw(self, generator: Generator) -> Structures:
        """One exact sample for each task."""
        return self.structures[categorical(self.log_probabilities, generator)]

    def marginals(self) -> Float[Tensor, "task slot kind"]:
        """The probability of each kind on each slot."""
        probabilities = self.log_probabilities.exp()
        kinds = [(self.structures == kind).float() for kind in range(int(self.structures.max()) + 1)]
        return torch.stack([probabilities @ on_slot.double() for on_slot in kinds], 2).float()

    def usage(self) -> Float[Tensor, "choice"]:
        """How often each of the prior's choices was made."""
        return (self.log_probabilities.exp() @ self.choices.double()).sum(0).float()


@dataclass(frozen=True, slots=True, eq=False)
class SampledPosterior:
    """Particles that were cooled from the prior: for graphs too many to enumerate.

    Attributes:
        particles: at one temperature.
        slots: ``[factor, width]``, the slots of each factor.
        separate: factors do not know of each other.
        copies: how many slots stand for one choice of the prior (2 where a pair is one choice).
        num_choices: how many choices the prior has.
    """

    particles: Particles
    slots: Int[Tensor, "factor width"]
    separate: bool
    copies: int
    num_choices: int

    @property
    def temperature(self) -> float:
        """Of the losses."""
        return self.particles.temperature

    @property
    def log_evidence(self) -> Float[Tensor, "task"]:
        """From the weights of all rungs so far."""
        return self.particles.log_evidence

    def best(self) -> Structures:
        """The most probable structure of all that were seen."""
        return by_slot(self.particles.best, self.slots)

    def draw(self, generator: Generator) -> Structures:
        """One of the particles for each task, or one for each factor."""
        kinds = self.particles.kinds
        num_tasks, num_particles, num_factors, width = kinds.shape
        num_units = num_factors if self.separate else 1
        chosen = torch.randint(num_particles, (num_tasks, 1, num_units, 1), generator=generator)
        return by_slot(kinds.gather(1, chosen.expand(-1, -1, num_factors, width)).squeeze(1), self.slots)

    def marginals(self) -> Float[Tensor, "task slot kind"]:
        """The probability of each kind on each slot, as the mean of the conditionals of all particles."""
        return by_slot(self.particles.marginals, self.slots)

    def usage(self) -> Float[Tensor, "kind"]:
        """How often each kind is on an edge, or on a pair."""
        edges = self.particles.marginals[:, :, : len(self.slots) - 1, : self.num_choices]
        return edges.sum((0, 1, 2)) / self.copies


def enumerate_posterior(
    structures: Int[Tensor, "graph slot"],
    log_prior: Float[Tensor, "graph"],
    choices: Float[Tensor, "graph choice"],
    factors: Factors,
    temperature: float,
    same: Int[Tensor, "graph"] | None = None,
) -> EnumeratedPosterior:
    """The posterior over graphs that are all listed: ``log p = log_prior - loss / temperature``."""
    scores = log_prior.double() - _losses_of_all(factors, structures).double() / temperature
    log_evidence = torch.logsumexp(scores, 1)
    return EnumeratedPosterior(structures, same, scores - log_evidence[:, None], log_evidence.float(), choices)


def last_of(posteriors: Iterator[SampledPosterior]) -> SampledPosterior:
    """The posterior at the end of a cooling."""
    *_, last = posteriors
    return last


def _losses_of_all(factors: Factors, structures: Int[Tensor, "graph slot"]) -> Float[Tensor, "task graph"]:
    """What every graph costs every task, by look-ups where there are tables."""
    tables = factors.tabulated()
    if tables is not None:
        combinations = tables.combinations_of(structures)
        found = sum(tables.energies[:, factor, combinations[:, factor]] for factor in range(combinations.shape[1]))
        return torch.as_tensor(found)
    chains = structures[:, factors.slots].expand(factors.num_tasks, -1, -1, -1)
    return torch.cat([factors.chain_state(some).energies.sum(2) for some in chains.split(LISTED_AT_ONCE, 1)], 1)


class Exact:
    """What priors share whose posteriors are exact."""

    __slots__ = ()

    def cooling(self, factors: Factors, coolest: float, ladder: Ladder) -> None:
        """Nothing is sampled."""


class OnTables(Exact):
    """What priors share whose posteriors are exact and need tables."""

    __slots__ = ()

    @staticmethod
    def tables_in(factors: Factors) -> FactorTables:
        """The factors, if they are tables.

        Raises:
            ValueError: scenes too large for tables.
        """
        tables = factors.tabulated()
        if tables is not None:
            return tables
        raise ValueError(
            f"this prior needs tables, and scenes of {len(factors.slots)} entities are too large for them: "
            "use 'none' or 'symmetric'"
        )


def uniform(num_choices: int) -> Float[Tensor, "choice"]:
    """Log weights of choices of which nothing is known."""
    return torch.full((num_choices,), -math.log(num_choices))


def check_edges_only(name: str, layout: Layout) -> None:
    """Refuse layouts with node kinds."""
    if layout.num_node_kinds > 1:
        raise ValueError(f"the prior {name!r} speaks of edges only: use 'none' with {layout.num_node_kinds} node kinds")


def indicator_tables(structures: Structures, layout: Layout) -> FactorTables:
    """Tables in which a task's own structure has loss 0 and every other an infinite one.

    The evidence of a prior under them is the probability of the structures.
    """
    energies = torch.full((len(structures), layout.num_entities, layout.num_assignments), math.inf)
    tables = FactorTables(energies, layout.receiver_slots, layout.receiver_kinds)
    energies.scatter_(2, tables.combinations_of(structures)[:, :, None], 0.0)
    return tables


def combination_kinds(tables: FactorTables) -> Int[Tensor, "combination width"]:
    """The kinds that each combination gives to the slots of a factor."""
    position = torch.arange(tables.energies.shape[2], device=tables.energies.device)
    return position[:, None] // tables.radix() % torch.tensor(tables.num_kinds, device=position.device)


def categorical(log_probabilities: Float[Tensor, "*batch choice"], generator: Generator) -> Int[Tensor, "*batch"]:
    """Draws by inversion of the cumulative distribution, in double precision."""
    cumulative = log_probabilities.double().exp().cumsum(-1)
    shape = (*cumulative.shape[:-1], 1)
    uniforms = torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)
    drawn = torch.searchsorted(cumulative, uniforms.to(cumulative.device) * cumulative[..., -1:])
    return drawn.squeeze(-1).clamp_max(cumulative.shape[-1] - 1)
