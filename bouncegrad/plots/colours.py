"""Colours and line styles of all pictures: an entity has one colour in its trajectory and in the graph."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from matplotlib import colormaps, patheffects
from matplotlib.colors import to_rgb

Colour: TypeAlias = tuple[float, float, float]

INK, PALE, WRONG, MISSED = "#2f3542", "#e4e7ec", "#d62839", "#a3abb8"
MISSED_LINE = (0, (4, 3))
PREDICTED_LINE = (0, (2.5, 1.5))
ENTITY_COLOURS = (
    *("#3b6fb6", "#ee9b3b", "#36a37a", "#8d62c4", "#3fb5cf"),
    *("#e07bb5", "#99694a", "#a8a432", "#27336b", "#5fbf5f"),
)
"""Colours of entities, different from the red of wrong edges and the grey of missed ones."""
KIND_LINES: tuple[tuple[str, Any], ...] = (
    (INK, "solid"),
    ("#0f8b8d", "dashdot"),
    ("#7b4fb3", "dotted"),
    ("#b5771c", (0, (9, 2))),
)
HALO = [patheffects.withStroke(linewidth=2.5, foreground="white")]


def entity_colours(count: int) -> list[Colour]:
    """A colour for each of ``count`` entities."""
    if count <= len(ENTITY_COLOURS):
        return [to_rgb(colour) for colour in ENTITY_COLOURS[:count]]
    return [to_rgb(colour) for colour in colormaps["turbo"](np.linspace(0.04, 0.96, count))]


def on_top_of(colour: Colour) -> str:
    """Colour of text on ``colour``: dark or white, by luminance (ITU-R BT.601)."""
    red, green, blue = colour
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.7 else "white"
