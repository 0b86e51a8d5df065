"""What each kind of relation does, as a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bouncegrad.plots.colours import ENTITY_COLOURS, INK, MISSED, PALE
from bouncegrad.plots.picture import check_format
from bouncegrad.scenes.writing import whole_files
from bouncegrad.trust import Curve, KindMeaning

PANEL = (4.2, 3.6)
"""Inches."""

WIDE = 30
"""Ratio of the largest and the smallest push above which the scale is logarithmic."""


def draw_meanings(meanings: Sequence[KindMeaning], path: str | os.PathLike[str]) -> None:
    """The push of each kind against distance, a panel for each kind, all on one scale.

    Above the dashed line the receiver is pushed towards the sender, below it away; the band holds the middle 68 % of
    the pairs. Without positions: how the feature that answers most changes, against its difference from the sender's.

    Args:
        meanings: from :func:`bouncegrad.trust.describe_kinds`.
        path: the picture, .png, .pdf or .svg; replaced if it exists.

    Raises:
        ValueError: no kinds, another file type, or a place that cannot be written.
    """
    place = Path(path)
    check_format(place)
    if not meanings:
        raise ValueError("expected one kind or more to draw, got none")
    figure = Figure((PANEL[0] * len(meanings), PANEL[1]), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(meanings), squeeze=False, sharex=True, sharey=True)[0]
    for axes, meaning in zip(panels, meanings, strict=True):
        _draw_kind(axes, meaning)
    _stretch(panels[0], meanings)
    panels[0].set_ylabel(_towards(meanings[0]), color=INK)
    with whole_files(place.parent) as temporary:
        figure.savefig(temporary / place.name, dpi=150)


def _draw_kind(axes: Axes, meaning: KindMeaning) -> None:
    axes.axhline(0, color=MISSED, linestyle="--", linewidth=1)
    curve = _curve(meaning)
    if curve is not None:
        colour = ENTITY_COLOURS[meaning.kind % len(ENTITY_COLOURS)]
        at, push, spread = (np.asarray(values) for values in (curve.at, curve.push, curve.spread))
        axes.fill_between(at, push - spread, push + spread, color=colour, alpha=0.25, linewidth=0)
        axes.plot(at, push, "o-", color=colour, zorder=3)
    title = f"kind {meaning.kind}: {meaning.word} ({100 * meaning.share:.0f} % of pairs)"
    axes.set_title(title, fontsize=12, fontweight="bold", color=INK)
    axes.set_xlabel("distance to the sender" if meaning.features else "how much more the sender has", color=INK)
    axes.grid(color=PALE)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _stretch(axes: Axes, meanings: Sequence[KindMeaning]) -> None:
    """Show pushes of very different size on a logarithmic scale, straight around 0.

    Of pushes against distance only: what answers to a difference goes through 0, and there all sizes differ.
    """
    acting = (meaning.towards for meaning in meanings if meaning.word != "nothing")
    sizes = [abs(push) for curve in acting if curve is not None for push in curve.push if push]
    if sizes and max(sizes) > WIDE * min(sizes):
        axes.set_yscale("symlog", linthresh=min(sizes))


def _curve(meaning: KindMeaning) -> Curve | None:
    if meaning.towards is not None or not meaning.responses:
        return meaning.towards
    return max(meaning.responses, key=lambda response: response.explained).curve


def _towards(meaning: KindMeaning) -> str:
    return "push towards the sender, per step" if meaning.features else "change per step"
