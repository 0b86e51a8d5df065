"""The push of one edge type: its strength, its direction, and its dependence on distance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bouncegrad.trust.edge_effects import Axes

STEEP = 1.5
"""Ratio of the strengths of the farthest and the nearest third of the pairs that counts as a change with distance."""

NUM_BINS, NUM_KNOTS, NUM_FITTED = 8, 12, 20_000
"""Number of bins of a curve, of knots of a fitted function, and maximal number of pairs for the fit."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A push as a function of distance or difference, in bins with the same number of pairs.

    Attributes:
        at: ``[bin]``, mean distance, or difference, of the pairs in each bin.
        push: ``[bin]``, median push, in the unit of the recording per time step; positive is towards the sender.
        spread: ``[bin]``, half the width of the interval that holds the middle 68 % (the standard deviation of a normal
            distribution).
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
        near, far = (sum(map(abs, subset)) for subset in (self.push[:third], self.push[-third:]))
        if far > STEEP * near:
            return "growing with distance"
        return "falling with distance" if near > STEEP * far else "much the same at all distances"

    def __str__(self) -> str:
        rows = {"at": self.at, "push": self.push, "spread": self.spread}
        return "\n".join(f"    {name:7s}" + "".join(f"{value:10.3g}" for value in row) for name, row in rows.items())


@dataclass(frozen=True, slots=True)
class Response:
    """Effect on one feature of the receiver as a linear function of the difference to the sender's value.

    Attributes:
        feature: name of the feature.
        strength: root mean square of the effect, in the feature's unit per time step.
        slope: change per step and unit of difference, by least squares; positive: towards the sender's value.
        explained: share of the sum of squares that the slope explains.
        curve: the effect as a function of the difference.
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
    """The push of an edge type on velocities, or on positions where there are none.

    Plain sums of squares would be dominated by a few collisions, where one step is too long to resolve a direction. So
    the shares weight pairs by distance: pairs of similar distance together get the weight of the root of their mean
    size ``m`` (squares with the weight ``sqrt(m) / mean of squares``, sizes with ``1 / sqrt(m)``). All distances count,
    and those with a strong push count most.

    Attributes:
        strength: root mean square, over all axes together.
        towards: component along the line to the sender, as a function of distance.
        by_place: share of the squares that ``g(distance) n`` explains, with ``n`` the direction to the sender and ``g``
            piecewise linear with :data:`NUM_KNOTS` knots.
        by_speed: share of the squares that ``h(distance) w`` explains, with ``w`` the sender's velocity minus the
            receiver's.
        attracting: share of the component along the line that is towards the sender.
        following: share of the component along ``w`` that has the direction of ``w``.
    """

    strength: float
    towards: Curve
    by_place: float
    by_speed: float
    attracting: float
    following: float

    @classmethod
    def of(cls, effects: Float[Tensor, "item feature"], differences: Float[Tensor, "item feature"], axes: Axes) -> Push:
        """Fit both functions to the effects of senders.

        Args:
            effects: ``[item, feature]``.
            differences: ``[item, feature]``, state of the sender minus state of the receiver.
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
    """Share of positive values, weighted so that all distances count."""
    weighted = values / _mean_nearby(sizes, distance).sqrt()
    return float(weighted.clamp_min(0).sum() / weighted.abs().sum().clamp_min(1e-30))


def _explained(
    push: Float[Tensor, "item axis"], along: Float[Tensor, "item axis"], distance: Float[Tensor, "item"]
) -> float:
    """Share of a push that ``g(distance) along`` explains, by weighted least squares with a piecewise linear ``g``."""
    subset = torch.linspace(0, len(push) - 1, min(NUM_FITTED, len(push))).long()
    push, along, distance = push[subset], along[subset], distance[subset]
    sizes = push.norm(dim=1)
    weights = (_mean_nearby(sizes, distance).sqrt() / _mean_nearby(sizes.square(), distance)).sqrt()[:, None]
    design = (_hat_functions(distance)[:, None] * (weights * along)[:, :, None]).flatten(0, 1)
    goal = (weights * push).flatten()
    if not goal.any():
        return 0.0
    fitted = design @ torch.linalg.lstsq(design, goal, driver="gelsd").solution
    return max(0.0, 1 - float((goal - fitted).square().sum() / goal.square().sum().clamp_min(1e-30)))


def _mean_nearby(values: Float[Tensor, "item"], distance: Float[Tensor, "item"]) -> Float[Tensor, "item"]:
    """Mean over the pairs of similar distance."""
    means = torch.empty_like(values)
    for members in distance.argsort().tensor_split(2 * NUM_KNOTS):
        means[members] = values[members].mean().clamp_min(1e-30)
    return means


def _hat_functions(distance: Float[Tensor, "item"]) -> Float[Tensor, "item knot"]:
    """Basis of piecewise linear functions ("hat" functions), with an equal number of pairs between knots."""
    knots = distance.quantile(torch.linspace(0, 1, NUM_KNOTS, dtype=distance.dtype))
    place = (torch.searchsorted(knots, distance) - 1).clamp(0, NUM_KNOTS - 2)
    part = ((distance - knots[place]) / knots.diff().clamp_min(1e-12)[place]).clamp(0, 1)[:, None]
    hats = torch.zeros(len(distance), NUM_KNOTS, dtype=distance.dtype)
    return hats.scatter(1, place[:, None], 1 - part).scatter(1, place[:, None] + 1, part)
