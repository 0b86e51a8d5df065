"""What would have happened: scenes with their hidden entities, from which somebody or a relation is taken away."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from bouncegrad.hidden.augmented import with_room
from bouncegrad.hidden.posterior import HiddenPosterior
from bouncegrad.inference import predict, weakest_kind
from bouncegrad.models.model import Model
from bouncegrad.scenes import DataError, Scenes
from bouncegrad.structures.layout import to_matrix, to_slots
from bouncegrad.types import Structures


def with_hidden(scenes: Scenes, posterior: HiddenPosterior) -> Scenes:
    """Scenes in which the hidden entities stand beside the seen ones, on their most probable tracks.

    With ``posterior.best_structures`` they can be handed to :func:`bouncegrad.inference.predict`.
    """
    room = with_room(scenes, posterior.num_hidden)
    states = room.states.clone()
    states[:, :, scenes.num_entities :] = posterior.best_tracks.transpose(1, 2)
    return replace(room, states=states)


def without_entity(
    model: Model, scenes: Scenes, structures: Structures, entity: str, *, start: int, num_steps: int
) -> Float[Tensor, "scene step entity feature"]:
    """Roll on from the states at ``start`` as if one entity had vanished then; its own states are NaN.

    Raises:
        DataError: no entity of that name, or a span that cannot be (:func:`bouncegrad.inference.predict`).
    """
    place = _place(scenes, entity)
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
    """Roll on from the states at ``start`` as if one entity no longer acted on another; the way back stays.

    Raises:
        DataError: no entities of these names, an entity and itself, or a model all of whose kinds act.
    """
    row, column = _place(scenes, receiver), _place(scenes, sender)
    nothing = weakest_kind(model, scenes)
    if nothing is None or row == column:
        raise DataError(
            "a relation between two different entities is taken away by the kind that does nothing, "
            f"got {receiver!r}, {sender!r} and "
            + ("no such kind: fit more kinds" if nothing is None else "such a kind")
        )
    matrix = to_matrix(structures, scenes.num_entities, diagonal=0)
    matrix[:, row, column] = nothing
    edges = to_slots(matrix)
    changed = torch.cat([edges, structures[:, edges.shape[1] :]], 1)
    return predict(model, scenes, changed, start=start, num_steps=num_steps)


def _place(scenes: Scenes, entity: str) -> int:
    if entity not in scenes.entity_names:
        raise DataError(f"there is no entity {entity!r}: choose one of {', '.join(scenes.entity_names)}")
    return scenes.entity_names.index(entity)
