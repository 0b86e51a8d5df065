"""Pictures of scenes: trajectories on the left, inferred graphs on the right, in one file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from bouncegrad.evaluation.metrics import RelationMatch, match_relations
from bouncegrad.plots.answer import Answer, check_answer
from bouncegrad.plots.colours import INK
from bouncegrad.plots.graph import ROOM, Edge, draw_graph, edge_handles, edges_of, half_width
from bouncegrad.plots.paths import draw_paths, path_handles
from bouncegrad.scenes import Scenes
from bouncegrad.scenes.writing import whole_files

FORMATS = (".png", ".pdf", ".svg")
ROW_SIZE = (10.0, 4.7)
"""Width and height of a row in inches: two square panels."""
PANEL_SIZE = 5.2
"""Side of a panel in inches: a graph with names around it."""


def draw_scene(scenes: Scenes, index: int, answer: Answer, path: str | os.PathLike[str]) -> None:
    """Draw one scene: its trajectories on the left, its inferred graph on the right.

    As :func:`draw_scenes`; the relabelling of edge types uses all scenes, not only the drawn one.
    """
    draw_scenes(scenes, [index], answer, path)


def draw_scenes(scenes: Scenes, indices: Sequence[int], answer: Answer, path: str | os.PathLike[str]) -> None:
    """Draw some scenes in one picture, a row for each.

    Left: a colour for each entity, the past faded, a dot at the last observed position; a prediction, if any, is
    dashed, with the true path thin beside it. Right: the inferred graph, with arrows from sender to receiver, or plain
    lines where the graph is symmetric. Where true relations are known they are compared under one relabelling of edge
    types for all scenes: wrong edges are red, missed ones grey and dashed.

    Args:
        scenes: all scenes of ``answer``.
        indices: numbers of the scenes to draw.
        answer: inferred relations and predictions.
        path: the picture, .png, .pdf or .svg; replaced if it exists.

    Raises:
        ValueError: an index, shape or kind that does not fit the scenes, another file type, or a path that cannot be
            written.
    """
    place = Path(path)
    _check(scenes, indices, answer, place)
    match = match_relations(answer.kinds, scenes.known_relations, scenes.present) if scenes.labelled else None
    figure = Figure((ROW_SIZE[0], ROW_SIZE[1] * len(indices) + 0.4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(indices), 2, squeeze=False)
    rows = [_draw_row(row, scenes, index, answer, match) for row, index in zip(axes, indices, strict=True)]
    _legend(axes[-1, 0], path_handles(scenes, answer))
    _legend(axes[-1, 1], edge_handles([edge for edges in rows for edge in edges], answer))
    with whole_files(place.parent) as temporary:
        figure.savefig(temporary / place.name, dpi=150)


def draw_graphs(scenes: Scenes, indices: Sequence[int], answer: Answer, path: str | os.PathLike[str]) -> None:
    """Draw the inferred graphs of some scenes side by side in one picture.

    Entities are on circles, so that any features will do. Otherwise as :func:`draw_scenes`.
    """
    place = Path(path)
    _check(scenes, indices, answer, place)
    match = match_relations(answer.kinds, scenes.known_relations, scenes.present) if scenes.labelled else None
    layout = ConstrainedLayoutEngine(w_pad=0.3)
    width = half_width([name for index in indices for name in scenes.names_in(index)])
    size = PANEL_SIZE * width / ROOM * len(indices), PANEL_SIZE + 0.8
    figure = Figure(size, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(indices), squeeze=False)[0]
    shown: list[Edge] = []
    for panel, index in zip(axes, indices, strict=True):
        edges = edges_of(scenes, index, answer, match)
        draw_graph(panel, scenes, index, edges, answer)
        panel.set_xlim(-width, width)
        panel.set_box_aspect(ROOM / width)
        title = f"Scene {scenes.scene_name(index)}: {_graph_title(scenes, index, answer, match)}"
        panel.set_title(title, fontsize=13, fontweight="bold", color=INK)
        shown += edges
    figure.legend(
        handles=edge_handles(shown, answer), loc="outside lower center", ncols=3, frameon=False, labelcolor=INK
    )
    with whole_files(place.parent) as temporary:
        figure.savefig(temporary / place.name, dpi=150)


def check_format(place: Path) -> None:
    """Raise ``ValueError`` where the file is not .png, .pdf or .svg."""
    if place.suffix.lower() not in FORMATS:
        raise ValueError(f"expected a picture file ({', '.join(FORMATS)}), got {place.name!r}")


def _check(scenes: Scenes, indices: Sequence[int], answer: Answer, place: Path) -> None:
    check_format(place)
    if not indices or not all(0 <= index < scenes.num_scenes for index in indices):
        raise ValueError(f"expected scenes among 0 .. {scenes.num_scenes - 1} to draw, got {list(indices)}")
    check_answer(scenes, answer)


def _draw_row(axes: np.ndarray, scenes: Scenes, index: int, answer: Answer, match: RelationMatch | None) -> list[Edge]:
    edges = edges_of(scenes, index, answer, match)
    draw_paths(axes[0], scenes, index, answer)
    draw_graph(axes[1], scenes, index, edges, answer)
    for panel, title in zip(
        axes, (f"Scene {scenes.scene_name(index)}", _graph_title(scenes, index, answer, match)), strict=True
    ):
        panel.set_title(title, fontsize=13, fontweight="bold", color=INK)
    return edges


def _graph_title(scenes: Scenes, index: int, answer: Answer, match: RelationMatch | None) -> str:
    labels = scenes.known_relations
    if match is None or labels is None:
        return "Who acts on whom"
    truth = match.true_kinds(labels[index : index + 1])[0]
    known = truth >= 0
    right = known & (truth == answer.kinds[index])
    return f"{int(right.sum())} of {int(known.sum())} relations right" if known.any() else "Who acts on whom"


def _legend(axes: Axes, handles: list[Line2D]) -> None:
    if handles:
        axes.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.11),
            ncols=2 if len(handles) == 4 else min(len(handles), 3), frameon=False,
            fontsize=9, labelcolor=INK, columnspacing=1.4, handlelength=2.4,
        )  # fmt: skip
