"""What the modules of a trained model say once structures are known: what happens next, which kind does nothing."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from bouncegrad.model import Model, pack
from bouncegrad.scenes import DataError, Scenes
from bouncegrad.types import Structures


@torch.no_grad()
def predict(
    model: Model, scenes: Scenes, structures: Structures, *, start: int, num_steps: int
) -> Float[Tensor, "scene step entity feature"]:
    """Roll on from the true states at ``start``: the next ``num_steps`` samples, in the units of the scenes.

    Only the states at ``start`` are read: what lies behind them cannot leak into the prediction. Entities that were
    not measured then neither act nor move: their prediction means nothing.

    Args:
        model: the trained model.
        scenes: where to start from.
        structures: ``[scene, slot]``, as :func:`infer` found them.
        start: index of the sample to start at, from 0; -1 is the last one.
        num_steps: how far to predict.

    Raises:
        DataError: ``start`` outside the scenes, no step to predict, or structures of other scenes.
    """
    if not -scenes.num_times <= start < scenes.num_times or num_steps < 1:
        raise DataError(
            f"expected a start from 0 to {scenes.num_times - 1} and at least one step, "
            f"got start {start} and {num_steps} steps"
        )
    layout = model.layout(scenes.num_entities)
    if tuple(structures.shape) != (scenes.num_scenes, layout.num_slots):
        raise DataError(
            f"expected structures [scene, slot] = {(scenes.num_scenes, layout.num_slots)}, "
            f"got {tuple(structures.shape)}: infer them from these scenes"
        )
    at_start = [start, start]  # one time is no recording
    batch = pack(model, replace(scenes, states=scenes.states[:, at_start], mask=scenes.mask[:, at_start]))
    predicted = model.network.rollout(batch.states[:, 0], batch.graph, structures, num_steps)
    return model.normalization.undo(batch.graph.unpack_nodes(predicted).transpose(1, 2))


@torch.no_grad()
def weakest_kind(model: Model, scenes: Scenes) -> int | None:
    """The edge kind that does nothing, as far as the modules say; None where every kind acts.

    A kind does nothing where its messages vary less than a tenth as much over the pairs of ``scenes`` as those of the
    strongest kind do. A constant message is no action: the state term can take it over.
    """
    batch = pack(model, scenes.at(range(min(50, scenes.num_scenes))))
    inputs = model.network.inputs_on(batch.graph, batch.states)
    spread = model.network.edge_modules.every_kind(inputs).flatten(1, -2).std(1).square().sum(1).sqrt()
    weakest = int(spread.argmin())
    return weakest if spread[weakest] < 0.1 * spread.max() else None
