"""Reproduction of published tables 1 and 2 and figure 3: each row is computed once and compared with published values.

A row is one method with one seed on a number of scenes of one system (:mod:`bouncegrad.reproduce.rows` lists them). Its
result is a self-contained JSON file; tables, figures and ``RESULTS.md`` are generated from these files alone.
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
    """The rows to compute.

    Attributes:
        target: ``table1``, ``table2`` or ``figure3``.
        scale: ``small`` or ``full``.
        systems: simulated systems.
        methods: names of methods; empty: all methods of the target.
        again: compute rows again that have a result.

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
    """Names of the methods of a table or figure, in its order."""
    return list(CURVES) if target == "figure3" else list(dict.fromkeys(line.method for line in TABLES[target]))


def rows_of(request: Request) -> list[Row]:
    """The rows of a request; for figure 3, those with few scenes first."""
    chosen = [name for name in methods_of(request.target) if not request.methods or name in request.methods]
    pairs = [(method, system) for system in request.systems for method in chosen]
    if request.target == "figure3":
        rows = [row for method, system in pairs for row in curve_rows(method, system, request.scale)]
        return sorted(rows, key=lambda row: row.num_scenes)
    return [table_row(method, system, request.scale) for method, system in pairs]


def reproduce(
    request: Request, places: Places, progress: Callable[[], AbstractContextManager[Watch | None]]
) -> Iterator[str]:
    """Compute the missing rows of a table or figure and write it; yields a line for each row when it is finished.

    All checks are done before the first row starts. After an interrupt, finished rows are kept, and the interrupted
    training resumes from its last epoch.

    Args:
        request: the rows to compute.
        places: folders and device.
        progress: context that gives a callback for the epochs of one training, or None.

    Raises:
        DataError: damaged results, results of other settings, or folders that cannot be used.
        ValueError: a method that this version does not have.
    """
    rows = rows_of(request)
    existing = {row: there_already(row, places, request.again) for row in rows}
    for row, found in existing.items():
        if found is None:
            with progress() as watch:
                found = do_row(row, places, watch, request.again)
            yield f"{describe_result(found)}, {found.seconds:.0f} s"
        else:
            yield f"{describe_result(found)}, there already"
    written = write_target(request.target, read_results(places.results), request.scale, places.results)
    yield f"the table is in {written}"


def rewrite_results(folder: str | os.PathLike[str], document: str | os.PathLike[str]) -> Path:
    """Rewrite the document, the tables and the pictures of all results in a folder; returns the path of the document.

    Raises:
        DataError: no results, damaged ones, or a path that cannot be written.
    """
    found = read_results(Path(folder))
    if not found:
        raise DataError(f"{folder} holds no results: compute rows first, with bouncegrad reproduce table1")
    link = os.path.relpath(folder, Path(document).parent)
    return write_results(found, Path(folder), Path(document), Path(link))


def describe_result(found: Result) -> str:
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
