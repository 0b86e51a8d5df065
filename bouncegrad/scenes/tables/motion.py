"""What follows from the samples beside a time: states inside short gaps, and velocities."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64

from bouncegrad.scenes.tables.grid import Track


def fill_gaps(track: Track, longest: int) -> Track:
    """Fill gaps of at most ``longest`` samples inside what was measured of an entity, linearly.

    Between the samples a and b around a gap, the state at time t is ((b - t) x_a + (t - a) x_b) / (b - a).
    """
    time = np.arange(track.mask.shape[1])[None, :, None]
    last = len(time[0])
    before = np.maximum.accumulate(np.where(track.mask, time, -1), axis=1)
    after = np.minimum.accumulate(np.where(track.mask, time, last)[:, ::-1], axis=1)[:, ::-1]
    gap = ~track.mask & (before >= 0) & (after < last) & (after - before - 1 <= longest)
    scene, at, entity = gap.nonzero()
    start, stop = before[gap], after[gap]
    weight = ((at - start) / (stop - start))[:, None]
    states = track.states.copy()
    states[gap] = (1 - weight) * track.states[scene, start, entity] + weight * track.states[scene, stop, entity]
    return Track(states, track.mask | gap)


def velocities_of(
    positions: Float64[np.ndarray, "scene time entity dimension"],
    mask: Bool[np.ndarray, "scene time entity"],
    time_step: float,
) -> tuple[Float64[np.ndarray, "scene time entity dimension"], Bool[np.ndarray, "scene time entity"]]:
    """Velocities from positions, and where they are known: v(t) = (x(t + 1) - x(t - 1)) / (2 time steps).

    At the ends of a measured stretch the difference is one-sided: (x(t + 1) - x(t)) / (time step), or
    (x(t) - x(t - 1)) / (time step). A sample without measured neighbours has no velocity.
    """
    joined = mask[:, 1:] & mask[:, :-1]
    none = np.zeros_like(mask[:, :1])
    next_there = np.concatenate((joined, none), axis=1)
    previous_there = np.concatenate((none, joined), axis=1)
    later = np.where(next_there[..., None], np.roll(positions, -1, axis=1), positions)
    earlier = np.where(previous_there[..., None], np.roll(positions, 1, axis=1), positions)
    steps = next_there.astype(np.int64) + previous_there
    span = np.maximum(steps, 1)[..., None] * time_step
    return (later - earlier) / span, steps > 0
