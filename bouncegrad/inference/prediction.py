"""Predictions under given structures (latent graphs): rollouts of the decoder, and its messages by edge type."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bouncegrad.energies.windows import Batch, pack
from bouncegrad.models.model import Model
from bouncegrad.scenes import DataError, Scenes
from bouncegrad.types import Structures


@torch.no_grad()
def predict(
    model: Model, scenes: Scenes, structures: Structures, *, start: int, num_steps: int
) -> Float[Tensor, "scene step entity feature"]:
    """Rollout from the true states at ``start``: the next ``num_steps`` samples, in the units of the scenes.

    Only the states at ``start`` and the model's history before it are read, so later samples cannot leak into the
    prediction. Entities that were not measured at all those times neither act nor move: their prediction is meaningless
    (:func:`measured_at`). Exogenous entities follow their measured states, where these exist.

    Args:
        model: a trained model; its forecaster predicts, if it has one.
        scenes: scenes to start from.
        structures: ``[scene, slot]``, as :func:`infer` returns them.
        start: index of the sample to start at, from 0; -1 is the last one, -2 the one before, of each scene.
        num_steps: number of steps to predict.

    Raises:
        DataError: ``start`` outside the scenes, no step to predict, or structures of other scenes.
    """
    model = model.forecaster or model
    before = model.config.network.history - 1
    scenes, last = _counted(scenes, start)
    if not before <= last < scenes.num_times or num_steps < 1:
        raise DataError(
            f"expected a start from {before} to {scenes.num_times - 1} and at least one step, "
            f"got start {start} and {num_steps} steps"
        )
    layout = model.layout(scenes.num_entities)
    if tuple(structures.shape) != (scenes.num_scenes, layout.num_slots):
        raise DataError(
            f"expected structures [scene, slot] = {(scenes.num_scenes, layout.num_slots)}, "
            f"got {tuple(structures.shape)}: infer them from these scenes"
        )
    times = [last] * 2 if not before else list(range(last - before, last + 1))  # scenes need two samples or more
    known = measured_at(scenes, last, before + 1)[:, None].expand(-1, len(times), -1)
    batch = pack(model, replace(scenes, states=scenes.states[:, times], mask=known))
    given = _given(model, scenes, last, num_steps)
    given = None if given is None else batch.graph.pack_nodes(given.to(model.device))
    predicted = model.network.rollout(batch.inputs[:, 0], batch.graph, structures, num_steps, given=given)
    return model.normalization.undo(batch.graph.unpack_nodes(predicted).transpose(1, 2).cpu())


def measured_at(scenes: Scenes, start: int, history: int = 1) -> Bool[Tensor, "scene entity"]:
    """Which entities were measured at a sample and the ``history - 1`` before it, so that they can be predicted."""
    return scenes.mask[:, start - history + 1 : start + 1].all(1)


def place_start(model: Model, scenes: Scenes, start: int) -> tuple[Scenes, int]:
    """Scenes and the index of the sample to predict from, counted from 0 and the same for every scene.

    Relations can be inferred from the samples up to it. A ``start`` below 0 counts from the last sample of each scene;
    scenes of different lengths are then aligned at their ends, so that none shows samples after its own start.

    Raises:
        DataError: a start outside the scenes, or too few samples up to it.
    """
    first = model.config.network.history
    moved, last = _counted(scenes, start)
    if not first <= last < scenes.num_times:
        raise DataError(
            f"expected a start from {first} to {scenes.num_times - 1} (relations are inferred from the samples up to "
            f"it), got {start}"
        )
    return moved, last


def _counted(scenes: Scenes, start: int) -> tuple[Scenes, int]:
    """Scenes and a start counted from 0; for a negative start, the scenes are aligned at their last samples."""
    return (scenes.ending_together(), start + scenes.num_times) if start < 0 else (scenes, start)


def _given(
    model: Model, scenes: Scenes, last: int, num_steps: int
) -> Float[Tensor, "scene entity step feature"] | None:
    """Normalised states of exogenous entities after ``last``, NaN where nothing is given."""
    if scenes.exogenous is None:
        return None
    states = scenes.states.masked_fill(~(scenes.mask & scenes.exogenous[:, None])[..., None], math.nan)
    later = model.normalization.apply(states[:, last + 1 : last + 1 + num_steps].transpose(1, 2))
    return torch.nn.functional.pad(later, (0, 0, 0, num_steps - later.shape[2]), value=math.nan)


@torch.no_grad()
def weakest_kind(model: Model, scenes: Scenes) -> int | None:
    """The edge type without effect ("no relation"); None where every edge type has one.

    An edge type has no effect if its messages vary less than a tenth as much as those of the strongest one, over the
    pairs and times of ``scenes`` at which both entities were measured. A constant message is no effect, because the
    state term can absorb it.
    """
    batch = pack(model, scenes.at(range(min(50, scenes.num_scenes))))
    spread = messages_by_kind(model, batch).std(1).square().sum(1).sqrt()
    weakest = int(spread.argmin())
    return weakest if spread[weakest] < 0.1 * spread.max() else None


def messages_by_kind(model: Model, batch: Batch, num_times: int | None = None) -> Float[Tensor, "kind item message"]:
    """Messages of every edge type from sender to receiver, for all pairs and times at which both were measured.

    Args:
        model: any model.
        batch: some scenes.
        num_times: number of times to use, the first of those with a whole history before them; None: all.
    """
    messages = model.network.edge_modules.every_kind(model.network.inputs_on(batch.graph, batch.inputs[:, :num_times]))
    known = batch.complete[:, :num_times]
    return messages[:, known[batch.graph.receivers] & known[batch.graph.senders]]
