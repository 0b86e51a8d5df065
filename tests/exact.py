"""A world that its model knows exactly: springs, moved by modules whose weights are written down."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from bouncegrad.hidden.score import reorder
from bouncegrad.models.decoder import NetworkConfig
from bouncegrad.models.model import Model, ModelConfig
from bouncegrad.models.noise import NoiseConfig, SharedScale
from bouncegrad.models.super_graph import super_graph
from bouncegrad.scenes import Normalization, Scenes
from bouncegrad.structures.layout import to_matrix
from worlds import generator

FEATURES = ("x", "y", "vx", "vy")
STEP, PULL, ERROR = 0.1, 0.08, 1e-3
"""Time from sample to sample, what a spring adds to a velocity for each unit of length, the error of one step."""


def exact_springs(*, degrees: float | None = None) -> Model:
    """Kind 0 does nothing, kind 1 pulls: every next state is a linear function of the present ones."""
    network = NetworkConfig(hidden=8, update="superposed", inputs="relative")
    config = ModelConfig(network, NoiseConfig("shared", degrees))
    model = Model(
        config,
        Normalization((-1.0,) * 4, (1.0,) * 4),
        FEATURES,
        generator(),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        _write_springs(model)
        model.network.skip_weight.copy_(torch.tensor([[0.0] * 4, [0.0] * 4, [STEP, 0, 0, 0], [0, STEP, 0, 0]]))
        model.network.unit.fill_(0.1)
        assert isinstance(model.scale, SharedScale)
        model.scale.tenth.fill_(math.log(ERROR / 0.1) / model.scale.pace)
    return model.eval()


def _write_springs(model: Model) -> None:
    """``relu(x) - relu(-x)`` is x, so two hidden layers let differences of places through to changes of velocity."""
    first, second, last = model.network.edge_modules.weights
    both = torch.cat([torch.eye(4), -torch.eye(4)], 1)
    first[1], second[1] = both, torch.eye(8)
    pull = torch.zeros(4, 4)
    pull[0, 2] = pull[1, 3] = PULL / 0.1
    last[1] = torch.cat([pull, -pull])


def moving(model: Model, structures: Tensor, num_entities: int, *, num_times: int = 30, seed: int = 0) -> Scenes:
    """Scenes that move as the model says, from random places; relations are the kinds."""
    num_scenes = len(structures)
    graph = super_graph(torch.ones(num_scenes, num_entities, dtype=torch.bool))
    first = 0.3 * torch.randn(num_scenes * num_entities, 4, generator=generator(seed))
    with torch.no_grad():
        later = model.network.rollout(first, graph, structures, num_times - 1)
    states = graph.unpack_nodes(torch.cat([first[:, None], later], 1)).transpose(1, 2)
    relations = to_matrix(structures, num_entities, diagonal=0).double()
    mask = torch.ones(states.shape[:3], dtype=torch.bool)
    return Scenes(states.double(), mask, STEP, FEATURES, tuple(map(str, range(num_entities))), relations)


def seen_of(scenes: Scenes, num_hidden: int = 1) -> Scenes:
    """Scenes without their last entities."""
    return replace(reorder(scenes, range(scenes.num_entities - num_hidden)), relations=None)


def truth_of(scenes: Scenes, num_hidden: int = 1) -> Tensor:
    """The tracks of their last entities, which this model's normalisation leaves as they are."""
    return scenes.states[:, :, -num_hidden:].transpose(1, 2).float()
