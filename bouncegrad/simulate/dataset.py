"""Simulated data sets as folders in the NRI layout."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Literal

import numpy

from bouncegrad.scenes import DataError, Normalization, Scenes, from_arrays
from bouncegrad.scenes import write_folder as write_scenes
from bouncegrad.scenes.writing import check_folder
from bouncegrad.simulate import (
    CANONICAL_EXTREMES,
    Charged,
    Kuramoto,
    Simulator,
    Springs,
    simulate_canonical,
)
from bouncegrad.simulate.kuramoto import FeatureSet

NUM_SAMPLES = {"train": 49, "valid": 49, "test": 99}
"""Number of samples of each split, as in the published data sets; test scenes are longer, for predictions."""


CANONICAL_NAMES: dict[str, Literal["train", "valid", "test"]] = {"train": "train", "valid": "valid", "test": "test"}


@dataclass(frozen=True, slots=True)
class SimulationRequest:
    """Settings of a simulated data set.

    Attributes:
        system: a name in :data:`SIMULATORS`.
        num_entities: particles or oscillators in a scene.
        counts: split -> number of scenes; splits of 0 scenes are left out.
        canonical: springs, charged: the scenes of the published data sets.
        strengths: springs: strength of each edge type; None: 0 and 1.
        directed: springs: each direction of a pair is drawn independently.
        density: springs: share of pairs with another strength than the first; None: all strengths equally likely.
        noise: standard deviation of the observation noise.
        seed: seed of all randomness.
        features: kuramoto: set of features of an oscillator; None: angles.

    Raises:
        DataError: an unknown system, or a number that cannot be simulated.
    """

    system: str
    num_entities: int
    counts: Mapping[str, int]
    canonical: bool = False
    strengths: tuple[float, ...] | None = None
    directed: bool = False
    density: float | None = None
    noise: float = 0.0
    seed: int = 0
    features: FeatureSet | None = None

    def __post_init__(self) -> None:
        if self.system not in SIMULATORS:
            raise DataError(f"no system {self.system!r}: choose one of {', '.join(SIMULATORS)}")
        for split, count in self.counts.items():
            if count < 0:
                raise DataError(f"expected 0 or more {split} scenes, got {count}: 0 leaves the split out")
        if not any(self.counts.values()):
            raise DataError(f"expected at least one scene in one of {', '.join(self.counts)}, got none")
        if not 0 <= self.noise < math.inf or not all(map(math.isfinite, self.strengths or ())):
            raise DataError(
                f"expected a finite noise, 0 or more, and finite strengths, got {self.noise} and {self.strengths}"
            )
        if self.seed < 0:
            raise DataError(f"expected a seed of 0 or more, got {self.seed}")
        if self.density is not None and not 0 <= self.density <= 1:
            raise DataError(f"expected a density from 0 to 1, the share of pairs that act, got {self.density}")

    def simulator(self) -> Simulator:
        """The simulator of the system.

        Raises:
            DataError: an option that this system does not have.
        """
        for name, other in SIMULATORS.items():
            wrong = [f"--{option}" for option in other.own_options if self._is_given(option)]
            if wrong and name != self.system:
                raise DataError(f"only {name} can have {', '.join(wrong)}: leave that out for {self.system}")
        return SIMULATORS[self.system].make(self)

    def _is_given(self, option: str) -> bool:
        [default] = (field.default for field in fields(self) if field.name == option)
        return getattr(self, option) != default

    @property
    def suffix(self) -> str:
        """Suffix of the names of the files: system and number of entities."""
        return f"{self.system}{self.num_entities}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A system of ``bouncegrad simulate``.

    Attributes:
        make: function of a request that returns the simulator.
        own_options: options of a request that no other system has.
        advice: options of ``bouncegrad fit`` for its scenes, where the default does not suit them.
    """

    make: Callable[[SimulationRequest], Simulator]
    own_options: tuple[str, ...] = ()
    advice: str = ""


def _springs(request: SimulationRequest) -> Springs:
    strengths = request.strengths or (0.0, 1.0)
    probabilities = _probabilities(len(strengths), request.density)
    return Springs(request.num_entities, strengths, probabilities, request.directed)


def _probabilities(num_strengths: int, density: float | None) -> tuple[float, ...] | None:
    if density is None:
        return None
    if num_strengths < 2:
        raise DataError("a density needs a strength to be rare and one to be common: give two --strengths or more")
    return (1 - density, *(density / (num_strengths - 1),) * (num_strengths - 1))


SIMULATORS: Mapping[str, Entry] = MappingProxyType(
    {
        "springs": Entry(_springs, ("strengths", "directed", "density")),
        "charged": Entry(lambda request: Charged(request.num_entities)),
        "kuramoto": Entry(
            lambda request: Kuramoto(request.num_entities, request.features or "angles"),
            ("features",),
            "fit with --settings.model.network.inputs absolute",
        ),
    }
)
"""All systems of ``bouncegrad simulate``, by name."""


def simulate_folder(request: SimulationRequest, out: str | os.PathLike[str], progress: bool = False) -> str:
    """Simulate all splits and write them in the NRI folder layout; returns a one-line summary."""
    counts = {split: count for split, count in request.counts.items() if count}
    check_folder(out)
    if request.canonical:
        _check_canonical(request)
    simulated = {split: _simulated(request, split, count, progress) for split, count in counts.items()}
    meta = {"system": request.suffix, "canonical": request.canonical, "seed": request.seed}
    write_scenes(out, simulated, request.suffix, meta | (_canonical_units(request) if request.canonical else {}))
    text = ", ".join(f"{count} {split}" for split, count in counts.items())
    advice = SIMULATORS[request.system].advice
    return f"{out}: {text} scenes of {request.suffix}" + (f"; {advice}" if advice else "")


def _simulated(request: SimulationRequest, split: str, count: int, progress: bool) -> Scenes:
    system = request.simulator()
    if request.canonical:
        found = simulate_canonical(_canonical_system(system), CANONICAL_NAMES[split], count, progress=progress)
        return from_arrays(found.loc, found.vel, found.edges, time_step=found.time_step)
    seeds = numpy.random.SeedSequence([request.seed, list(NUM_SAMPLES).index(split)])
    return system.draw(
        count,
        generator=numpy.random.default_rng(seeds),
        num_samples=NUM_SAMPLES[split],
        observation_noise=request.noise,
        progress=progress,
    )


def _canonical_system(system: Simulator) -> Springs | Charged:
    if isinstance(system, Springs | Charged):
        return system
    raise DataError(f"there are canonical scenes of springs and charged only, not of {system}: leave --canonical out")


def _canonical_units(request: SimulationRequest) -> dict[str, object]:
    """The normalisation of published errors, where the extremes of the published training set are known."""
    found = CANONICAL_EXTREMES.get(request.suffix)
    if found is None:
        return {}
    low = (found.loc_min, found.loc_min, found.vel_min, found.vel_min)
    high = (found.loc_max, found.loc_max, found.vel_max, found.vel_max)
    return {"normalization": Normalization(low, high).to_dict()}


def _check_canonical(request: SimulationRequest) -> None:
    if request.noise or request.strengths or request.directed or request.seed or request.density is not None:
        raise DataError(
            "the canonical scenes are noise-free, undirected, of strengths 0 and 1, and have their own seed: "
            "leave --noise, --strengths, --directed, --density and --seed out, or leave --canonical out"
        )
