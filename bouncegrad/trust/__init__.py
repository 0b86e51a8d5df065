"""Whether the answer can be believed: are there relations, does the model fit, what do kinds do, is it stable."""

from __future__ import annotations

from bouncegrad.trust.examination import Examination, examine, examine_file
from bouncegrad.trust.meaning import KindMeaning, describe_kinds
from bouncegrad.trust.misfit import Misfit, misfit
from bouncegrad.trust.null import NullTest, null_test
from bouncegrad.trust.push import Curve, Response
from bouncegrad.trust.signs import FeatureMisfit
from bouncegrad.trust.stability import Agreement, Stability, agreement, stability
from bouncegrad.trust.strangers import Shuffle

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
    "examine_file",
    "misfit",
    "null_test",
    "stability",
]
