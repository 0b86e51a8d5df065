"""Beliefs about whole graphs: independent edges, classes of nodes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from bouncegrad.graphs import Layout, senders_of
from bouncegrad.priors.moves import independent_moves
from bouncegrad.priors.posterior import (
    EnumeratedPosterior,
    Exact,
    FactoredPosterior,
    SampledPosterior,
    check_edges_only,
    combination_kinds,
    enumerated,
    last_of,
    nothing_else,
    uniform,
)
from bouncegrad.search.population import QUICK, THOROUGH, Ladder, cooled
from bouncegrad.types import Factors, FactorTables, Structures

GRAPH_LIMIT = 2**17
"""Graphs that are listed one by one at the most."""


@dataclass(frozen=True, slots=True, eq=False)
class Independent:
    """No edge knows of another: ``log p(graph) = sum over edges of log_weights[kind]``.

    Attributes:
        layout: the slots.
        log_weights: ``[kind]``, the share of edges of each kind (learned sparsity).
    """

    layout: Layout
    log_weights: Float[Tensor, "kind"]

    @classmethod
    def of(cls, layout: Layout) -> Independent:
        """All kinds alike to begin with."""
        return cls(layout, uniform(layout.num_edge_kinds))

    def log_probability(self, structures: Structures) -> Float[Tensor, "task"]:
        """The weights of the edges; node kinds are all alike."""
        num_nodes = self.layout.num_slots - self.layout.num_edge_slots
        edges = structures[:, : self.layout.num_edge_slots]
        weights = self.log_weights.to(edges.device)[edges].sum(1)
        return (
            weights - self.log_weights.logsumexp(0) * edges.shape[1] - num_nodes * math.log(self.layout.num_node_kinds)
        )

    def posterior(
        self, factors: Factors, temperature: float, ladder: Ladder = THOROUGH
    ) -> FactoredPosterior | SampledPosterior:
        """Every receiver on its own: exact with tables, sampled without."""
        if isinstance(factors, FactorTables):
            return self._factored(factors, temperature)
        return last_of(self._cooling(factors, temperature, ladder))

    def cooling(self, factors: Factors, coolest: float, ladder: Ladder) -> Iterator[SampledPosterior] | None:
        """The way down, without tables."""
        return None if isinstance(factors, FactorTables) else self._cooling(factors, coolest, ladder)

    def _cooling(self, factors: Factors, coolest: float, ladder: Ladder) -> Iterator[SampledPosterior]:
        moves = independent_moves(self.layout, self.log_weights)
        for rung in cooled(factors, moves, coolest, ladder):
            yield SampledPosterior(rung, factors.slots, True, 1, len(self.log_weights))

    def _factored(self, tables: FactorTables, temperature: float) -> FactoredPosterior:
        edges = combination_kinds(tables)[:, : self.layout.num_entities - 1]
        log_prior = torch.log_softmax(self.log_weights.to(edges.device)[edges].sum(1).double(), 0)
        scores = log_prior - tables.energies.double() / temperature
        evidence = torch.logsumexp(scores, 2)
        choices = torch.stack([(edges == kind).sum(1) for kind in range(self.layout.num_edge_kinds)], 1).float()
        log_probabilities = (scores - evidence[:, :, None]).float()
        return FactoredPosterior(tables, log_probabilities, evidence.sum(1).float(), choices)

    def reweighted(self, log_weights: Float[Tensor, "kind"]) -> Independent:
        """The same belief with other shares of the kinds."""
        return replace(self, log_weights=log_weights)


@dataclass(frozen=True, slots=True, eq=False)
class NodeClasses(Exact):
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
        return cls(layout, uniform(num_maps), num_classes)

    def log_probability(self, structures: Structures) -> Float[Tensor, "task"]:
        """All maps and labelings that lead to a structure, summed."""
        return self.posterior(nothing_else(structures, self.layout), 1.0).log_evidence

    def posterior(self, factors: Factors, temperature: float, ladder: Ladder = THOROUGH) -> EnumeratedPosterior:
        """Over all maps and all classes of all entities, always listed."""
        del ladder
        shape = (self.layout.num_entities, self.layout.num_edge_kinds, self.num_classes)
        structures, choices, same = _class_graphs(*shape)
        num_labelings = len(structures) // len(self.log_weights)
        log_prior = choices @ self.log_weights - math.log(num_labelings)
        return enumerated(structures, log_prior, choices, factors, temperature, same)

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


def _check_count(name: str, num_graphs: int, layout: Layout) -> None:
    check_edges_only(name, layout)
    if num_graphs > GRAPH_LIMIT:
        raise ValueError(
            f"the prior {name!r} allows {num_graphs} graphs of {layout.num_entities} entities and "
            f"{layout.num_edge_kinds} kinds, more than the {GRAPH_LIMIT} that are listed: use 'none'"
        )


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
