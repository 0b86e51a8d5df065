"""The signs by which a model is seen not to fit: figures of the residuals of a feature, and thresholds with reasons."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

LEVELS = (0.5, 0.9, 0.99)
"""Of the central intervals whose coverage is counted."""

DISTANCE = 0.1
"""Kolmogorov-Smirnov distance that is no matter. Models on scenes like those they learned from: 0.01 to 0.05, up to
0.08 on later times; five times the noise, other strengths or another time step: 0.3 and more."""

TOO_NARROW = 0.1
"""By how much the 90 % interval may hold less. As above: up to 0.05; wrong models 0.4 and more."""

OUTLIERS = 0.05
"""Share beyond the 99 % interval that is no matter. As above: up to 0.03; wrong models 0.2 and more."""

ONE_SIDED = 0.15
"""By how much the share of residuals above zero may differ from a half. A constant wind: 0.5."""

FOLLOWING, ALTERNATING = 0.3, -0.25
"""Autocorrelation from which what is left over counts as predictable. Measurement noise gives about -0.5: the error of
a sample is in two steps, with opposite signs."""

LEFT = 0.15
"""Share of motion left over (:attr:`FeatureMisfit.left`) below which nobody cares whether it is predictable. Modules
are never exact, and a small error of theirs is the same from one start to the next. Good models: 0.01 to 0.05; with a
kind missing: 0.3 to 0.7."""

SURE = 2.58
"""Standard errors (99 %) that are added to all thresholds, so that few samples raise no alarm."""

KOLMOGOROV = 1.63
"""The 99 % point of the Kolmogorov-Smirnov distance times the root of the number of samples (Massey 1951)."""


@dataclass(frozen=True, slots=True)
class FeatureMisfit:
    """How the residuals of one feature fit.

    Attributes:
        feature: its name.
        distance: Kolmogorov-Smirnov distance of their probability integral transform from the uniform distribution.
        coverage: share within the central interval of each of :data:`LEVELS`.
        outliers: share beyond the 99 % interval; 0.01 where all is well.
        above: share of residuals above zero.
        autocorrelation: from one start to the next (:meth:`bouncegrad.trust.residuals.Residuals.autocorrelation`).
        left: median size of the residuals over that of what the linear skip leaves over: the share of motion that
            neither modules nor the entity's own law explain. Medians, so that a few collisions do not decide.
        num_samples: residuals.
        num_effective: as many independent ones say as much: ``n (1 - a) / (1 + a)`` with autocorrelation ``a``, and at
            least one for each entity of each scene.
    """

    feature: str
    distance: float
    coverage: tuple[float, ...]
    outliers: float
    above: float
    autocorrelation: float
    left: float
    num_samples: int
    num_effective: float

    def slack(self, share: float) -> float:
        """How much a share may deviate by accident."""
        return SURE * math.sqrt(share * (1 - share) / self.num_effective)


def _too_wide_apart(found: FeatureMisfit) -> bool:
    return found.distance > DISTANCE + KOLMOGOROV / math.sqrt(found.num_effective)


def _too_narrow(found: FeatureMisfit) -> bool:
    return found.coverage[1] < 0.9 - TOO_NARROW - found.slack(0.9)


def _outliers(found: FeatureMisfit) -> bool:
    return found.outliers > OUTLIERS + found.slack(OUTLIERS)


def _one_sided(found: FeatureMisfit) -> bool:
    return abs(found.above - 0.5) > ONE_SIDED + found.slack(0.5)


def _predictable(found: FeatureMisfit) -> bool:
    return found.left > LEFT and found.autocorrelation > FOLLOWING + SURE / math.sqrt(found.num_samples)


def _alternating(found: FeatureMisfit) -> bool:
    return found.left > LEFT and found.autocorrelation < ALTERNATING - SURE / math.sqrt(found.num_samples)


SIGNS: tuple[tuple[Callable[[FeatureMisfit], bool], str], ...] = (
    (
        _too_narrow,
        "errors are larger than the model claims: more noise, other physics, another time step, or relations that the "
        "prior of the reading rules out",
    ),
    (_outliers, "there are more outliers than the model claims"),
    (
        lambda found: _too_wide_apart(found) and not _too_narrow(found) and not _one_sided(found),
        "errors are not distributed as the model claims",
    ),
    (_one_sided, "most errors have one sign: something pushes all entities one way, such as a wind"),
    (
        _predictable,
        "what is left over is much, and alike from one sample to the next: something that acts is missing, such as a "
        "kind of relation (fit with --kinds auto), an entity that nobody saw, or a force from outside",
    ),
    (
        _alternating,
        "what is left over is much, and alternates in sign: the samples were measured with noise, which the model "
        "takes for motion",
    ),
)
"""What can be wrong with a feature, and how to say it."""
