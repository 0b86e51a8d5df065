"""Adaptation as in MAML: a few gradient steps on the given points of each task, starting from the shared weights.

Source: Finn, Abbeel and Levine, 2017, "Model-agnostic meta-learning"; with several modules the MoMA of Alet,
Lozano-Perez and Kaelbling, 2018, section 3.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.func import grad, vmap

from bouncegrad.functions.model import FunctionModel, Weights
from bouncegrad.functions.points import PointSets
from bouncegrad.types import Losses, LossFn, Structures

ROW_BUDGET = 100_000
"""Points times adaptation steps of all tasks that are evaluated together without gradients; bounds memory."""


def adapted(model: FunctionModel, structures: Structures, points: PointSets) -> Weights:
    """The weights of each task after ``num_steps`` updates ``w <- w - step_size * d loss(given points) / d w``.

    Slots of a task that hold the same module share their updates.

    Args:
        model: the library of modules, with the settings of adaptation.
        structures: ``[task, slot]``, structures of the tasks.
        points: points of the tasks.
    """
    config, weights = model.adaptation, model.weights_of(structures)
    if not config.num_steps:
        return weights
    points = points.only_given()
    inputs, outputs = model.normalized(points)
    gradient, same = vmap(grad(_loss_of(model))), _same_modules(model, structures)
    for _ in range(config.num_steps):
        slopes = _clipped(_shared(gradient(weights, inputs, outputs, points.given), same), config.clip_norm)
        weights = tuple(
            tuple(
                value - config.step_size * (change if config.order == "second" else change.detach())
                for value, change in zip(layers, changes, strict=True)
            )
            for layers, changes in zip(weights, slopes, strict=True)
        )
    return weights


def adapted_losses(
    model: FunctionModel, structures: Structures, points: PointSets, counted: Bool[Tensor, "task point"]
) -> Losses:
    """Mean squared errors, in the model's unit, of the ``counted`` points after adaptation to the given points."""
    weights = adapted(model, structures, points)
    inputs, outputs = model.normalized(points)
    return mean_squares(model.outputs(weights, inputs), outputs, counted)


def adapted_loss_fn(model: FunctionModel, points: PointSets) -> LossFn:
    """Structures -> losses of the given points, each after adaptation to them; without gradients.

    Args:
        model: the library of modules, which is not changed.
        points: points of the tasks.
    """

    known = points.only_given()

    @torch.no_grad()
    def losses(structures: Structures) -> Losses:
        each = max(1, ROW_BUDGET // (known.inputs.shape[1] * (1 + 3 * model.adaptation.num_steps)))
        parts = torch.arange(len(structures)).split(each)
        found = [
            adapted_losses(model, structures[part], some, some.given)
            for part, some in ((part, known.at(part)) for part in parts)
        ]
        return torch.cat(found)

    return losses


def mean_squares(
    predicted: Float[Tensor, "*task point out"],
    truth: Float[Tensor, "*task point out"],
    counted: Bool[Tensor, "*task point"],
) -> Float[Tensor, "*task"]:
    """Mean squared error of the ``counted`` points; 0 where there is none."""
    squares = ((predicted - truth) ** 2).mean(-1) * counted
    return squares.sum(-1) / counted.sum(-1).clamp_min(1)


def _loss_of(model: FunctionModel):
    def loss(weights: Weights, inputs: Tensor, outputs: Tensor, given: Tensor) -> Tensor:
        return mean_squares(model.output(weights, inputs), outputs, given)

    return loss


def _same_modules(model: FunctionModel, structures: Structures) -> Float[Tensor, "task slot slot"] | None:
    """1 where two slots of a task hold the same module; None where no two slots can."""
    libraries = torch.tensor(model.slot_libraries)
    if len(set(model.slot_libraries)) == len(model.slot_libraries):
        return None
    same = (structures[:, :, None] == structures[:, None]) & (libraries[:, None] == libraries)
    return same.float()


def _shared(slopes: Weights, same: Tensor | None) -> Weights:
    """For each slot, the sum of the gradients of all slots that hold the same module."""
    if same is None:
        return slopes
    found = []
    for slot, layers in enumerate(slopes):
        others = [number for number, other in enumerate(slopes) if number != slot and _alike(layers, other)]
        found.append(
            tuple(
                value + sum(_weighted(slopes[number][layer], same[:, slot, number]) for number in others)
                for layer, value in enumerate(layers)
            )
        )
    return tuple(found)


def _clipped(slopes: Weights, clip_norm: float) -> Weights:
    """Gradients of each task, scaled so that their norm over all slots is at most ``clip_norm``."""
    if clip_norm == math.inf:
        return slopes
    squares = torch.stack([value.flatten(1).square().sum(1) for layers in slopes for value in layers]).sum(0)
    shares = clip_norm / squares.clamp_min(clip_norm**2).sqrt()
    return tuple(tuple(_weighted(value, shares) for value in layers) for layers in slopes)


def _alike(layers: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
    return all(one.shape == two.shape for one, two in zip(layers, other, strict=True))


def _weighted(values: Tensor, shares: Float[Tensor, "task"]) -> Tensor:
    return values * shares.view(-1, *(1,) * (values.dim() - 1))
