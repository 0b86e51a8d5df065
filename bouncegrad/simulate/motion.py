"""Integration of motion under central forces: from start states to trajectories, many scenes at once.

Every force lies along the line between two entities, ``F_i = sum_j c_ij (x_i - x_j)``. :class:`CentralForce` is
the protocol of a system of such forces; a subclass of :class:`CentralForceSimulator` is also a
:class:`~bouncegrad.simulate.Simulator`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from rich.progress import track

from bouncegrad.scenes import Scenes, from_arrays
from bouncegrad.simulate.simulator import NUM_SAMPLES, Relations, check_drawn

BOX = 5.0
"""Half the width of the box: ``|x| <= BOX`` in each dimension."""

STEP = 0.001
"""Time of one integration step."""

SAMPLE_EVERY = 100
"""Integration steps between two samples of the published data."""

MAX_FORCE = 100.0
"""Bound on each component of a force: no step changes a velocity by more than ``0.1 = MAX_FORCE * STEP``."""

CACHED_PAIRS = 2**15
"""Pairs of a chunk: an array of them takes 256 KiB, so that the few that a step needs share a cache of 1 MiB."""

RandomStream: TypeAlias = np.random.Generator | np.random.RandomState
"""Source of randomness; the legacy ``RandomState`` only where published data were drawn with it."""

Points: TypeAlias = Float[ndarray, "dimension entity scene"]
"""Positions, velocities or forces of a chunk of scenes; scenes last, so that each operation runs along memory."""

Pairs: TypeAlias = Float[ndarray, "receiver sender scene"]
"""A number for each ordered pair of a chunk of scenes."""


@runtime_checkable
class CentralForce(Protocol):
    """A system of central forces: start states, relations and their effect."""

    @property
    def num_entities(self) -> int:
        """Entities of each scene."""
        ...

    @property
    def start_spread(self) -> float:
        """Standard deviation of each start coordinate."""
        ...

    @property
    def speed(self) -> float:
        """Length of each start velocity; its direction is uniform."""
        ...

    def draw_edges(self, num_scenes: int, generator: RandomStream) -> Relations:
        """Draw relations of ``num_scenes`` scenes; those of the first scenes must not depend on their number."""
        ...

    def couplings(self, loc: Points, edges: Pairs) -> Pairs:
        """The ``c_ij`` of ``F_i = sum_j c_ij (x_i - x_j)``; the diagonal may be any finite number."""
        ...


@dataclass(frozen=True, slots=True)
class Start:
    """Start states and relations of scenes.

    Attributes:
        loc: ``[scene, dimension, entity]``, positions.
        vel: ``[scene, dimension, entity]``, velocities.
        edges: ``[scene, receiver, sender]``, the labels of the relations.
    """

    loc: Float[ndarray, "scene dimension entity"]
    vel: Float[ndarray, "scene dimension entity"]
    edges: Relations


@dataclass(frozen=True, slots=True)
class Trajectories:
    """Simulated scenes, in the layout of the published files.

    Attributes:
        loc: ``[scene, time, dimension, entity]``, positions.
        vel: ``[scene, time, dimension, entity]``, velocities.
        edges: ``[scene, receiver, sender]``, the labels of the relations.
        time_step: time between two samples.
    """

    loc: Float[ndarray, "scene time dimension entity"]
    vel: Float[ndarray, "scene time dimension entity"]
    edges: Relations
    time_step: float


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Scenes that are integrated together; positions and velocities are overwritten at each step."""

    loc: Points
    vel: Points
    edges: Pairs


def integrate(
    system: CentralForce,
    start: Start,
    *,
    num_steps: int = 5_000,
    sample_every: int = SAMPLE_EVERY,
    chunk_size: int | None = None,
    progress: bool = False,
) -> Trajectories:
    """Integrate scenes from given start states.

    ``v += dt F(x)`` once, then for each step ``i = 1 .. num_steps - 1``: ``x += dt v``, reflect at the walls, sample
    if ``i`` is a multiple of ``sample_every``, ``v += dt F(x)``. Each component of F is clipped to +-``MAX_FORCE``.

    The order of operations is that of the source: runs equal its own to the bit on processors that fuse
    multiplication and addition, and to rounding on others. No result depends on ``chunk_size``.

    Args:
        system: the central forces.
        start: states before the first update of velocities; ``edges`` may be any numbers, also asymmetric ones.
        num_steps: integration steps of length ``STEP``.
        sample_every: integration steps between samples, of which there are ``(num_steps - 1) // sample_every``.
        chunk_size: scenes that are integrated together; memory grows with it. ``None``: the cache of a processor.
        progress: show a bar over chunks.

    Raises:
        ValueError: shapes of ``start`` that do not fit the system, or too few steps for two sampling intervals.
    """
    _check_start(system, start)
    _check_run(num_steps, sample_every, chunk_size)
    num_scenes = len(start.loc)
    size = chunk_size or max(16, CACHED_PAIRS // system.num_entities**2)
    samples = np.empty((2, num_scenes, (num_steps - 1) // sample_every, 2, system.num_entities))
    for first in track(range(0, num_scenes, size), f"chunks of {size} scenes", disable=not progress):
        chunk = slice(first, first + size)
        _run(system, _chunk_of(start, chunk), sample_every, samples[:, chunk])
    return Trajectories(samples[0], samples[1], start.edges, STEP * sample_every)


def simulate(
    system: CentralForce,
    num_scenes: int,
    *,
    generator: np.random.Generator | int,
    num_steps: int = 5_000,
    sample_every: int = SAMPLE_EVERY,
    observation_noise: float = 0.0,
    chunk_size: int | None = None,
    progress: bool = False,
) -> Trajectories:
    """Draw start states and relations, and integrate.

    Positions start from ``N(0, start_spread^2)``, velocities with length ``speed`` in a uniform direction.
    With the same seed, the first scenes of many are those of few, and noise changes only the observed states:
    relations, positions, velocities and noise have separate random streams.

    Args:
        system: the central forces.
        num_scenes: number of scenes.
        generator: source of randomness, or a seed for one. The same generator gives other scenes at the next call.
        num_steps: see :func:`integrate`, as for ``sample_every``, ``chunk_size`` and ``progress``.
        sample_every: integration steps between samples.
        observation_noise: standard deviation of Gaussian noise on each observed position and velocity component.
        chunk_size: scenes that are integrated together.
        progress: show a bar over chunks.

    Raises:
        ValueError: a system without central forces, no scene, negative noise, or too few steps for two sampling
            intervals.

    Example:
        >>> from bouncegrad.simulate import Springs, simulate
        >>> simulate(Springs(num_entities=3), 4, generator=0, num_steps=1_000).loc.shape
        (4, 9, 2, 3)
    """
    _check_system(system)
    check_drawn(num_scenes, observation_noise)
    _check_run(num_steps, sample_every, chunk_size)
    edge_stream, loc_stream, vel_stream, noise_stream = np.random.default_rng(generator).spawn(4)
    edges = system.draw_edges(num_scenes, edge_stream)
    shape = (num_scenes, 2, system.num_entities)
    start = scaled_start(system, Start(loc_stream.standard_normal(shape), vel_stream.standard_normal(shape), edges))
    clean = integrate(
        system, start, num_steps=num_steps, sample_every=sample_every, chunk_size=chunk_size, progress=progress
    )
    return _observed(clean, observation_noise, noise_stream) if observation_noise else clean


class CentralForceSimulator:
    """Base class that makes a :class:`CentralForce` a :class:`~bouncegrad.simulate.Simulator`."""

    __slots__ = ()

    def draw(
        self: CentralForce,
        num_scenes: int,
        *,
        generator: np.random.Generator | int,
        num_samples: int = NUM_SAMPLES,
        observation_noise: float = 0.0,
        progress: bool = False,
    ) -> Scenes:
        """Draw scenes of :func:`simulate`, see :meth:`bouncegrad.simulate.Simulator.draw`: x, y, vx and vy."""
        check_drawn(num_scenes, observation_noise, num_samples)
        found = simulate(
            self,
            num_scenes,
            generator=generator,
            num_steps=SAMPLE_EVERY * (num_samples + 1),
            observation_noise=observation_noise,
            progress=progress,
        )
        return from_arrays(found.loc, found.vel, found.edges, time_step=found.time_step)


def scaled_start(system: CentralForce, normal: Start) -> Start:
    """Give standard normal positions the system's spread, and standard normal velocities its speed."""
    lengths = np.sqrt((normal.vel**2).sum(1, keepdims=True))
    return Start(normal.loc * system.start_spread, normal.vel * system.speed / lengths, normal.edges)


def _observed(clean: Trajectories, noise: float, generator: np.random.Generator) -> Trajectories:
    """Trajectories with Gaussian noise on positions and velocities, drawn scene by scene."""
    num_scenes, *shape = clean.loc.shape
    drawn = noise * generator.standard_normal((num_scenes, 2, *shape))
    return Trajectories(clean.loc + drawn[:, 0], clean.vel + drawn[:, 1], clean.edges, clean.time_step)


def _chunk_of(start: Start, scenes: slice) -> _Chunk:
    """Contiguous copies of some scenes, scenes last."""
    parts = (np.moveaxis(part[scenes], 0, -1) for part in (start.loc, start.vel, start.edges))
    return _Chunk(*(part.astype(float, order="C") for part in parts))


def _run(
    system: CentralForce, chunk: _Chunk, sample_every: int, samples: Float[ndarray, "2 scene time dimension entity"]
) -> None:
    """Move one chunk and write its positions, then its velocities, into ``samples``."""
    _reflect(chunk)
    _kick(system, chunk)
    for time in range(samples.shape[2]):
        for _ in range(sample_every - 1):
            _drift(chunk)
            _kick(system, chunk)
        _drift(chunk)
        samples[0, :, time] = chunk.loc.transpose(2, 0, 1)
        samples[1, :, time] = chunk.vel.transpose(2, 0, 1)
        _kick(system, chunk)


def _drift(chunk: _Chunk) -> None:
    """``x += dt v``, reflected at the walls."""
    np.add(chunk.loc, STEP * chunk.vel, out=chunk.loc)
    _reflect(chunk)


def _kick(system: CentralForce, chunk: _Chunk) -> None:
    """``v += dt F(x)``."""
    np.add(chunk.vel, STEP * _forces(system, chunk), out=chunk.vel)


def _reflect(chunk: _Chunk) -> None:
    """Mirror positions beyond a wall at it, and turn that component of their velocity inward."""
    beyond = np.abs(chunk.loc) > BOX
    if beyond.any():
        side = np.sign(chunk.loc[beyond])
        chunk.loc[beyond] = 2 * BOX * side - chunk.loc[beyond]
        chunk.vel[beyond] = -side * np.abs(chunk.vel[beyond])


def _forces(system: CentralForce, chunk: _Chunk) -> Points:
    """``F_i = sum_j c_ij (x_i - x_j)``, summed in the order of senders, each component clipped."""
    couplings = system.couplings(chunk.loc, chunk.edges)
    forces = np.zeros_like(chunk.loc)
    for sender in range(system.num_entities):
        forces += couplings[:, sender] * (chunk.loc - chunk.loc[:, sender, None])
    return np.clip(forces, -MAX_FORCE, MAX_FORCE, out=forces)


def _check_system(system: object) -> None:
    if not isinstance(system, CentralForce):
        raise ValueError(
            f"simulate runs central forces, such as Springs and Charged; got {system}. Any simulator has scenes: "
            "call its draw(num_scenes, generator=0)."
        )


def _check_start(system: CentralForce, start: Start) -> None:
    num_scenes, num_entities = len(start.loc), system.num_entities
    states, pairs = (num_scenes, 2, num_entities), (num_scenes, num_entities, num_entities)
    for name, array, shape in (("loc", start.loc, states), ("vel", start.vel, states), ("edges", start.edges, pairs)):
        if array.shape != shape or num_scenes < 1:
            raise ValueError(
                f"start.{name} must have shape {shape} for a system of {num_entities} entities, with one scene or "
                f"more; got {array.shape}. States are [scene, dimension, entity], edges [scene, receiver, sender]."
            )


def _check_run(num_steps: int, sample_every: int, chunk_size: int | None) -> None:
    if sample_every < 1 or num_steps < 2 * sample_every:
        raise ValueError(
            f"Expected num_steps of at least 2 * sample_every and sample_every of at least 1; got num_steps="
            f"{num_steps} and sample_every={sample_every}. Simulate longer or sample more often."
        )
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size must be 1 or more; got {chunk_size}. Pass None to have it chosen.")
