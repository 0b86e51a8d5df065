"""The interfaces of graph priors and their posteriors, and posteriors that are factored, enumerated or sampled.

A posterior is over structures (latent graphs) given the energies of a model: ``p(structure | data)`` is proportional to
``prior(structure) exp(-loss(structure) / temperature)``.
"""

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
"""Number of graphs for each task that are evaluated in one call if there are no tables."""


class GraphPosterior(Protocol):
    """Posterior over the structures (latent graphs) of some tasks, given their losses and a prior."""

    @property
    def log_evidence(self) -> Float[Tensor, "task"]:
        """Log evidence (marginal likelihood) of the prior: log of its mean of ``exp(-loss / temperature)``."""
        ...

    def best(self) -> Structures:
        """The most probable structure of each task."""
        ...

    def draw(self, generator: Generator) -> Structures:
        """One sample for each task; exact unless the posterior is itself represented by samples."""
        ...

    def marginals(self) -> Float[Tensor, "task slot kind"]:
        """The probability of each kind on each slot."""
        ...

    def usage(self) -> Float[Tensor, "choice"]:
        """Expected counts of the prior's categories (such as edges of each type), summed over tasks."""
        ...


class GraphPrior(Protocol):
    """Prior distribution over structures (latent graphs), with weights that are fitted to the scenes.

    A new prior is one frozen dataclass with these members and an entry in :data:`bouncegrad.structures.priors.PRIORS`.
    """

    @property
    def log_weights(self) -> Float[Tensor, "choice"]:
        """Log probabilities of the prior's categories (edge types, or maps from classes to edge types)."""
        ...

    def log_probability(self, structures: Structures) -> Float[Tensor, "task"]:
        """Log probability of one structure for each task, normalised over all structures; -inf if excluded."""
        ...

    def posterior(self, factors: Factors, temperature: float, ladder: Ladder = THOROUGH) -> GraphPosterior:
        """The posterior given the losses of tasks: exact where possible, else sampled by population annealing."""
        ...

    def cooling(self, factors: Factors, coolest: float, ladder: Ladder) -> Iterator[SampledPosterior] | None:
        """The sampled posteriors at decreasing temperatures down to ``coolest``; None if posteriors are exact."""
        ...

    def with_weights(self, log_weights: Float[Tensor, "choice"]) -> GraphPrior:
        """The same prior with other weights."""
        ...


def fit_weights(prior: GraphPrior, usage: Float[Tensor, "choice"], pseudo_count: float = 10.0) -> GraphPrior:
    """The M-step of a prior: its weights become the relative expected counts, with ``pseudo_count`` added to each."""
    return prior.with_weights(torch.log((usage + pseudo_count) / (usage + pseudo_count).sum()))


@dataclass(frozen=True, slots=True, eq=False)
class FactoredPosterior:
    """Exact posterior in which receivers are independent: one categorical distribution for each receiver.

    Attributes:
        tables: the tabulated losses of the tasks.
        log_probabilities: ``[task, factor, combination]``, normalised over combinations.
        log_evidence: ``[task]``, log evidence.
        choices: ``[combination, kind]``, the number of edges of each type in each combination.
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
        """Expected number of edges of each type."""
        return (self.log_probabilities.exp() @ self.choices).sum((0, 1))


@dataclass(frozen=True, slots=True, eq=False)
class EnumeratedPosterior:
    """Exact posterior over an explicit list of all graphs that the prior allows.

    Attributes:
        structures: ``[graph, slot]``, the list; a structure is repeated if the prior generates it in several ways.
        same: ``[graph]``, an index that is equal for equal structures; None if all differ.
        log_probabilities: ``[task, graph]``, normalised over the list.
        log_evidence: ``[task]``, log evidence.
        choices: ``[graph, choice]``, counts of the prior's categories in each graph.
    """

    structures: Int[Tensor, "graph slot"]
    same: Int[Tensor, "graph"] | None
    log_probabilities: Float[Tensor, "task graph"]
    log_evidence: Float[Tensor, "task"]
    choices: Float[Tensor, "graph choice"]

    def best(self) -> Structures:
        """The most probable structure of each task; probabilities of repeated structures are added."""
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
        """Expected counts of the prior's categories, summed over tasks."""
        return (self.log_probabilities.exp() @ self.choices.double()).sum(0).float()


@dataclass(frozen=True, slots=True, eq=False)
class SampledPosterior:
    """Posterior represented by the particles of population annealing, for graphs too many to enumerate.

    Attributes:
        particles: the particles at one temperature.
        slots: ``[factor, width]``, the slots of each factor.
        separate: whether factors are independent.
        copies: number of slots for one variable of the prior (2 if both directions of a pair are one variable).
        num_choices: number of categories of the prior.
    """

    particles: Particles
    slots: Int[Tensor, "factor width"]
    separate: bool
    copies: int
    num_choices: int

    @property
    def temperature(self) -> float:
        """The temperature of the losses."""
        return self.particles.temperature

    @property
    def log_evidence(self) -> Float[Tensor, "task"]:
        """Log evidence, estimated from the weights of all rungs so far."""
        return self.particles.log_evidence

    def best(self) -> Structures:
        """The most probable structure of all that the particles visited."""
        return by_slot(self.particles.best, self.slots)

    def draw(self, generator: Generator) -> Structures:
        """One particle for each task, or for each factor if factors are independent."""
        kinds = self.particles.kinds
        num_tasks, num_particles, num_factors, width = kinds.shape
        num_units = num_factors if self.separate else 1
        chosen = torch.randint(num_particles, (num_tasks, 1, num_units, 1), generator=generator)
        return by_slot(kinds.gather(1, chosen.expand(-1, -1, num_factors, width)).squeeze(1), self.slots)

    def marginals(self) -> Float[Tensor, "task slot kind"]:
        """The probability of each kind on each slot: the mean of the conditionals of all particles."""
        return by_slot(self.particles.marginals, self.slots)

    def usage(self) -> Float[Tensor, "kind"]:
        """Expected number of edges, or of pairs, of each type."""
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
    """The posterior over an explicit list of graphs: ``log p = log_prior - loss / temperature``, normalised."""
    scores = log_prior.double() - _losses_of_all(factors, structures).double() / temperature
    log_evidence = torch.logsumexp(scores, 1)
    return EnumeratedPosterior(structures, same, scores - log_evidence[:, None], log_evidence.float(), choices)


def last_posterior(posteriors: Iterator[SampledPosterior]) -> SampledPosterior:
    """The posterior at the lowest temperature of an annealing run."""
    *_, last = posteriors
    return last


def _losses_of_all(factors: Factors, structures: Int[Tensor, "graph slot"]) -> Float[Tensor, "task graph"]:
    """The loss of every graph on every task, by look-ups if there are tables."""
    tables = factors.tabulated()
    if tables is not None:
        combinations = tables.combinations_of(structures)
        found = sum(tables.energies[:, factor, combinations[:, factor]] for factor in range(combinations.shape[1]))
        return torch.as_tensor(found)
    chains = structures[:, factors.slots].expand(factors.num_tasks, -1, -1, -1)
    return torch.cat([factors.chain_state(some).energies.sum(2) for some in chains.split(LISTED_AT_ONCE, 1)], 1)


class Exact:
    """Base class of priors whose posteriors are exact."""

    __slots__ = ()

    def cooling(self, factors: Factors, coolest: float, ladder: Ladder) -> None:
        """None: posteriors are exact, not sampled."""


class OnTables(Exact):
    """Base class of priors whose posteriors are exact and need tables."""

    __slots__ = ()

    @staticmethod
    def tables_in(factors: Factors) -> FactorTables:
        """The tables of the factors.

        Raises:
            ValueError: factors without tables, because the scenes are too large.
        """
        tables = factors.tabulated()
        if tables is not None:
            return tables
        raise ValueError(
            f"this prior needs tables, and scenes of {len(factors.slots)} entities are too large for them: "
            "use 'none' or 'symmetric'"
        )


def uniform(num_choices: int) -> Float[Tensor, "choice"]:
    """Log weights of equally probable categories."""
    return torch.full((num_choices,), -math.log(num_choices))


def check_edges_only(name: str, layout: Layout) -> None:
    """Raise a ValueError for layouts with node types."""
    if layout.num_node_kinds > 1:
        raise ValueError(f"the prior {name!r} covers edges only: use 'none' with {layout.num_node_kinds} node types")


def indicator_tables(structures: Structures, layout: Layout) -> FactorTables:
    """Tables in which the given structure of a task has loss 0 and every other structure an infinite loss.

    The evidence of a prior under these tables is the prior probability of the structures.
    """
    energies = torch.full((len(structures), layout.num_entities, layout.num_assignments), math.inf)
    tables = FactorTables(energies, layout.receiver_slots, layout.receiver_kinds)
    energies.scatter_(2, tables.combinations_of(structures)[:, :, None], 0.0)
    return tables


def combination_kinds(tables: FactorTables) -> Int[Tensor, "combination width"]:
    """The kinds on the slots of a factor under each combination."""
    position = torch.arange(tables.energies.shape[2], device=tables.energies.device)
    return position[:, None] // tables.radix() % torch.tensor(tables.num_kinds, device=position.device)


def categorical(log_probabilities: Float[Tensor, "*batch choice"], generator: Generator) -> Int[Tensor, "*batch"]:
    """Categorical draws by inversion of the cumulative distribution, in double precision."""
    cumulative = log_probabilities.double().exp().cumsum(-1)
    shape = (*cumulative.shape[:-1], 1)
    uniforms = torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)
    drawn = torch.searchsorted(cumulative, uniforms.to(cumulative.device) * cumulative[..., -1:])
    return drawn.squeeze(-1).clamp_max(cumulative.shape[-1] - 1)
