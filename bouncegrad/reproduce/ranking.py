"""Comparison of the order of methods with the published order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from bouncegrad.evaluation.score import STEPS
from bouncegrad.reproduce.published import PREDICTION, RELATIONS
from bouncegrad.reproduce.result import Result
from bouncegrad.reproduce.tables import TABLES, Line, error_text, percent, results_of


@dataclass(frozen=True, slots=True)
class Ranked:
    """A method in one column of a table: our value and the published one."""

    title: str
    ours: float
    published: float


def disagreements(name: str, results: Sequence[Result], system: str, scale: str) -> list[str]:
    """Texts for all pairs of lines whose order differs from the published one.

    Pairs with equal published values, and pairs with a missing value, are left out.
    """
    texts = []
    for column, text in _columns(name):
        ranked = [_ranked(name, line, column, results, system, scale) for line in TABLES[name]]
        for one, other in combinations([entry for entry in ranked if entry], 2):
            if (one.ours - other.ours) * (one.published - other.published) < 0:
                where = f"at step {STEPS[column]}, " if name == "table1" else ""
                values = [text(x) for x in (one.ours, other.ours, one.published, other.published)]
                texts.append(
                    f"{where}{one.title} and {other.title}: {values[0]} and {values[1]} here, "
                    f"{values[2]} and {values[3]} published"
                )
    return texts


def _columns(name: str) -> list[tuple[int, Callable[[float], str]]]:
    return [(column, error_text) for column in range(len(STEPS))] if name == "table1" else [(0, percent)]


def _ranked(name: str, line: Line, column: int, results: Sequence[Result], system: str, scale: str) -> Ranked | None:
    if line.published is None:
        return None
    if name == "table1":
        published, word = PREDICTION[line.published][system][column], str(STEPS[column])
        found = [r.figures[line.reading].get("mse", {}).get(word) for r in results_of(results, line, system, scale)]
    else:
        published = RELATIONS[line.published][system]
        found = [r.figures[line.reading].get("relation_accuracy") for r in results_of(results, line, system, scale)]
    known = [number for number in found if number is not None]
    return Ranked(line.title, median(known), published) if known and published is not None else None
