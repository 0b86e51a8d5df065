"""The belief that few act on anyone."""

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
"""Log odds that make no difference."""


@dataclass(frozen=True, slots=True, eq=False)
class Sparse(OnTables):
    """At most ``max_senders`` act on a receiver; which kind means that nobody acts is found out.

    Given the empty kind, receivers do not know of each other, and a row is as probable as the product over its edges
    that act of ``odds * p(kind | it acts)``. The odds follow from the share of edges that act.

    Attributes:
        layout: the slots.
        log_weights: ``[empty * kind]``, the shares of edges of each kind while each is the empty one, row by row.
        max_senders: how many may act on one receiver; 1: each follows one other, or nobody.
    """

    layout: Layout
    log_weights: Float[Tensor, "choice"]
    max_senders: int = 1

    @classmethod
    def of(cls, layout: Layout, max_senders: int = 1) -> Sparse:
        """All rows with few enough senders alike to begin with.

        Raises:
            ValueError: node kinds, or a number of senders below 1.
        """
        check_edges_only("few", layout)
        if max_senders < 1:
            raise ValueError(f"expected at least one sender for each receiver, got max_senders {max_senders}")
        num_kinds, counts = layout.num_edge_kinds, _counts(layout.num_entities - 1, max_senders)
        acting = counts.share_at(math.log(max(1, num_kinds - 1)))
        shares = torch.full((num_kinds, num_kinds), acting / max(1, num_kinds - 1)).fill_diagonal_(1 - acting)
        return cls(layout, (shares / num_kinds).log().flatten(), max_senders)

    def log_probability(self, structures: Structures) -> Float[Tensor, "task"]:
        """The weights of all rows, over all kinds that may be the empty one."""
        rows = structures.view(len(structures), -1, self.layout.num_entities - 1)
        parts = [self._log_rows(rows, kind).sum(1) for kind in range(self.layout.num_edge_kinds)]
        return torch.logsumexp(torch.stack(parts, 1) + self._table().logsumexp(1), 1)

    def posterior(self, factors: Factors, temperature: float, ladder: Ladder = THOROUGH) -> EmptyKindPosterior:
        """Every receiver on its own, for each kind that may be the empty one."""
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
        """The same belief with other shares."""
        return replace(self, log_weights=log_weights)

    def _table(self) -> Float[Tensor, "empty kind"]:
        return self.log_weights.view(self.layout.num_edge_kinds, -1)

    def _log_rows(self, edges: Int[Tensor, "*row edge"], empty: int) -> Float[Tensor, "*row"]:
        """Log probabilities of rows of kinds, given the empty kind; their sum over all rows is a sum of binomials."""
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
