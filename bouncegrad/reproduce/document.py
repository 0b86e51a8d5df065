"""Markdown documents and pictures, made of results and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bouncegrad.reproduce.curves import CURVES, curve_of
from bouncegrad.reproduce.picture import draw_curves
from bouncegrad.reproduce.published import REMARK, SOURCES
from bouncegrad.reproduce.ranking import disagreements
from bouncegrad.reproduce.result import Result
from bouncegrad.reproduce.rows import SCALES, SYSTEMS
from bouncegrad.reproduce.tables import TABLES, curves_table, savings_table, table
from bouncegrad.scenes.writing import whole_files

TARGETS = (*TABLES, "figure3")

SCALES_SHOWN = ("small", "full")

TITLES = {
    "table1": "Table 1: mean squared error of predictions",
    "table2": "Table 2: relations right",
    "figure3": "Figure 3: relations right, by scenes to learn from",
}

EXPLAINED = {
    "table1": "Structures are inferred from the first 49 samples of a test scene, then states are predicted from the "
    "true next one, 1, 10 and 20 samples ahead. Positions and velocities are normalised to [-1, 1] by the extremes of "
    "the 50,000 canonical training scenes, however many of them a method has learned from. Published: 1 / 10 / 20 "
    "steps.",
    "table2": "Share of the ordered pairs whose kind is right, under one relabelling of kinds for all test scenes. "
    "Calibration error: mean distance between how sure answers are and how often they are right.",
    "figure3": "The first scenes of the canonical training set and a quarter as many held-out scenes without labels, "
    "at most those of the tables. Scenes for an accuracy are interpolated in their logarithm between the medians over "
    "seeds.",
}

HEADER = """\
# Results

Written by `bouncegrad reproduce results` from the JSON files in `{folder}`, which also hold versions, settings and all
figures; no number is typed by hand.
`bouncegrad reproduce table1`, `table2` and `figure3` do the rows that are missing and keep those that are there.

{scales}
Where there are several seeds, a cell is their median, and in brackets their range.
Seconds are those of a clock, which other programs on the machine stretch, and CPU seconds those of all threads; the
simulation of the scenes is not among them.
{sources}
"""


def write_target(target: str, results: Sequence[Result], scale: str, folder: Path) -> Path:
    """Write the Markdown of a table or figure, and for the figure its pictures; returns the document.

    Raises:
        DataError: a place that cannot be written.
    """
    if target == "figure3":
        for system in SYSTEMS:
            curves = {method: curve_of(results, method, system, scale) for method in CURVES}
            if any(curves.values()):
                draw_curves(curves, system, folder / picture_name(system, scale))
    text = f"# {TITLES[target]}\n\n{target_text(target, results, scale, Path(), '##')}\n{SOURCES}\n"
    return _write(folder / f"{target}_{scale}.md", text)


def picture_name(system: str, scale: str) -> str:
    """What the picture of figure 3 is called."""
    return f"figure3_{system}_{scale}.png"


def target_text(target: str, results: Sequence[Result], scale: str, pictures: Path, heading: str) -> str:
    """A table or figure of all systems, as Markdown below a heading of this level."""
    parts = [f"{EXPLAINED[target]}\n"]
    for system in SYSTEMS:
        write = _figure_parts if target == "figure3" else _table_parts
        parts += [f"{heading} {system}\n", *(f"{part}\n" for part in write(target, results, system, scale, pictures))]
    return "\n".join(parts)


def _table_parts(target: str, results: Sequence[Result], system: str, scale: str, pictures: Path) -> list[str]:
    said = disagreements(target, results, system, scale)
    listed = ["Ordered otherwise than published:\n\n" + "\n".join(f"- {one}" for one in said)] if said else []
    remark = [REMARK] if (target, system) == ("table1", "charged5") else []
    return [table(target, results, system, scale), *remark, *listed]


def _figure_parts(target: str, results: Sequence[Result], system: str, scale: str, pictures: Path) -> list[str]:
    if not any(curve_of(results, method, system, scale) for method in CURVES):
        return ["Not yet done."]
    savings = savings_table(results, system, scale)
    place = (pictures / picture_name(system, scale)).as_posix()
    return [f"![{system}]({place})", curves_table(results, system, scale), *([savings] if savings else [])]


def results_text(results: Sequence[Result], folder: Path) -> str:
    """All that has been found, as one document that stands at the root of the repository.

    Args:
        results: all of them.
        folder: where they lie, seen from the document.
    """
    told = [f"{_scale_text(name)}\n" for name in SCALES_SHOWN]
    head = HEADER.format(folder=folder.as_posix(), scales="".join(told), sources=SOURCES)
    parts = [_section(target, results, scale, folder) for scale in scales_done(results) for target in TARGETS]
    return "\n".join([head, *parts])


def _section(target: str, results: Sequence[Result], scale: str, folder: Path) -> str:
    return f"## {TITLES[target]} ({scale})\n\n{target_text(target, results, scale, folder, '###')}"


def _scale_text(name: str) -> str:
    scale = SCALES[name]
    return (
        f"`--scale {name}`: {scale.num_train:,} canonical training scenes, {scale.num_valid:,} held-out and "
        f"{scale.num_test:,} test scenes."
    )


def write_results(results: Sequence[Result], folder: Path, document: Path, seen: Path) -> Path:
    """Write the one document of all results, and all tables and pictures, again.

    Args:
        results: all of them.
        folder: where they lie; tables and pictures go there.
        document: the one document.
        seen: the folder, seen from the document.

    Raises:
        DataError: a place that cannot be written.
    """
    for scale in scales_done(results):
        for target in TARGETS:
            write_target(target, results, scale, folder)
    return _write(document, results_text(results, seen))


def scales_done(results: Sequence[Result]) -> list[str]:
    """The small scale, and the full one if there are results."""
    done = {result.scale for result in results}
    return [scale for scale in SCALES_SHOWN if scale == "small" or scale in done]


def _write(path: Path, text: str) -> Path:
    with whole_files(path.parent) as temporary:
        (temporary / path.name).write_text(text)
    return path
