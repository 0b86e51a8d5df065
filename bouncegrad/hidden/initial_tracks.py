"""Initial guesses for hidden entities: which entities act on them (patterns), and their tracks by rollouts."""

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
"""Clamp for diverging rollouts, in normalised units; scenes are two units wide."""

RULED_OUT = 1e7
"""Energy in nats of a combination that contradicts the relations held fixed."""


def patterns_of(
    prior: GraphPrior, layout: Layout, num_hidden: int, limit: int, generator: Generator
) -> Int[Tensor, "pattern hidden width"]:
    """Patterns: assignments of the slots that decide how hidden entities move (their incoming edges and node types).

    All combinations if there are at most ``limit``, else up to ``limit`` distinct draws from the prior. Hidden entities
    are the last of the layout.
    """
    kinds = layout.receiver_kinds * num_hidden
    if math.prod(kinds) <= limit:
        return torch.cartesian_prod(*map(torch.arange, kinds)).view(-1, num_hidden, len(layout.receiver_kinds))
    structures = prior.posterior(_flat_tables(layout, 4 * limit), 1.0).draw(generator)
    patterns = structures[:, layout.receiver_slots[-num_hidden:]].unique(dim=0)
    return patterns[torch.randperm(len(patterns), generator=generator)[:limit]]


def _flat_tables(layout: Layout, num_tasks: int) -> FactorTables:
    """Tables of energy zero, under which the posterior equals the prior."""
    energies = torch.zeros(num_tasks, layout.num_entities, layout.num_assignments)
    return FactorTables(energies, layout.receiver_slots, layout.receiver_kinds)


def num_patterns_of(layout: Layout, num_hidden: int, limit: int) -> int:
    """Upper bound on the number of patterns from :func:`patterns_of`."""
    return min(limit, layout.num_assignments**num_hidden)


def in_structures(layout: Layout, patterns: Int[Tensor, "task hidden width"]) -> Structures:
    """Structures that contain the patterns, with kind 0 on all other slots."""
    structures = patterns.new_zeros(len(patterns), layout.num_slots)
    structures[:, layout.receiver_slots[-patterns.shape[1] :].flatten()] = patterns.flatten(1)
    return structures


def pin_hidden(tables: FactorTables, structures: Structures, num_hidden: int, *, outgoing: bool) -> FactorTables:
    """Tables that force the slots of hidden entities (the last of a scene) to the kinds in given structures.

    Args:
        tables: tables of scenes with their hidden entities.
        structures: kinds to fix.
        num_hidden: number of hidden entities.
        outgoing: fix the edges from hidden entities as well as the edges to them.
    """
    num_entities = len(tables.slots)
    held = torch.zeros(num_entities, len(tables.num_kinds), dtype=torch.bool)
    held[:, num_entities - 1 - num_hidden : num_entities - 1] = outgoing
    held[-num_hidden:] = True
    energies = tables.energies.clone()
    energies[:, -num_hidden:] = 0.0
    fixed_kinds = structures[:, tables.slots][:, :, None]
    ruled_out = ((combination_kinds(tables) != fixed_kinds) & held[:, None]).any(3)
    return replace(tables, energies=energies + RULED_OUT * ruled_out)


def draw_given_patterns(
    prior: GraphPrior, layout: Layout, patterns: Int[Tensor, "task hidden width"], generator: Generator
) -> Structures:
    """Draw structures from the prior, conditional on the patterns of hidden entities."""
    tables = _flat_tables(layout, len(patterns))
    chosen = pin_hidden(tables, in_structures(layout, patterns), patterns.shape[1], outgoing=False)
    return prior.posterior(chosen, 1.0).draw(generator)


def random_states(
    num_chains: int, num_hidden: int, num_features: int, generator: Generator
) -> Float[Tensor, "chain hidden feature"]:
    """Draw first states of hidden entities from their prior."""
    return FIRST_SPREAD * torch.randn(num_chains, num_hidden, num_features, generator=generator)


def roll_out_hidden(
    model: Model, stage: AugmentedScenes, states: Tensor, structures: Structures, start: int = 0
) -> Tracks:
    """Roll out hidden entities from their states at ``start``, with teacher forcing for all observed entities."""
    own, graph = stage.nodes.flatten(), stage.touching
    kinds, node_kinds = graph.pack_edges(structures), stage.graph.pack_node_kinds(structures)
    path = [states]
    for time in range(start, stage.batch.states.shape[1] - 1):
        present = stage.batch.states[:, time].index_copy(0, own, path[-1].flatten(0, 1))
        incoming = graph.incoming(model.network.edge_modules(model.network.inputs_on(graph, present), kinds))
        moved = model.network.update(present[own], incoming[own], node_kinds[own]).view_as(states)
        path.append(moved.nan_to_num().clamp(-FARTHEST, FARTHEST))
    return torch.stack(path, 2)
