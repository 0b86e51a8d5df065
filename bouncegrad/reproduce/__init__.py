"""The tables and the figure of the literature: every row done once, every number beside the published one.

A row is one method on so many scenes of one system, with one seed (:mod:`bouncegrad.reproduce.rows` lists them). Its
result is a JSON file that stands for itself; tables, figures and ``RESULTS.md`` are made of these files alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bouncegrad.reproduce.curves import CURVES
from bouncegrad.reproduce.document import TARGETS, write_results, write_target
from bouncegrad.reproduce.functions import Watch
from bouncegrad.reproduce.result import Result, read_results
from bouncegrad.reproduce.rows import SYSTEMS, Row, curve_rows, table_row
from bouncegrad.reproduce.tables import TABLES
from bouncegrad.reproduce.work import Places, do_row, there_already
from bouncegrad.scenes import DataError

__all__ = ["TARGETS", "Places", "Request", "reproduce", "rewrite_results", "rows_of"]


@dataclass(frozen=True, slots=True)
class Request:
    """What to reproduce.

    Attributes:
        target: ``table1``, ``table2`` or ``figure3``.
        scale: ``small`` or ``full``.
        systems: on which scenes.
        methods: by which methods; empty: by all of the target.
        again: do rows again that are there already.

    Raises:
        ValueError: a method that the target does not have.
    """

    target: str
    scale: str = "small"
    systems: tuple[str, ...] = SYSTEMS
    methods: tuple[str, ...] = ()
    again: bool = False

    def __post_init__(self) -> None:
        for method in self.methods:
            if method not in methods_of(self.target):
                names = ", ".join(methods_of(self.target))
                raise ValueError(f"{self.target} has no rows {method!r}: choose from {names}")


def methods_of(target: str) -> list[str]:
    """The methods of a table or figure, in its order."""
    return list(CURVES) if target == "figure3" else list(dict.fromkeys(line.method for line in TABLES[target]))


def rows_of(request: Request) -> list[Row]:
    """The rows that a request needs, those of few scenes first."""
    chosen = [name for name in methods_of(request.target) if not request.methods or name in request.methods]
    pairs = [(method, system) for system in request.systems for method in chosen]
    if request.target == "figure3":
        rows = [row for method, system in pairs for row in curve_rows(method, system, request.scale)]
        return sorted(rows, key=lambda row: row.num_scenes)
    return [table_row(method, system, request.scale) for method, system in pairs]


def reproduce(
    request: Request, places: Places, progress: Callable[[], AbstractContextManager[Watch | None]]
) -> Iterator[str]:
    """Do what is missing of a table or figure and write it; yields a line for each row as it is done.

    All that can be refused is refused before the first row is begun. Interrupted, it keeps finished rows, and the row
    that was being trained goes on from its last epoch.

    Args:
        request: what to reproduce.
        places: where things lie.
        progress: opens something to watch the epochs of one training with.

    Raises:
        DataError: damaged results, results of other settings, or places that cannot be used.
        ValueError: a method that this version does not have.
    """
    rows = rows_of(request)
    there = {row: there_already(row, places, request.again) for row in rows}
    for row, found in there.items():
        if found is None:
            with progress() as watch:
                found = do_row(row, places, watch, request.again)
            yield f"{said_of(found)}, {found.seconds:.0f} s"
        else:
            yield f"{said_of(found)}, there already"
    written = write_target(request.target, read_results(places.results), request.scale, places.results)
    yield f"the table is in {written}"


def rewrite_results(folder: str | os.PathLike[str], document: str | os.PathLike[str]) -> Path:
    """Write the document of all results in a folder, their tables and pictures again; returns where the document is.

    Raises:
        DataError: no results, damaged ones, or a place that cannot be written.
    """
    found = read_results(Path(folder))
    if not found:
        raise DataError(f"{folder} holds no results: do rows first, with bouncegrad reproduce table1")
    seen = os.path.relpath(folder, Path(document).parent)
    return write_results(found, Path(folder), Path(document), Path(seen))


def said_of(found: Result) -> str:
    """A result in one line."""
    parts = []
    for reading, figures in found.figures.items():
        accuracy, errors = figures.get("relation_accuracy"), figures.get("mse")
        right = [] if accuracy is None else [f"{accuracy:.2%} right"]
        error = [f"errors {' / '.join(_short(error) for error in errors.values())}"] if errors else []
        parts.append(f"{reading} " + ", ".join(right + error))
    return f"{found.row}: {'; '.join(parts)}"


def _short(error: float | None) -> str:
    return "none" if error is None else f"{error:.3g}"
