"""Progress of long computations on stderr: a bar on a terminal, about ten lines in a log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from bouncegrad.training import EpochReport

LINES = 10
"""Number of progress lines in all where stderr is not a terminal."""

ReportFn: TypeAlias = Callable[[float, str], None]
"""Function of the share of the work that is done (0 to 1) and a description of the current step."""


def describe(report: EpochReport) -> str:
    """One epoch in one line."""
    parts = [f"epoch {report.number}", f"loss {report.loss:.4g}", f"held out {report.held_out:.5g}"]
    if report.temperature is not None:
        parts.append(f"temperature {report.temperature:.3g}")
    if report.acceptance is not None:
        parts.append(f"changed {report.acceptance:.0%}")
    if report.relation_accuracy is not None:
        parts.append(f"relations right {report.relation_accuracy:.1%}")
    return "  ".join(parts)


@contextmanager
def progress(first: str, quiet: bool = False) -> Iterator[ReportFn | None]:
    """Context that gives a progress function; ``first`` describes the first step; gives None when ``quiet``."""
    console = Console(stderr=True)
    if quiet:
        yield None
    elif console.is_terminal:
        yield from _bar(console, first)
    else:
        yield _lines(console)


@contextmanager
def fit_progress(quiet: bool = False) -> Iterator[Callable[[EpochReport], None] | None]:
    """Context that gives the argument ``watch`` of :func:`bouncegrad.fit.fit_folder`; gives None when ``quiet``."""
    with progress("training", quiet) as report_fn:
        yield None if report_fn is None else lambda report: report_fn(report.progress, describe(report))


def _bar(console: Console, first: str) -> Iterator[ReportFn]:
    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(first, total=1.0)
        yield lambda share, what: bar.update(task, completed=share, description=what)


def _lines(console: Console) -> ReportFn:
    written, last = 0, 0.0

    def write(share: float, what: str) -> None:
        nonlocal written, last
        written, last = (0 if share < last else written), share  # a smaller share: another stage begins
        if share * LINES >= written:
            written = int(share * LINES) + 1
            console.print(f"{share:4.0%}  {what}", soft_wrap=True, highlight=False)

    return write
