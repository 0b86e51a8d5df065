"""Survey of a whole table before its scenes are read: names of scenes and entities, time step, sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import polars as pl

from bouncegrad.scenes.record import DataError
from bouncegrad.scenes.tables.sources import Table, clear_reading

Resample = Literal["mean", "linear", "nearest"]
Velocities = Literal["auto", "derive", "none"]

JITTER = 0.1
"""Largest deviation of a time from the grid, in steps, at which it counts as a time of the grid."""

SAMPLED_ROWS = 1_000_000
"""The time step is taken from the first scenes that have so many rows together: from all, in most tables."""

CELLS_PER_ROW = 100
SMALL_GRID = 100_000
"""A grid with more than so many cells for each row is refused, unless it has no more cells than the second number."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Settings of the conversion of a table to scenes.

    Attributes:
        time_step: time between two samples of the scenes; None: that of the table.
        resample: method of resampling to the grid of times; None: samples must lie on it.
        interpolate: longest gap, in samples, that is filled by interpolation.
        velocities: "auto": those that are missing are derived from positions; "derive": all are; "none": none.

    Raises:
        DataError: a setting that is none of these.
    """

    time_step: float | None = None
    resample: Resample | None = None
    interpolate: int = 0
    velocities: Velocities = "auto"

    def __post_init__(self) -> None:
        """Check the fields."""
        step = self.time_step
        if step is not None and (
            isinstance(step, bool) or not isinstance(step, int | float) or not 0 < step < math.inf
        ):
            raise DataError(f"time_step must be a positive number, in the unit of the times, got {step!r}")
        if self.resample is not None and self.resample not in get_args(Resample):
            raise DataError(f"resample must be one of {', '.join(get_args(Resample))}, got {self.resample!r}")
        if self.velocities not in get_args(Velocities):
            raise DataError(f"velocities must be one of {', '.join(get_args(Velocities))}, got {self.velocities!r}")
        if isinstance(self.interpolate, bool) or not isinstance(self.interpolate, int) or self.interpolate < 0:
            raise DataError(f"interpolate must be a number of samples, 0 or more, got {self.interpolate!r}")


@dataclass(frozen=True, slots=True)
class Survey:
    """A table, looked over.

    Attributes:
        table: the rows.
        reading: how they become scenes.
        scenes: a row for each scene in their order: ``scene, rows, start, stop, entities, first, last``, the last
            two being the first and the last row that is about it.
        entities: the names of all entities in their order: ``entity, rank``.
        types: the types of entities, in their order; () where there are none.
        own_step: the time step of the table itself.
        num_times, num_slots: the sizes of the longest and of the largest scene.
    """

    table: Table
    reading: Reading
    scenes: pl.DataFrame
    entities: pl.DataFrame
    types: tuple[str, ...]
    own_step: float
    num_times: int
    num_slots: int

    @property
    def time_step(self) -> float:
        """Time between two samples of the scenes."""
        return self.own_step if self.reading.time_step is None else float(self.reading.time_step)

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of the entities where all scenes have the same ones."""
        same = self.scenes["entities"].min() == self.entities.height
        return tuple(self.entities["entity"]) if same else None


def survey(table: Table, reading: Reading) -> Survey:
    """Survey a table, in two passes over its rows.

    Raises:
        DataError: an empty table, a row without scene, entity or time, a scene of one entity or one time, times that
            make no grid or far too large a one.
    """
    with clear_reading(table.place):
        scenes, entities, types = _collected(table)
        _check_scenes(table, scenes)
        step = _own_step(table, scenes, reading)
    chosen = step if reading.time_step is None else float(reading.time_step)
    num_times = _num_times(scenes, reading, chosen, step)
    num_slots = int(scenes["entities"].to_numpy().max())
    _check_grid(table, scenes, (scenes.height, num_times, num_slots), chosen)
    return Survey(table, reading, scenes, entities, types, step, int(num_times), num_slots)


def _collected(table: Table) -> tuple[pl.DataFrame, pl.DataFrame, tuple[str, ...]]:
    frame = table.frame
    time = pl.col("time")
    per_scene = frame.group_by("scene").agg(
        rows=pl.len(),
        start=time.min(),
        stop=time.max(),
        entities=pl.col("entity").n_unique(),
        first=pl.col("row").min(),
        last=pl.col("row").max(),
        bad=pl.col("row").filter(time.is_null() | ~time.is_finite() | pl.col("entity").is_null()).min(),
    )
    queries = [per_scene, frame.select(pl.col("entity").unique())]
    if table.columns.entity_type is not None:
        queries.append(frame.select(pl.col("type").unique()))
    scenes, entities, *types = pl.collect_all(queries, engine="streaming")
    _check_rows(table, scenes)
    found = types[0]["type"].to_list() if types else []
    if None in found:
        row = frame.filter(pl.col("type").is_null()).select("row").head(1).collect().item()
        raise DataError(
            f"{table.describe(row, str(table.columns.entity_type))}: every row needs the type of its entity"
        )
    ordered = _in_order(scenes, "scene").drop("bad")
    return ordered, _in_order(entities, "entity").with_row_index("rank"), tuple(sorted(found))


def _in_order(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """Sorted by number where all names are whole numbers, else by letters."""
    number = pl.col(column).cast(pl.Int64, strict=False)
    numbers = frame.select(number.is_not_null().all()).item()
    return frame.sort([number, pl.col(column)] if numbers else column)


def _check_rows(table: Table, scenes: pl.DataFrame) -> None:
    if not scenes.height:
        raise DataError(f"{table.place} has no rows: expected one for each entity at each time")
    nameless = scenes.filter(pl.col("scene").is_null())
    if nameless.height:
        text = table.describe(nameless["first"].item(), str(table.columns.scene))
        raise DataError(f"{text}: every row needs the name of its scene")
    bad = scenes["bad"].min()
    if bad is None:
        return
    assert isinstance(bad, int)
    [row] = table.frame.slice(bad, 1).select("entity", "time").collect().rows()
    if row[0] is None:
        raise DataError(f"{table.describe(bad, str(table.columns.entity))}: every row needs the name of its entity")
    raise DataError(f"{table.describe(bad, str(table.columns.time))}: a time is a finite number or a date")


def _check_scenes(table: Table, scenes: pl.DataFrame) -> None:
    for few, word in ((pl.col("entities") < 2, "entity"), (pl.col("start") == pl.col("stop"), "time")):
        found = scenes.filter(few)["scene"].to_list()
        if found:
            hint = "" if table.columns.scene else " (no column says which scene a row belongs to)"
            raise DataError(
                f"scene {found[0]!r} of {table.place} has one {word} only{hint}, expected at least 2 to see who acts "
                f"on whom; leave it out ({len(found)} such scenes)"
            )


def _own_step(table: Table, scenes: pl.DataFrame, reading: Reading) -> float:
    """The median of the differences between neighbouring times of an entity, made exact by those that fit it.

    With n_i = round(d_i / median), the step is sum(d_i) / sum(n_i) over the differences d_i within a fifth of n_i
    medians: times of single precision are off by some share of a step, their sum is not.
    """
    chosen = scenes.filter((pl.col("rows").cum_sum() - pl.col("rows")) < SAMPLED_ROWS)
    rows = table.frame if chosen.height == scenes.height else part_of(table, chosen)
    order = ["scene", "entity", "time"]
    times = rows.select(order).unique().collect(engine="streaming").sort(order)
    track = ["scene", "entity"]
    found = times.select(pl.col("time").diff().over(track)).to_series().drop_nulls().to_numpy()
    if not len(found):
        if reading.time_step is not None:
            return float(reading.time_step)
        raise DataError(f"no entity of {table.place} was measured twice in a scene: say the time step with time_step")
    with np.errstate(all="ignore"):
        median = float(np.quantile(found, 0.5, method="lower"))
        counts = np.round(found / median)
        fitting = (counts >= 1) & (counts < SAMPLED_ROWS) & (np.abs(found / median - counts) <= 2 * JITTER)
        step = float(found[fitting].sum() / counts[fitting].sum())
        longest = float((scenes["stop"] - scenes["start"]).to_numpy().max()) / step
    if not math.isfinite(step):
        raise DataError(f"{table.place}: times that far apart have no common step; correct them")
    short = float(f"{step:.6g}")
    return short if abs(short - step) * longest <= JITTER * JITTER * step else step


def part_of(table: Table, scenes: pl.DataFrame) -> pl.LazyFrame:
    """The rows of some of the scenes, from the first to the last of them."""
    first = int(scenes["first"].to_numpy().min())
    length = int(scenes["last"].to_numpy().max()) - first + 1
    return table.frame.slice(first, length).filter(pl.col("scene").is_in(scenes["scene"].to_list()))


def _num_times(scenes: pl.DataFrame, reading: Reading, step: float, own_step: float) -> float:
    with np.errstate(all="ignore"):
        span = float(((scenes["stop"] - scenes["start"]).to_numpy() / step).max())
        return float(np.floor(span + time_margin(reading.resample, own_step / step))) + 1


def time_margin(resample: Resample | None, own_step: float) -> float:
    """How far before its grid time a sample still belongs to it, in steps of the grid, the own step given in them."""
    if resample is None:
        return 0.5
    return (0.5 if resample == "mean" else JITTER) * min(own_step, 1.0)


def _check_grid(table: Table, scenes: pl.DataFrame, sizes: Sequence[float], step: float) -> None:
    cells, rows = math.prod(sizes), int(scenes["rows"].sum())
    if not cells <= max(CELLS_PER_ROW * rows, SMALL_GRID):
        longest = scenes.sort(pl.col("stop") - pl.col("start"))[-1].row(0, named=True)
        raise DataError(
            f"{table.place}: {rows} rows would need {cells:.3g} places ({sizes[0]} scenes of {sizes[1]:.6g} times of "
            f"{step:.6g} and {sizes[2]} entities); the longest scene is {longest['scene']!r}, from {longest['start']} "
            f"to {longest['stop']}: correct a mistyped time, choose a larger time_step with resample, or read scenes "
            f"of very different lengths one by one"
        )
