"""Drift: the error of rollouts, where each step starts from the model's own prediction."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from bouncegrad.energies.windows import Windows, cut_windows, pack
from bouncegrad.models.model import Model
from bouncegrad.scenes import Scenes
from bouncegrad.types import Structures

FORESIGHT = 2
"""Ratio of the rollouts that drift is measured on to those of the training: drift shows beyond the trained horizon."""


@torch.no_grad()
def drift(model: Model, scenes: Scenes, structures: Structures, horizon: int) -> float:
    """Logarithm of the mean squared error of rollouts, averaged over their steps, so that every step counts alike.

    Args:
        model: a model; its own network rolls out, not its forecaster's.
        scenes: scenes to start from, every ``horizon / 2`` samples.
        structures: ``[scene, slot]``.
        horizon: steps of the rollouts, or as many as the scenes have.
    """
    batch = pack(model, scenes)
    windows = cut_windows(batch, *_spans(batch.num_starts, horizon))
    steps = windows.targets.shape[2]
    predicted = model.network.rollout(windows.states, batch.graph, structures, steps, given=windows.given)
    return _log_mean(predicted, windows)


@torch.no_grad()
def drift_of_rest(model: Model, scenes: Scenes, horizon: int) -> float:
    """The drift of a prediction that every entity stays in its initial state; arguments as in :func:`drift`."""
    batch = pack(model, scenes)
    windows = cut_windows(batch, *_spans(batch.num_starts, horizon))
    return _log_mean(model.network.newest(windows.states)[:, :, None], windows)


def _spans(num_starts: int, horizon: int) -> tuple[int, int]:
    """Steps of the rollouts and samples between their starts (horizon, stride)."""
    horizon = min(horizon, num_starts)
    return horizon, max(1, horizon // 2)


def _log_mean(predicted: Float[Tensor, "node start step feature"], windows: Windows) -> float:
    squares = (predicted - windows.targets).double().square().mean(-1) * windows.weights
    errors = squares.sum((0, 1)) / windows.weights.sum((0, 1))
    return float(errors.log().nanmean())
