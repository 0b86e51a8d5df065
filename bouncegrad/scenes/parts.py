"""Splitting a set of scenes at random, and stacking several sets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor

from bouncegrad.scenes.record import DataError, Scenes


def split(scenes: Scenes, fractions: Sequence[float], generator: Generator) -> tuple[Scenes, ...]:
    """Random disjoint parts, one for each fraction; fractions that sum to 1 use every scene.

    Part p holds the scenes from ``round(S sum(fractions[:p]))`` to ``round(S sum(fractions[:p+1]))`` of one
    random permutation of the S scenes.

    Raises:
        DataError: a fraction is not positive, they sum to more than 1, or a part gets no scene.

    Example:
        >>> import torch
        >>> scenes = Scenes(torch.zeros(10, 2, 2, 1), torch.ones(10, 2, 2) > 0, 0.1, ("x",), ("a", "b"))
        >>> [part.num_scenes for part in split(scenes, (0.8, 0.2), torch.Generator().manual_seed(0))]
        [8, 2]
    """
    if not fractions or not all(math.isfinite(f) and f > 0 for f in fractions) or sum(fractions) > 1 + 1e-9:
        raise DataError(f"expected positive fractions that sum to at most 1, got {tuple(fractions)}")
    bounds = [min(round(scenes.num_scenes * sum(fractions[:p])), scenes.num_scenes) for p in range(len(fractions) + 1)]
    sizes = [stop - start for start, stop in pairwise(bounds)]
    if min(sizes) < 1:
        raise DataError(
            f"{scenes.num_scenes} scenes in parts of {tuple(fractions)} leave a part empty (sizes {sizes}): "
            f"take larger fractions or more scenes"
        )
    order = torch.randperm(scenes.num_scenes, generator=generator)
    return tuple(scenes.at(part) for part in order[: bounds[-1]].split(sizes))


def stack_scenes(sets: Sequence[Scenes]) -> Scenes:
    """Stack several sets of scenes, which may have different numbers of entities.

    Scenes with fewer entities than the largest are padded at the end with absent ones (mask False, state 0,
    relations NaN). Relations that one set lacks are NaN, unknown; None if every set lacks them. The entities
    keep their names where the names of each set begin those of the largest, and are numbered otherwise; names of
    single scenes and of their entities stay what they are.

    Raises:
        DataError: there is no set, or they differ in times, time step or features.
    """
    if not sets:
        raise DataError("expected at least one set of scenes to stack, got none")
    largest = max(sets, key=lambda scenes: scenes.num_entities)
    for scenes in sets:
        _check_alike(largest, scenes)
    return Scenes(
        states=torch.cat([_padded(scenes.states, {2: largest.num_entities}, 0.0) for scenes in sets]),
        mask=torch.cat([_padded(scenes.mask, {2: largest.num_entities}, False) for scenes in sets]),
        time_step=largest.time_step,
        feature_names=largest.feature_names,
        entity_names=_shared_names(sets, largest),
        relations=_stacked_relations(sets, largest.num_entities),
        exogenous=_stacked_exogenous(sets, largest.num_entities),
        **_stacked_names(sets, largest.num_entities),
    )


def _check_alike(expected: Scenes, scenes: Scenes) -> None:
    for word in ("num_times", "time_step", "feature_names"):
        wanted, got = getattr(expected, word), getattr(scenes, word)
        if wanted != got:
            raise DataError(f"scenes to stack must have the same {word}, got {wanted} and {got}: cut or convert one")


def _padded(values: Tensor, sizes: dict[int, int], fill: float | bool) -> Tensor:
    shape = [sizes.get(axis, size) for axis, size in enumerate(values.shape)]
    padded = values.new_full(shape, fill)
    padded[tuple(slice(size) for size in values.shape)] = values
    return padded


def _shared_names(sets: Sequence[Scenes], largest: Scenes) -> tuple[str, ...]:
    names = largest.entity_names
    if all(scenes.entity_names == names[: scenes.num_entities] for scenes in sets):
        return names
    return tuple(str(i) for i in range(largest.num_entities))


def _stacked_relations(sets: Sequence[Scenes], size: int) -> Tensor | None:
    if all(scenes.relations is None for scenes in sets):
        return None
    return torch.cat([_padded(_relations_or_unknown(scenes), {1: size, 2: size}, math.nan) for scenes in sets])


def _relations_or_unknown(scenes: Scenes) -> Tensor:
    if scenes.relations is not None:
        return scenes.relations
    shape = (scenes.num_scenes, scenes.num_entities, scenes.num_entities)
    return torch.full(shape, math.nan, dtype=torch.float64, device=scenes.states.device)


def _stacked_exogenous(sets: Sequence[Scenes], size: int) -> Tensor | None:
    if all(scenes.exogenous is None for scenes in sets):
        return None
    every = (torch.zeros_like(scenes.mask[:, 0]) if scenes.exogenous is None else scenes.exogenous for scenes in sets)
    return torch.cat([_padded(exogenous, {1: size}, False) for exogenous in every])


def _stacked_names(sets: Sequence[Scenes], size: int) -> dict[str, tuple[Any, ...] | None]:
    """Those of scenes, and of entities scene by scene; None where no set has any."""
    scenes_named = any(scenes.scene_names is not None for scenes in sets)
    entities_named = any(scenes.names is not None for scenes in sets)
    each = [(scenes, scene) for scenes in sets for scene in range(scenes.num_scenes)]
    return {
        "scene_names": tuple(scenes.scene_name(scene) for scenes, scene in each) if scenes_named else None,
        "names": tuple(_filled(scenes.names_in(scene), size) for scenes, scene in each) if entities_named else None,
    }


def _filled(names: tuple[str, ...], size: int) -> tuple[str, ...]:
    return (*names, *[""] * (size - len(names)))
