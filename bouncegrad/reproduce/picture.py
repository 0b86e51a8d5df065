"""Figure 3 as a picture."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from bouncegrad.plots.colours import ENTITY_COLOURS, INK, PALE
from bouncegrad.plots.picture import check_format
from bouncegrad.reproduce.curves import Curve
from bouncegrad.scenes.writing import whole_files

SIZE = (5.6, 4.0)
"""Width and height in inches."""


def draw_curves(curves: Mapping[str, Curve], title: str, path: str | os.PathLike[str]) -> None:
    """Draw relation accuracy against training scenes: a line of medians over seeds, and a band of their range.

    Args:
        curves: method -> points; methods without points are left out.
        title: title of the picture.
        path: the picture, .png, .pdf or .svg; replaced if it exists.

    Raises:
        ValueError: another file type, or a path that cannot be written.
    """
    place = Path(path)
    check_format(place)
    figure = Figure(SIZE, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for (method, curve), colour in zip(curves.items(), ENTITY_COLOURS, strict=False):
        if curve:
            _draw_curve(axes, method, curve, colour)
    _finish(axes, title)
    sizes = sorted({point.num_scenes for curve in curves.values() for point in curve})
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    with whole_files(place.parent) as temporary:
        figure.savefig(temporary / place.name, dpi=110, metadata={"Software": None} if place.suffix == ".png" else None)


def _draw_curve(axes: Axes, method: str, curve: Curve, colour: str) -> None:
    scenes = [point.num_scenes for point in curve]
    lows, highs = ([100 * extreme(point.accuracies) for point in curve] for extreme in (min, max))
    axes.plot(scenes, [100 * point.median for point in curve], "o-", color=colour, label=method, zorder=3)
    axes.fill_between(scenes, lows, highs, color=colour, alpha=0.2, linewidth=0)


def _finish(axes: Axes, title: str) -> None:
    axes.set(xscale="log", xlabel="scenes to learn from", ylabel="relations right, %", ylim=(None, 101))
    axes.set_title(title, fontsize=12, fontweight="bold", color=INK)
    axes.grid(color=PALE)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9)
    axes.legend(frameon=False, loc="lower right")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
