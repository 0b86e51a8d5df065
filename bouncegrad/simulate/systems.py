"""Springs and charges: central forces that differ in their couplings and in how their labels are drawn.

The coupling ``c_ij`` of sender ``j`` and receiver ``i`` enters the force ``F_i = sum_j c_ij (x_i - x_j)``; a negative
one attracts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from bouncegrad.simulate.motion import CentralForceSimulator, Pairs, Points, RandomStream
from bouncegrad.simulate.simulator import Relations, check_num_entities

NEAREST = 1e-200
"""Floor of a squared distance: its power 3/2 is still a number, and the force of its inverse is beyond any clip."""


@dataclass(frozen=True, slots=True)
class Springs(CentralForceSimulator):
    """Ideal springs of rest length 0 between some pairs: ``c_ij = -interaction * e_ij``.

    Attributes:
        num_entities: entities of each scene.
        strengths: possible labels ``e_ij``, any number of edge types.
        probabilities: probability of each strength; ``None`` is uniform.
        directed: draw each ordered pair independently. Then forces are not mutual and momentum is not conserved, unlike
            real springs, so that the two directions of an edge can be distinguished.
        start_spread: standard deviation of each start coordinate.
        speed: length of each start velocity.
        interaction: force at strength 1 and distance 1.

    Raises:
        ValueError: fewer than two entities, or probabilities that do not fit the strengths.
    """

    num_entities: int = 5
    strengths: tuple[float, ...] = (0.0, 1.0)
    probabilities: tuple[float, ...] | None = None
    directed: bool = False
    start_spread: float = 0.5
    speed: float = 0.5
    interaction: float = 0.1

    def __post_init__(self) -> None:
        check_num_entities(self.num_entities)
        _check_kinds(self.strengths, self.probabilities)

    def draw_edges(self, num_scenes: int, generator: RandomStream) -> Relations:
        """Draw the strength of each pair; the lower triangle is mirrored unless directed, the diagonal is 0."""
        size = (num_scenes, self.num_entities, self.num_entities)
        drawn = generator.choice(np.array(self.strengths, float), size, p=self.probabilities)
        lower = np.tril(drawn, -1)
        return lower + (np.triu(drawn, 1) if self.directed else lower.swapaxes(1, 2))

    def couplings(self, loc: Points, edges: Pairs) -> Pairs:
        """``-interaction * e_ij``, wherever the entities are."""
        return -self.interaction * edges


@dataclass(frozen=True, slots=True)
class Charged(CentralForceSimulator):
    """Electric charges: ``c_ij = interaction * q_i q_j / |x_i - x_j|^3``, with labels ``e_ij = q_i q_j``.

    Two charges give graphs with ``N - 1`` free bits. The motion is chaotic: rounding differences grow.

    Attributes:
        num_entities: entities of each scene.
        charges: possible charges ``q_i``.
        probabilities: probability of each charge; ``None`` is uniform.
        start_spread: standard deviation of each start coordinate.
        speed: length of each start velocity.
        interaction: force between unit charges at distance 1.

    Raises:
        ValueError: fewer than two entities, or probabilities that do not fit the charges.
    """

    num_entities: int = 5
    charges: tuple[float, ...] = (-1.0, 1.0)
    probabilities: tuple[float, ...] | None = None
    start_spread: float = 1.0
    speed: float = 0.5
    interaction: float = 1.0

    def __post_init__(self) -> None:
        check_num_entities(self.num_entities)
        _check_kinds(self.charges, self.probabilities)

    def draw_edges(self, num_scenes: int, generator: RandomStream) -> Relations:
        """Draw a charge for each entity; labels are their products, so that the diagonal has their squares."""
        size = (num_scenes, self.num_entities)
        drawn = generator.choice(np.array(self.charges, float), size, p=self.probabilities)
        return drawn[:, :, None] * drawn[:, None]

    def couplings(self, loc: Points, edges: Pairs) -> Pairs:
        """``interaction * e_ij / |x_i - x_j|^3``, with ``|x_i - x_j|^2 = |x_i|^2 + |x_j|^2 - 2 x_i.x_j``.

        The expanded square loses digits for close pairs; it is kept because the published data were made with it.
        Entities at the very same place do not act on each other.
        """
        squares = (loc**2).sum(0)
        distances = np.maximum(squares[:, None] + squares - 2 * _products(loc), NEAREST)
        return self.interaction * edges / distances**1.5


def _products(loc: Points) -> Pairs:
    """``x_i.x_j`` with the second product fused into the sum, as matrix products do on current processors."""
    receivers, senders = torch.from_numpy(loc)[:, :, None], torch.from_numpy(loc)[:, None]
    return torch.addcmul(receivers[0] * senders[0], receivers[1], senders[1]).numpy()


def _check_kinds(values: tuple[float, ...], probabilities: tuple[float, ...] | None) -> None:
    if not values:
        raise ValueError("Got no values to draw relations from; give at least one, as in (0.0, 1.0).")
    if probabilities is None:
        return
    if len(probabilities) != len(values):
        raise ValueError(
            f"Expected one probability for each of the {len(values)} values {values}, got {len(probabilities)}: "
            f"{probabilities}. Add or remove entries, or pass None for equal ones."
        )
    if min(probabilities) < 0 or abs(sum(probabilities) - 1) > 1e-8:
        raise ValueError(
            f"Probabilities must be 0 or more and sum to 1; got {probabilities} with sum {sum(probabilities)}. "
            "Divide them by their sum."
        )
