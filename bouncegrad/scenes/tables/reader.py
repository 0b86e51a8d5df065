"""Reader of scenes from a surveyed table, some or all of them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import polars as pl
import torch

from bouncegrad.scenes.record import DataError, Scenes
from bouncegrad.scenes.tables.columns import TableColumns, position_names, velocity_name
from bouncegrad.scenes.tables.grid import Track, on_grid
from bouncegrad.scenes.tables.labels import label_matrices, read_labels
from bouncegrad.scenes.tables.motion import fill_gaps, velocities_of
from bouncegrad.scenes.tables.rows import Rows, read_rows
from bouncegrad.scenes.tables.sources import open_table
from bouncegrad.scenes.tables.survey import Reading, Survey, survey


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of rows and samples that were read, dropped, filled or derived for some scenes.

    Attributes:
        rows: number of rows.
        missing: rows without a number in some feature, which count as not measured.
        identical: rows that repeat another one, which are dropped.
        filled: samples that were interpolated inside gaps.
        alone: samples that were left out because no velocity can be derived without a neighbour.
        leaderless: scenes without an exogenous entity although a column marks them.
    """

    rows: int = 0
    missing: int = 0
    identical: int = 0
    filled: int = 0
    alone: int = 0
    leaderless: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(Counts)))

    def lines(self) -> list[str]:
        """A line of text for each count that is not 0."""
        words = {
            "missing": "rows lack a number and are taken for not measured",
            "identical": "rows repeat another one and were dropped",
            "filled": "samples inside short gaps were interpolated",
            "alone": "samples without measured neighbours have no velocity and were left out",
            "leaderless": "scenes have no exogenous entity",
        }
        return [f"{getattr(self, word)} {text}" for word, text in words.items() if getattr(self, word)]


@dataclass(frozen=True, slots=True)
class Part:
    """Some scenes of a table, with the counts of their rows."""

    scenes: Scenes
    counts: Counts


@dataclass(frozen=True, slots=True)
class TableReader:
    """A surveyed table, whose scenes can be read, some or all of them.

    All parts have the same times, slots and features, those of the largest scene, so that :func:`stack_scenes` makes
    one set of them.
    """

    survey: Survey
    labels: pl.DataFrame | None

    @classmethod
    def open(cls, source: Any, columns: TableColumns | None, reading: Reading, relations: Any = None) -> TableReader:
        """Survey a table, and read the known relations."""
        found = survey(open_table(source, columns), reading)
        _velocity_names(found)
        return cls(found, None if relations is None else read_labels(relations, found.scenes["scene"].to_list()))

    @property
    def num_scenes(self) -> int:
        """Number of scenes."""
        return self.survey.scenes.height

    def read(self, start: int, stop: int) -> Part:
        """The scenes ``start .. stop - 1``."""
        chosen = self.survey.scenes.slice(start, stop - start)
        rows = read_rows(self.survey, chosen)
        sizes = (chosen.height, self.survey.num_times, self.survey.num_slots)
        own_step = self.survey.own_step / self.survey.time_step
        with np.errstate(over="ignore", invalid="ignore"):  # numbers too large are refused by the record
            raw = on_grid(rows.samples, sizes, self.survey.reading.resample, own_step)
            filled = fill_gaps(raw, self.survey.reading.interpolate) if self.survey.reading.interpolate else raw
            track = _with_velocities(filled, self.survey)
        _check_left(self.survey, chosen, filled, "")
        _check_left(self.survey, chosen, track, " that have a neighbour in time, so that there are velocities")
        scenes = self._scenes(chosen, rows, track)
        counts = Counts(
            rows=int(chosen["rows"].sum()),
            missing=rows.num_missing,
            identical=rows.num_identical,
            filled=int(filled.mask.sum() - raw.mask.sum()),
            alone=int(filled.mask.sum() - track.mask.sum()),
            leaderless=0 if scenes.exogenous is None else int((~scenes.exogenous.any(1)).sum()),
        )
        return Part(scenes, counts)

    def remarks(self) -> list[str]:
        """A line of text for each guess and each derived quantity."""
        columns, found = self.survey.table.columns, self.survey
        where = "each file is one" if columns.scene is None else f"column {columns.scene!r}"
        lines = [
            f"scene: {where}; time: column {columns.time!r}; entity: column {columns.entity!r}; "
            f"features: {', '.join(columns.features)}"
        ]
        if found.reading.time_step is None:
            lines.append(f"time step: {found.time_step:.6g}, the median of the differences")
        derived = _velocity_names(found)
        if derived:
            lines.append(f"velocities: {', '.join(derived)} derived by central differences of neighbouring samples")
        return lines

    def _scenes(self, chosen: pl.DataFrame, rows: Rows, track: Track) -> Scenes:
        names, num_slots = chosen["scene"].to_list(), self.survey.num_slots
        where = (rows.entities["scene_number"].to_numpy(), rows.entities["slot"].to_numpy().astype(np.int64))
        words = np.full((len(names), num_slots), "", dtype=object)
        words[where] = rows.entities["entity"].to_list()
        exogenous = None
        if "exogenous" in rows.entities.columns:
            marks = np.zeros((len(names), num_slots), dtype=bool)
            marks[where] = rows.entities["exogenous"].to_numpy()
            exogenous = torch.from_numpy(marks)
        return Scenes(
            states=torch.from_numpy(_with_types(track, rows, self.survey.types)),
            mask=torch.from_numpy(track.mask),
            time_step=self.survey.time_step,
            feature_names=(*_feature_names(self.survey), *(f"type={name}" for name in self.survey.types)),
            entity_names=self.survey.names or tuple(str(slot) for slot in range(num_slots)),
            relations=None if self.labels is None else label_matrices(self.labels, rows.entities, names, num_slots),
            exogenous=exogenous,
            scene_names=tuple(names),
            names=tuple(tuple(some) for some in words.tolist()),
        )


def _velocity_names(found: Survey) -> list[str]:
    """The velocities that are to be derived."""
    names = found.table.columns.features
    positions = position_names(names)
    if found.reading.velocities == "none":
        return []
    if found.reading.velocities == "derive":
        if not positions:
            raise DataError(f"velocities are derived from positions such as 'x', got the features {names}")
        return [velocity_name(name, names) for name in positions]
    return [velocity for name in positions if (velocity := velocity_name(name, names)) not in names]


def _feature_names(found: Survey) -> tuple[str, ...]:
    """As in the table where nothing is derived; else positions, their velocities, and the rest."""
    names = found.table.columns.features
    if not _velocity_names(found):
        return names
    positions = position_names(names)
    moving = [*positions, *(velocity_name(name, names) for name in positions)]
    return (*moving, *(name for name in names if name not in moving))


def _with_velocities(track: Track, found: Survey) -> Track:
    derived = _velocity_names(found)
    if not derived:
        return track
    names = found.table.columns.features
    index = [names.index(name) for name in position_names(names) if velocity_name(name, names) in derived]
    velocities, known = velocities_of(track.states[..., index], track.mask, found.time_step)
    columns = {name: track.states[..., i] for i, name in enumerate(names)}
    columns |= {name: velocities[..., i] for i, name in enumerate(derived)}
    states = np.stack([columns[name] for name in _feature_names(found)], axis=-1)
    return Track(np.where(known[..., None], states, 0.0), known)


def _with_types(track: Track, rows: Rows, types: tuple[str, ...]) -> np.ndarray:
    if not types:
        return track.states
    scenes, _, slots = track.mask.shape
    one_hot = np.zeros((scenes, slots, len(types)))
    number = {name: i for i, name in enumerate(types)}
    entities = rows.entities
    where = (entities["scene_number"].to_numpy(), entities["slot"].to_numpy().astype(np.int64))
    one_hot[(*where, np.array([number[name] for name in entities["type"]]))] = 1.0
    return np.concatenate((track.states, one_hot[:, None] * track.mask[..., None]), axis=-1)


def _check_left(found: Survey, chosen: pl.DataFrame, track: Track, what: str) -> None:
    for axis, word in ((1, "entities"), (2, "times")):
        few = np.nonzero(track.mask.any(axis=axis).sum(axis=-1) < 2)[0]
        if len(few):
            raise DataError(
                f"scene {chosen['scene'][int(few[0])]!r} of {found.table.place} has not 2 measured {word}{what}, at a "
                f"time step of {found.time_step:.6g}: leave it out, or look at its numbers and at the time step"
            )
