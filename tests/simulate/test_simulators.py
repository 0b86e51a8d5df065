"""What every simulator keeps to, and the command that writes its scenes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bouncegrad.cli import main
from bouncegrad.scenes import DataError, read_scenes
from bouncegrad.simulate import Charged, Kuramoto, Simulator, Springs, simulate
from bouncegrad.simulate.dataset import SIMULATORS, SimulationRequest

ALL_SIMULATORS = [
    Springs(),
    Springs(3, strengths=(0.0, 0.5, 1.0), directed=True),
    Charged(4),
    Kuramoto(),
    Kuramoto(3, features="published"),
]

OPTION_VALUES: dict[str, Any] = {
    "strengths": (0.0, 2.0),
    "directed": True,
    "density": 0.0,
    "features": "published",
}
"""A value other than the default for each option that one system alone has."""


def equal(one, other):
    return torch.equal(one.states, other.states) and torch.equal(one.relations, other.relations)


@pytest.mark.parametrize("simulator", ALL_SIMULATORS)
def test_every_simulator_draws_labelled_scenes(simulator):
    assert isinstance(simulator, Simulator)
    scenes = simulator.draw(6, generator=0, num_samples=4)
    assert scenes.states.shape == (6, 4, simulator.num_entities, scenes.num_features)
    assert scenes.relations.shape == (6, simulator.num_entities, simulator.num_entities)
    assert scenes.labelled
    assert scenes.mask.all()
    assert scenes.time_step == pytest.approx(0.1)


@pytest.mark.parametrize("simulator", ALL_SIMULATORS)
def test_the_first_of_many_scenes_are_those_of_few(simulator):
    few, many = (simulator.draw(count, generator=3, num_samples=3, observation_noise=0.1) for count in (4, 2500))
    assert equal(few, many.at(range(4)))


@pytest.mark.parametrize("simulator", ALL_SIMULATORS)
def test_the_generator_is_all_randomness(simulator):
    generator = np.random.default_rng(3)
    first, second = (simulator.draw(3, generator=generator, num_samples=3) for _ in range(2))
    assert equal(first, simulator.draw(3, generator=3, num_samples=3))
    assert not torch.equal(first.states, second.states)


@pytest.mark.parametrize("simulator", ALL_SIMULATORS)
def test_noise_is_on_every_number_and_changes_nothing_else(simulator):
    clean, noisy = (simulator.draw(200, generator=1, num_samples=5, observation_noise=noise) for noise in (0, 0.1))
    assert torch.equal(clean.relations, noisy.relations)
    error = noisy.states - clean.states
    torch.testing.assert_close(error.std((0, 1, 2)), torch.full((clean.num_features,), 0.1).double(), rtol=0.1, atol=0)


@pytest.mark.parametrize("simulator", ALL_SIMULATORS)
@pytest.mark.parametrize(
    ("count", "options", "message"),
    [
        (0, {}, "num_scenes must be 1 or more; got 0"),
        (1, {"num_samples": 1}, "num_samples must be 2 or more.*got 1"),
        (1, {"observation_noise": -0.1}, "standard deviation, 0 or more; got -0.1"),
    ],
)
def test_what_no_simulator_can_draw(simulator, count, options, message):
    with pytest.raises(ValueError, match=message):
        simulator.draw(count, generator=0, **options)


@pytest.mark.parametrize("simulator", ALL_SIMULATORS)
def test_nothing_is_printed_unless_asked_for(simulator, capsys):
    simulator.draw(2, generator=0, num_samples=2)
    assert capsys.readouterr().out == ""
    simulator.draw(2, generator=0, num_samples=2, progress=True)


def test_scenes_of_central_forces_are_their_trajectories():
    scenes, found = Springs(3).draw(2, generator=0, num_samples=9), simulate(Springs(3), 2, generator=0, num_steps=1000)
    np.testing.assert_array_equal(scenes.states[..., :2].swapaxes(2, 3), found.loc)
    np.testing.assert_array_equal(scenes.states[..., 2:].swapaxes(2, 3), found.vel)
    assert scenes.feature_names == ("x", "y", "vx", "vy")


# the command


@pytest.mark.parametrize("name", SIMULATORS)
def test_the_command_simulates_every_system(name, tmp_path, capsys):
    words = ["--entities", "3", "--train", "2", "--valid", "1", "--test", "1", "--out", str(tmp_path)]
    assert main(["simulate", name, *words]) == 0
    assert f"2 train, 1 valid, 1 test scenes of {name}3{SIMULATORS[name].advice and '; '}" in capsys.readouterr().out
    assert isinstance(SimulationRequest(name, 3, {"train": 1}).simulator(), Simulator)
    for split, num_scenes, num_samples in (("train", 2, 49), ("valid", 1, 49), ("test", 1, 99)):
        scenes = read_scenes(tmp_path, split)
        assert (scenes.num_scenes, scenes.num_times, scenes.num_entities) == (num_scenes, num_samples, 3)


def test_an_unknown_name_is_answered_with_all_names(capsys):
    with pytest.raises(DataError, match=f"no system 'orbits': choose one of {', '.join(SIMULATORS)}"):
        SimulationRequest("orbits", 3, {"train": 1})
    assert main(["simulate", "orbits", "--out", "somewhere"]) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in SIMULATORS)


@pytest.mark.parametrize("name", SIMULATORS)
@pytest.mark.parametrize("other", SIMULATORS)
def test_options_of_one_system_are_refused_for_the_others(name, other):
    for option in SIMULATORS[other].own_options:
        request = SimulationRequest(name, 3, {"train": 1}, **{option: OPTION_VALUES[option]})
        if name == other:
            assert isinstance(request.simulator(), Simulator)
        else:
            with pytest.raises(DataError, match=f"only {other} can have --{option}: leave that out for {name}"):
                request.simulator()
