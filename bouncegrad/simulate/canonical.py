"""Regeneration of the published data sets: the same random draws, hence the same scenes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np

from bouncegrad.simulate.motion import SAMPLE_EVERY, Start, Trajectories, integrate, scaled_start
from bouncegrad.simulate.systems import Charged, Springs

CANONICAL_SEED = 42
"""Seed of the random stream that draws all splits of a data set."""


@dataclass(frozen=True, slots=True)
class Split:
    """A part of a published data set: ``num_scenes`` scenes of ``num_steps`` integration steps."""

    num_scenes: int
    num_steps: int


SplitName: TypeAlias = Literal["train", "valid", "test"]

CANONICAL_SPLITS: Mapping[str, Split] = MappingProxyType(
    {"train": Split(50_000, 5_000), "valid": Split(10_000, 5_000), "test": Split(10_000, 10_000)}
)
"""The parts of a published data set, in the order in which they are drawn."""


@dataclass(frozen=True, slots=True)
class Extremes:
    """The smallest and the largest coordinate, and velocity component, of a training set."""

    loc_min: float
    loc_max: float
    vel_min: float
    vel_max: float


CANONICAL_EXTREMES: Mapping[str, Extremes] = MappingProxyType(
    {
        "springs5": Extremes(-4.073070, 4.432378, -1.416356, 1.430852),
        "charged5": Extremes(-5.000000, 5.000000, -6.870223, 6.586245),
    }
)
"""Extremes of all 50,000 canonical training scenes, by system and number of entities.

Published errors are measured after mapping them to [-1, 1]: errors for comparison with published ones use these
numbers, whatever the number of training scenes. They are the extremes of
``simulate_canonical(system, "train", 50_000)``, to six decimals. Those of charged velocities depend on single close
encounters: rounding on another platform changes them, and with them the unit of the published errors.
"""


def simulate_canonical(
    system: Springs | Charged,
    split: SplitName,
    num_scenes: int,
    *,
    chunk_size: int | None = None,
    progress: bool = False,
) -> Trajectories:
    """Simulate the first ``num_scenes`` scenes of a split of the data sets of Kipf et al. (2018).

    Start states and relations have the same random draws. One stream draws the splits one after the other, so the
    random numbers of all earlier scenes are drawn too (in seconds), but only the requested scenes are simulated.
    Labels are 0 and 1 for springs, -1 and 1 for charges.

    Args:
        system: the system, with any number of entities, and otherwise the defaults.
        split: ``"train"`` (50,000 scenes of 49 samples), ``"valid"`` (10,000 of 49) or ``"test"`` (10,000 of 99).
        num_scenes: number of scenes, the first ones of that split.
        chunk_size: number of scenes that are integrated together, see :func:`bouncegrad.simulate.integrate`.
        progress: show a bar over chunks.

    Raises:
        ValueError: a system that is not the published one, no such split, or more scenes than it has.

    Example:
        >>> from bouncegrad.simulate import Springs, simulate_canonical
        >>> simulate_canonical(Springs(), "train", 2).edges[0, 0]
        array([0., 0., 0., 0., 1.])
    """
    start = canonical_start(system, split, num_scenes, CANONICAL_SPLITS)
    num_steps = CANONICAL_SPLITS[split].num_steps
    return integrate(system, start, num_steps=num_steps, chunk_size=chunk_size, progress=progress)


def canonical_start(system: Springs | Charged, split: str, num_scenes: int, splits: Mapping[str, Split]) -> Start:
    """Draw the start states of the first ``num_scenes`` scenes of ``split``; one stream draws all ``splits``."""
    _check_canonical(system)
    _check_split(split, num_scenes, splits)
    names = list(splits)
    num_before = sum(splits[name].num_scenes for name in names[: names.index(split)])
    drawn = list(islice(_draws(_published(system), splits), num_before, num_before + num_scenes))
    loc, vel, edges = (np.concatenate([getattr(one, name) for one in drawn]) for name in ("loc", "vel", "edges"))
    return scaled_start(system, Start(loc, vel, edges))


def _draws(system: Springs | Charged, splits: Mapping[str, Split]) -> Iterator[Start]:
    """Standard normal starts of one scene each, in the order of the published stream."""
    stream = np.random.RandomState(CANONICAL_SEED)
    for split in splits.values():
        num_samples = (split.num_steps - 1) // SAMPLE_EVERY
        for _ in range(split.num_scenes):
            edges = system.draw_edges(1, stream)
            loc, vel = stream.randn(1, 2, system.num_entities), stream.randn(1, 2, system.num_entities)
            yield Start(loc, vel, edges)
            stream.randn(2, num_samples, 2, system.num_entities)  # observation noise, drawn but scaled by 0


def _published(system: Springs | Charged) -> Springs | Charged:
    """The system with three edge types; the middle one has probability 0 but was part of the published draw."""
    probabilities = (0.5, 0.0, 0.5)
    if isinstance(system, Springs):
        return replace(system, strengths=(0.0, 0.5, 1.0), probabilities=probabilities)
    return replace(system, charges=(-1.0, 0.0, 1.0), probabilities=probabilities)


def _check_canonical(system: Springs | Charged) -> None:
    if not isinstance(system, Springs | Charged) or system != type(system)(num_entities=system.num_entities):
        raise ValueError(
            "The published data were made with Springs(num_entities) and Charged(num_entities), all else by default; "
            f"got {system}. Use `simulate` for other systems."
        )


def _check_split(split: str, num_scenes: int, splits: Mapping[str, Split]) -> None:
    if split not in splits:
        raise ValueError(f"split must be one of {', '.join(splits)}; got {split!r}.")
    if not 1 <= num_scenes <= splits[split].num_scenes:
        raise ValueError(
            f"The {split} split has {splits[split].num_scenes} scenes; got num_scenes={num_scenes}. "
            "Ask for at least one and at most that many, or use `simulate` for more."
        )
