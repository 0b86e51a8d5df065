"""Picture of the effect of each edge type: push on the receiver against distance to the sender."""

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
"""Width and height of a panel in inches."""

WIDE = 30
"""Ratio of the largest to the smallest push above which the scale is logarithmic."""


def draw_meanings(meanings: Sequence[KindMeaning], path: str | os.PathLike[str]) -> None:
    """Draw the push of each edge type against distance, in one panel per edge type, all on one scale.

    Above the dashed line the receiver is pushed towards the sender, below it away from it; the band holds the middle
    68 % of the pairs. Without positions: change of the feature with the strongest response, against the difference
    between the sender's value and the receiver's.

    Args:
        meanings: result of :func:`bouncegrad.trust.describe_kinds`.
        path: the picture, .png, .pdf or .svg; replaced if it exists.

    Raises:
        ValueError: no edge types, another file type, or a path that cannot be written.
    """
    place = Path(path)
    check_format(place)
    if not meanings:
        raise ValueError("expected one edge type or more to draw, got none")
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
    """Set a logarithmic scale, linear around 0, where pushes have very different sizes.

    Only for pushes against distance: responses to a difference pass through 0, where a logarithmic scale misleads.
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
