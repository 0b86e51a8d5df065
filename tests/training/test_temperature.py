"""How hot a search that proposes is, by each of its rules."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from bouncegrad.energies.windows import Batch, Rollout, Windows, cut_windows, pack
from bouncegrad.models.decoder import NetworkConfig
from bouncegrad.models.model import Model, ModelConfig
from bouncegrad.models.noise import NoiseConfig
from bouncegrad.scenes import Normalization, Scenes
from bouncegrad.structures.annealing import AcceptedWorse
from bouncegrad.structures.kernel_interface import SearchInfo
from bouncegrad.training.bounce import BounceConfig
from bouncegrad.training.bounce.target import SceneTarget, automatic_temperature
from bouncegrad.training.bounce.temperature import SearchTemperature
from bouncegrad.types import Structures
from worlds import generator

NO_TARGET: Any = (None, None, None)
NO_STRUCTURES = torch.zeros(1, 1, dtype=torch.long)


def config_of(heat: Any, **changes: Any) -> BounceConfig:
    settings = {"hottest": 8.0, "coolest": 1e-9, "acceptance": 0.5, "cooling": 1.0, **changes}
    return BounceConfig(search="metropolis", heat=heat, **settings)


def info(num_worse: int, num_accepted: int) -> SearchInfo:
    """A step with so many worse proposals, of which so many were accepted."""
    numbers = torch.arange(num_worse)
    return SearchInfo(numbers < num_accepted, numbers < num_accepted, numbers < num_worse, 1)


def temperature(heat: SearchTemperature, progress: float = 0.0) -> float:
    return heat.temperature(NO_TARGET, NO_STRUCTURES, progress)


def test_a_schedule_asks_nobody():
    heat = SearchTemperature(config_of("scheduled", hottest=8.0, coolest=0.5, cooling=0.5))
    assert [temperature(heat, progress) for progress in (0, 0.125, 0.25, 0.5, 1)] == pytest.approx([8, 4, 2, 0.5, 0.5])
    heat.learn(info(100, 0), 0.0)
    assert temperature(heat) == 8


def test_steps_are_taken_once_a_pass():
    """A tenth up where fewer than half are accepted, else down; whatever the batches of a pass say meanwhile."""
    heat = SearchTemperature(config_of("stepped"))
    heat.worse = AcceptedWorse(0.5, 1.0)
    expected = 8 / 1.1
    for num_accepted, factor in ((0, 1.1), (0, 1.1), (50, 1 / 1.1), (50, 1 / 1.1), (0, 1.1)):
        for _ in range(3):
            assert temperature(heat) == pytest.approx(expected)
            heat.learn(info(50, num_accepted), 0.0)
        heat.finish_epoch()
        expected *= factor
    assert temperature(heat) == pytest.approx(expected)


def test_steps_follow_a_falling_share():
    """``acceptance exp(-5 progress / cooling)``: what was too little at first is too much later."""
    for progress, cooler in ((0.0, False), (0.2, True), (0.4, True)):
        heat = SearchTemperature(config_of("stepped", cooling=0.5))
        heat.worse = AcceptedWorse(0.5 * math.exp(-5 * 0.2 / 0.5) * 1.01, 1.0)
        heat.begins_pass = True
        assert temperature(heat, progress) == pytest.approx(8 / 1.1 if cooler else 8 * 1.1)


@pytest.mark.parametrize("rule", ["steered", "stepped"])
def test_only_a_schedule_has_a_coolest(rule: str):
    heat = SearchTemperature(config_of(rule, coolest=3.0))
    for _ in range(30):
        temperature(heat)
        heat.learn(info(100, 100), 0.0)
        heat.finish_epoch()
    assert temperature(heat) < 3


def test_steering_turns_at_every_batch():
    heat = SearchTemperature(config_of("steered"))
    seen = []
    for _ in range(3):
        seen.append(temperature(heat))
        heat.learn(info(100, 0), 0.0)
    assert seen[0] == 8
    assert seen[0] < seen[1] < seen[2]


@pytest.mark.parametrize("rule", ["scheduled", "steered", "stepped"])
def test_memory_survives(rule: str):
    """In the middle of a pass and at its end."""
    for ends in (False, True):
        heat, other = SearchTemperature(config_of(rule)), SearchTemperature(config_of(rule, hottest=5.0))
        for num_accepted in (3, 0, 9):
            temperature(heat, 0.1)
            heat.learn(info(10, num_accepted), 0.1)
        if ends:
            heat.finish_epoch()
        other.load_state(json.loads(json.dumps(heat.state())))
        assert other.state() == heat.state()
        found = []
        for one in (heat, other):
            one.config = config_of(rule)
            found.append([temperature(one, 0.2)])
            one.learn(info(10, 1), 0.2)
            one.finish_epoch()
            found[-1].append(temperature(one, 0.3))
        assert found[0] == found[1]


# from residuals


PATTERN = torch.tensor([2.0, 1, -1, -2])
"""Mean 0, mean square 10/4; its two overlapping parts (2, 1, -1) and (1, -1, -2) have correlation 3/6."""


def target_with(
    residuals: torch.Tensor, horizon: int, noise: NoiseConfig, rollout: Rollout = "scene"
) -> tuple[Model, Batch, Windows, Structures]:
    """Scenes whose rollouts under some structures are off by ``residuals``."""
    num_times = 9 if horizon > 1 else 5
    states = torch.randn(3, num_times, 3, 2, generator=generator(1), dtype=torch.float64)
    scenes = Scenes(states, torch.ones(3, num_times, 3, dtype=torch.bool), 0.1, ("x", "y"), tuple("abc"))
    network = NetworkConfig(hidden=4)
    model = Model(ModelConfig(network, noise), Normalization.fit(scenes), scenes.feature_names, generator())
    batch, structures = pack(model, scenes), model.layout(3).random(3, generator())
    windows = cut_windows(batch, horizon, horizon, rollout)
    with torch.no_grad():
        predicted = model.network.rollout(windows.states, batch.graph, structures, horizon)
    return model, batch, replace(windows, targets=predicted + residuals), structures


@pytest.mark.parametrize("horizon", [1, 4])
def test_the_automatic_temperature_by_hand(horizon: int):
    """``2 L / (n (1 - r^2))``; along the steps of a rollout, or along the starts where it has one step only."""
    residuals = PATTERN[:, None] if horizon > 1 else PATTERN[:, None, None]
    plain = automatic_temperature(*target_with(residuals, horizon, NoiseConfig("none", None)))
    count = 3 * (2 if horizon > 1 else 1) * 4 * 2
    assert plain == pytest.approx(2 * 2.5 / (count * (1 - 0.25)), rel=1e-4)
    heat = SearchTemperature(config_of("automatic"))
    model, batch, windows, structures = target_with(residuals, horizon, NoiseConfig("none", None))
    assert heat.temperature(SceneTarget(model, batch, windows), structures, 0.0) == pytest.approx(plain)
    assert heat.temperature(NO_TARGET, structures, 0.0) == pytest.approx(plain), "once a pass"
    other = SearchTemperature(config_of("automatic"))
    other.load_state(json.loads(json.dumps(heat.state())))
    assert other.temperature(NO_TARGET, structures, 0.0) == pytest.approx(plain)
    nats = automatic_temperature(*target_with(residuals, horizon, NoiseConfig("shared", None)))
    assert nats == pytest.approx(1 / (1 - 0.25), rel=1e-4)


def test_what_weighs_nothing_does_not_count():
    """Where a target was not observed: neither its square, nor its pairs."""
    residuals = torch.cat([PATTERN, torch.tensor([1e3])])[:, None].expand(9, 2, 5, 2).clone()
    model, batch, windows, structures = target_with(torch.zeros(()), 4, NoiseConfig("none", None))
    whole = automatic_temperature(*target_with(PATTERN[:, None], 4, NoiseConfig("none", None)))
    longer = torch.cat([windows.targets, windows.targets[:, :, -1:]], 2)
    with torch.no_grad():
        longer = model.network.rollout(windows.states, batch.graph, structures, 5) + residuals
    weights = torch.cat([windows.weights, torch.zeros(9, 2, 1)], 2)
    found = automatic_temperature(model, batch, Windows(windows.states, longer, weights), structures)
    assert found == pytest.approx(whole, rel=1e-4)


def test_residuals_that_follow_each_other():
    """An autoregression of 0.8 leaves 0.36 of its variance; residuals that do not follow each other leave all."""
    errors = torch.randn(9, 1, 200, 2, generator=generator(3))
    following = [errors[:, :, 0]]
    for step in range(1, 200):
        following.append(0.8 * following[-1] + 0.6 * errors[:, :, step])
    for residuals, left in ((torch.stack(following, 2), 0.36), (errors, 1.0)):
        model, batch, windows, structures = target_with(torch.zeros(()), 4, NoiseConfig("shared", None))
        starts = windows.states[:, :1]
        with torch.no_grad():
            predicted = model.network.rollout(starts, batch.graph, structures, 200)
        long = Windows(starts, predicted + residuals, torch.ones(9, 1, 200))
        assert automatic_temperature(model, batch, long, structures) == pytest.approx(1 / left, rel=0.1)
