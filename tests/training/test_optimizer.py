"""The learning rate: when it falls, and that it goes on where it was."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from bouncegrad.models.decoder import NetworkConfig
from bouncegrad.models.model import Model, ModelConfig
from bouncegrad.models.noise import NoiseConfig
from bouncegrad.scenes import Normalization
from bouncegrad.training import TrainingConfig
from bouncegrad.training.optimizer import STEP, ScheduledOptimizer
from worlds import generator

WARM_UP = TrainingConfig().warm_up


def descent_of(schedule: Any = "plateau", learning_rate: float = 8e-3, num_passes: int = 300) -> ScheduledOptimizer:
    """Waits for 3 passes, then halves the rate and is patient for 15 more."""
    model = Model(
        ModelConfig(NetworkConfig(hidden=2), NoiseConfig("none", None)),
        Normalization((-1.0,), (1.0,)),
        ("x",),
        generator(),
    )
    config = TrainingConfig(num_passes=num_passes, learning_rate=learning_rate, schedule=schedule, clip_norm=0.5)
    return ScheduledOptimizer(model, config)


def stepped(descent: ScheduledOptimizer, progress: float = 0.0, gradient: float = 1.0) -> float:
    """One step; the rate it had."""
    for parameter in descent.model.parameters():
        parameter.grad = torch.full_like(parameter, gradient)
    descent.step(progress)
    return descent.optimizer.param_groups[0]["lr"]


def rates(descent: ScheduledOptimizer, losses: list[float]) -> list[float]:
    """After each pass."""
    found = []
    for loss in losses:
        descent.finish_epoch(loss)
        descent.num_steps = WARM_UP
        found.append(stepped(descent))
    return found


def test_a_plateau_halves_the_rate_once_its_patience_is_over():
    """Three passes without a better loss are borne; the fourth is not. A better one in between begins anew."""
    falling = rates(descent_of(), [3, 3, 3, 3, 2.9, 3, 3, 2.9, 2.8, 3, 3])
    assert falling == pytest.approx([8e-3] * 11)
    assert rates(descent_of(), [2, 2, 3, 2.5, 2, 2]) == pytest.approx([8e-3] * 4 + [4e-3] * 2)


def test_after_each_fall_it_waits():
    """Fifteen passes do not count; four more without improvement do."""
    found = rates(descent_of(), [2.0] * 5 + [2.0] * 15 + [2.0] * 4 + [2.0] * 19)
    assert found == pytest.approx([8e-3] * 4 + [4e-3] * 19 + [2e-3] * 19 + [1e-3])


def test_the_rate_has_a_floor():
    found = rates(descent_of(learning_rate=7e-5), [2.0] * 120)
    assert min(found) == found[-1] == pytest.approx(1e-5)
    assert rates(descent_of(learning_rate=5e-6), [2.0] * 30) == pytest.approx([5e-6] * 30)


def test_losses_that_are_not_numbers_are_no_improvement():
    assert rates(descent_of(), [2, *[float("nan")] * 4]) == pytest.approx([8e-3] * 4 + [4e-3])


def test_a_cosine_follows_progress_only():
    descent = descent_of("cosine")
    rates(descent, [2.0] * 30)
    assert [stepped(descent, progress) for progress in (0.0, 0.5, 1.0)] == pytest.approx([8e-3, 8e-3 * 0.51, 1.6e-4])


def test_steps_halve_the_rate_after_so_many_passes():
    found = rates(descent_of("steps"), [2.0] * (2 * STEP))
    assert found == pytest.approx([8e-3] * (STEP - 1) + [4e-3] * STEP + [2e-3])


@pytest.mark.parametrize("schedule", ["cosine", "plateau", "steps"])
def test_the_rate_warms_up(schedule: str):
    descent = descent_of(schedule)
    found = [stepped(descent) for _ in range(WARM_UP + 2)]
    assert found == pytest.approx([8e-3 * min(1, (step + 1) / WARM_UP) for step in range(WARM_UP + 2)])
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in descent.model.parameters())


def test_a_rate_may_begin_as_it_is():
    descent = descent_of()
    descent.config = replace(descent.config, warm_up=1)
    assert stepped(descent) == pytest.approx(8e-3)


def test_gradients_are_cut():
    """Adam does not see how long a gradient is, but by how much one is longer than the next."""
    one, other = descent_of(), descent_of()
    for gradient in (1.0, 1e6):
        stepped(one, gradient=gradient)
        stepped(other, gradient=1e3)
    assert all(torch.allclose(a, b) for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True))


@pytest.mark.parametrize("schedule", ["cosine", "plateau", "steps"])
@pytest.mark.parametrize("num_passes", [0, 3, 7, 30])
def test_an_interrupted_descent_goes_on_to_the_bit(schedule: str, num_passes: int):
    whole, other = descent_of(schedule), descent_of(schedule, learning_rate=1.0)
    other.config = whole.config
    rates(whole, [2.0] * num_passes)
    tensors, meta = whole.state()
    other.load_state({name: value.clone() for name, value in tensors.items()}, json.loads(json.dumps(meta)))
    other.model.load_state_dict(whole.model.state_dict())
    assert rates(whole, [2.0] * 25) == rates(other, [2.0] * 25)
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), other.model.parameters(), strict=True))
