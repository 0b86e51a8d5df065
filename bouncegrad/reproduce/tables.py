"""Markdown tables of results: our value, the published value, and the computational cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bouncegrad.evaluation.score import STEPS
from bouncegrad.reproduce.curves import ACCURACIES, CURVES, FAST, SLOW, Point, curve_of, scenes_needed, times_fewer
from bouncegrad.reproduce.published import PREDICTION, RELATIONS
from bouncegrad.reproduce.result import Result
from bouncegrad.reproduce.rows import SYSTEMS, table_row

NOTHING = "–"
"""Text in place of a missing number."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a table.

    Attributes:
        title: text in the first column.
        method: name of the method.
        reading: reading of the figures.
        published: name of the published value in :mod:`bouncegrad.reproduce.published`; None: there is none.
    """

    title: str
    method: str
    reading: str
    published: str | None = None


_FAST = (
    Line("`fast`, no prior", "fast", "none"),
    Line("`fast`, symmetric graphs", "fast", "symmetric"),
    Line("`fast`, classes of entities", "fast", "classes"),
    Line("`fast`, prior chosen by evidence", "fast", "auto"),
)

TABLES: dict[str, tuple[Line, ...]] = {
    "table1": (
        Line("static", "static", "prediction", "static"),
        Line("LSTM, one entity", "lstm-single", "prediction", "lstm-single"),
        Line("LSTM, all entities", "lstm-joint", "prediction", "lstm-joint"),
        Line("NRI decoder, one kind (full graph)", "nri-full", "full", "nri-full"),
        Line("NRI", "nri", "proposal", "nri"),
        Line("modular meta-learning", "alet2019", "none", "alet2019"),
        *_FAST,
        Line("`fast-forecast`, prior chosen by evidence", "fast-forecast", "auto"),
        Line("NRI decoder, true graph", "nri-true", "truth", "nri-true"),
    ),
    "table2": (
        Line("correlation of the trajectories", "correlation", "relations", "correlation"),
        Line("correlation of LSTM states", "lstm-single", "relations", "correlation-lstm"),
        Line("NRI", "nri", "proposal", "nri"),
        Line("modular meta-learning", "alet2019", "none", "alet2019"),
        Line("modular meta-learning, its proposal network", "alet2019", "proposal"),
        *_FAST,
        Line("encoder trained with the true relations", "nri-true", "proposal", "supervised"),
    ),
}
"""Table -> lines: ``table1``, prediction errors; ``table2``, relation accuracy."""

COST = ("training scenes", "test scenes", "epochs", "seeds", "seconds", "CPU seconds", "hardware")


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown.

    Example:
        >>> print(markdown(["method", "error"], [["static", "7.8e-05"]]))
        | method | error |
        |---|---|
        | static | 7.8e-05 |
    """
    lines = [head, *rows]
    text = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([text[0], "|" + "---|" * len(head), *text[1:]])


def results_of(results: Iterable[Result], line: Line, system: str, scale: str) -> list[Result]:
    """The results of a line of a table: all seeds, at the number of scenes of the tables, that have its reading."""
    row = table_row(line.method, system, scale)
    key = (row.method, row.system, row.scale, row.num_scenes)
    found = (r for r in results if (r.method, r.system, r.scale, r.num_scenes) == key and line.reading in r.figures)
    return sorted(found, key=lambda result: result.seed)


def table(name: str, results: Sequence[Result], system: str, scale: str) -> str:
    """Table 1 (prediction errors) or 2 (relations) of one system; rows without a result say so."""
    head, cells = (_ERRORS_HEAD, _error_cells) if name == "table1" else (_RELATIONS_HEAD, _relation_cells)
    rows = []
    for line in TABLES[name]:
        found = results_of(results, line, system, scale)
        rows.append([line.title, *cells(line, system, found), *cost_cells(found)])
    return markdown([*head, *COST], rows)


_ERRORS_HEAD = ("method", *(f"step {step}" for step in STEPS), "published")
_RELATIONS_HEAD = ("method", "relations right, %", "calibration error", "published, %")


def _error_cells(line: Line, system: str, found: Sequence[Result]) -> list[str]:
    ours = [over_seeds(found, _error_at(line, step), error_text) for step in STEPS]
    known = PREDICTION[line.published][system] if line.published else ()
    return [*ours, " / ".join(NOTHING if error is None else error_text(error) for error in known) or NOTHING]


def _error_at(line: Line, step: int) -> Callable[[Result], Any]:
    return lambda result: result.figures[line.reading].get("mse", {}).get(str(step))


def _relation_cells(line: Line, system: str, found: Sequence[Result]) -> list[str]:
    right = over_seeds(found, lambda result: result.figures[line.reading].get("relation_accuracy"), percent)
    sure = over_seeds(found, lambda result: result.figures[line.reading].get("calibration_error"), "{:.3f}".format)
    return [right, sure, percent(RELATIONS[line.published][system], 1) if line.published else NOTHING]


def over_seeds(found: Sequence[Result], number: Callable[[Result], Any], text: Callable[[float], str]) -> str:
    """Text for the median over seeds and, where they differ, the range."""
    numbers = [value for value in map(number, found) if value is not None]
    if not numbers:
        return NOTHING
    middle, low, high = text(median(numbers)), text(min(numbers)), text(max(numbers))
    return middle if low == high else f"{middle} ({low} to {high})"


def cost_cells(found: Sequence[Result]) -> list[str]:
    """The cells of the columns :data:`COST`: scenes, epochs, seeds, time and hardware."""
    if not found:
        return ["no result yet", *[NOTHING] * (len(COST) - 1)]
    first = found[0]
    machines = {f"{result.hardware}; {_threads(result.threads)}" for result in found}
    return [
        f"{first.num_scenes:,}",
        f"{first.scenes['test']:,}",
        NOTHING if first.passes is None else f"{first.passes:,}",
        ", ".join(str(result.seed) for result in found),
        over_seeds(found, lambda result: result.seconds, seconds_text),
        over_seeds(found, lambda result: result.cpu_seconds, seconds_text),
        " or ".join(sorted(machines)),
    ]


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def error_text(error: float) -> str:
    """An error with three digits, such as ``1.23e-4``."""
    return f"{error:.2e}".replace("e-0", "e-").replace("e+0", "e+")


def percent(share: float, digits: int = 2) -> str:
    """A share as percentage, without the sign."""
    return f"{100 * share:.{digits}f}"


def seconds_text(seconds: float) -> str:
    """Seconds, with one digit after the point below 10."""
    return f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.1f}"


def curves_table(results: Sequence[Result], system: str, scale: str) -> str:
    """Table of the points of figure 3 that have results."""
    rows = []
    for method in CURVES:
        of_method = [r for r in results if (r.method, r.system, r.scale) == (method, system, scale)]
        for point in curve_of(results, method, system, scale):
            found = sorted((r for r in of_method if r.num_scenes == point.num_scenes), key=lambda result: result.seed)
            rows.append([f"`{method}`", _accuracy_text(point), *cost_cells(found)])
    return markdown(["method", "relations right, %", *COST], rows)


def _accuracy_text(point: Point) -> str:
    middle, low, high = (percent(f(point.accuracies)) for f in (median, min, max))
    return middle if low == high else f"{middle} ({low} to {high})"


def savings_table(results: Sequence[Result], system: str, scale: str) -> str | None:
    """Table of the scenes that each method needs for an accuracy, and of ratios; None where a curve is missing."""
    curves = {method: curve_of(results, method, system, scale) for method in CURVES}
    done = {method: curve for method, curve in curves.items() if curve}
    if not {FAST, SLOW} <= done.keys():
        return None
    rows = []
    for accuracy in ACCURACIES:
        needed = {method: scenes_needed(curve, accuracy) for method, curve in done.items()}
        fewer = [str(times_fewer(needed[FAST], needed[method])) for method in done if method != FAST]
        rows.append([percent(accuracy, 0), *(str(needed[method]) for method in done), *fewer])
    others = [f"`{FAST}` needs fewer than `{method}`, times" for method in done if method != FAST]
    return markdown(["relations right, %", *(f"scenes for `{method}`" for method in done), *others], rows)


def systems_done(results: Iterable[Result]) -> list[str]:
    """The systems that have results, in the order of :data:`SYSTEMS`."""
    done = {result.system for result in results}
    return [system for system in SYSTEMS if system in done]
