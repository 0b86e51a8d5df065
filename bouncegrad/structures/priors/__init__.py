"""Priors over whole graphs: what relations are believed to look like before the data speak.

Which of them holds is decided by evidence, never by the name of the data
(:mod:`bouncegrad.structures.priors.registry`).
"""

from bouncegrad.structures.priors.block_model import NodeClasses
from bouncegrad.structures.priors.dyads import Dyads
from bouncegrad.structures.priors.independent import Independent, least_losses
from bouncegrad.structures.priors.leader import Leader
from bouncegrad.structures.priors.posterior import GraphPosterior, GraphPrior, learned
from bouncegrad.structures.priors.registry import COMPARED, PRIORS, check_possible, priors_for, quickly_compared
from bouncegrad.structures.priors.single_file import File
from bouncegrad.structures.priors.spanning_tree import Tree
from bouncegrad.structures.priors.sparse import Few
from bouncegrad.structures.priors.symmetric import Symmetric
from bouncegrad.structures.priors.triads import Triads

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
