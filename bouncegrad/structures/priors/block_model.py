"""The prior "classes": a stochastic block model, in which the latent classes of two entities decide the edge type."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bouncegrad.structures.factors import Factors
from bouncegrad.structures.layout import Layout, senders_of
from bouncegrad.structures.population_annealing import THOROUGH, Ladder
from bouncegrad.structures.priors.posterior import (
    EnumeratedPosterior,
    Exact,
    check_edges_only,
    enumerate_posterior,
    indicator_tables,
    uniform,
)
from bouncegrad.types import Structures

GRAPH_LIMIT = 2**17
"""Largest number of graphs that are enumerated."""


@dataclass(frozen=True, slots=True, eq=False)
class BlockModel(Exact):
    """Deterministic block model: every entity has a latent class, and ``kind = map[c_receiver, c_sender]``.

    All maps from pairs of classes to edge types are candidates, and their probabilities, shared by all scenes, are
    learned: ``log p(graph, classes, map) = log_weights[map] - N log C``.

    Attributes:
        layout: the slots.
        log_weights: ``[map]``, log probability of each map.
        num_classes: C, the number of classes.
    """

    layout: Layout
    log_weights: Float[Tensor, "map"]
    num_classes: int = 2

    @classmethod
    def of(cls, layout: Layout, num_classes: int = 2) -> BlockModel:
        """The prior with equal weights of all maps.

        Raises:
            ValueError: node types, or more graphs than :data:`GRAPH_LIMIT`.
        """
        num_maps = layout.num_edge_kinds ** (num_classes**2)
        _check_count("classes", num_maps * num_classes**layout.num_entities, layout)
        return cls(layout, uniform(num_maps), num_classes)

    def log_probability(self, structures: Structures) -> Float[Tensor, "task"]:
        """The log probability of each structure, summed over maps and class assignments."""
        return self.posterior(indicator_tables(structures, self.layout), 1.0).log_evidence

    def posterior(self, factors: Factors, temperature: float, ladder: Ladder = THOROUGH) -> EnumeratedPosterior:
        """The exact posterior, by enumeration of all maps and class assignments."""
        del ladder
        shape = (self.layout.num_entities, self.layout.num_edge_kinds, self.num_classes)
        structures, choices, same = _class_graphs(*shape)
        num_labelings = len(structures) // len(self.log_weights)
        log_prior = choices @ self.log_weights - math.log(num_labelings)
        return enumerate_posterior(structures, log_prior, choices, factors, temperature, same)

    def with_weights(self, log_weights: Float[Tensor, "map"]) -> BlockModel:
        """The same prior with other weights of the maps."""
        return replace(self, log_weights=log_weights)


def _check_count(name: str, num_graphs: int, layout: Layout) -> None:
    check_edges_only(name, layout)
    if num_graphs > GRAPH_LIMIT:
        raise ValueError(
            f"the prior {name!r} allows {num_graphs} graphs of {layout.num_entities} entities and "
            f"{layout.num_edge_kinds} edge types, more than the {GRAPH_LIMIT} that can be enumerated: use 'none'"
        )


@lru_cache(maxsize=8)
def _class_graphs(
    num_entities: int, num_kinds: int, num_classes: int
) -> tuple[Int[Tensor, "graph slot"], Float[Tensor, "graph map"], Int[Tensor, "graph"]]:
    """The structures of all maps times all class assignments, the one-hot map of each, and an index of equal ones."""
    maps = torch.tensor(list(product(range(num_kinds), repeat=num_classes**2)))
    labels = torch.tensor(list(product(range(num_classes), repeat=num_entities)))
    pairs = labels[:, :, None] * num_classes + labels[:, senders_of(num_entities)]
    structures = maps[:, pairs.flatten(1)].flatten(0, 1)
    choices = torch.eye(len(maps)).repeat_interleave(len(labels), 0)
    return structures, choices, torch.unique(structures, dim=0, return_inverse=True)[1]
