"""Tables from files and data frames, as rows of one form, wherever they come from.

Nothing is read here but the names of columns; numbers and names are only described, and polars reads them when
they are collected, only the columns that are used.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from bouncegrad.scenes.record import DataError
from bouncegrad.scenes.tables.cells import (
    exogenous_cells,
    extreme_cells,
    name_cells,
    number_cells,
    time_cells,
    unreadable_cells,
)
from bouncegrad.scenes.tables.columns import TableColumns, found_columns

ENDINGS = (".csv", ".tsv", ".parquet")
READING_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, UnicodeError)


@dataclass(frozen=True, slots=True)
class Part:
    """A file or a data frame: its columns, what it is called, and the name of its scene where no column has one."""

    frame: pl.LazyFrame
    place: str
    scene: str

    def schema(self) -> pl.Schema:
        """The names and types of its columns."""
        with clear_reading(self.place):
            return self.frame.collect_schema()


@dataclass(frozen=True, slots=True)
class Table:
    """Rows that have not been read yet.

    Attributes:
        frame: columns ``row, scene, entity, time, unreadable, f0, f1, ...`` and, where asked for, ``type`` and
            ``exogenous`` (and ``extreme``: so are those for whom it is the least of their scene). Numbers are float64,
            null where missing; ``unreadable`` marks text where numbers belong.
        text: ``row`` and the columns as they were, as text, to say what is wrong.
        columns: which columns these are.
        place: what to call the table.
    """

    frame: pl.LazyFrame
    text: pl.LazyFrame
    columns: TableColumns
    place: str

    def describe(self, row: int, column: str) -> str:
        """What stands in a column of a row, and who it is about."""
        with clear_reading(self.place):
            found = self.text.slice(row, 1).collect().row(0, named=True)
        names = [(word, getattr(self.columns, word)) for word in ("scene", "entity", "time")]
        about = ", ".join(f"{word} {found[name]!r}" for word, name in names if name is not None)
        return f"{self.place}: {column!r} is {found[column]!r} in row {row + 1} ({about})"


def open_table(source: Any, columns: TableColumns | None) -> Table:
    """A table from a path, several, a pattern such as ``games/*.csv``, or a data frame.

    Raises:
        DataError: no such file, another kind of file or object, or columns that cannot be found or used.
    """
    parts = table_parts(source)
    wanted = columns or TableColumns()
    found = found_columns(wanted, list(parts[0].schema()), parts[0].place)
    for part in parts:
        found_columns(found, list(part.schema()), part.place)
    used = list(found.used)
    text = pl.concat([part.frame.select(_as_text(part, name) for name in used) for part in parts])
    frame = pl.concat([_rows(part, found) for part in parts])
    place = parts[0].place if len(parts) == 1 else f"{parts[0].place} and {len(parts) - 1} more"
    return Table(frame.with_row_index("row"), text.with_row_index("the number of the row"), found, place)


def table_parts(source: Any) -> list[Part]:
    """The files or the frame that a source stands for."""
    if isinstance(source, str | os.PathLike):
        return [_file(path) for path in _paths(source)]
    if isinstance(source, list | tuple):
        if not source or not all(isinstance(path, str | os.PathLike) for path in source):
            raise DataError(f"expected a list of paths, got {source!r:.100}")
        return _named_apart([_file(path) for some in source for path in _paths(some)])
    if isinstance(source, pl.LazyFrame | pl.DataFrame):
        return [_frame(source.lazy())]
    return [_frame(_converted(source).lazy())]


def _frame(frame: pl.LazyFrame) -> Part:
    with clear_reading("the table"):
        return Part(_with_plain_names(frame), "the table", "0")


def _paths(source: str | os.PathLike[str]) -> list[Path]:
    try:
        if Path(source).exists() or not glob.has_magic(os.fspath(source)):
            return [Path(source)]
        found = sorted(glob.glob(os.fspath(source), recursive=True))
    except (ValueError, OSError) as error:
        raise DataError(f"{source!r} is no path: {error}") from error
    if not found:
        raise DataError(f"no file is called {os.fspath(source)}: check the pattern")
    return [Path(path) for path in found]


def _named_apart(parts: list[Part]) -> list[Part]:
    """Whole paths as names of scenes where the names of files alone are not different."""
    if len({part.scene for part in parts}) == len(parts):
        return parts
    return [Part(part.frame, part.place, part.place) for part in parts]


def _file(path: Path) -> Part:
    if not path.is_file():
        raise DataError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}: expected a .csv or .parquet")
    if path.suffix.lower() not in ENDINGS:
        raise DataError(f"{path} is no table that can be read: expected a file that ends in {', '.join(ENDINGS)}")
    with clear_reading(str(path)):
        if path.suffix.lower() == ".parquet":
            frame = pl.scan_parquet(path, glob=False)
        else:
            frame = pl.scan_csv(path, infer_schema=False, separator=_separator(path), glob=False)
        return Part(_with_plain_names(frame), str(path), path.stem)


def _with_plain_names(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Columns without the spaces around their names that a first line such as ``time, x, y`` gives them."""
    names = frame.collect_schema().names()
    plain = [name.strip() for name in names]
    if plain == names or len(set(plain)) < len(plain):
        return frame
    return frame.rename(dict(zip(names, plain, strict=True)))


def _separator(path: Path) -> str:
    """What parts the columns: whichever of comma, semicolon and tab is most often in the first line."""
    with path.open("rb") as file:
        first = file.readline(1 << 20)
    return max(",;\t", key=lambda mark: first.count(mark.encode()))


def _converted(source: Any) -> pl.DataFrame:
    """A data frame of another package, column by column: no package is needed for it but its own."""
    try:
        frame = nw.from_native(source)
        if isinstance(frame, nw.LazyFrame):
            frame = frame.collect()
        strange = [name for name in frame.columns if not isinstance(name, str)]
        if strange:
            raise TypeError(f"the name of a column must be text, got {strange[0]!r}")
        columns = {name: frame[name] for name in frame.columns}
    except (TypeError, ValueError, nw.exceptions.NarwhalsError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"expected a path to a .csv or .parquet, or a data frame, got {type(source).__name__}: {reason}"
        ) from error
    return pl.DataFrame([_series(name, column) for name, column in columns.items()])


def _series(name: str, column: Any) -> pl.Series:
    values = column.to_numpy()
    if values.dtype.kind in "iufb" and values.dtype.itemsize <= 8:
        return pl.Series(name, np.ascontiguousarray(values))
    missing = column.is_null().to_list()
    cells = [None if gone else value for value, gone in zip(column.to_list(), missing, strict=True)]
    kinds = {_kind(cell) for cell in cells if cell is not None}
    if len(kinds) > 1:
        raise DataError(f"the column {name!r} mixes {' and '.join(sorted(kinds))}: make all its cells one of them")
    try:
        return pl.Series(name, cells, strict=False)
    except (TypeError, ValueError, OverflowError, *READING_ERRORS) as error:
        raise DataError(f"the column {name!r} holds what no table can hold: {error}") from error


def _kind(cell: Any) -> str:
    if isinstance(cell, bool | np.bool_):
        return "truth values"
    return "numbers" if isinstance(cell, int | float | np.number) else f"cells of the type {type(cell).__name__}"


def _as_text(part: Part, name: str) -> pl.Expr:
    plain = not part.schema()[name].is_nested() and part.schema()[name] not in (pl.Object, pl.Binary)
    return pl.col(name).cast(pl.String, strict=False) if plain else pl.lit("?").alias(name)


def _rows(part: Part, columns: TableColumns) -> pl.LazyFrame:
    schema = part.schema()
    assert columns.time is not None
    assert columns.entity is not None
    scene = pl.lit(part.scene) if columns.scene is None else name_cells(columns.scene, schema)
    cells = [
        scene.alias("scene"),
        name_cells(columns.entity, schema).alias("entity"),
        time_cells(columns.time, schema).alias("time"),
        unreadable_cells(columns.features, schema).alias("unreadable"),
        *(number_cells(name, schema).alias(f"f{i}") for i, name in enumerate(columns.features)),
    ]
    if columns.entity_type is not None:
        cells.append(name_cells(columns.entity_type, schema).alias("type"))
    if columns.role is not None or columns.exogenous is not None:
        cells.append(exogenous_cells(columns.role, columns.exogenous, schema).alias("exogenous"))
    extreme = extreme_cells(columns.exogenous, schema)
    if extreme is not None:
        cells.append(extreme.alias("extreme"))
    return part.frame.select(cells)


@contextmanager
def clear_reading(place: str) -> Iterator[None]:
    """What goes wrong while a file is read, as an error that says which."""
    try:
        yield
    except READING_ERRORS as error:
        reason = next(iter(_lines(error)), type(error).__name__)
        raise DataError(f"{place} cannot be read, it may be damaged or no table ({reason}): repair it") from error


def _lines(error: BaseException) -> Iterable[str]:
    return (line.strip() for line in str(error).splitlines() if line.strip())
