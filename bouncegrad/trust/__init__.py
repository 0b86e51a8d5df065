"""Tests of a model on scenes: permutation test for relations, goodness of fit, effects of edge types, stability."""

from __future__ import annotations

from bouncegrad.trust.examine import Examination, examine
from bouncegrad.trust.force_curves import Curve, Response
from bouncegrad.trust.meaning import KindMeaning, describe_kinds
from bouncegrad.trust.misfit import Misfit, misfit
from bouncegrad.trust.permutation_test import NullTest, null_test
from bouncegrad.trust.residual_checks import FeatureMisfit
from bouncegrad.trust.stability import Agreement, Stability, agreement, stability
from bouncegrad.trust.surrogates import Shuffle

__all__ = [
    "Agreement",
    "Curve",
    "Examination",
    "FeatureMisfit",
    "KindMeaning",
    "Misfit",
    "NullTest",
    "Response",
    "Shuffle",
    "Stability",
    "agreement",
    "describe_kinds",
    "examine",
    "misfit",
    "null_test",
    "stability",
]
