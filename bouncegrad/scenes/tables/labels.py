"""Known relations, from a table with one row for each ordered pair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import polars as pl
import torch
from jaxtyping import Float64
from torch import Tensor

from bouncegrad.scenes.record import DataError
from bouncegrad.scenes.tables.cells import name_cells, number_cells
from bouncegrad.scenes.tables.sources import clear_reading, table_parts

PAIR = ["scene", "receiver", "sender"]


def read_labels(source: Any, scenes: Sequence[str]) -> pl.DataFrame:
    """The rows ``scene, receiver, sender, relation`` of a table of relations, each pair once.

    Args:
        source: a path or a data frame with these columns; without ``scene`` the rows hold for all scenes.
        scenes: the names of all scenes that there are.

    Raises:
        DataError: columns that are missing, relations that are no finite numbers, unknown scenes, or two different
            relations of one pair.
    """
    frames = []
    for part in table_parts(source):
        schema = part.schema()
        missing = [name for name in ("receiver", "sender", "relation") if name not in schema]
        if missing:
            wanted = ", ".join((*PAIR, "relation"))
            raise DataError(f"{part.place}, the relations, has no column {missing[0]!r}: expected {wanted}")
        names = [name_cells(name, schema).alias(name) for name in PAIR if name in schema]
        with clear_reading(part.place):
            frames.append(part.frame.select(*names, number_cells("relation", schema).alias("relation")).collect())
    found = pl.concat(frames, how="diagonal")
    if "scene" not in found.columns:
        found = pl.DataFrame({"scene": list(scenes)}, schema={"scene": pl.String}).join(found, how="cross")
    found = found.select(*PAIR, "relation").unique(maintain_order=True)
    _check_labels(found, scenes)
    return found


def _check_labels(found: pl.DataFrame, scenes: Sequence[str]) -> None:
    bad = found.filter(pl.any_horizontal(pl.all().is_null()) | ~pl.col("relation").is_finite())
    if bad.height:
        raise DataError(
            f"each row of the relations needs a scene, a receiver, a sender and a finite number as relation, "
            f"got {bad.row(0)}: number the relations, and leave rows of unknown ones out"
        )
    strange = found.filter(~pl.col("scene").is_in(list(scenes)))
    if strange.height:
        raise DataError(f"the relations speak of scene {strange['scene'][0]!r}, which the trajectories do not have")
    several = found.filter(pl.struct(PAIR).is_duplicated())
    if several.height:
        raise DataError(f"the relations say two things of one pair: {several.row(0)} and others")


def label_matrices(
    labels: pl.DataFrame, entities: pl.DataFrame, scenes: Sequence[str], num_slots: int
) -> Float64[Tensor, "scene receiver sender"]:
    """The labels of ``scenes`` as matrices, NaN for pairs without a row.

    Args:
        labels: as :func:`read_labels` returns them.
        entities: ``scene_number, slot, entity`` of the scenes.
        scenes: their names.
        num_slots: how many entities a scene has room for.

    Raises:
        DataError: an entity that its scene does not have.
    """
    numbers = pl.DataFrame({"scene": list(scenes)}, schema={"scene": pl.String}).with_row_index("scene_number")
    found = labels.join(numbers, on="scene", maintain_order="left")
    for word in ("receiver", "sender"):
        slots = entities.select("scene_number", pl.col("entity").alias(word), pl.col("slot").alias(f"{word}_slot"))
        found = found.join(slots, on=["scene_number", word], how="left", maintain_order="left")
        strange = found.filter(pl.col(f"{word}_slot").is_null())
        if strange.height:
            raise DataError(
                f"the relations speak of the {word} {strange[word][0]!r} in scene {strange['scene'][0]!r}, which the "
                f"trajectories do not have there"
            )
    matrices = torch.full((len(scenes), num_slots, num_slots), math.nan, dtype=torch.float64)
    places = (found[name].to_list() for name in ("scene_number", "receiver_slot", "sender_slot"))
    index = tuple(torch.tensor(place, dtype=torch.int64) for place in places)
    matrices[index] = torch.tensor(found["relation"].to_list(), dtype=torch.float64)
    return matrices
