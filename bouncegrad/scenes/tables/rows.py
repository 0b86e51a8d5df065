"""The rows of some scenes, cleaned: every entity in a slot, every sample once and at its place in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from bouncegrad.scenes.record import DataError
from bouncegrad.scenes.tables.grid import Samples
from bouncegrad.scenes.tables.sources import clear_reading
from bouncegrad.scenes.tables.survey import JITTER, Survey, part_of

PLACE = ["scene_number", "slot", "position"]


@dataclass(frozen=True, slots=True)
class Rows:
    """The cleaned rows of some scenes of a table.

    Attributes:
        samples: what was measured.
        entities: a row for each entity of each scene: ``scene_number, slot, entity`` and, where asked for, ``type``
            and ``exogenous``.
        num_missing: rows in which a feature was missing.
        num_identical: rows that said the same as another.
    """

    samples: Samples
    entities: pl.DataFrame
    num_missing: int
    num_identical: int


def read_rows(survey: Survey, scenes: pl.DataFrame) -> Rows:
    """Read and clean the rows of ``scenes``, some rows of ``survey.scenes``.

    Raises:
        DataError: text or infinities where numbers belong, a role or type that changes, samples at one time that
            contradict each other, or times off the grid where nothing is resampled.
    """
    with clear_reading(survey.table.place):
        rows = part_of(survey.table, scenes).collect(engine="streaming")
    features = [f"f{i}" for i in range(len(survey.table.columns.features))]
    _check_numbers(survey, rows, features)
    if "extreme" in rows.columns:  # a scene may lie in several files, and here all of its rows are together
        least = pl.col("extreme") == pl.col("extreme").min().over("scene")
        rows = rows.with_columns(exogenous=pl.col("exogenous") | least.fill_null(False))
    rows = _in_slots(survey, scenes, rows)
    entities = _entities(survey, rows)
    measured = rows.drop_nulls(features).sort([*PLACE, "row"])
    once = _once(survey, measured, features)
    if survey.reading.resample is None:
        once = _once(survey, _snapped(survey, once).sort([*PLACE, "row"]), features)
    samples = Samples(
        once["scene_number"].to_numpy().astype(np.int64),
        once["slot"].to_numpy().astype(np.int64),
        once["position"].to_numpy().astype(np.float64),
        once.select(features).to_numpy().astype(np.float64).reshape(once.height, len(features)),
    )
    return Rows(samples, entities, rows.height - measured.height, measured.height - once.height)


def _check_numbers(survey: Survey, rows: pl.DataFrame, features: Sequence[str]) -> None:
    names = survey.table.columns.features
    unreadable = rows.filter("unreadable")
    if unreadable.height:
        first = unreadable.row(0, named=True)
        text = [
            survey.table.describe(first["row"], name)
            for name, f in zip(names, features, strict=True)
            if first[f] is None
        ]
        raise DataError(f"{text[0]}: expected a number, or an empty cell where nothing was measured")
    for name, feature in zip(names, features, strict=True):
        infinite = rows.filter(pl.col(feature).is_infinite())
        if infinite.height:
            text = survey.table.describe(infinite["row"][0], name)
            raise DataError(f"{text}: expected a finite number; leave the cell empty where nothing was measured")


def _in_slots(survey: Survey, scenes: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    numbered = scenes.select("scene", "start").with_row_index("scene_number")
    found = rows.join(numbered, on="scene").join(survey.entities, on="entity")
    return found.with_columns(
        slot=pl.col("rank").rank("dense").over("scene_number") - 1,
        position=(pl.col("time") - pl.col("start")) / survey.time_step,
    )


def _entities(survey: Survey, rows: pl.DataFrame) -> pl.DataFrame:
    columns = survey.table.columns
    kept = {"type": columns.entity_type, "exogenous": columns.role or (columns.exogenous or [None])[0]}
    kept = {word: name for word, name in kept.items() if name is not None}
    found = rows.group_by("scene_number", "slot").agg(
        pl.col("scene", "entity", *kept).first(), *(pl.col(word).n_unique().alias(f"num_{word}") for word in kept)
    )
    for word, name in kept.items():
        several = found.filter(pl.col(f"num_{word}") > 1).sort("scene_number", "slot")
        if several.height:
            raise DataError(
                f"the {'role' if word == 'exogenous' else word} of {_who(several)}, column {name!r}, changes, and an "
                f"entity keeps its own within a scene: part the scene where it changes, or correct the column"
            )
    return found.sort("scene_number", "slot").select("scene_number", "slot", "entity", *kept)


def _once(survey: Survey, rows: pl.DataFrame, features: Sequence[str]) -> pl.DataFrame:
    """Rows sorted by :data:`PLACE` without those that repeat the one before."""
    kept = rows.unique([*PLACE, *features], keep="first", maintain_order=True)
    several = kept.filter(pl.struct(PLACE).is_duplicated())
    if several.height:
        values = [tuple(several.select(features).row(i)) for i in (0, 1)]
        raise DataError(
            f"{survey.table.place} has different samples of {_who(several)} at one time, {several['time'][0]}: "
            f"{values[0]} and {values[1]} for {survey.table.columns.features}; keep one, or name the column that "
            f"tells them apart (scene: {survey.table.columns.scene!r}, entity: {survey.table.columns.entity!r})"
        )
    return kept


def _snapped(survey: Survey, rows: pl.DataFrame) -> pl.DataFrame:
    """Positions that are whole numbers.

    The grid of a scene is moved by the median of how far its samples are off, so that the first sample may be late.
    """
    position = pl.col("position")
    shift = (position - position.round()).median().over("scene_number")
    moved = rows.with_columns(position=position - shift)
    off = moved.filter(~((position - position.round()).abs() <= JITTER))
    if off.height:
        row = off.row(0, named=True)
        raise DataError(
            f"uneven times in {survey.table.place}: {_who(off)} was measured at time {row['time']}, which is "
            f"{row['position']:.6g} time steps of {survey.time_step:.6g} after the start of its scene, expected a "
            f"whole number; choose resample='mean', 'linear' or 'nearest' (--resample) and a time_step, or give the "
            f"true time_step"
        )
    return moved.with_columns(position=position.round())


def _who(rows: pl.DataFrame) -> str:
    return f"entity {rows['entity'][0]!r} in scene {rows['scene'][0]!r}"
