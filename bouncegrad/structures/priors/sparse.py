"""The prior "few": sparse graphs, with a limit on the in-degree of every receiver."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bouncegrad.structures.factors import Factors
from bouncegrad.structures.layout import Layout
from bouncegrad.structures.population_annealing import THOROUGH, Ladder
from bouncegrad.structures.priors.empty_kind import EmptyKindPosterior, mix_posteriors
from bouncegrad.structures.priors.in_degree import Counts
from bouncegrad.structures.priors.posterior import FactoredPosterior, OnTables, check_edges_only, combination_kinds
from bouncegrad.types import Structures

ABOUT = 1e-6
"""Tolerance of the log odds."""


@dataclass(frozen=True, slots=True, eq=False)
class Sparse(OnTables):
    """At most ``max_senders`` incoming edges of each receiver are active; which edge type is empty is inferred.

    The empty type is the edge type of a pair without interaction; the edges of all other types are active. Given the
    empty type, receivers are independent, and the probability of a row (the incoming edges of one receiver) is
    proportional to the product over its active edges of ``odds * p(kind | active)``. The odds follow from the share of
    active edges.

    Attributes:
        layout: the slots.
        log_weights: ``[empty * kind]``, log of the joint shares of the empty type and the edge types, row by row.
        max_senders: largest number of active incoming edges; 1: each receiver has one sender or none.
    """

    layout: Layout
    log_weights: Float[Tensor, "choice"]
    max_senders: int = 1

    @classmethod
    def of(cls, layout: Layout, max_senders: int = 1) -> Sparse:
        """The prior that is uniform over all rows with at most ``max_senders`` active edges.

        Raises:
            ValueError: node types, or ``max_senders`` below 1.
        """
        check_edges_only("few", layout)
        if max_senders < 1:
            raise ValueError(f"expected at least one sender for each receiver, got max_senders {max_senders}")
        num_kinds, counts = layout.num_edge_kinds, _counts(layout.num_entities - 1, max_senders)
        acting = counts.share_at(math.log(max(1, num_kinds - 1)))
        shares = torch.full((num_kinds, num_kinds), acting / max(1, num_kinds - 1)).fill_diagonal_(1 - acting)
        return cls(layout, (shares / num_kinds).log().flatten(), max_senders)

    def log_probability(self, structures: Structures) -> Float[Tensor, "task"]:
        """The sum of the log probabilities of the rows, marginalised over the empty type."""
        rows = structures.view(len(structures), -1, self.layout.num_entities - 1)
        parts = [self._log_rows(rows, kind).sum(1) for kind in range(self.layout.num_edge_kinds)]
        return torch.logsumexp(torch.stack(parts, 1) + self._table().logsumexp(1), 1)

    def posterior(self, factors: Factors, temperature: float, ladder: Ladder = THOROUGH) -> EmptyKindPosterior:
        """The exact posterior: a mixture over the empty type, with independent receivers in each part."""
        del ladder
        tables = self.tables_in(factors)
        edges = combination_kinds(tables)
        choices = torch.nn.functional.one_hot(edges, self.layout.num_edge_kinds).sum(1).float()
        parts = []
        for kind in range(self.layout.num_edge_kinds):
            scores = self._log_rows(edges, kind) - tables.energies / temperature
            evidence = scores.logsumexp(2)
            parts.append(FactoredPosterior(tables, scores - evidence[:, :, None], evidence.sum(1), choices))
        return mix_posteriors(
            parts, self._table(), lambda found: self.log_probability(found) - tables(found) / temperature
        )

    def with_weights(self, log_weights: Float[Tensor, "choice"]) -> Sparse:
        """The same prior with other weights."""
        return replace(self, log_weights=log_weights)

    def _table(self) -> Float[Tensor, "empty kind"]:
        return self.log_weights.view(self.layout.num_edge_kinds, -1)

    def _log_rows(self, edges: Int[Tensor, "*row edge"], empty: int) -> Float[Tensor, "*row"]:
        """Log probabilities of rows given the empty type; the normaliser is a sum over in-degrees of binomials."""
        shares, width = self._table()[empty].log_softmax(0), edges.shape[-1]
        acting = shares.masked_fill(torch.arange(len(shares)) == empty, -math.inf)
        counts = _counts(width, self.max_senders)
        log_odds = counts.log_odds(float(acting.exp().sum()), ABOUT)
        log_kinds = (acting.log_softmax(0) + log_odds).masked_fill(torch.arange(len(shares)) == empty, 0.0)
        total = torch.logsumexp(counts.log_ways + log_odds * counts.numbers, 0)
        weights = log_kinds.to(edges.device)[edges].sum(-1) - total.to(edges.device)
        return weights.masked_fill((edges != empty).sum(-1) > self.max_senders, -math.inf).float()


def _counts(width: int, max_senders: int) -> Counts:
    numbers = range(min(width, max_senders) + 1)
    ways = [math.comb(width, number) for number in numbers]
    return Counts(torch.tensor([*numbers], dtype=torch.float64), torch.tensor(ways).double().log(), width)
