"""Samples at any times, brought to times of equal steps.

All positions in time are in steps of the grid, counted from the start of each scene.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bouncegrad.scenes.tables.survey import JITTER, Resample, time_margin

LONGEST_GAP = 1.5
"""Between which of the table's own steps "linear" and "nearest" still fill in: not over a missing sample."""


@dataclass(frozen=True, slots=True)
class Samples:
    """What was measured, sorted by scene, slot and position.

    Attributes:
        scene, slot: whose sample it is.
        position: its time, in steps of the grid from the start of the scene.
        values: ``[sample, feature]``.
    """

    scene: Int64[np.ndarray, " sample"]
    slot: Int64[np.ndarray, " sample"]
    position: Float64[np.ndarray, " sample"]
    values: Float64[np.ndarray, "sample feature"]


@dataclass(frozen=True, slots=True)
class Track:
    """Dense states and where they were measured; 0 where they were not."""

    states: Float64[np.ndarray, "scene time entity feature"]
    mask: Bool[np.ndarray, "scene time entity"]

    @classmethod
    def empty(cls, sizes: tuple[int, int, int], num_features: int) -> Track:
        """A grid without measurements."""
        return cls(np.zeros((*sizes, num_features)), np.zeros(sizes, dtype=bool))


def on_grid(samples: Samples, sizes: tuple[int, int, int], resample: Resample | None, own_step: float) -> Track:
    """The samples on a grid of ``sizes`` (scene, time, entity).

    Args:
        samples: those of one track must differ in position.
        sizes: how large the grid is.
        resample: None: each sample goes to the nearest time. "mean": grid time k is the mean of the samples from
            half an own step before k to half an own step before k + 1. "linear": k is interpolated between the
            samples around it where they are not more than 1.5 own steps apart, or is that of a sample within a tenth
            of an own step. "nearest": k is the nearest sample within 0.75 own steps.
        own_step: the time step of the table, in steps of the grid.
    """
    track = Track.empty(sizes, samples.values.shape[1])
    if resample == "mean":
        _means(samples, track, time_margin("mean", own_step))
    elif resample == "linear":
        _held(samples, track, JITTER * min(own_step, 1.0))
        _between(samples, track, LONGEST_GAP * own_step)
    elif resample == "nearest":
        _nearest(samples, track, LONGEST_GAP / 2 * own_step)
    else:
        _put(track, samples, np.arange(len(samples.position)), np.round(samples.position))
    return track


def _put(track: Track, samples: Samples, index: np.ndarray, time: np.ndarray) -> None:
    """The values of the samples ``index`` at the times, in that order: a later one overwrites."""
    place = (samples.scene[index], np.clip(time, 0, track.mask.shape[1] - 1).astype(np.int64), samples.slot[index])
    track.states[place] = samples.values[index]
    track.mask[place] = True


def _means(samples: Samples, track: Track, margin: float) -> None:
    _, num_times, num_slots = track.mask.shape
    time = np.clip(np.floor(samples.position + margin), 0, num_times - 1).astype(np.int64)
    place = (samples.scene * num_times + time) * num_slots + samples.slot
    counts = np.bincount(place, minlength=track.mask.size)
    filled = counts > 0
    for feature, values in enumerate(samples.values.T):
        sums = np.bincount(place, weights=values, minlength=track.mask.size)
        track.states.reshape(-1, track.states.shape[-1])[filled, feature] = sums[filled] / counts[filled]
    track.mask.reshape(-1)[:] = filled


def _held(samples: Samples, track: Track, margin: float) -> None:
    time = np.round(samples.position)
    near = (np.abs(samples.position - time) <= margin) & (time < track.mask.shape[1])
    index = np.nonzero(near)[0]
    _put(track, samples, index, time[index])


def _between(samples: Samples, track: Track, longest: float) -> None:
    start, stop = samples.position[:-1], samples.position[1:]
    joined = _same_track(samples) & (stop - start <= longest)
    first = np.ceil(start)
    index, time = _repeated(first, np.where(joined, np.floor(stop) - first + 1, 0))
    time, index = time[time < track.mask.shape[1]], index[time < track.mask.shape[1]]
    weight = ((time - start[index]) / (stop - start)[index])[:, None]
    place = (samples.scene[index], time.astype(np.int64), samples.slot[index])
    track.states[place] = (1 - weight) * samples.values[index] + weight * samples.values[index + 1]
    track.mask[place] = True


def _nearest(samples: Samples, track: Track, reach: float) -> None:
    position = samples.position
    half = np.where(_same_track(samples), np.diff(position) / 2, np.inf)
    before, after = np.concatenate(([np.inf], half)), np.concatenate((half, [np.inf]))
    first = np.maximum(np.ceil(position - np.minimum(before, reach)), 0)
    last = np.minimum(np.floor(position + np.minimum(after, reach)), track.mask.shape[1] - 1)
    index, time = _repeated(first, last - first + 1)
    _put(track, samples, index, time)


def _same_track(samples: Samples) -> Bool[np.ndarray, " pair"]:
    return (np.diff(samples.scene) == 0) & (np.diff(samples.slot) == 0)


def _repeated(first: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each i the times ``first[i], first[i] + 1, ...``, ``counts[i]`` of them: every i and time, one by one."""
    repeats = np.maximum(counts, 0).astype(np.int64)
    index = np.repeat(np.arange(len(first)), repeats)
    begins = np.cumsum(repeats) - repeats
    return index, first[index] + (np.arange(len(index)) - begins[index])
