"""Counterfactual predictions: scenes with their hidden entities, rolled out without one entity or one relation."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from bouncegrad.hidden.augmented import with_placeholders
from bouncegrad.hidden.posterior import HiddenPosterior
from bouncegrad.inference import predict, weakest_kind
from bouncegrad.models.model import Model
from bouncegrad.scenes import DataError, Scenes
from bouncegrad.structures.layout import to_matrix, to_slots
from bouncegrad.types import Structures


def with_hidden(scenes: Scenes, posterior: HiddenPosterior) -> Scenes:
    """Add the hidden entities to scenes, on their most probable tracks.

    Together with ``posterior.best_structures`` they are inputs of :func:`bouncegrad.inference.predict`.
    """
    room = with_placeholders(scenes, posterior.num_hidden)
    states = room.states.clone()
    states[:, :, scenes.num_entities :] = posterior.best_tracks.transpose(1, 2)
    return replace(room, states=states)


def without_entity(
    model: Model, scenes: Scenes, structures: Structures, entity: str, *, start: int, num_steps: int
) -> Float[Tensor, "scene step entity feature"]:
    """Roll out from the states at ``start`` with one entity removed; its own states are NaN.

    Raises:
        DataError: no entity of that name, or a time span outside the scenes (:func:`bouncegrad.inference.predict`).
    """
    place = _index_of(scenes, entity)
    mask = scenes.mask.clone()
    mask[:, :, place] = False
    predicted = predict(model, replace(scenes, mask=mask), structures, start=start, num_steps=num_steps)
    predicted[:, :, place] = torch.nan
    return predicted


def without_relation(
    model: Model,
    scenes: Scenes,
    structures: Structures,
    receiver: str,
    sender: str,
    *,
    start: int,
    num_steps: int,
) -> Float[Tensor, "scene step entity feature"]:
    """Roll out from the states at ``start`` with one directed relation removed; the opposite direction stays.

    Raises:
        DataError: no entities of these names, a relation of an entity to itself, or a model without an edge type that
            has no effect.
    """
    row, column = _index_of(scenes, receiver), _index_of(scenes, sender)
    nothing = weakest_kind(model, scenes)
    if nothing is None or row == column:
        raise DataError(
            "expected a relation between two different entities, which the edge type without effect replaces, "
            f"got {receiver!r}, {sender!r} and "
            + ("no such edge type: fit more kinds" if nothing is None else "such an edge type")
        )
    matrix = to_matrix(structures, scenes.num_entities, diagonal=0)
    matrix[:, row, column] = nothing
    edges = to_slots(matrix)
    changed = torch.cat([edges, structures[:, edges.shape[1] :]], 1)
    return predict(model, scenes, changed, start=start, num_steps=num_steps)


def _index_of(scenes: Scenes, entity: str) -> int:
    """Index of an entity by its name."""
    if entity not in scenes.entity_names:
        raise DataError(f"there is no entity {entity!r}: choose one of {', '.join(scenes.entity_names)}")
    return scenes.entity_names.index(entity)
