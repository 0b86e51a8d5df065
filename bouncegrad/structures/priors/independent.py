"""The prior "none": independent edges, with one learned probability for each edge type (in NRI they are fixed)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from bouncegrad.structures.factors import Factors, FactorTables
from bouncegrad.structures.layout import Layout
from bouncegrad.structures.population_annealing import QUICK, THOROUGH, Ladder, anneal_population
from bouncegrad.structures.priors.annealing_moves import independent_moves
from bouncegrad.structures.priors.posterior import (
    FactoredPosterior,
    SampledPosterior,
    combination_kinds,
    last_posterior,
    uniform,
)
from bouncegrad.types import Structures


@dataclass(frozen=True, slots=True, eq=False)
class Independent:
    """Independent edges: ``log p(graph) = sum over edges of log_weights[kind]``.

    Attributes:
        layout: the slots.
        log_weights: ``[kind]``, log probability of each edge type (learned sparsity).
    """

    layout: Layout
    log_weights: Float[Tensor, "kind"]

    @classmethod
    def of(cls, layout: Layout) -> Independent:
        """The prior with equal weights of all edge types."""
        return cls(layout, uniform(layout.num_edge_kinds))

    def log_probability(self, structures: Structures) -> Float[Tensor, "task"]:
        """The sum of the log weights of the edges; node types are uniform."""
        num_nodes = self.layout.num_slots - self.layout.num_edge_slots
        edges = structures[:, : self.layout.num_edge_slots]
        weights = self.log_weights.to(edges.device)[edges].sum(1)
        return (
            weights - self.log_weights.logsumexp(0) * edges.shape[1] - num_nodes * math.log(self.layout.num_node_kinds)
        )

    def posterior(
        self, factors: Factors, temperature: float, ladder: Ladder = THOROUGH
    ) -> FactoredPosterior | SampledPosterior:
        """The posterior, independent for each receiver: exact with tables, sampled without."""
        tables = factors.tabulated()
        if tables is not None:
            return self._factored(tables, temperature)
        return last_posterior(self._cooling(factors, temperature, ladder))

    def cooling(self, factors: Factors, coolest: float, ladder: Ladder) -> Iterator[SampledPosterior] | None:
        """The sampled posteriors at decreasing temperatures; None with tables."""
        return None if factors.tabulated() is not None else self._cooling(factors, coolest, ladder)

    def _cooling(self, factors: Factors, coolest: float, ladder: Ladder) -> Iterator[SampledPosterior]:
        moves = independent_moves(self.layout, self.log_weights)
        for rung in anneal_population(factors, moves, coolest, ladder):
            yield SampledPosterior(rung, factors.slots, True, 1, len(self.log_weights))

    def _factored(self, tables: FactorTables, temperature: float) -> FactoredPosterior:
        edges = combination_kinds(tables)[:, : self.layout.num_entities - 1]
        log_prior = torch.log_softmax(self.log_weights.to(edges.device)[edges].sum(1).double(), 0)
        scores = log_prior - tables.energies.double() / temperature
        evidence = torch.logsumexp(scores, 2)
        choices = torch.stack([(edges == kind).sum(1) for kind in range(self.layout.num_edge_kinds)], 1).float()
        log_probabilities = (scores - evidence[:, :, None]).float()
        return FactoredPosterior(tables, log_probabilities, evidence.sum(1).float(), choices)

    def with_weights(self, log_weights: Float[Tensor, "kind"]) -> Independent:
        """The same prior with other weights of the edge types."""
        return replace(self, log_weights=log_weights)


def least_losses(factors: Factors, layout: Layout) -> Float[Tensor, "task"]:
    """The smallest loss over all structures of each task; estimated by annealing if there are no tables."""
    tables = factors.tabulated()
    if tables is not None:
        return tables.energies.amin(2).sum(1)
    # anneal to a temperature far below the spread of the energies of random structures
    some = layout.random(factors.num_tasks * 8, Generator().manual_seed(0))[:, factors.slots]
    spread = float(factors.chain_state(some.unflatten(0, (factors.num_tasks, 8))).energies.std(1).mean())
    frozen = max(1e-3 * spread, 1e-30)
    return factors(Independent.of(layout).posterior(factors, frozen, QUICK).best())
