"""Beliefs about whole graphs: independent edges, symmetric graphs, classes of nodes, few senders."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bouncegrad.graphs import Layout, senders_of, to_slots
from bouncegrad.priors.posterior import (
    EnumeratedPosterior,
    FactoredPosterior,
    combination_kinds,
    enumerated,
)
from bouncegrad.types import FactorTables, Structures

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

    def posterior(self, tables: FactorTables, temperature: float) -> FactoredPosterior:
        """Every receiver on its own."""
        edges = combination_kinds(tables)[:, : self.layout.num_entities - 1]
        log_prior = self.log_weights.to(edges.device)[edges].sum(1)
        if self.max_senders is not None:
            log_prior = log_prior.masked_fill((edges > 0).sum(1) > self.max_senders, -math.inf)
        log_prior = torch.log_softmax(log_prior.double(), 0)
        scores = log_prior - tables.energies.double() / temperature
        evidence = torch.logsumexp(scores, 2)
        choices = torch.stack([(edges == kind).sum(1) for kind in range(self.layout.num_edge_kinds)], 1).float()
        log_probabilities = (scores - evidence[:, :, None]).float()
        return FactoredPosterior(tables, log_probabilities, evidence.sum(1).float(), choices)

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
            ValueError: more graphs than can be listed.
        """
        _check_count("symmetric", layout.num_edge_kinds ** (layout.num_edge_slots // 2), layout)
        return cls(layout, _uniform(layout.num_edge_kinds))

    def posterior(self, tables: FactorTables, temperature: float) -> EnumeratedPosterior:
        """Over all symmetric graphs."""
        structures, counts = _symmetric_graphs(self.layout.num_entities, self.layout.num_edge_kinds)
        return enumerated(structures, counts @ self.log_weights, counts, tables, temperature)

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

    def posterior(self, tables: FactorTables, temperature: float) -> EnumeratedPosterior:
        """Over all maps and all classes of all entities."""
        shape = (self.layout.num_entities, self.layout.num_edge_kinds, self.num_classes)
        structures, choices, same = _class_graphs(*shape)
        num_labelings = len(structures) // len(self.log_weights)
        log_prior = choices @ self.log_weights - math.log(num_labelings)
        return enumerated(structures, log_prior, choices, tables, temperature, same)

    def reweighted(self, log_weights: Float[Tensor, "map"]) -> NodeClasses:
        """The same belief with other weights of the maps."""
        return replace(self, log_weights=log_weights)


def _check_count(name: str, num_graphs: int, layout: Layout) -> None:
    if layout.num_node_kinds > 1:
        raise ValueError(f"the prior {name!r} speaks of edges only: use 'none' with {layout.num_node_kinds} node kinds")
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
