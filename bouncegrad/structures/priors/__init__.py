"""Priors over whole graphs: what relations are believed to look like before the data speak.

Which of them holds is decided by evidence, never by the name of the data
(:mod:`bouncegrad.structures.priors.registry`).
"""

from bouncegrad.structures.priors.block_model import BlockModel
from bouncegrad.structures.priors.dyads import Dyads
from bouncegrad.structures.priors.independent import Independent, least_losses
from bouncegrad.structures.priors.leader import Leader
from bouncegrad.structures.priors.posterior import GraphPosterior, GraphPrior, fit_weights
from bouncegrad.structures.priors.registry import COMPARED, PRIORS, check_possible, fast_priors, priors_for
from bouncegrad.structures.priors.single_file import SingleFile
from bouncegrad.structures.priors.spanning_tree import SpanningTree
from bouncegrad.structures.priors.sparse import Sparse
from bouncegrad.structures.priors.symmetric import Symmetric
from bouncegrad.structures.priors.triads import Triads

__all__ = [
    "COMPARED",
    "PRIORS",
    "BlockModel",
    "Dyads",
    "GraphPosterior",
    "GraphPrior",
    "Independent",
    "Leader",
    "SingleFile",
    "SpanningTree",
    "Sparse",
    "Symmetric",
    "Triads",
    "check_possible",
    "fast_priors",
    "fit_weights",
    "least_losses",
    "priors_for",
]
