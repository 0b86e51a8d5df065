"""The prior "triads": symmetric graphs in which the edge types of the three pairs of a triangle are dependent.

An example is structural balance ("my enemy's enemy is my friend").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations_with_replacement, product

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from bouncegrad.structures.factors import Factors
from bouncegrad.structures.layout import Layout, to_matrix
from bouncegrad.structures.population_annealing import THOROUGH, Ladder
from bouncegrad.structures.priors.pair_elimination import PairElimination, digits_of
from bouncegrad.structures.priors.posterior import OnTables
from bouncegrad.structures.priors.symmetric import SymmetricPosterior, check_elimination, log_where_symmetric
from bouncegrad.types import Structures

ROUNDS = 60
"""Largest number of L-BFGS iterations that fit the factors to the shares of triads; 10 to 20 are usual."""


@lru_cache(maxsize=8)
def triad_of(num_kinds: int) -> Int[Tensor, "kind kind kind"]:
    """The index of the triad (unordered triple of edge types) of every ordered triple."""
    triads = {triad: number for number, triad in enumerate(combinations_with_replacement(range(num_kinds), 3))}
    numbers = [triads[tuple(sorted(kinds))] for kinds in product(range(num_kinds), repeat=3)]  # pyright: ignore
    return torch.tensor(numbers).view(num_kinds, num_kinds, num_kinds)


@lru_cache(maxsize=8)
def triad_counts(num_entities: int, num_kinds: int) -> tuple[Float[Tensor, "triad earlier passing later"], ...]:
    """For each entity the number of triads of each sort of which it is the middle entity, in the axes of a
    :class:`PairElimination`.
    """
    found = []
    for entity in range(num_entities):
        left = num_entities - 1 - entity
        earlier, later = (digits_of(torch.arange(num_kinds**count), num_kinds, count) for count in (entity, left))
        passing = digits_of(torch.arange(num_kinds ** (entity * left)), num_kinds, entity * left)
        num_triads = int(triad_of(num_kinds).max()) + 1
        counts = torch.zeros(num_triads, len(earlier), len(passing), len(later))
        for (place, j), i in product(enumerate(range(left)), range(entity)):
            between = passing[:, place * entity + i]
            triads = triad_of(num_kinds)[earlier[:, i, None, None], between[:, None], later[:, j]]
            counts += torch.stack([triads == triad for triad in range(num_triads)])
        found.append(counts)
    return tuple(found)


@dataclass(frozen=True, slots=True, eq=False)
class TriadPosterior:
    """Exact posterior over symmetric graphs with a weight for each triangle.

    Attributes:
        pairs: the posterior over symmetric graphs; its evidence lacks the normaliser of the prior.
        log_total: log of the normaliser of the prior, log Z.
        counts: for each entity the counts of :func:`triad_counts`.
    """

    pairs: SymmetricPosterior
    log_total: Float[Tensor, ""]
    counts: Sequence[Tensor]

    @property
    def log_evidence(self) -> Float[Tensor, "task"]:
        """Log of the prior mean of ``exp(-loss / temperature)``."""
        return (self.pairs.elimination.log_total - self.log_total).float()

    def best(self) -> Structures:
        """The most probable structure of each task."""
        return self.pairs.best()

    def draw(self, generator: Generator) -> Structures:
        """One exact sample for each task."""
        return self.pairs.draw(generator)

    def marginals(self) -> Float[Tensor, "task slot kind"]:
        """The probability of each kind on each slot."""
        return self.pairs.marginals()

    def usage(self) -> Float[Tensor, "triad"]:
        """Expected number of triangles of each sort."""
        joints = self.pairs.elimination.joints()
        seen = (torch.einsum("tepl,kepl->k", p, self.counts[m].to(p)) for m, _, p in joints)
        return torch.stack(list(seen)).sum(0).float()


@dataclass(frozen=True, slots=True, eq=False)
class Triads(OnTables):
    """Markov random graph over triangles: ``log p(graph) = sum over triangles of factor[triad] - log Z``.

    A triad is an unordered triple of edge types, so that triads determine the shares of the edge types too. The factors
    define the distribution of maximum entropy with the given expected shares of triads. In charged scenes the product
    of the three signs is positive: structural balance (Heider 1946; Frank and Strauss 1986 for such distributions over
    graphs).

    Attributes:
        layout: the slots.
        log_weights: ``[triad]``, log shares of triangles of each sort.
        factors: ``[triad]``, log potential of a triangle of each sort.
    """

    layout: Layout
    log_weights: Float[Tensor, "triad"]
    factors: Float[Tensor, "triad"]

    @classmethod
    def of(cls, layout: Layout) -> Triads:
        """The prior that is uniform over all symmetric graphs.

        Raises:
            ValueError: node types, fewer than three entities, or more graphs than can be summed over.
        """
        check_elimination("triads", layout)
        if layout.num_entities < 3:
            raise ValueError(f"the prior 'triads' needs three entities or more, got {layout.num_entities}: use 'none'")
        shares = torch.bincount(triad_of(layout.num_edge_kinds).flatten()).float()
        return cls(layout, (shares / shares.sum()).log(), torch.zeros(len(shares), dtype=torch.float64))

    def log_probability(self, structures: Structures) -> Float[Tensor, "task"]:
        """The sum of the factors of all triangles minus log Z; -inf if the two directions of a pair differ."""
        matrix = to_matrix(structures, self.layout.num_entities, diagonal=0)
        i, j, k = torch.combinations(torch.arange(self.layout.num_entities), 3).unbind(1)
        triads = triad_of(self.layout.num_edge_kinds).to(matrix.device)[
            matrix[:, i, j], matrix[:, j, k], matrix[:, i, k]
        ]
        found = self.factors.to(matrix.device)[triads].sum(1) - self._elimination(self.factors).log_total
        return log_where_symmetric(found, matrix).float()

    def posterior(self, factors: Factors, temperature: float, ladder: Ladder = THOROUGH) -> TriadPosterior:
        """The exact posterior over all symmetric graphs."""
        del ladder
        tables = self.tables_in(factors)
        scores = -tables.energies.double() / temperature
        elimination = PairElimination.of(scores, self.layout.num_edge_kinds, self._ties(self.factors))
        return TriadPosterior(
            SymmetricPosterior(elimination), self._elimination(self.factors).log_total[0], self._counts()
        )

    def with_weights(self, log_weights: Float[Tensor, "triad"]) -> Triads:
        """The same prior with other shares of triads, and the factors under which these are the expected shares."""
        shares, factors = log_weights.double().softmax(0), self.factors.clone().requires_grad_()
        num_triangles = float(sum(counts[:, 0, 0, 0].sum() for counts in self._counts()))
        search = torch.optim.LBFGS([factors], max_iter=ROUNDS, line_search_fn="strong_wolfe")

        # the convex dual of maximum entropy: its gradient is expected minus given shares
        def dual() -> Tensor:
            search.zero_grad()
            loss = self._elimination(factors).log_total[0] / num_triangles - shares @ factors
            loss.backward()
            return loss

        with torch.enable_grad():
            search.step(dual)
        return replace(self, log_weights=log_weights, factors=factors.detach())

    def _counts(self) -> tuple[Tensor, ...]:
        return triad_counts(self.layout.num_entities, self.layout.num_edge_kinds)

    def _ties(self, factors: Tensor) -> list[Tensor]:
        return [torch.tensordot(factors, counts.to(factors), 1) for counts in self._counts()]

    def _elimination(self, factors: Tensor) -> PairElimination:
        """The elimination of the prior itself: one task with energies 0."""
        num_entities, num_kinds = self.layout.num_entities, self.layout.num_edge_kinds
        blank = torch.zeros(
            1, num_entities, num_kinds ** (num_entities - 1), dtype=factors.dtype, device=factors.device
        )
        return PairElimination.of(blank, num_kinds, self._ties(factors))
