"""The polish: better rollouts, the same reading, and refusals."""

from dataclasses import replace

import pytest
import torch

from bouncegrad.fit import fit
from bouncegrad.inference import infer
from bouncegrad.models.model import Model
from bouncegrad.models.noise import NoiseConfig
from bouncegrad.scenes import Scenes
from bouncegrad.training import rollout_tuning
from bouncegrad.training.rollout_tuning import (
    PolishConfig,
    TuningScore,
    horizon_at,
    learning_rate_at,
    tune_rollouts,
    tuning_score,
)
from small import QUICK, same, springs, tiny, without_labels

CONFIG = PolishConfig(num_passes=4, horizon=4, batch_size=8)


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return springs(24)


@pytest.fixture(scope="module")
def rough(scenes) -> Model:
    """A model that has hardly begun to learn."""
    return fit(scenes, tiny())


def judged(model: Model, scenes: Scenes, under: Model):
    return tuning_score(model, scenes, infer(under, scenes).structures, CONFIG)


def test_rollouts_get_better_and_reading_no_worse():
    scenes, held_out = springs(60), springs(30, seed=1)
    model = fit(scenes, replace(QUICK, training=replace(QUICK.training, num_passes=5)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    polished = tune_rollouts(model, scenes, held_out, PolishConfig(num_passes=6, batch_size=10))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    found, was = judged(polished, held_out, model), judged(model, held_out, model)
    assert found.drift < was.drift - 0.05
    assert found.reads_no_worse(was, 1.0)
    assert polished.reading == model.reading
    assert not polished.training


def test_only_the_network_learns(rough, scenes):
    polished = tune_rollouts(rough, scenes, scenes, replace(CONFIG, tolerance=1e9))
    changed = {name.split(".")[0] for name, value in polished.state_dict().items() if not same_as(rough, name, value)}
    assert changed == {"network"}
    assert all(parameter.requires_grad for parameter in polished.parameters())


def same_as(model: Model, name: str, value: torch.Tensor) -> bool:
    return torch.equal(model.state_dict()[name], value)


def test_the_same_seed_gives_the_same_bits_and_labels_change_nothing(rough, scenes):
    config = replace(CONFIG, num_passes=2, tolerance=1e9)
    once = tune_rollouts(rough, scenes, scenes, config, seed=3)
    assert same(once, tune_rollouts(rough, without_labels(scenes), without_labels(scenes), config, seed=3))
    assert not same(once, tune_rollouts(rough, scenes, scenes, config, seed=4))


def test_weights_that_read_worse_are_refused(rough, scenes, monkeypatch):
    was = tuning_score(rough, scenes, infer(rough, scenes).structures, CONFIG).reading
    readings = iter([was, *(was - 1 - torch.arange(24) % 2 for _ in range(4))])
    monkeypatch.setattr(rollout_tuning, "_reading", lambda *_: next(readings))
    assert tune_rollouts(rough, scenes, scenes, CONFIG) is rough


def test_a_fall_within_chance_is_no_fall():
    was, change = torch.zeros(4), torch.tensor([1.0, -1.0, 1.0, -1.4])  # mean -0.1, standard error about 0.55
    assert TuningScore(0.0, was + change).reads_no_worse(TuningScore(0.0, was), 1.0)
    assert not TuningScore(0.0, was + change).reads_no_worse(TuningScore(0.0, was), 0.1)
    assert TuningScore(0.0, was[:1]).reads_no_worse(TuningScore(0.0, was[:1]), 0.0)


def test_no_passes_leave_the_model_as_it_is(rough, scenes):
    assert tune_rollouts(rough, scenes, scenes, PolishConfig(num_passes=0)) is rough


def test_a_model_without_a_scale_is_polished_by_its_losses(scenes):
    recipe = tiny()
    rough = fit(scenes, replace(recipe, model=replace(recipe.model, noise=NoiseConfig("none", None))))
    polished = tune_rollouts(rough, scenes, scenes, CONFIG)
    assert judged(polished, scenes, rough).drift < judged(rough, scenes, rough).drift
    assert judged(polished, scenes, rough).reads_no_worse(judged(rough, scenes, rough), CONFIG.tolerance)


def test_a_recipe_can_ask_for_it(rough, scenes):
    polished = fit(scenes, replace(tiny(), polish=replace(CONFIG, num_passes=2, tolerance=1e9)))
    assert not same(polished, rough)


def test_short_scenes_have_short_rollouts(rough, scenes):
    short = scenes.between(0, 3)
    tune_rollouts(rough, short, short, replace(CONFIG, num_passes=2))


def test_rollouts_grow_and_steps_shrink():
    config = PolishConfig(horizon=10)
    horizons = [horizon_at(config, progress / 20) for progress in range(21)]
    assert (horizons[0], horizons[10], horizons[20]) == (1, 10, 10)
    assert horizons == sorted(horizons)
    assert learning_rate_at(0.1) > 0.9
    assert learning_rate_at(0.0) < 0.1
    assert learning_rate_at(1.0) < 0.05


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_passes", -1), ("num_passes", 1.5), ("horizon", 0), ("learning_rate", 0.0), ("one_step", -1.0)],
)
def test_settings_that_cannot_be(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be .*; got {value!r}"):
        PolishConfig(**{name: value})
