"""Drawing of a graph: entities on a circle, relations as arrows from sender to receiver."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch

from bouncegrad.evaluation.metrics import RelationMatch
from bouncegrad.plots.answer import Answer
from bouncegrad.plots.colours import INK, KIND_LINES, MISSED, MISSED_LINE, WRONG, entity_colours, on_top_of
from bouncegrad.scenes import Scenes

ROOM = 1.3
"""Half the side of the panel; the circle has radius 1, names are outside it."""

INSIDE = 2
"""Largest number of letters of a name inside a node."""

OUTSIDE = 1.17
"""Radius at which a name beside a node begins."""

LETTER = 0.05
"""Width of a capital letter of a name beside a node, in a panel of 5 inches."""


@dataclass(frozen=True, slots=True)
class Edge:
    """One relation to draw.

    Attributes:
        receiver: the entity that is acted on.
        sender: the entity that acts.
        kind: the inferred edge type.
        verdict: empty, ``wrong`` (inferred, but another relation is true) or ``missed`` (true, but not inferred).
    """

    receiver: int
    sender: int
    kind: int
    verdict: str

    @property
    def reverse(self) -> Edge:
        """The same relation the other way round."""
        return replace(self, receiver=self.sender, sender=self.receiver)


def edges_of(scenes: Scenes, index: int, answer: Answer, match: RelationMatch | None) -> list[Edge]:
    """Edges to draw of scene ``index``: inferred relations and, where labels are known, missed ones."""
    kinds = answer.kinds[index].tolist()
    truth = [[-1] * len(kinds)] * len(kinds)
    labels = scenes.known_relations
    if match is not None and labels is not None:
        truth = match.true_kinds(labels[index : index + 1])[0].tolist()
    pairs = scenes.pairs[index].nonzero().tolist()
    edges = (Edge(i, j, kinds[i][j], _verdict(kinds[i][j], truth[i][j], answer.none_kind)) for i, j in pairs)
    return [edge for edge in edges if edge.kind != answer.none_kind or edge.verdict]


def draw_graph(axes: Axes, scenes: Scenes, index: int, edges: list[Edge], answer: Answer) -> None:
    """Draw the entities of scene ``index`` on a circle and ``edges`` between them."""
    present = scenes.present[index].nonzero().flatten().tolist()
    angles = np.pi / 2 - 2 * np.pi * np.arange(len(present)) / max(len(present), 1)
    places = dict(zip(present, np.stack([np.cos(angles), np.sin(angles)], axis=1), strict=True))
    size = min(1.0, 12 / max(len(present), 1))
    for edge, heads, bend in _strokes(edges):
        _draw_stroke(axes, (places[edge.sender], places[edge.receiver]), (heads, bend), _look(edge, answer), size)
    _draw_nodes(axes, scenes.names_in(index), places, size)
    if not edges:
        axes.text(0, 0, "no relations", ha="center", va="center", color=MISSED, fontsize=10)
    axes.set_xlim(-ROOM, ROOM)
    axes.set_ylim(-ROOM, ROOM)
    axes.set_box_aspect(1)
    axes.set_axis_off()


def half_width(names: Sequence[str]) -> float:
    """Half the width of a panel with room for names beside nodes; :data:`ROOM` where names fit inside the nodes."""
    longest = max(map(len, names), default=0)
    return ROOM if longest <= INSIDE else max(ROOM, OUTSIDE + LETTER * longest)


def edge_handles(edges: list[Edge], answer: Answer) -> list[Line2D]:
    """Handles of a legend: the edge types in ``edges``, then wrong and missed."""
    kinds = sorted({edge.kind for edge in edges if edge.verdict != "missed"})
    looks = {answer.name_of(kind): _look(Edge(0, 0, kind, ""), answer) for kind in kinds}
    verdicts = {edge.verdict for edge in edges}
    looks |= {"wrong": (WRONG, "solid")} if "wrong" in verdicts else {}
    looks |= {"missed": (MISSED, MISSED_LINE)} if "missed" in verdicts else {}
    return [Line2D([], [], color=c, linestyle=line, linewidth=2.2, label=name) for name, (c, line) in looks.items()]


def _verdict(kind: int, truth: int, none_kind: int | None) -> str:
    if truth in (-1, kind):
        return ""
    return "missed" if kind == none_kind else "wrong"


def _strokes(edges: list[Edge]) -> Iterator[tuple[Edge, int, float]]:
    """Edge, number of arrow heads, bend: mutual edges are one stroke, without heads if all edges are mutual."""
    found = set(edges)
    is_symmetric = all(edge.reverse in found for edge in edges)
    ways = {(edge.receiver, edge.sender) for edge in edges}
    for edge in edges:
        if edge.reverse in found:
            if edge.receiver < edge.sender:
                yield edge, 0 if is_symmetric else 2, 0.0
        else:
            yield edge, 1, 0.14 if (edge.sender, edge.receiver) in ways else 0.0


def _look(edge: Edge, answer: Answer) -> tuple[str, Any]:
    """Colour and line style of an edge."""
    if edge.verdict == "missed":
        return MISSED, MISSED_LINE
    shown = edge.kind - (answer.none_kind is not None and edge.kind > answer.none_kind)
    colour, line = KIND_LINES[shown % len(KIND_LINES)]
    return (WRONG if edge.verdict == "wrong" else colour), line


def _draw_stroke(
    axes: Axes,
    ends: tuple[Float[np.ndarray, "2"], Float[np.ndarray, "2"]],
    form: tuple[int, float],
    look: tuple[str, Any],
    size: float,
) -> None:
    """Draw a line from sender to receiver in its style, and solid arrow heads."""
    (heads, bend), (colour, line) = form, look
    start, stop = ((float(x), float(y)) for x, y in ends)
    marked = colour in (WRONG, MISSED)
    shared = {
        "connectionstyle": f"arc3,rad={bend}", "color": colour, "zorder": 2 if marked else 1,
        "alpha": 1.0 if marked else max(size, 0.35), "mutation_scale": 17 * size**0.5,
        "shrinkA": 17 * size, "shrinkB": 17 * size,
    }  # fmt: skip
    axes.add_patch(FancyArrowPatch(start, stop, arrowstyle="-", linestyle=line, linewidth=2.2 * size, **shared))
    if heads:
        style = "-|>" if heads == 1 else "<|-|>"
        axes.add_patch(FancyArrowPatch(start, stop, arrowstyle=style, linewidth=0, **shared))


def _draw_nodes(axes: Axes, names: tuple[str, ...], places: dict[int, np.ndarray], size: float) -> None:
    colours = entity_colours(len(names))
    is_inside = all(len(names[entity]) <= INSIDE for entity in places)
    for entity, place in places.items():
        axes.plot(
            *place, "o", color=colours[entity], markersize=28 * size,
            markeredgecolor="white", markeredgewidth=2 * size, zorder=4,
        )  # fmt: skip
        x, y = (float(value) for value in place * (1.0 if is_inside else 1 + (OUTSIDE - 1) * size))
        axes.annotate(
            names[entity], (x, y), ha="center" if is_inside or abs(x) < 0.1 else "left" if x > 0 else "right",
            va="center" if is_inside or abs(y) < 0.5 else "bottom" if y > 0 else "top", zorder=5,
            fontsize=max((12 if is_inside else 10) * size, 4), fontweight="bold",
            color=on_top_of(colours[entity]) if is_inside else INK,
        )  # fmt: skip
