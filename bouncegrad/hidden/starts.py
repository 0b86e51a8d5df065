"""Where a search for hidden entities begins: who might act on them, and where they might be."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from bouncegrad.graphs import Layout
from bouncegrad.hidden.completed import Completed, Tracks
from bouncegrad.hidden.smoothing import FIRST_SPREAD
from bouncegrad.model import Model
from bouncegrad.priors import GraphPrior
from bouncegrad.priors.posterior import combination_kinds
from bouncegrad.types import FactorTables, Structures

RULED_OUT = 1e7
"""Nats that a pattern costs which a chain does not stand for."""


def patterns_of(
    layout: Layout, num_hidden: int, limit: int, generator: Generator
) -> Int[Tensor, "pattern hidden width"]:
    """What may decide how the hidden entities move, the last of a layout: all of it, or ``limit`` random patterns.

    >>> patterns_of(Layout(3, 2), 1, 64, torch.Generator()).flatten(1).tolist()
    [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    kinds = torch.tensor(layout.receiver_kinds * num_hidden)
    total = math.prod(layout.receiver_kinds) ** num_hidden
    if total > limit:
        drawn = (torch.rand(4 * limit, len(kinds), generator=generator) * kinds).long().unique(dim=0)
        chosen = drawn[torch.randperm(len(drawn), generator=generator)[:limit]]
    else:
        chosen = torch.cartesian_prod(*(torch.arange(int(count)) for count in kinds)).view(total, -1)
    return chosen.unflatten(1, (num_hidden, -1))


def num_patterns_of(layout: Layout, num_hidden: int, limit: int) -> int:
    """How many patterns :func:`patterns_of` gives, at the most."""
    return min(limit, math.prod(layout.receiver_kinds) ** num_hidden)


def in_structures(layout: Layout, patterns: Int[Tensor, "task hidden width"]) -> Structures:
    """Structures that hold the patterns, and kind 0 elsewhere."""
    structures = patterns.new_zeros(len(patterns), layout.num_slots)
    structures[:, layout.receiver_slots[-patterns.shape[1] :].flatten()] = patterns.flatten(1)
    return structures


def pinned(tables: FactorTables, structures: Structures, num_hidden: int, *, outgoing: bool) -> FactorTables:
    """Tables that leave the hidden entities, the last, no choice but what structures say.

    Args:
        tables: of scenes with their hidden entities.
        structures: what to hold on to.
        num_hidden: how many entities are hidden.
        outgoing: hold on to what they do to others as well, not only to what is done to them.
    """
    num_entities = len(tables.slots)
    held = torch.zeros(num_entities, len(tables.num_kinds), dtype=torch.bool)
    held[:, num_entities - 1 - num_hidden : num_entities - 1] = outgoing
    held[-num_hidden:] = True
    energies = tables.energies.clone()
    energies[:, -num_hidden:] = 0.0
    wanted = structures[:, tables.slots][:, :, None]
    ruled_out = ((combination_kinds(tables) != wanted) & held[:, None]).any(3)
    return replace(tables, energies=energies + RULED_OUT * ruled_out)


def drawn(
    prior: GraphPrior, layout: Layout, patterns: Int[Tensor, "task hidden width"], generator: Generator
) -> Structures:
    """Structures drawn from a prior, given what decides how the hidden entities move."""
    num_combinations = math.prod(layout.receiver_kinds)
    flat = torch.zeros(len(patterns), layout.num_entities, num_combinations)
    tables = FactorTables(flat, layout.receiver_slots, layout.receiver_kinds)
    chosen = pinned(tables, in_structures(layout, patterns), patterns.shape[1], outgoing=False)
    return prior.posterior(chosen, 1.0).draw(generator)


def random_states(stage: Completed, generator: Generator) -> Float[Tensor, "task hidden feature"]:
    """First states as they are believed to be."""
    shape = (*stage.nodes.shape, stage.batch.states.shape[2])
    return FIRST_SPREAD * torch.randn(shape, generator=generator)


def rolled(model: Model, stage: Completed, states: Tensor, structures: Structures, start: int = 0) -> Tracks:
    """Where the modules lead hidden entities from their states at ``start``, the seen ones being where they were."""
    own, graph = stage.nodes.flatten(), stage.touching
    kinds, node_kinds = graph.pack_edges(structures), stage.graph.pack_node_kinds(structures)
    path = [states]
    for time in range(start, stage.batch.states.shape[1] - 1):
        present = stage.batch.states[:, time].index_copy(0, own, path[-1].flatten(0, 1))
        incoming = graph.incoming(model.network.edge_modules(model.network.inputs_on(graph, present), kinds))
        path.append(model.network.update(present[own], incoming[own], node_kinds[own]).view_as(states))
    return torch.stack(path, 2)
