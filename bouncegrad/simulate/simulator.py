"""The protocol of simulators, which draw scenes with known relations."""

from __future__ import annotations

from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from bouncegrad.scenes import Scenes

NUM_SAMPLES = 49
"""Number of samples of a training scene, as in the published data."""

Relations: TypeAlias = Float[ndarray, "scene receiver sender"]
"""The label of each ordered pair, diagonal included: ``relations[:, i, j]`` has receiver ``i``, sender ``j``."""


@runtime_checkable
class Simulator(Protocol):
    """A system from which scenes with relations can be drawn, whatever its dynamics."""

    @property
    def num_entities(self) -> int:
        """Entities of each scene."""
        ...

    def draw(
        self,
        num_scenes: int,
        *,
        generator: np.random.Generator | int,
        num_samples: int = NUM_SAMPLES,
        observation_noise: float = 0.0,
        progress: bool = False,
    ) -> Scenes:
        """Draw start states and relations, and simulate.

        With the same seed, the first scenes of many are those of few, and noise changes only the observed states.

        Args:
            num_scenes: number of scenes.
            generator: source of randomness, or a seed for one. The same generator gives other scenes at the next call.
            num_samples: samples of each scene.
            observation_noise: standard deviation of Gaussian noise on each observed number.
            progress: show a bar, if drawing takes long.

        Raises:
            ValueError: no scene, fewer than two samples, or negative noise.
        """
        ...


def check_num_entities(num_entities: int) -> None:
    """Check that scenes have at least one pair of entities."""
    if num_entities < 2:
        raise ValueError(f"num_entities must be 2 or more, because relations join two entities; got {num_entities}.")


def check_drawn(num_scenes: int, observation_noise: float, num_samples: int = NUM_SAMPLES) -> None:
    """Check the arguments of ``draw``."""
    if num_scenes < 1:
        raise ValueError(f"num_scenes must be 1 or more; got {num_scenes}.")
    if observation_noise < 0:
        raise ValueError(
            f"observation_noise is a standard deviation, 0 or more; got {observation_noise}. Pass 0 for none."
        )
    if num_samples < 2:
        raise ValueError(f"num_samples must be 2 or more, because one sample shows no motion; got {num_samples}.")
