"""Priors over whole graphs: what relations are believed to look like before the data speak.

Which of them holds is decided by evidence, never by the name of the data (:mod:`bouncegrad.priors.choice`).
"""

from bouncegrad.priors.choice import PRIORS, priors_for
from bouncegrad.priors.families import Independent, NodeClasses
from bouncegrad.priors.posterior import GraphPosterior, GraphPrior, learned
from bouncegrad.priors.symmetric import Symmetric

__all__ = [
    "PRIORS",
    "GraphPosterior",
    "GraphPrior",
    "Independent",
    "NodeClasses",
    "Symmetric",
    "learned",
    "priors_for",
]
