"""Functions that read scenes from tidy tables: all at once, or in chunks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import chain
from typing import Any

from bouncegrad.scenes.record import DataError, Scenes
from bouncegrad.scenes.tables.columns import TableColumns
from bouncegrad.scenes.tables.reader import Counts, TableReader
from bouncegrad.scenes.tables.survey import Reading, Resample, Velocities

LOG = logging.getLogger(__name__)


def read_table(
    source: Any,
    columns: TableColumns | None = None,
    *,
    relations: Any = None,
    time_step: float | None = None,
    resample: Resample | None = None,
    interpolate: int = 0,
    velocities: Velocities = "auto",
) -> Scenes:
    """Scenes from a tidy table: one row is one entity of one scene at one time.

    Scenes may have different entities and lengths. Both are sorted, by number where all names are whole numbers and
    else by letters, whatever the order of the rows; the entities of a scene fill the first slots, and the slots and
    times that are left over are masked. What is guessed, derived and dropped is said in the log.

    Args:
        source: a .csv, .tsv or .parquet, a list or a pattern of them (``"games/*.csv"``), or a data frame of polars,
            pandas or any other package that narwhals knows.
        columns: which columns hold what; None: guessed from their names.
        relations: a table with the columns ``scene, receiver, sender, relation``; pairs without a row are unknown.
        time_step: from one time to the next, in the unit of the times; None: the median of their differences.
        resample: None: the times of a scene must lie on one grid, but for a tenth of a step. "mean": each time of
            the grid is the mean of the samples in its bin. "linear": interpolated between neighbours that are not
            more than 1.5 of the table's own steps apart. "nearest": the nearest sample within 0.75 of them.
        interpolate: gaps of at most so many samples inside what was measured of an entity are filled linearly.
        velocities: "auto": velocities that the positions ``x``, ``y``, ``z``, ``x0``, ... lack are derived, v(t) =
            (x(t + 1) - x(t - 1)) / (2 time steps), one-sided where a neighbour was not measured; "derive": also those
            that the table has; "none": none. They follow the positions, all other features come after them.

    A sample in which a feature is missing counts as not measured. Rows that say the same twice are dropped.

    Raises:
        DataError: whatever is wrong with the table; it says where, what was expected and what to do.

    Example:
        >>> import polars
        >>> table = polars.DataFrame({"time": [0, 1, 0, 1], "car": ["b", "b", "a", "a"], "x": [0.0, 2.0, 5.0, 5.0]})
        >>> scenes = read_table(table)
        >>> scenes.names_in(0), scenes.feature_names, scenes.states[0, 0].tolist()
        (('a', 'b'), ('x', 'vx'), [[5.0, 0.0], [0.0, 2.0]])
    """
    reader = TableReader.open(source, columns, Reading(time_step, resample, interpolate, velocities), relations)
    part = reader.read(0, reader.num_scenes)
    for line in chain(reader.remarks(), part.counts.lines()):
        LOG.info("%s: %s", reader.survey.table.place, line)
    return part.scenes


def iter_tables(
    source: Any,
    columns: TableColumns | None = None,
    *,
    scenes_at_once: int = 64,
    relations: Any = None,
    time_step: float | None = None,
    resample: Resample | None = None,
    interpolate: int = 0,
    velocities: Velocities = "auto",
) -> Iterator[Scenes]:
    """The scenes of :func:`read_table`, so many at a time: for tables that are larger than the memory.

    Every part has the sizes of the whole; stacked, they are what :func:`read_table` returns. The table is gone
    through twice before the first part (for its scenes and times), and from the first row of a part's scenes to
    the last one for each: files in the order of their scenes are read fastest.

    Raises:
        DataError: as :func:`read_table`, at once for all that is seen without reading the features.
    """
    if isinstance(scenes_at_once, bool) or not isinstance(scenes_at_once, int) or scenes_at_once < 1:
        raise DataError(f"scenes_at_once must be a number of scenes, 1 or more, got {scenes_at_once!r}")
    reader = TableReader.open(source, columns, Reading(time_step, resample, interpolate, velocities), relations)
    return _parts(reader, scenes_at_once)


def _parts(reader: TableReader, scenes_at_once: int) -> Iterator[Scenes]:
    counts = Counts()
    for start in range(0, reader.num_scenes, scenes_at_once):
        part = reader.read(start, min(start + scenes_at_once, reader.num_scenes))
        counts += part.counts
        yield part.scenes
    for line in chain(reader.remarks(), counts.lines()):
        LOG.info("%s: %s", reader.survey.table.place, line)
