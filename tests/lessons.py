"""Lessons for proposal networks: scenes that can be read, and others."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from bouncegrad.energies.windows import Batch
from bouncegrad.models.proposer import Proposer, ProposerConfig
from bouncegrad.models.super_graph import super_graph
from bouncegrad.structures.layout import Layout, to_matrix
from bouncegrad.training.proposal_learner import ProposalLearner, SearchOutcome
from bouncegrad.types import Structures
from worlds import generator

TIMES = 16
LAYOUT = Layout(3, 2)
TINY = ProposerConfig(sees="both", hidden=6, structure_hidden=6)
EAGER = ProposerConfig(hidden=24, structure_hidden=24, dropout=0.0, learning_rate=0.1, averaging=0.9)


def learner_of(config: ProposerConfig, layout: Layout = LAYOUT, seed: int = 0) -> ProposalLearner:
    kinds = layout.num_edge_kinds, layout.num_node_kinds
    return ProposalLearner(Proposer(config, kinds, TIMES, 2, generator(seed)), layout)


def batch_of(states: Tensor, present: Tensor | None = None) -> Batch:
    """From trajectories ``[scene, entity, time, feature]``."""
    there = torch.ones(states.shape[:2], dtype=torch.bool) if present is None else present
    graph = super_graph(there)
    return Batch(graph.pack_nodes(states), graph.pack_nodes(there[:, :, None].expand(states.shape[:3])), graph)


def lesson_of(
    structures: Structures, before: Structures | None = None, accepted: Tensor | None = None
) -> SearchOutcome:
    every = torch.ones(len(structures), dtype=torch.bool)
    return SearchOutcome(structures if before is None else before, structures, every if accepted is None else accepted)


@lru_cache(maxsize=512)
def pulled(num_tasks: int, seed: int) -> tuple[Batch, Structures]:
    """Senders of forces -1, 1/2 and 2 in any order, which they show; receivers are pulled by the sum of theirs."""
    random = generator(seed)
    structures = LAYOUT.random(num_tasks, random)
    acts = to_matrix(structures, 3, diagonal=0).float()
    forces = torch.tensor([-1.0, 0.5, 2.0])[torch.rand(num_tasks, 3, generator=random).argsort(1)][:, :, None]
    places = 0.3 * torch.randn(num_tasks, 3, 1, generator=random) + acts @ forces * torch.linspace(0, 1, TIMES)
    return batch_of(torch.stack([places, forces.expand(-1, -1, TIMES)], 3)), structures


def noise(num_tasks: int = 8, seed: int = 1, layout: Layout = LAYOUT) -> tuple[Batch, Structures]:
    """Trajectories and structures that have nothing to do with each other."""
    states = torch.randn(num_tasks, layout.num_entities, TIMES, 2, generator=generator(seed))
    return batch_of(states), layout.random(num_tasks, generator(seed))


def weights(learner: ProposalLearner) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in learner.state().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())
