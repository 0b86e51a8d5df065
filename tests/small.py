"""Small settings and scenes, so that a whole training takes a second."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch import nn

from bouncegrad.energies.windows import Batch, pack
from bouncegrad.models.decoder import NetworkConfig
from bouncegrad.models.model import Model, ModelConfig
from bouncegrad.models.noise import NoiseConfig
from bouncegrad.recipes import Recipe
from bouncegrad.scenes import Normalization, Scenes, from_arrays
from bouncegrad.simulate import Springs, simulate
from bouncegrad.training import TrainingConfig
from bouncegrad.training.bounce import BounceConfig
from worlds import generator

QUICK = Recipe(training=TrainingConfig(num_passes=15, batch_size=10, learning_rate=4e-3))
"""Enough to learn springs of three entities from 150 scenes."""


def springs(
    num_scenes: int, *, num_entities: int = 3, seed: int = 0, directed: bool = False, num_steps: int = 5000
) -> Scenes:
    """49 samples of particles on springs, or 99 with 10,000 steps."""
    found = simulate(Springs(num_entities, directed=directed), num_scenes, generator=seed, num_steps=num_steps)
    return from_arrays(found.loc, found.vel, found.edges, time_step=found.time_step)


def platoons(num_scenes: int, seed: int) -> Scenes:
    """Three to five cars in random order; each closes the gap in speed to the one before, with a lag and with noise."""
    generator = torch.Generator().manual_seed(seed)
    num_times, size = 120, 5
    states = torch.zeros(num_scenes, num_times, size, 1, dtype=torch.float64)
    mask = torch.zeros(num_scenes, num_times, size, dtype=torch.bool)
    relations = torch.zeros(num_scenes, size, size, dtype=torch.float64)
    exogenous = torch.zeros(num_scenes, size, dtype=torch.bool)
    for scene in range(num_scenes):
        order = torch.randperm(3 + scene % 3, generator=generator)
        kicks = 0.3 * torch.randn(num_times, len(order), generator=generator, dtype=torch.float64)
        speeds = torch.full((num_times, len(order)), 10.0, dtype=torch.float64)
        for time in range(2, num_times):
            pull = 0.35 * (speeds[time - 2, :-1] - speeds[time - 1, 1:])
            speeds[time, 1:] = speeds[time - 1, 1:] + pull + 0.2 * kicks[time, 1:]
            speeds[time, 0] = speeds[time - 1, 0] + 0.05 * (10 - speeds[time - 1, 0]) + kicks[time, 0]
        states[scene, :, order, 0] = speeds
        mask[scene, :, order] = True
        relations[scene, order[1:], order[:-1]] = 1
        exogenous[scene, order[0]] = True
        mask[scene, 40:70, order[1]] = scene % 4 > 0
    return Scenes(states, mask, 1.0, ("speed",), tuple("abcde"), relations, exogenous)


def tiny(**changes: Any) -> Recipe:
    """Everything that the default recipe has, in small; ``changes`` are to how it is trained and searched."""
    model = ModelConfig(NetworkConfig(hidden=8), NoiseConfig(hidden=4))
    if changes.get("search", "exact") in ("metropolis", "gibbs"):
        changes = {"heat": "scheduled", **changes}
    searching = {field.name for field in fields(BounceConfig)}
    bounce = BounceConfig(**{name: value for name, value in changes.items() if name in searching})
    training = {name: value for name, value in changes.items() if name not in searching}
    return Recipe(model, replace(TrainingConfig(num_passes=4, batch_size=8, bounce=bounce), **training))


def untrained(scenes: Scenes, network: NetworkConfig, noise: NoiseConfig | None = None) -> Model:
    """A model whose kinds differ."""
    config = ModelConfig(network, noise or NoiseConfig(hidden=4))
    model = Model(config, Normalization.fit(scenes), scenes.feature_names, generator(1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator(2)))
    return model.eval()


def same(model: nn.Module, other: nn.Module) -> bool:
    """Whether all weights are equal to the bit."""
    weights = other.state_dict()
    return all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def without_labels(scenes: Scenes) -> Scenes:
    """The same recordings of which nobody knows the relations."""
    return replace(scenes, relations=None)


def packed(scenes: Scenes) -> Batch:
    """Scenes as any model of theirs takes them."""
    config = ModelConfig(NetworkConfig(hidden=2), NoiseConfig(hidden=2))
    model = Model(config, Normalization.fit(scenes), scenes.feature_names, torch.Generator().manual_seed(0))
    return pack(model, scenes)
