"""Priors over whole graphs: what relations are believed to look like before the data speak.

Which of them holds is decided by evidence, never by the name of the data (:mod:`bouncegrad.priors.choice`).
"""

from bouncegrad.priors.choice import PRIORS, priors_for
from bouncegrad.priors.families import Independent, NodeClasses, Symmetric, least_losses
from bouncegrad.priors.posterior import GraphPosterior, GraphPrior, learned

__all__ = [
    "PRIORS",
    "GraphPosterior",
    "GraphPrior",
    "Independent",
    "NodeClasses",
    "Symmetric",
    "learned",
    "least_losses",
    "priors_for",
]
