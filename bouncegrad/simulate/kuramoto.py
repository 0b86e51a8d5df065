"""Kuramoto oscillators: each has its own frequency, and coupled ones attract each other in phase.

Oscillator ``i`` has the phase ``phi_i``, an angle that is not wrapped::

    phi_i' = w_i + sum_j k_ij sin(phi_j - phi_i)

with frequencies ``w_i ~ U(1, 10)``, first phases ``phi_i(0) ~ U(0, 2 pi)`` and symmetric labels ``k_ij``, 0 or 1 with
probability 1/2 each. It is integrated by the classical Runge-Kutta method of fourth order in steps of 0.01, of which
every tenth is a sample: the first one is the start.

Source: Kuramoto, 1975, "Self-entrainment of a population of coupled non-linear oscillators"; Kipf, Fetaya, Wang,
Welling and Zemel, 2018, "Neural relational inference for interacting systems", section 5.1 and appendix B.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from rich.progress import track

from bouncegrad.scenes import Scenes
from bouncegrad.scenes.layout import from_states
from bouncegrad.simulate.simulator import NUM_SAMPLES, Relations, check_drawn, check_num_entities

STEP = 0.01
"""Time of one integration step."""

SAMPLE_EVERY = 10
"""Integration steps between two samples."""

FREQUENCIES = (1.0, 10.0)
"""Bounds of the frequencies of oscillators."""

CHUNK_PAIRS = 2**15
"""Number of pairs of a chunk of scenes that is integrated together: small enough for the cache of a processor."""

Phases: TypeAlias = Float[ndarray, "*batch entity"]
"""A phase, a frequency or a rate for each oscillator."""

Path: TypeAlias = Float[ndarray, "step scene entity"]
"""Phases after 0, 1, 2, ... integration steps."""

States: TypeAlias = Float[ndarray, "sample scene entity feature"]

FeatureSet: TypeAlias = Literal["angles", "published"]


@dataclass(frozen=True, slots=True)
class Oscillators:
    """Initial state of scenes of oscillators.

    Attributes:
        frequencies: ``[scene, entity]``, rate of each oscillator without coupling.
        phases: ``[scene, entity]``, initial phases.
        couplings: ``[scene, receiver, sender]``, the ``k_ij``, any numbers.
    """

    frequencies: Float[ndarray, "scene entity"]
    phases: Float[ndarray, "scene entity"]
    couplings: Relations

    def at(self, scenes: slice) -> Oscillators:
        """Some of the scenes."""
        return Oscillators(self.frequencies[scenes], self.phases[scenes], self.couplings[scenes])


@dataclass(frozen=True, slots=True)
class Kuramoto:
    """Coupled oscillators (the equation is at the top of this module).

    The coupling depends on the difference of phases, which is no function of the differences of features (sines,
    rates). A model needs the states themselves as inputs: fit with ``--settings.model.network.inputs absolute``.

    ``features`` is the set of measured features:

    ``angles``
        ``cos``, ``sin``: of the phase; ``rate``: ``phi'``, the exact derivative by the equation, in radians per time.
        The units are the same for all oscillators.
    ``published``
        Features of the published data sets: ``rate``, the forward difference of the phase over one integration step,
        scaled to [-1, 1] by its own extremes in the samples of that oscillator, and 0 for uncoupled
        ones; ``sin`` of the phase; ``phase``, scaled to [-1, 1] by its own extremes in the same way;
        ``frequency``, scaled from [1, 10] to [-1, 1]. It is for comparison with published figures only, because of two
        traps. The zeros leak labels: uncoupled oscillators are visible without any inference. And scaling by own
        extremes hides the size of the rate and its changes, hence that of the coupling, which then differs between
        oscillators.

    Attributes:
        num_entities: oscillators of each scene.
        features: "angles" or "published".

    Raises:
        ValueError: fewer than two oscillators, or no such features.

    Example:
        >>> from bouncegrad.simulate import Kuramoto
        >>> scenes = Kuramoto(num_entities=3).draw(4, generator=0)
        >>> scenes.states.shape, scenes.feature_names
        (torch.Size([4, 49, 3, 3]), ('cos', 'sin', 'rate'))
    """

    num_entities: int = 5
    features: FeatureSet = "angles"

    def __post_init__(self) -> None:
        check_num_entities(self.num_entities)
        if self.features not in FEATURES:
            raise ValueError(f"features must be one of {', '.join(FEATURES)}; got {self.features!r}.")

    def draw(
        self,
        num_scenes: int,
        *,
        generator: np.random.Generator | int,
        num_samples: int = NUM_SAMPLES,
        observation_noise: float = 0.0,
        progress: bool = False,
    ) -> Scenes:
        """Draw scenes, see :meth:`bouncegrad.simulate.Simulator.draw`; noise is on each feature as it is written."""
        check_drawn(num_scenes, observation_noise, num_samples)
        *streams, noise_stream = np.random.default_rng(generator).spawn(4)
        start = self._start(num_scenes, *streams)
        states = self._states(start, num_samples, progress)
        if observation_noise:
            states = states + observation_noise * noise_stream.standard_normal(states.shape)
        scenes = from_states(states, start.couplings, STEP * SAMPLE_EVERY)
        return replace(scenes, feature_names=FEATURES[self.features].names)

    def _start(
        self,
        num_scenes: int,
        coupling_stream: np.random.Generator,
        phase_stream: np.random.Generator,
        frequency_stream: np.random.Generator,
    ) -> Oscillators:
        size = (num_scenes, self.num_entities)
        lower = np.tril(coupling_stream.random((*size, self.num_entities)) < 0.5, -1).astype(float)
        phases = phase_stream.uniform(0, 2 * np.pi, size)
        return Oscillators(frequency_stream.uniform(*FREQUENCIES, size), phases, lower + lower.swapaxes(1, 2))

    def _states(
        self, start: Oscillators, num_samples: int, progress: bool
    ) -> Float[ndarray, "scene time entity feature"]:
        """The features of all scenes, computed in chunks."""
        features, num_scenes = FEATURES[self.features], len(start.phases)
        size = max(16, CHUNK_PAIRS // self.num_entities**2)
        states = np.empty((num_scenes, num_samples, self.num_entities, len(features.names)))
        for first in track(range(0, num_scenes, size), f"chunks of {size} scenes", disable=not progress):
            scenes = start.at(slice(first, first + size))
            path = integrate_phases(scenes, (num_samples - 1) * SAMPLE_EVERY + 1)
            states[first : first + size] = features.of(scenes, path).swapaxes(0, 1)
        return states


def integrate_phases(start: Oscillators, num_steps: int, step: float = STEP) -> Path:
    """The phases after 0 to ``num_steps`` steps, by the classical Runge-Kutta method of fourth order."""
    path = np.empty((num_steps + 1, *start.phases.shape))
    path[0] = start.phases
    for number in range(num_steps):
        phases = path[number]
        first = rates(start, phases)
        second = rates(start, phases + step / 2 * first)
        third = rates(start, phases + step / 2 * second)
        fourth = rates(start, phases + step * third)
        path[number + 1] = phases + step / 6 * (first + 2 * second + 2 * third + fourth)
    return path


def rates(oscillators: Oscillators, phases: Phases) -> Phases:
    """``phi_i' = w_i + sum_j k_ij sin(phi_j - phi_i)`` at phases ``[*batch, scene, entity]``."""
    pulls = np.sin(phases[..., None, :] - phases[..., :, None])
    return oscillators.frequencies + (oscillators.couplings * pulls).sum(-1)


def angle_features(oscillators: Oscillators, path: Path) -> States:
    """``cos phi``, ``sin phi`` and ``phi'``."""
    phases = path[:-1:SAMPLE_EVERY]
    return np.stack([np.cos(phases), np.sin(phases), rates(oscillators, phases)], -1)


def published_features(oscillators: Oscillators, path: Path) -> States:
    """Scaled forward differences (0 if uncoupled), ``sin phi``, scaled phases, scaled frequencies."""
    phases, following = path[:-1:SAMPLE_EVERY], path[1::SAMPLE_EVERY]
    differences = scaled((following - phases) / STEP)
    joined = oscillators.couplings.any(-1)
    low, high = FREQUENCIES
    frequencies = 2 * (oscillators.frequencies - low) / (high - low) - 1
    parts = (np.where(joined, differences, 0), np.sin(phases), scaled(phases), frequencies)
    return np.stack(np.broadcast_arrays(*parts), -1)


def scaled(values: Float[ndarray, "sample scene entity"]) -> Float[ndarray, "sample scene entity"]:
    """Each oscillator's values from -1, its least, to 1, its largest; 0 where they do not vary."""
    low, high = values.min(0), values.max(0)
    return np.where(high > low, 2 * (values - low) / np.where(high > low, high - low, 1) - 1, 0)


@dataclass(frozen=True, slots=True)
class _Features:
    """A set of features: their names, and the function that computes them from the path."""

    names: tuple[str, ...]
    of: Callable[[Oscillators, Path], States]


FEATURES: Mapping[FeatureSet, _Features] = MappingProxyType(
    {
        "angles": _Features(("cos", "sin", "rate"), angle_features),
        "published": _Features(("rate", "sin", "phase", "frequency"), published_features),
    }
)
"""The sets of features of an oscillator, by name."""
