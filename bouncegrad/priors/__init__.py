"""Priors over whole graphs: what relations are believed to look like before the data speak.

Which of them holds is decided by evidence, never by the name of the data (:mod:`bouncegrad.priors.choice`).
"""

from bouncegrad.priors.choice import COMPARED, PRIORS, check_possible, priors_for, quickly_compared
from bouncegrad.priors.dyads import Dyads
from bouncegrad.priors.families import Independent, NodeClasses, least_losses
from bouncegrad.priors.few import Few
from bouncegrad.priors.file import File
from bouncegrad.priors.leader import Leader
from bouncegrad.priors.posterior import GraphPosterior, GraphPrior, learned
from bouncegrad.priors.symmetric import Symmetric
from bouncegrad.priors.tree import Tree
from bouncegrad.priors.triads import Triads

__all__ = [
    "COMPARED",
    "PRIORS",
    "Dyads",
    "Few",
    "File",
    "GraphPosterior",
    "GraphPrior",
    "Independent",
    "Leader",
    "NodeClasses",
    "Symmetric",
    "Tree",
    "Triads",
    "check_possible",
    "learned",
    "least_losses",
    "priors_for",
    "quickly_compared",
]
