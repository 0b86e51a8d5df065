"""The prior "symmetric": undirected graphs, with the same edge type in both directions of a pair."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from bouncegrad.structures.factors import Factors, FactorTables
from bouncegrad.structures.layout import Layout, to_matrix, to_slots
from bouncegrad.structures.population_annealing import THOROUGH, Ladder, anneal_population
from bouncegrad.structures.priors.annealing_moves import symmetric_moves
from bouncegrad.structures.priors.pair_elimination import ELIMINATION_CELLS, PairElimination, elimination_cells
from bouncegrad.structures.priors.posterior import (
    SampledPosterior,
    check_edges_only,
    combination_kinds,
    last_posterior,
    uniform,
)
from bouncegrad.types import Structures


@dataclass(frozen=True, slots=True, eq=False)
class SymmetricPosterior:
    """Exact posterior over symmetric graphs, by variable elimination.

    Attributes:
        elimination: the elimination over the edge types of all pairs.
    """

    elimination: PairElimination

    @property
    def log_evidence(self) -> Float[Tensor, "task"]:
        """Log of the prior mean of ``exp(-loss / temperature)``."""
        return self.elimination.log_total.float()

    def best(self) -> Structures:
        """The most probable structure of each task."""
        return to_slots(self.elimination.best())

    def draw(self, generator: Generator) -> Structures:
        """One exact sample for each task."""
        return to_slots(self.elimination.draw(generator))

    def marginals(self) -> Float[Tensor, "task slot kind"]:
        """The probability of each kind on each slot."""
        return torch.stack([to_slots(kind) for kind in self.elimination.marginals().float().unbind(3)], 2)

    def usage(self) -> Float[Tensor, "kind"]:
        """Expected number of pairs of each edge type."""
        return self.marginals().sum((0, 1)) / 2


@dataclass(frozen=True, slots=True, eq=False)
class Symmetric:
    """Symmetric graphs with independent pairs: ``log p(graph) = sum over pairs of log_weights[kind]``.

    Attributes:
        layout: the slots.
        log_weights: ``[kind]``, log probability of each edge type on a pair.
    """

    layout: Layout
    log_weights: Float[Tensor, "kind"]

    @classmethod
    def of(cls, layout: Layout) -> Symmetric:
        """The prior with equal weights of all edge types.

        Raises:
            ValueError: node types.
        """
        check_edges_only("symmetric", layout)
        return cls(layout, uniform(layout.num_edge_kinds))

    def log_probability(self, structures: Structures) -> Float[Tensor, "task"]:
        """The sum of the log weights of the pairs; -inf if the two directions of a pair differ."""
        return pair_weights(self.layout, self.log_weights, structures)

    def posterior(
        self, factors: Factors, temperature: float, ladder: Ladder = THOROUGH
    ) -> SymmetricPosterior | SampledPosterior:
        """The posterior over symmetric graphs: exact with tables if the elimination fits, else sampled."""
        tables = factors.tabulated()
        if tables is not None and fits_elimination(self.layout):
            return SymmetricPosterior(
                PairElimination.of(pair_scores(self, tables, temperature), self.layout.num_edge_kinds)
            )
        return last_posterior(self._cooling(factors, temperature, ladder))

    def cooling(self, factors: Factors, coolest: float, ladder: Ladder) -> Iterator[SampledPosterior] | None:
        """The sampled posteriors at decreasing temperatures; None if the posterior is exact."""
        exact = factors.tabulated() is not None and fits_elimination(self.layout)
        return None if exact else self._cooling(factors, coolest, ladder)

    def _cooling(self, factors: Factors, coolest: float, ladder: Ladder) -> Iterator[SampledPosterior]:
        for rung in anneal_population(factors, symmetric_moves(self.layout, self.log_weights), coolest, ladder):
            yield SampledPosterior(rung, factors.slots, False, 2, len(self.log_weights))

    def with_weights(self, log_weights: Float[Tensor, "kind"]) -> Symmetric:
        """The same prior with other weights of the edge types."""
        return replace(self, log_weights=log_weights)


def pair_scores(prior: Symmetric, tables: FactorTables, temperature: float) -> Tensor:
    """Log scores of the pairs of each entity: its energies, and half the log prior of each of its pairs."""
    weights = 0.5 * prior.log_weights.double().to(tables.energies.device)[combination_kinds(tables)].sum(1)
    return weights - tables.energies.double() / temperature


def pair_weights(layout: Layout, log_weights: Float[Tensor, "kind"], structures: Structures) -> Tensor:
    """The sum of the log weights of all pairs; -inf if the two directions of a pair differ."""
    both = log_weights.to(structures.device)[structures].sum(1) / 2
    return log_where_symmetric(both, to_matrix(structures, layout.num_entities))


def log_where_symmetric(
    log_probabilities: Float[Tensor, "task"], matrix: Int[Tensor, "task receiver sender"]
) -> Tensor:
    """The log probabilities, with -inf for the tasks in which the two directions of a pair differ."""
    return log_probabilities.masked_fill((matrix != matrix.mT).flatten(1).any(1), -math.inf)


def fits_elimination(layout: Layout) -> bool:
    """Whether the largest step of the elimination has at most :data:`ELIMINATION_CELLS` numbers."""
    return elimination_cells(layout.num_entities, layout.num_edge_kinds) <= ELIMINATION_CELLS


def check_elimination(name: str, layout: Layout) -> None:
    """Raise a ValueError for layouts with node types, or for which the elimination is too large."""
    check_edges_only(name, layout)
    if not fits_elimination(layout):
        num_graphs = layout.num_edge_kinds ** (layout.num_edge_slots // 2)
        raise ValueError(
            f"the prior {name!r} allows {num_graphs} graphs of {layout.num_entities} entities and "
            f"{layout.num_edge_kinds} edge types, too many to sum over (at most 8 entities with two, 6 with three): "
            "use 'none'"
        )
