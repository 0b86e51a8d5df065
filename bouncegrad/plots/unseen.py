"""Pictures of hidden entities: scenes predicted without them, predicted with them, and the truth where it is known."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from torch import Tensor

from bouncegrad.plots.colours import INK, PALE, PREDICTED_LINE, WRONG, entity_colours
from bouncegrad.plots.picture import check_format
from bouncegrad.scenes import Scenes
from bouncegrad.scenes.writing import whole_files

PANEL = 4.2
"""Side of a panel in inches."""

ELLIPSES = 6
"""Number of points along a track with an ellipse of its standard deviations."""


@dataclass(frozen=True, slots=True, eq=False)
class Unseen:
    """What a picture of hidden entities shows; all in the units of the scenes, positions first.

    Attributes:
        without: ``[scene, time, entity, feature]``, the observed entities as predicted from their first states without
            the hidden ones.
        beside: the same, predicted with the hidden entities, which come last.
        tracks: ``[scene, hidden, time, feature]``, the inferred tracks of the hidden entities.
        spreads: the same shape, standard deviations of the tracks.
        truth: the same shape, the true tracks; None where they are unknown.
    """

    without: Float[Tensor, "scene time entity feature"]
    beside: Float[Tensor, "scene time everybody feature"]
    tracks: Float[Tensor, "scene hidden time feature"]
    spreads: Float[Tensor, "scene hidden time feature"]
    truth: Float[Tensor, "scene hidden time feature"] | None = None


def draw_unseen(scenes: Scenes, unseen: Unseen, path: str | os.PathLike[str]) -> None:
    """Draw a row for each scene: observed and predicted paths without hidden entities, and with them.

    Observed paths are solid, predicted ones dashed; a hidden entity is red, with its spread (two standard deviations),
    and the thin black line is where it truly was.

    Args:
        scenes: the observed entities.
        unseen: the hidden ones.
        path: the picture, .png, .pdf or .svg; replaced if it exists.

    Raises:
        ValueError: scenes of fewer than two positions, another file type, or a path that cannot be written.
    """
    place = Path(path)
    check_format(place)
    if scenes.num_features < 2 or scenes.feature_names[1].startswith("v"):
        raise ValueError(f"expected scenes in a plane to draw, got the features {', '.join(scenes.feature_names)}")
    num_scenes = scenes.num_scenes
    figure = Figure((2 * PANEL + 0.4, PANEL * num_scenes + 0.4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    rows = figure.subplots(num_scenes, 2, squeeze=False)
    for index, (alone, together) in enumerate(rows):
        _style(alone, scenes, f"Scene {index}: predicted without")
        _style(together, scenes, f"Scene {index}: with the hidden one")
        _draw_seen(alone, scenes, index, unseen.without[index])
        _draw_seen(together, scenes, index, unseen.beside[index, :, : scenes.num_entities])
        _draw_hidden(together, unseen, index)
        _limit(alone, together, scenes, index, unseen)
    with whole_files(place.parent) as temporary:
        figure.savefig(temporary / place.name, dpi=150)


def _style(axes: Axes, scenes: Scenes, title: str) -> None:
    axes.set_title(title, fontsize=12, fontweight="bold", color=INK)
    axes.set_xlabel(scenes.feature_names[0], color=INK)
    axes.set_ylabel(scenes.feature_names[1], color=INK)
    axes.set_box_aspect(1)
    axes.grid(color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)


def _draw_seen(axes: Axes, scenes: Scenes, index: int, predicted: Tensor) -> None:
    observed = scenes.states[index].numpy()
    colours = entity_colours(scenes.num_entities)
    for entity in scenes.present[index].nonzero().flatten().tolist():
        axes.plot(*observed[:, entity, :2].T, color=colours[entity], linewidth=2.2, alpha=0.55)
        axes.plot(*observed[-1:, entity, :2].T, "o", color=colours[entity], markersize=7)
        axes.plot(*predicted[:, entity, :2].numpy().T, color=colours[entity], linewidth=1.6, linestyle=PREDICTED_LINE)


def _draw_hidden(axes: Axes, unseen: Unseen, index: int) -> None:
    num_times = unseen.tracks.shape[2]
    for hidden, (track, spread) in enumerate(zip(unseen.tracks[index], unseen.spreads[index], strict=True)):
        axes.plot(*track[:, :2].numpy().T, color=WRONG, linewidth=2.4)
        axes.plot(*track[-1:, :2].numpy().T, "D", color=WRONG, markersize=7)
        for time in np.linspace(0, num_times - 1, ELLIPSES).round().astype(int).tolist():
            (across, up), (width, height) = track[time, :2].tolist(), (4 * spread[time, :2]).tolist()
            axes.add_patch(Ellipse((across, up), width, height, color=WRONG, alpha=0.12, linewidth=0))
        if unseen.truth is not None:
            axes.plot(*unseen.truth[index, hidden, :, :2].numpy().T, color=INK, linewidth=0.9)


def _limit(alone: Axes, together: Axes, scenes: Scenes, index: int, unseen: Unseen) -> None:
    """Set the same limits for both panels, around observed paths and true or inferred tracks of hidden entities."""
    found = unseen.tracks if unseen.truth is None else unseen.truth
    seen = scenes.states[index][scenes.mask[index]][:, :2].numpy()
    places = np.concatenate([seen, found[index].flatten(0, 1)[:, :2].numpy()])
    middle, half = (places.max(0) + places.min(0)) / 2, float(np.ptp(places, axis=0).max()) * 0.56 + 1e-9
    for axes in (alone, together):
        axes.set_xlim(middle[0] - half, middle[0] + half)
        axes.set_ylim(middle[1] - half, middle[1] + half)
