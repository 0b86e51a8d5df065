"""Live progress of what takes long: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from bouncegrad.training import EpochReport

LINES = 10
"""Lines that all of it writes where there is no terminal."""

Told: TypeAlias = Callable[[float, str], None]
"""Told which share of the work is done, and what is being done."""


def describe(report: EpochReport) -> str:
    """One epoch in one line."""
    parts = [f"pass {report.number}", f"loss {report.loss:.4g}", f"held out {report.held_out:.5g}"]
    if report.temperature is not None:
        parts.append(f"temperature {report.temperature:.3g}")
    if report.acceptance is not None:
        parts.append(f"changed {report.acceptance:.0%}")
    if report.relation_accuracy is not None:
        parts.append(f"relations right {report.relation_accuracy:.1%}")
    return "  ".join(parts)


@contextmanager
def progress(first: str, quiet: bool = False) -> Iterator[Told | None]:
    """Something to tell how far the work is, beginning with ``first``; nothing when ``quiet``."""
    console = Console(stderr=True)
    if quiet:
        yield None
    elif console.is_terminal:
        yield from _bar(console, first)
    else:
        yield _lines(console)


@contextmanager
def fit_progress(quiet: bool = False) -> Iterator[Callable[[EpochReport], None] | None]:
    """Something to hand to :func:`bouncegrad.fit.fit_folder` as ``watch``; nothing when ``quiet``."""
    with progress("searching and learning", quiet) as told:
        yield None if told is None else lambda report: told(report.progress, describe(report))


def _bar(console: Console, first: str) -> Iterator[Told]:
    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(first, total=1.0)
        yield lambda share, what: bar.update(task, completed=share, description=what)


def _lines(console: Console) -> Told:
    written, last = 0, 0.0

    def write(share: float, what: str) -> None:
        nonlocal written, last
        written, last = (0 if share < last else written), share  # something else begins
        if share * LINES >= written:
            written = int(share * LINES) + 1
            console.print(f"{share:4.0%}  {what}", soft_wrap=True, highlight=False)

    return write
