"""Drawing of trajectories: observed, predicted and true paths of the entities."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from torch import Tensor

from bouncegrad.plots.answer import Answer
from bouncegrad.plots.colours import HALO, INK, PALE, PREDICTED_LINE, Colour, entity_colours
from bouncegrad.scenes import Scenes


def draw_paths(axes: Axes, scenes: Scenes, index: int, answer: Answer) -> None:
    """Draw the trajectories of scene ``index``, older parts lighter, and the prediction dashed."""
    observed = answer.observed_times(scenes)
    points = _points(scenes, scenes.states[index], 0)
    points[~scenes.mask[index].cpu().numpy()] = np.nan
    future = np.empty((0, *points.shape[1:]))
    if answer.predicted is not None:
        future = _points(scenes, answer.predicted[index], observed)
    points = points[: observed + len(future)]
    _style_plane(axes, scenes)
    _set_limits(axes, points, future, is_square=_is_plane(scenes))
    colours = entity_colours(scenes.num_entities)
    for entity in scenes.present[index].nonzero().flatten().tolist():
        _draw_past(axes, points[:observed, entity], colours[entity])
        if len(future):
            _draw_future(axes, points[observed - 1 :, entity], future[:, entity], colours[entity])
    _draw_ends(axes, points[:observed], scenes.names_in(index), colours)


def path_handles(scenes: Scenes, answer: Answer) -> list[Line2D]:
    """Handles of a legend: observed, predicted and true paths."""
    handles = [
        Line2D([], [], color=INK, linewidth=2.4, label="observed (faded = earlier)"),
        Line2D([], [], color=INK, marker="o", linestyle="", markersize=8, label="last observed"),
    ]
    if answer.predicted is not None:
        handles.append(Line2D([], [], color=INK, linewidth=2, linestyle=PREDICTED_LINE, label="predicted"))
        if answer.observed_times(scenes) < scenes.num_times:
            handles.append(Line2D([], [], color=INK, linewidth=0.9, label="what happened"))
    return handles


def _points(scenes: Scenes, states: Tensor, first_time: int) -> Float[np.ndarray, "time entity 2"]:
    """Coordinates of states in the picture: the first two positions, or time and the only position."""
    values = states.detach().cpu().double().numpy()
    if _is_plane(scenes):
        return values[..., :2].copy()
    times = (first_time + np.arange(len(values))) * scenes.time_step
    return np.stack(np.broadcast_arrays(times[:, None], values[..., 0]), axis=-1)


def _is_plane(scenes: Scenes) -> bool:
    return scenes.num_features > 1 and not scenes.feature_names[1].startswith("v")


def _style_plane(axes: Axes, scenes: Scenes) -> None:
    across, up = scenes.feature_names[:2] if _is_plane(scenes) else ("time", scenes.feature_names[0])
    axes.set_xlabel(across, color=INK)
    axes.set_ylabel(up, color=INK)
    axes.set_box_aspect(1)
    axes.grid(color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0, labelsize=9)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _set_limits(axes: Axes, points: np.ndarray, future: np.ndarray, is_square: bool) -> None:
    """Set limits that show the true paths, and predictions up to half the range beyond them."""
    past, ahead = (p.reshape(-1, 2)[np.isfinite(p.reshape(-1, 2)).all(1)] for p in (points, future))
    if not len(past):
        return
    low, high = past.min(0), past.max(0)
    if len(ahead):
        slack = (high - low).max() / 2 if is_square else (high - low) / 2
        low = np.minimum(low, np.maximum(ahead.min(0), low - slack))
        high = np.maximum(high, np.minimum(ahead.max(0), high + slack))
    half = np.maximum((high - low) * 0.58, 1e-9 * (1 + np.abs(high)))
    middle, half = (low + high) / 2, np.broadcast_to(half.max(), 2) if is_square else half
    axes.set_xlim(float(middle[0] - half[0]), float(middle[0] + half[0]))
    axes.set_ylim(float(middle[1] - half[1]), float(middle[1] + half[1]))


def _draw_past(axes: Axes, path: np.ndarray, colour: Colour) -> None:
    segments = np.stack([path[:-1], path[1:]], axis=1)
    shades = [(*colour, alpha) for alpha in np.linspace(0.1, 1.0, len(segments)) ** 1.3]
    axes.add_collection(LineCollection(list(segments), colors=shades, linewidths=2.4, zorder=3), autolim=False)


def _draw_future(axes: Axes, truth: np.ndarray, future: np.ndarray, colour: Colour) -> None:
    """``truth`` begins with the last observed point, ``future`` one step later."""
    path = np.concatenate([truth[:1], future])
    axes.plot(*truth.T, color=colour, linewidth=0.9, alpha=0.75, zorder=2)
    axes.plot(*path.T, color=colour, linewidth=2.0, linestyle=PREDICTED_LINE, zorder=4)


def _draw_ends(axes: Axes, points: np.ndarray, names: tuple[str, ...], colours: list[Colour]) -> None:
    """Draw a dot at the last observed position of each entity, with its name on the side away from the others."""
    valid = np.isfinite(points[..., 0]) & np.isfinite(points[..., 1])
    ends = {e: points[valid[:, e], e][-1] for e in range(len(names)) if valid[:, e].any()}
    centre = np.mean(list(ends.values()), axis=0) if ends else np.zeros(2)
    size = min(1.0, (12 / max(len(ends), 1)) ** 0.5)
    for entity, end in ends.items():
        axes.plot(
            *end, "o", color=colours[entity], markersize=9 * size, markeredgecolor="white",
            markeredgewidth=1.4 * size, zorder=5,
        )  # fmt: skip
        outward = (end - centre) / max(float(np.linalg.norm(end - centre)), 1e-12)
        axes.annotate(
            names[entity], (float(end[0]), float(end[1])), (11 * outward[0] * size, 13 * outward[1] * size),
            textcoords="offset points", ha=side_of(float(outward[0])), va="center", color=colours[entity],
            fontsize=11 * size, fontweight="bold", path_effects=HALO, zorder=6,
        )  # fmt: skip


def side_of(across: float) -> str:
    """Horizontal alignment of a name that lies ``across`` (-1 left .. 1 right) of what it names."""
    return "left" if across > 0.4 else "right" if across < -0.4 else "center"
