"""The belief that few act on anyone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bouncegrad.graphs import Layout
from bouncegrad.priors.mixture import EmptyKindPosterior, mixed
from bouncegrad.priors.posterior import (
    FactoredPosterior,
    OnTables,
    check_edges_only,
    combination_kinds,
    uniform,
)
from bouncegrad.search.population import THOROUGH, Ladder
from bouncegrad.types import Factors, Structures


@dataclass(frozen=True, slots=True, eq=False)
class Few(OnTables):
    """At most ``max_senders`` act on a receiver; which kind means that nobody acts is found out.

    Given the empty kind, receivers do not know of each other:
    ``p(row) ~ product over its edges of p(kind | empty kind)`` over all rows with few enough senders.

    Attributes:
        layout: the slots.
        log_weights: ``[empty * kind]``, the shares of edges of each kind while each is the empty one, row by row.
        max_senders: how many may act on one receiver; 1: each follows one other, or nobody.
    """

    layout: Layout
    log_weights: Float[Tensor, "choice"]
    max_senders: int = 1

    @classmethod
    def of(cls, layout: Layout, max_senders: int = 1) -> Few:
        """All kinds alike to begin with.

        Raises:
            ValueError: node kinds, or a number of senders below 1.
        """
        check_edges_only("few", layout)
        if max_senders < 1:
            raise ValueError(f"expected at least one sender for each receiver, got max_senders {max_senders}")
        return cls(layout, uniform(layout.num_edge_kinds**2), max_senders)

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
        return mixed(parts, self._table(), lambda found: self.log_probability(found) - tables(found) / temperature)

    def reweighted(self, log_weights: Float[Tensor, "choice"]) -> Few:
        """The same belief with other shares."""
        return replace(self, log_weights=log_weights)

    def _table(self) -> Float[Tensor, "empty kind"]:
        return self.log_weights.view(self.layout.num_edge_kinds, -1)

    def _log_rows(self, edges: Int[Tensor, "*row edge"], empty: int) -> Float[Tensor, "*row"]:
        """Log probabilities of rows of kinds, given the empty kind; their sum over all rows is a sum of binomials."""
        shares, width = self._table()[empty].softmax(0), edges.shape[-1]
        none, some = float(shares[empty]), float(1 - shares[empty])
        counts = range(min(width, self.max_senders) + 1)
        total = sum(math.comb(width, count) * some**count * none ** (width - count) for count in counts)
        weights = shares.log().to(edges.device)[edges].sum(-1) - math.log(total)
        return weights.masked_fill((edges != empty).sum(-1) > self.max_senders, -math.inf)
