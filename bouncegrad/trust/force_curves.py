"""The push of one kind of relation: how strong it is, along which line, and how it depends on distance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bouncegrad.trust.edge_effects import Axes

STEEP = 1.5
"""Ratio of strengths, of the farthest third of the pairs and of the nearest, that counts as a change with distance."""

NUM_BINS, NUM_KNOTS, NUM_FITTED = 8, 12, 20_000
"""Bins of a table, knots of a fitted curve, and pairs at most that it is fitted on."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A push against what it depends on, in bins that hold the same number of pairs.

    Attributes:
        at: ``[bin]``, the mean distance, or difference, of the pairs in each bin.
        push: ``[bin]``, the median push, in the unit of the recording per time step; positive is towards the sender.
        spread: ``[bin]``, half the width of the interval that holds the middle 68 % (the standard deviation, if they
            are normal).
    """

    at: tuple[float, ...]
    push: tuple[float, ...]
    spread: tuple[float, ...]

    @classmethod
    def of(cls, at: Float[Tensor, "item"], push: Float[Tensor, "item"]) -> Curve:
        """Sort pairs into bins."""
        order = at.argsort()
        bins = list(zip(at[order].tensor_split(NUM_BINS), push[order].tensor_split(NUM_BINS), strict=True))
        bins = [(x, y.sort().values) for x, y in bins if len(x)]
        return cls(
            tuple(float(x.mean()) for x, _ in bins),
            tuple(float(y[len(y) // 2]) for _, y in bins),
            tuple(0.5 * float(y[int(0.84 * len(y))] - y[int(0.16 * len(y))]) for _, y in bins),
        )

    @property
    def trend(self) -> str:
        """How the strength changes from near to far."""
        third = max(1, len(self.push) // 3)
        near, far = (sum(map(abs, some)) for some in (self.push[:third], self.push[-third:]))
        if far > STEEP * near:
            return "growing with distance"
        return "falling with distance" if near > STEEP * far else "much the same at all distances"

    def __str__(self) -> str:
        rows = {"at": self.at, "push": self.push, "spread": self.spread}
        return "\n".join(f"    {name:7s}" + "".join(f"{value:10.3g}" for value in row) for name, row in rows.items())


@dataclass(frozen=True, slots=True)
class Response:
    """How one feature of the receiver answers to its difference from the sender's.

    Attributes:
        feature: its name.
        strength: root mean square of the effect, in the feature's unit per time step.
        slope: change per step and unit of difference, by least squares; positive: towards the sender's value.
        explained: share of the squares that the slope accounts for.
        curve: the effect against the difference.
    """

    feature: str
    strength: float
    slope: float
    explained: float
    curve: Curve

    @classmethod
    def of(cls, feature: str, effects: Float[Tensor, "item"], differences: Float[Tensor, "item"]) -> Response:
        """Fit the slope."""
        slope = float((effects * differences).sum() / differences.square().sum().clamp_min(1e-30))
        left = (effects - slope * differences).square().sum() / effects.square().sum() if effects.any() else 1.0
        strength = float(effects.square().mean().sqrt())
        return cls(feature, strength, slope, max(0.0, 1 - float(left)), Curve.of(differences, effects))


@dataclass(frozen=True, slots=True)
class Push:
    """The push of a kind on velocities, or on positions where there are none.

    Mere squares would be those of a few collisions, in which one step is too long to tell a direction. So in all shares
    the pairs of about one distance count together as the root of their mean size ``m`` (squares with the weight
    ``sqrt(m) / mean of squares``, sizes with ``1 / sqrt(m)``): all distances, and most of all those where the push is.

    Attributes:
        strength: root mean square, over all axes together.
        towards: the part along the line to the sender, against distance.
        by_place: share of the squares that ``g(distance) n`` accounts for, with ``n`` the direction to the sender and
            ``g`` straight between :data:`NUM_KNOTS` knots.
        by_speed: likewise ``h(distance) w``, with ``w`` the sender's velocity less the receiver's.
        attracting: share of the part along the line that is towards the sender.
        following: share of the part along ``w`` that is along it, not against it.
    """

    strength: float
    towards: Curve
    by_place: float
    by_speed: float
    attracting: float
    following: float

    @classmethod
    def of(cls, effects: Float[Tensor, "item feature"], differences: Float[Tensor, "item feature"], axes: Axes) -> Push:
        """Fit both functions to what senders did.

        Args:
            effects: ``[item, feature]``.
            differences: ``[item, feature]``, the sender's state less the receiver's.
            axes: which features are positions and velocities.
        """
        push, line = effects[:, list(axes.moved)], differences[:, list(axes.places)]
        distance = line.norm(dim=1)
        direction = line / distance.clamp_min(1e-12)[:, None]
        towards, by_place = (push * direction).sum(1), _explained(push, direction, distance)
        following, by_speed = towards.new_zeros(len(towards)), 0.0
        if axes.speeds:
            relative = differences[:, list(axes.speeds)]
            following = (push * relative).sum(1) / relative.norm(dim=1).clamp_min(1e-12)
            by_speed = _explained(push, relative, distance)
        strength, curve = float(push.square().sum(1).mean().sqrt()), Curve.of(distance, towards)
        one_way = (_positive(values, push.norm(dim=1), distance) for values in (towards, following))
        return cls(strength, curve, by_place, by_speed, *one_way)


def _positive(values: Tensor, sizes: Tensor, distance: Tensor) -> float:
    """The positive share of some values, so weighted that all distances count."""
    weighted = values / _mean_nearby(sizes, distance).sqrt()
    return float(weighted.clamp_min(0).sum() / weighted.abs().sum().clamp_min(1e-30))


def _explained(
    push: Float[Tensor, "item axis"], along: Float[Tensor, "item axis"], distance: Float[Tensor, "item"]
) -> float:
    """Share of a push that ``g(distance) along`` accounts for, ``g`` straight between knots."""
    some = torch.linspace(0, len(push) - 1, min(NUM_FITTED, len(push))).long()
    push, along, distance = push[some], along[some], distance[some]
    sizes = push.norm(dim=1)
    weights = (_mean_nearby(sizes, distance).sqrt() / _mean_nearby(sizes.square(), distance)).sqrt()[:, None]
    design = (_hats(distance)[:, None] * (weights * along)[:, :, None]).flatten(0, 1)
    goal = (weights * push).flatten()
    if not goal.any():
        return 0.0
    fitted = design @ torch.linalg.lstsq(design, goal, driver="gelsd").solution
    return max(0.0, 1 - float((goal - fitted).square().sum() / goal.square().sum().clamp_min(1e-30)))


def _mean_nearby(values: Float[Tensor, "item"], distance: Float[Tensor, "item"]) -> Float[Tensor, "item"]:
    """The mean over the pairs of about the same distance."""
    means = torch.empty_like(values)
    for those in distance.argsort().tensor_split(2 * NUM_KNOTS):
        means[those] = values[those].mean().clamp_min(1e-30)
    return means


def _hats(distance: Float[Tensor, "item"]) -> Float[Tensor, "item knot"]:
    """How much of each knot is in a function that is straight between knots; knots hold equally many pairs apart."""
    knots = distance.quantile(torch.linspace(0, 1, NUM_KNOTS, dtype=distance.dtype))
    place = (torch.searchsorted(knots, distance) - 1).clamp(0, NUM_KNOTS - 2)
    part = ((distance - knots[place]) / knots.diff().clamp_min(1e-12)[place]).clamp(0, 1)[:, None]
    hats = torch.zeros(len(distance), NUM_KNOTS, dtype=distance.dtype)
    return hats.scatter(1, place[:, None], 1 - part).scatter(1, place[:, None] + 1, part)
