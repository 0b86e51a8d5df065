"""Diagnostics of misfit: statistics of the residuals of a feature, and thresholds with their measurements."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

LEVELS = (0.5, 0.9, 0.99)
"""Probabilities of the central intervals whose coverage is measured."""

DISTANCE = 0.1
"""Kolmogorov-Smirnov distance that is acceptable. Models on scenes like their training scenes: 0.01 to 0.05, up to 0.08
on later times; five times the noise, other strengths or another time step: 0.3 and more."""

TOO_NARROW = 0.1
"""Acceptable shortfall in the coverage of the 90 % interval. Models on scenes like their training scenes: up to 0.05;
wrong models 0.4 and more."""

OUTLIERS = 0.05
"""Acceptable share beyond the 99 % interval. Models on scenes like their training scenes: up to 0.03; wrong models 0.2
and more."""

ONE_SIDED = 0.15
"""Acceptable deviation of the share of positive residuals from one half. A constant wind: 0.5."""

FOLLOWING, ALTERNATING = 0.3, -0.25
"""Autocorrelations beyond which residuals count as predictable or as alternating. Measurement noise gives about -0.5:
the error of a sample enters two steps, with opposite signs."""

LEFT = 0.15
"""Share of unexplained motion (:attr:`FeatureMisfit.left`) below which autocorrelation is ignored. Modules are never
exact, and their small errors are similar at consecutive starts. Good models: 0.01 to 0.05; with a missing edge type:
0.3 to 0.7."""

SURE = 2.58
"""Standard errors (99 %) that are added to all thresholds, so that small samples cause no false alarms."""

KOLMOGOROV = 1.63
"""The 99 % point of the Kolmogorov-Smirnov distance times the root of the number of samples (Massey 1951)."""


@dataclass(frozen=True, slots=True)
class FeatureMisfit:
    """Statistics of the residuals of one feature.

    Attributes:
        feature: name of the feature.
        distance: Kolmogorov-Smirnov distance of the probability integral transform from the uniform distribution.
        coverage: share within the central interval of each probability in :data:`LEVELS`.
        outliers: share beyond the 99 % interval; 0.01 if the model is right.
        above: share of residuals above zero.
        autocorrelation: correlation at consecutive starts
            (:meth:`bouncegrad.trust.residuals.Residuals.autocorrelation`).
        left: share of motion that neither the modules nor the entity's own dynamics explain: median size of the
            residuals over that of the residuals of the linear skip. Medians, so that a few collisions do not dominate.
        num_samples: number of residuals.
        num_effective: number of independent residuals with the same information: ``n (1 - a) / (1 + a)`` with
            autocorrelation ``a``, and at least one for each entity of each scene.
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
        """Random deviation of a share that is allowed: :data:`SURE` standard errors."""
        return SURE * math.sqrt(share * (1 - share) / self.num_effective)


def _far_from_uniform(found: FeatureMisfit) -> bool:
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
        "prior of inference rules out",
    ),
    (_outliers, "there are more outliers than the model claims"),
    (
        lambda found: _far_from_uniform(found) and not _too_narrow(found) and not _one_sided(found),
        "errors are not distributed as the model claims",
    ),
    (_one_sided, "most errors have one sign: something pushes all entities one way, such as a wind"),
    (
        _predictable,
        "residuals are large and similar from one sample to the next: something that acts is missing, such as an edge "
        "type (fit with --kinds auto), an unobserved entity, or an external force",
    ),
    (
        _alternating,
        "residuals are large and alternate in sign: the samples contain measurement noise, which the model takes "
        "for motion",
    ),
)
"""Diagnostics: a predicate of the statistics of a feature, and its description."""
