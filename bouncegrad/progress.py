"""Live progress of a fit: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from bouncegrad.train import PassReport

LINES = 10
"""Lines that a whole fit writes where there is no terminal."""


def describe(report: PassReport) -> str:
    """One pass in one line."""
    parts = [f"pass {report.number}", f"loss {report.loss:.4g}", f"held out {report.held_out:.5g}"]
    if report.temperature is not None:
        parts.append(f"temperature {report.temperature:.3g}")
    if report.acceptance is not None:
        parts.append(f"changed {report.acceptance:.0%}")
    if report.relation_accuracy is not None:
        parts.append(f"relations right {report.relation_accuracy:.1%}")
    return "  ".join(parts)


@contextmanager
def fit_progress(quiet: bool = False) -> Iterator[Callable[[PassReport], None] | None]:
    """Something to hand to :func:`bouncegrad.run.fit_folder` as ``watch``; nothing when ``quiet``."""
    console = Console(stderr=True)
    if quiet:
        yield None
    elif console.is_terminal:
        yield from _bar(console)
    else:
        yield _lines(console)


def _bar(console: Console) -> Iterator[Callable[[PassReport], None]]:
    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("searching and learning", total=1.0)
        yield lambda report: bar.update(task, completed=report.progress, description=describe(report))


def _lines(console: Console) -> Callable[[PassReport], None]:
    written = 0

    def write(report: PassReport) -> None:
        nonlocal written
        if report.progress * LINES >= written:
            written = int(report.progress * LINES) + 1
            console.print(f"{report.progress:4.0%}  {describe(report)}", soft_wrap=True, highlight=False)

    return write
