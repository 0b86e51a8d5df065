"""The record :class:`Scenes`, whose content is checked on construction: code that receives it need not check again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class DataError(ValueError):
    """Data from outside that cannot be used as they are; the message says where, why and what to do."""


@dataclass(frozen=True, slots=True, eq=False)
class Scenes:
    """Recordings of interacting entities, all with the same times, entities and features.

    A state that was not measured has ``mask`` False and is stored as 0, whatever was passed, so that a
    NaN cannot spread. An entity whose mask is False at all times is absent: its scene has fewer entities.

    Attributes:
        states: ``[scene, time, entity, feature]``, float64, in the units of the recording.
        mask: ``[scene, time, entity]``, True where the state was measured.
        time_step: time between two samples, in the time unit of the recording.
        feature_names: names of the features, positions first: ``("x", "y", "vx", "vy")``.
        entity_names: names of the entities in pictures and tables.
        relations: ``[scene, receiver, sender]``, float64, the labels of relations as they were passed, diagonal
            included, NaN where unknown; None, the normal case, where they are unknown.
        exogenous: ``[scene, entity]``, True for entities that act on others but are not acted on (a leading car, a
            ball that is thrown): their incoming relations are not asked for, and their motion is given, never
            predicted; None: no entity is.
        scene_names: names of the scenes; None: they are numbered.
        names: ``[scene][entity]``, names of the entities of each scene, where they differ between scenes; None:
            ``entity_names`` in all of them. Absent entities may have the name "".

    Raises:
        DataError: wrong ranks or sizes; no scene, one time or one entity; NaN or infinity in a valid state.

    Example:
        >>> import torch
        >>> states = torch.zeros(3, 49, 5, 4)
        >>> mask = torch.ones(3, 49, 5, dtype=torch.bool)
        >>> scenes = Scenes(states, mask, 0.1, ("x", "y", "vx", "vy"), tuple("abcde"))
        >>> scenes.num_entities, scenes.between(0, 10).num_times, scenes.at([0, 2]).num_scenes
        (5, 10, 2)
    """

    states: Float[Tensor, "scene time entity feature"]
    mask: Bool[Tensor, "scene time entity"]
    time_step: float
    feature_names: tuple[str, ...]
    entity_names: tuple[str, ...]
    relations: Float[Tensor, "scene receiver sender"] | None = None
    exogenous: Bool[Tensor, "scene entity"] | None = None
    scene_names: tuple[str, ...] | None = None
    names: tuple[tuple[str, ...], ...] | None = None

    def __post_init__(self) -> None:
        """Check the fields and convert them to the documented types."""
        states, mask = _tensor("states", self.states, 4), _tensor("mask", self.mask, 3)
        _check_sizes(states)
        _check_mask(states, mask)
        object.__setattr__(self, "time_step", _positive_time_step(self.time_step))
        object.__setattr__(self, "feature_names", _names("feature", self.feature_names, states.shape[3]))
        object.__setattr__(self, "entity_names", _names("entity", self.entity_names, states.shape[2]))
        _check_finite(states, mask, self)
        object.__setattr__(self, "states", _without_masked(states.to(torch.float64), mask))
        if self.relations is not None:
            object.__setattr__(self, "relations", _checked_relations(self.relations, states))
        if self.exogenous is not None:
            _check_exogenous(self.exogenous, states)
        if self.scene_names is not None:
            object.__setattr__(self, "scene_names", _scene_names(self.scene_names, states))
        if self.names is not None:
            object.__setattr__(self, "names", _names_by_scene(self.names, states))

    @property
    def num_scenes(self) -> int:
        """Number of recordings."""
        return self.states.shape[0]

    @property
    def num_times(self) -> int:
        """Number of samples of each recording."""
        return self.states.shape[1]

    @property
    def num_entities(self) -> int:
        """Size of the axis ``entity``; a scene with absent entities has fewer."""
        return self.states.shape[2]

    @property
    def num_features(self) -> int:
        """Number of features of an entity at one time."""
        return self.states.shape[3]

    @property
    def present(self) -> Bool[Tensor, "scene entity"]:
        """True for each entity that was measured at least once in the scene."""
        return self.mask.any(1)

    @property
    def predicted(self) -> Bool[Tensor, "scene entity"]:
        """True for each present entity whose motion is predicted: all that are not exogenous."""
        return self.present if self.exogenous is None else self.present & ~self.exogenous

    @property
    def pairs(self) -> Bool[Tensor, "scene receiver sender"]:
        """True for each ordered pair of different present entities whose receiver is not exogenous."""
        different = ~torch.eye(self.num_entities, dtype=torch.bool, device=self.mask.device)
        return self.predicted[:, :, None] & self.present[:, None, :] & different

    @property
    def known_relations(self) -> Float[Tensor, "scene receiver sender"] | None:
        """The labels of :attr:`pairs`, NaN for all others; None where there are no labels."""
        return None if self.relations is None else self.relations.where(self.pairs, math.nan)

    def scene_name(self, scene: int) -> str:
        """Name of a scene."""
        return str(scene) if self.scene_names is None else self.scene_names[scene]

    def names_in(self, scene: int) -> tuple[str, ...]:
        """Names of the entities of a scene."""
        return self.entity_names if self.names is None else self.names[scene]

    @property
    def labelled(self) -> bool:
        """Whether the relation of any such pair is known."""
        known = self.known_relations
        return known is not None and not bool(known.isnan().all())

    def at(self, indices: int | Sequence[int] | Int[Tensor, "subset"]) -> Scenes:
        """The scenes at ``indices``, in that order.

        Raises:
            DataError: an index is outside ``0 .. num_scenes - 1``, or there is none.
        """
        chosen = torch.as_tensor(indices, dtype=torch.int64).flatten()
        if chosen.numel() and not 0 <= int(chosen.min()) <= int(chosen.max()) < self.num_scenes:
            outside = [i for i in chosen.tolist() if not 0 <= i < self.num_scenes]
            raise DataError(f"there is no scene {outside[0]}: the {self.num_scenes} scenes count from 0")
        return self._part(
            states=self.states[chosen],
            mask=self.mask[chosen],
            relations=None if self.relations is None else self.relations[chosen],
            exogenous=None if self.exogenous is None else self.exogenous[chosen],
            scene_names=None if self.scene_names is None else tuple(self.scene_names[i] for i in chosen.tolist()),
            names=None if self.names is None else tuple(self.names[i] for i in chosen.tolist()),
        )

    def between(self, start: int, stop: int) -> Scenes:
        """The times ``start .. stop - 1`` of all scenes, as a view.

        Raises:
            DataError: the window leaves the recording or is shorter than two samples.
        """
        if not 0 <= start < stop <= self.num_times:
            raise DataError(f"expected 0 <= start < stop <= {self.num_times} (times), got start={start}, stop={stop}")
        return self._part(states=self.states[:, start:stop], mask=self.mask[:, start:stop])

    def _part(self, **changes: Any) -> Scenes:
        """Some of these scenes or times: what is part of checked scenes needs no check but that of its size."""
        _check_sizes(changes["states"])
        part = object.__new__(Scenes)
        for field in fields(self):
            object.__setattr__(part, field.name, changes.get(field.name, getattr(self, field.name)))
        return part

    def ending_together(self) -> Scenes:
        """Scenes of different lengths, shifted in time so that they end at the same sample.

        Padding after a scene (no entity measured) moves before it.
        """
        times = torch.arange(1, self.num_times + 1, device=self.mask.device)
        padding = self.num_times - (self.mask.any(2) * times).amax(1)
        if not padding.any():
            return self
        shown = (times - 1 - padding[:, None]) % self.num_times
        scene = torch.arange(self.num_scenes, device=shown.device)[:, None]
        return replace(self, states=self.states[scene, shown], mask=self.mask[scene, shown])


def _tensor(name: str, value: object, rank: int) -> Tensor:
    axes = "[scene, time, entity, feature]"
    if not isinstance(value, Tensor):
        raise DataError(f"{name} must be a torch tensor, got {type(value).__name__}: from_arrays takes arrays")
    if value.dim() != rank:
        wanted = axes if rank == 4 else "[scene, time, entity]"
        raise DataError(f"expected {name} of shape {wanted}, got {value.dim()} axes: {tuple(value.shape)}")
    return value


def _check_sizes(states: Tensor) -> None:
    if states.is_complex() or states.dtype == torch.bool:
        raise DataError(f"states must be real numbers, got {states.dtype}: convert them to float64")
    num_scenes, num_times, num_entities, num_features = states.shape
    if num_scenes < 1:
        raise DataError(f"there are no scenes: expected at least one, got states of shape {tuple(states.shape)}")
    if num_times < 2:
        raise DataError(f"expected at least 2 times to see motion, got {num_times}: take a longer recording or window")
    if num_entities < 2:
        raise DataError(f"expected at least 2 entities, got {num_entities}: a relation needs a receiver and a sender")
    if num_features < 1:
        raise DataError("expected at least one feature of each entity, got none")


def _check_mask(states: Tensor, mask: Tensor) -> None:
    if mask.dtype != torch.bool:
        raise DataError(f"mask must be bool (True = measured), got {mask.dtype}: convert it with mask.bool()")
    if mask.shape != states.shape[:3]:
        wanted = tuple(states.shape[:3])
        raise DataError(f"mask must fit the states, [scene, time, entity] = {wanted}, got {tuple(mask.shape)}")


def _positive_time_step(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < math.inf:
        raise DataError(f"time_step must be a positive number (time between two samples), got {value!r}")
    return float(value)


def _names(what: str, names: Sequence[str], count: int) -> tuple[str, ...]:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{what}_names must be a tuple of {count} strings, got {names!r}")
    if len(names) != count or len(set(names)) != count:
        raise DataError(f"expected {count} different {what} names, one for each {what}, got {tuple(names)!r}")
    return tuple(names)


def _check_finite(states: Tensor, mask: Tensor, scenes: Scenes) -> None:
    bad = ~torch.isfinite(states)
    if not bad.any():
        return
    where = (bad & mask[..., None]).nonzero()
    if len(where):
        scene, time, entity, feature = (int(i) for i in where[0])
        value = float(states[scene, time, entity, feature])
        raise DataError(
            f"the state is {value} at scene {scene}, time {time}, entity {entity} "
            f"(feature {scenes.feature_names[feature]!r}, entity name {scenes.entity_names[entity]!r}; "
            f"{len(where)} such values in all): repair it, or set mask to False where nothing was measured"
        )


def _without_masked(states: Tensor, mask: Tensor) -> Tensor:
    return states if mask.all() else states.masked_fill(~mask[..., None], 0.0)


def _checked_relations(relations: Tensor, states: Tensor) -> Tensor:
    num_scenes, _, num_entities, _ = states.shape
    wanted = (num_scenes, num_entities, num_entities)
    if not isinstance(relations, Tensor) or tuple(relations.shape) != wanted:
        got = tuple(relations.shape) if isinstance(relations, Tensor) else type(relations).__name__
        raise DataError(f"relations must fit the states, [scene, receiver, sender] = {wanted}, got {got}")
    if torch.isinf(relations).any():
        scene, receiver, sender = torch.isinf(relations).nonzero()[0].tolist()
        place = f"scene {scene}, receiver {receiver}, sender {sender}"
        raise DataError(f"the relation is infinite at {place}: use a finite label, or NaN where it is unknown")
    return relations.to(torch.float64)


def _check_exogenous(exogenous: Tensor, states: Tensor) -> None:
    wanted = (states.shape[0], states.shape[2])
    if not isinstance(exogenous, Tensor) or exogenous.dtype != torch.bool or tuple(exogenous.shape) != wanted:
        got = f"{exogenous.dtype} {tuple(exogenous.shape)}" if isinstance(exogenous, Tensor) else repr(exogenous)
        raise DataError(f"exogenous must be bool [scene, entity] = {wanted}, got {got}")


def _scene_names(names: Sequence[str], states: Tensor) -> tuple[str, ...]:
    if isinstance(names, str) or len(names) != len(states) or not all(isinstance(name, str) for name in names):
        raise DataError(f"scene_names must be {len(states)} strings, one for each scene, got {names!r}")
    return tuple(names)


def _names_by_scene(names: Sequence[Sequence[str]], states: Tensor) -> tuple[tuple[str, ...], ...]:
    num_scenes, _, num_entities, _ = states.shape
    rows = [names] if isinstance(names, str) else [tuple(some) for some in names]
    strings = all(isinstance(name, str) for some in rows for name in some)
    if len(rows) != num_scenes or not strings or any(len(some) != num_entities for some in rows):
        raise DataError(f"names must be {num_entities} strings for each of the {num_scenes} scenes, got {names!r}")
    for scene, some in enumerate(rows):
        named = [name for name in some if name]
        if len(set(named)) != len(named):
            raise DataError(f"the entities of scene {scene} must have different names, got {some!r}")
    return tuple(map(tuple, rows))
