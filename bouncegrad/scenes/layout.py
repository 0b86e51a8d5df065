"""Conversion between scenes and the array layout of relational-inference data sets (Kipf et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from bouncegrad.scenes.record import DataError, Scenes

NRI_TIME_STEP = 0.1
"""Default time between two samples, where a data set has none: steps of 0.001, each 100th saved (Kipf et al. 2018)."""


def from_arrays(loc: Any, vel: Any, edges: Any = None, time_step: float = NRI_TIME_STEP, mask: Any = None) -> Scenes:
    """Scenes from positions and velocities in the layout of Kipf et al. (2018).

    Args:
        loc: ``[scene, time, dimension, entity]``, positions; note that the entity is the last axis.
        vel: the same shape, velocities.
        edges: ``[scene, receiver, sender]``, labels of the relations as they are, or None.
        time_step: time between two samples.
        mask: ``[scene, time, entity]``, True = measured; None: all states are measured.

    Anything that numpy converts to numbers will do: arrays, tensors, nested lists.

    Raises:
        DataError: no numbers, shapes that do not fit, NaN or infinity where mask is True.

    Example:
        >>> import numpy as np
        >>> scenes = from_arrays(np.zeros((3, 49, 2, 5)), np.ones((3, 49, 2, 5)))
        >>> scenes.states.shape, scenes.feature_names
        (torch.Size([3, 49, 5, 4]), ('x', 'y', 'vx', 'vy'))
    """
    positions, velocities = _numbers("loc", loc), _numbers("vel", vel)
    _check_motion(positions, velocities)
    num_scenes, num_times, num_dimensions, num_entities = positions.shape
    states = np.empty((num_scenes, num_times, num_entities, 2 * num_dimensions))
    states[..., :num_dimensions] = positions.swapaxes(2, 3)
    states[..., num_dimensions:] = velocities.swapaxes(2, 3)
    return Scenes(
        states=torch.from_numpy(states),
        mask=torch.ones(states.shape[:3], dtype=torch.bool) if mask is None else truth_values("mask", mask),
        time_step=time_step,
        feature_names=motion_names(num_dimensions),
        entity_names=tuple(str(i) for i in range(num_entities)),
        relations=None if edges is None else _relations(edges, num_scenes, num_entities),
    )


def from_states(states: Any, edges: Any = None, time_step: float = NRI_TIME_STEP, mask: Any = None) -> Scenes:
    """Scenes with any features, which have the names "0", "1", ... until they are renamed.

    Args:
        states: ``[scene, time, entity, feature]``; note that the feature is the last axis.
        edges, time_step, mask: as for :func:`from_arrays`.

    Raises:
        DataError: no numbers, shapes that do not fit, NaN or infinity where mask is True.
    """
    values = _numbers("states", states)
    if values.ndim != 4:
        raise DataError(f"expected states of shape [scene, time, entity, feature], got {values.shape}")
    num_scenes, _, num_entities, num_features = values.shape
    return Scenes(
        states=torch.from_numpy(np.array(values, dtype=np.float64)),
        mask=torch.ones(values.shape[:3], dtype=torch.bool) if mask is None else truth_values("mask", mask),
        time_step=time_step,
        feature_names=tuple(str(i) for i in range(num_features)),
        entity_names=tuple(str(i) for i in range(num_entities)),
        relations=None if edges is None else _relations(edges, num_scenes, num_entities),
    )


def to_arrays(
    scenes: Scenes,
) -> tuple[Float64[np.ndarray, "scene time dimension entity"], Float64[np.ndarray, "scene time dimension entity"]]:
    """The inverse of :func:`from_arrays`: the pair ``(loc, vel)``.

    Raises:
        DataError: the features are not as many velocities as positions, positions first.
    """
    num_dimensions = scenes.num_features // 2
    if not has_motion(scenes.feature_names):
        raise DataError(
            f"expected positions and then their velocities as features, such as {motion_names(2)}, "
            f"got {scenes.feature_names}: this layout stores nothing else"
        )
    arrays = np.ascontiguousarray(scenes.states.detach().cpu().swapaxes(2, 3).numpy())
    return arrays[:, :, :num_dimensions], arrays[:, :, num_dimensions:]


def has_motion(feature_names: Sequence[str]) -> bool:
    """Whether the features are positions and then their velocities, so that this layout can store them."""
    half = len(feature_names) // 2
    return tuple(f"v{name}" for name in feature_names[:half]) == tuple(feature_names[half:])


def motion_names(num_dimensions: int) -> tuple[str, ...]:
    """Feature names of positions and velocities: ``x y z vx vy vz``, numbered above three dimensions."""
    positions = list("xyz"[:num_dimensions]) if num_dimensions <= 3 else [f"x{i}" for i in range(num_dimensions)]
    return (*positions, *(f"v{name}" for name in positions))


def _numbers(name: str, values: Any) -> np.ndarray:
    array = _array(name, values)
    if array.dtype.kind not in "fiub":
        raise DataError(f"{name} must hold real numbers, got dtype {array.dtype}")
    return array.astype(np.float64, copy=False)


def _array(name: str, values: Any) -> np.ndarray:
    try:
        return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{name} is no array: {error}") from error


def _check_motion(loc: np.ndarray, vel: np.ndarray) -> None:
    for name, array in (("loc", loc), ("vel", vel)):
        if array.ndim != 4:
            raise DataError(
                f"expected {name} of shape [scene, time, dimension, entity], got {array.ndim} axes: {array.shape}; "
                f"for one scene add an axis: {name}[None]"
            )
    if loc.shape != vel.shape:
        raise DataError(f"loc and vel must have the same shape, got {loc.shape} and {vel.shape}")


def truth_values(name: str, values: Any) -> Tensor:
    """A tensor of truth values, from anything that holds True and False or 1 and 0."""
    array = _array(name, values)
    if array.dtype.kind not in "biu" or not ((array == 0) | (array == 1)).all():
        raise DataError(f"{name} must be bool, got dtype {array.dtype} with values other than 0 and 1")
    return torch.from_numpy(array.astype(bool))


def _relations(edges: Any, num_scenes: int, num_entities: int) -> Tensor:
    array = _numbers("edges", edges)
    wanted = (num_scenes, num_entities, num_entities)
    if array.shape != wanted:
        raise DataError(
            f"edges must fit loc, [scene, receiver, sender] = {wanted}, got {array.shape}; "
            f"the entities are the last axis of loc"
        )
    return torch.from_numpy(array.copy())
