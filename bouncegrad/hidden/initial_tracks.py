"""Where a search for hidden entities begins: who might act on them, and where they might be."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from bouncegrad.hidden.augmented import AugmentedScenes, Tracks
from bouncegrad.hidden.gauss_newton import FIRST_SPREAD
from bouncegrad.models.model import Model
from bouncegrad.structures.factors import FactorTables
from bouncegrad.structures.layout import Layout
from bouncegrad.structures.priors import GraphPrior
from bouncegrad.structures.priors.posterior import combination_kinds
from bouncegrad.types import Structures

FARTHEST = 10.0
"""Where rollouts end that run away, in normalised units, of which scenes are two wide."""

RULED_OUT = 1e7
"""Nats that a pattern costs which a chain does not stand for."""


def patterns_of(
    prior: GraphPrior, layout: Layout, num_hidden: int, limit: int, generator: Generator
) -> Int[Tensor, "pattern hidden width"]:
    """What may decide how the hidden entities move, the last of a layout: all of it, or ``limit`` draws of a prior."""
    kinds = layout.receiver_kinds * num_hidden
    if math.prod(kinds) <= limit:
        return torch.cartesian_prod(*map(torch.arange, kinds)).view(-1, num_hidden, len(layout.receiver_kinds))
    structures = prior.posterior(_flat(layout, 4 * limit), 1.0).draw(generator)
    patterns = structures[:, layout.receiver_slots[-num_hidden:]].unique(dim=0)
    return patterns[torch.randperm(len(patterns), generator=generator)[:limit]]


def _flat(layout: Layout, num_tasks: int) -> FactorTables:
    """Tables of which nothing can be learned."""
    energies = torch.zeros(num_tasks, layout.num_entities, layout.num_assignments)
    return FactorTables(energies, layout.receiver_slots, layout.receiver_kinds)


def num_patterns_of(layout: Layout, num_hidden: int, limit: int) -> int:
    """How many patterns :func:`patterns_of` gives, at the most."""
    return min(limit, layout.num_assignments**num_hidden)


def in_structures(layout: Layout, patterns: Int[Tensor, "task hidden width"]) -> Structures:
    """Structures that hold the patterns, and kind 0 elsewhere."""
    structures = patterns.new_zeros(len(patterns), layout.num_slots)
    structures[:, layout.receiver_slots[-patterns.shape[1] :].flatten()] = patterns.flatten(1)
    return structures


def pin_hidden(tables: FactorTables, structures: Structures, num_hidden: int, *, outgoing: bool) -> FactorTables:
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


def draw_given_patterns(
    prior: GraphPrior, layout: Layout, patterns: Int[Tensor, "task hidden width"], generator: Generator
) -> Structures:
    """Structures drawn from a prior, given what decides how the hidden entities move."""
    tables = _flat(layout, len(patterns))
    chosen = pin_hidden(tables, in_structures(layout, patterns), patterns.shape[1], outgoing=False)
    return prior.posterior(chosen, 1.0).draw(generator)


def random_states(
    num_chains: int, num_hidden: int, num_features: int, generator: Generator
) -> Float[Tensor, "chain hidden feature"]:
    """First states as they are believed to be."""
    return FIRST_SPREAD * torch.randn(num_chains, num_hidden, num_features, generator=generator)


def roll_out_hidden(
    model: Model, stage: AugmentedScenes, states: Tensor, structures: Structures, start: int = 0
) -> Tracks:
    """Where the modules lead hidden entities from their states at ``start``, the seen ones being where they were."""
    own, graph = stage.nodes.flatten(), stage.touching
    kinds, node_kinds = graph.pack_edges(structures), stage.graph.pack_node_kinds(structures)
    path = [states]
    for time in range(start, stage.batch.states.shape[1] - 1):
        present = stage.batch.states[:, time].index_copy(0, own, path[-1].flatten(0, 1))
        incoming = graph.incoming(model.network.edge_modules(model.network.inputs_on(graph, present), kinds))
        moved = model.network.update(present[own], incoming[own], node_kinds[own]).view_as(states)
        path.append(moved.nan_to_num().clamp(-FARTHEST, FARTHEST))
    return torch.stack(path, 2)
