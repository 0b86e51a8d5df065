"""Beliefs about whole graphs: independent edges, symmetric graphs, classes of nodes, few senders."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from bouncegrad.graphs import Layout, senders_of, to_slots
from bouncegrad.priors.moves import independent_moves, symmetric_moves
from bouncegrad.priors.posterior import (
    EnumeratedPosterior,
    FactoredPosterior,
    SampledPosterior,
    combination_kinds,
    enumerated,
)
from bouncegrad.search.population import QUICK, THOROUGH, Ladder, cooled
from bouncegrad.types import Factors, FactorTables, Structures

GRAPH_LIMIT = 2**17
"""Graphs that are listed one by one at the most."""


def _uniform(num_choices: int) -> Tensor:
    return torch.full((num_choices,), -math.log(num_choices))


@dataclass(frozen=True, slots=True, eq=False)
class Independent:
    """No edge knows of another: ``log p(graph) = sum over edges of log_weights[kind]``.

    Attributes:
        layout: the slots.
        log_weights: ``[kind]``, the share of edges of each kind (learned sparsity).
        max_senders: at most so many senders of a kind other than 0 for each receiver; None: any number.
    """

    layout: Layout
    log_weights: Float[Tensor, "kind"]
    max_senders: int | None = None

    @classmethod
    def of(cls, layout: Layout, max_senders: int | None = None) -> Independent:
        """All kinds alike to begin with."""
        return cls(layout, _uniform(layout.num_edge_kinds), max_senders)

    def posterior(
        self, factors: Factors, temperature: float, ladder: Ladder = THOROUGH
    ) -> FactoredPosterior | SampledPosterior:
        """Every receiver on its own: exact with tables, sampled without."""
        if isinstance(factors, FactorTables):
            return self._factored(factors, temperature)
        return _last(self._cooling(factors, temperature, ladder))

    def cooling(self, factors: Factors, coolest: float, ladder: Ladder) -> Iterator[SampledPosterior] | None:
        """The way down, without tables."""
        return None if isinstance(factors, FactorTables) else self._cooling(factors, coolest, ladder)

    def _cooling(self, factors: Factors, coolest: float, ladder: Ladder) -> Iterator[SampledPosterior]:
        if self.max_senders is not None:
            raise ValueError(
                f"at most {self.max_senders} senders for each receiver needs tables, and scenes of "
                f"{self.layout.num_entities} entities have none: set max_senders to None"
            )
        moves = independent_moves(self.layout, self.log_weights)
        for rung in cooled(factors, moves, coolest, ladder):
            yield SampledPosterior(rung, factors.slots, True, 1, len(self.log_weights))

    def _factored(self, tables: FactorTables, temperature: float) -> FactoredPosterior:
        edges = combination_kinds(tables)[:, : self.layout.num_entities - 1]
        log_prior = self.log_weights.to(edges.device)[edges].sum(1)
        if self.max_senders is not None:
            log_prior = log_prior.masked_fill((edges > 0).sum(1) > self.max_senders, -math.inf)
        log_prior = torch.log_softmax(log_prior, 0)
        scores = log_prior - tables.energies / temperature
        evidence = torch.logsumexp(scores, 2)
        choices = torch.stack([(edges == kind).sum(1) for kind in range(self.layout.num_edge_kinds)], 1).float()
        return FactoredPosterior(tables, scores - evidence[:, :, None], evidence.sum(1), choices)

    def reweighted(self, log_weights: Float[Tensor, "kind"]) -> Independent:
        """The same belief with other shares of the kinds."""
        return replace(self, log_weights=log_weights)


@dataclass(frozen=True, slots=True, eq=False)
class Symmetric:
    """What i does to j, j does to i: ``log p(graph) = sum over pairs of log_weights[kind]``.

    Attributes:
        layout: the slots.
        log_weights: ``[kind]``, the share of pairs of each kind.
    """

    layout: Layout
    log_weights: Float[Tensor, "kind"]

    @classmethod
    def of(cls, layout: Layout) -> Symmetric:
        """All kinds alike to begin with.

        Raises:
            ValueError: several kinds of nodes.
        """
        _check_edges("symmetric", layout)
        return cls(layout, _uniform(layout.num_edge_kinds))

    def posterior(
        self, factors: Factors, temperature: float, ladder: Ladder = THOROUGH
    ) -> EnumeratedPosterior | SampledPosterior:
        """Over all symmetric graphs: all of them with tables while they can be listed, else samples."""
        if not self._listed(factors):
            return _last(self._cooling(factors, temperature, ladder))
        structures, counts = _symmetric_graphs(self.layout.num_entities, self.layout.num_edge_kinds)
        return enumerated(structures, counts @ self.log_weights, counts, factors, temperature)

    def cooling(self, factors: Factors, coolest: float, ladder: Ladder) -> Iterator[SampledPosterior] | None:
        """The way down, where graphs cannot be listed."""
        return None if self._listed(factors) else self._cooling(factors, coolest, ladder)

    def _listed(self, factors: Factors) -> bool:
        num_graphs = self.layout.num_edge_kinds ** (self.layout.num_edge_slots // 2)
        return isinstance(factors, FactorTables) and num_graphs <= GRAPH_LIMIT

    def _cooling(self, factors: Factors, coolest: float, ladder: Ladder) -> Iterator[SampledPosterior]:
        for rung in cooled(factors, symmetric_moves(self.layout, self.log_weights), coolest, ladder):
            yield SampledPosterior(rung, factors.slots, False, 2, len(self.log_weights))

    def reweighted(self, log_weights: Float[Tensor, "kind"]) -> Symmetric:
        """The same belief with other shares of the kinds."""
        return replace(self, log_weights=log_weights)


@dataclass(frozen=True, slots=True, eq=False)
class NodeClasses:
    """Every entity belongs to a hidden class; the two classes decide the kind: ``kind = map[c_receiver, c_sender]``.

    All maps from pairs of classes to kinds are candidates; one of them holds for all scenes, and which one is learned:
    ``log p(graph, classes, map) = log_weights[map] - N log C``.

    Attributes:
        layout: the slots.
        log_weights: ``[map]``, how much each map is believed in.
        num_classes: C.
    """

    layout: Layout
    log_weights: Float[Tensor, "map"]
    num_classes: int = 2

    @classmethod
    def of(cls, layout: Layout, num_classes: int = 2) -> NodeClasses:
        """All maps alike to begin with.

        Raises:
            ValueError: more graphs than can be listed.
        """
        num_maps = layout.num_edge_kinds ** (num_classes**2)
        _check_count("classes", num_maps * num_classes**layout.num_entities, layout)
        return cls(layout, _uniform(num_maps), num_classes)

    def posterior(self, factors: Factors, temperature: float, ladder: Ladder = THOROUGH) -> EnumeratedPosterior:
        """Over all maps and all classes of all entities, always listed."""
        del ladder
        shape = (self.layout.num_entities, self.layout.num_edge_kinds, self.num_classes)
        structures, choices, same = _class_graphs(*shape)
        num_labelings = len(structures) // len(self.log_weights)
        log_prior = choices @ self.log_weights - math.log(num_labelings)
        return enumerated(structures, log_prior, choices, factors, temperature, same)

    def cooling(self, factors: Factors, coolest: float, ladder: Ladder) -> None:
        """Graphs are always listed."""

    def reweighted(self, log_weights: Float[Tensor, "map"]) -> NodeClasses:
        """The same belief with other weights of the maps."""
        return replace(self, log_weights=log_weights)


def least_losses(factors: Factors, layout: Layout) -> Float[Tensor, "task"]:
    """What the best structure of each task costs, whatever the prior; found by sampling where there are no tables."""
    if isinstance(factors, FactorTables):
        return factors.energies.amin(2).sum(1)
    some = layout.random(factors.num_tasks * 8, Generator().manual_seed(0))[:, factors.slots]
    spread = float(factors.standing(some.unflatten(0, (factors.num_tasks, 8))).energies.std(1).mean())
    frozen = max(1e-3 * spread, 1e-30)
    return factors(Independent.of(layout).posterior(factors, frozen, QUICK).best())


def _last(posteriors: Iterator[SampledPosterior]) -> SampledPosterior:
    """The posterior at the end of a cooling."""
    *_, last = posteriors
    return last


def _check_edges(name: str, layout: Layout) -> None:
    if layout.num_node_kinds > 1:
        raise ValueError(f"the prior {name!r} speaks of edges only: use 'none' with {layout.num_node_kinds} node kinds")


def _check_count(name: str, num_graphs: int, layout: Layout) -> None:
    _check_edges(name, layout)
    if num_graphs > GRAPH_LIMIT:
        raise ValueError(
            f"the prior {name!r} allows {num_graphs} graphs of {layout.num_entities} entities and "
            f"{layout.num_edge_kinds} kinds, more than the {GRAPH_LIMIT} that are listed: use 'none'"
        )


@lru_cache(maxsize=8)
def _symmetric_graphs(num_entities: int, num_kinds: int) -> tuple[Structures, Float[Tensor, "graph kind"]]:
    """All symmetric structures, and how many pairs of each kind they have."""
    pairs = torch.combinations(torch.arange(num_entities), 2)
    kinds = torch.tensor(list(product(range(num_kinds), repeat=len(pairs))))
    matrix = torch.zeros(len(kinds), num_entities, num_entities, dtype=torch.long)
    matrix[:, pairs[:, 0], pairs[:, 1]] = kinds
    matrix[:, pairs[:, 1], pairs[:, 0]] = kinds
    counts = torch.stack([(kinds == kind).sum(1) for kind in range(num_kinds)], 1).float()
    return to_slots(matrix), counts


@lru_cache(maxsize=8)
def _class_graphs(
    num_entities: int, num_kinds: int, num_classes: int
) -> tuple[Int[Tensor, "graph slot"], Float[Tensor, "graph map"], Int[Tensor, "graph"]]:
    """The structures of all maps times all labelings, a one-hot of each one's map, and which of them are the same."""
    maps = torch.tensor(list(product(range(num_kinds), repeat=num_classes**2)))
    labels = torch.tensor(list(product(range(num_classes), repeat=num_entities)))
    pairs = labels[:, :, None] * num_classes + labels[:, senders_of(num_entities)]
    structures = maps[:, pairs.flatten(1)].flatten(0, 1)
    choices = torch.eye(len(maps)).repeat_interleave(len(labels), 0)
    return structures, choices, torch.unique(structures, dim=0, return_inverse=True)[1]
