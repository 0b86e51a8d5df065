"""The reliability diagram: how often edge types are right, by the probability that was inferred for them."""

from __future__ import annotations

import os
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bouncegrad.evaluation.metrics import ReliabilityCurve
from bouncegrad.plots.colours import ENTITY_COLOURS, INK, MISSED, PALE
from bouncegrad.plots.picture import check_format
from bouncegrad.scenes.writing import whole_files

SIZE = (4.6, 5.6)
"""Width and height in inches: a square above a strip."""


def draw_reliability(curve: ReliabilityCurve, path: str | os.PathLike[str]) -> None:
    """Draw a reliability diagram: accuracy against probability; below it, the number of pairs in each bin.

    On the dashed diagonal probabilities are calibrated; below it they are overconfident. Empty bins are left out.

    Args:
        curve: result of :func:`bouncegrad.evaluation.metrics.reliability_curve`.
        path: the picture, .png, .pdf or .svg; replaced if it exists.

    Raises:
        ValueError: another file type, or a path that cannot be written.
    """
    place = Path(path)
    check_format(place)
    figure = Figure(SIZE, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (4, 1)})
    _draw_shares(above, curve)
    _draw_counts(below, curve)
    with whole_files(place.parent) as temporary:
        figure.savefig(temporary / place.name, dpi=150)


def _draw_shares(axes: Axes, curve: ReliabilityCurve) -> None:
    filled = curve.count > 0
    axes.plot([0, 1], [0, 1], color=MISSED, linestyle="--", linewidth=1)
    axes.plot(curve.confidence[filled], curve.accuracy[filled], "o-", color=ENTITY_COLOURS[0], clip_on=False, zorder=3)
    lowest = float(curve.bounds[:-1][filled].min())
    axes.set(xlim=(lowest, 1), ylim=(0, 1), ylabel="accuracy")
    title = f"Calibration error {curve.expected_error:.4f}"
    axes.set_title(title, fontsize=13, fontweight="bold", color=INK)
    _plain(axes)


def _draw_counts(axes: Axes, curve: ReliabilityCurve) -> None:
    lefts, widths = curve.bounds[:-1].tolist(), curve.bounds.diff().tolist()
    axes.bar(lefts, curve.count.tolist(), widths, align="edge", color=ENTITY_COLOURS[0], edgecolor="white")
    axes.set(
        yscale="log",
        ylim=(0.8, 2 * float(curve.count.max())),
        xlabel="probability of the inferred edge type",
        ylabel="pairs",
    )
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.grid(color=PALE)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
