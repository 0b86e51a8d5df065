"""Hidden entities: infer trajectories and relations of unobserved entities from their effect on others."""

from __future__ import annotations

from bouncegrad.hidden.alternating_search import Effort
from bouncegrad.hidden.count import HiddenCount, count_hidden
from bouncegrad.hidden.counterfactual import with_hidden, without_entity, without_relation
from bouncegrad.hidden.find import find_hidden
from bouncegrad.hidden.posterior import Band, HiddenPosterior
from bouncegrad.hidden.score import HiddenScore, score_hidden, widening_of

__all__ = [
    "Band",
    "Effort",
    "HiddenCount",
    "HiddenPosterior",
    "HiddenScore",
    "count_hidden",
    "find_hidden",
    "score_hidden",
    "widening_of",
    "with_hidden",
    "without_entity",
    "without_relation",
]
