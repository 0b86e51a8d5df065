"""Priors over structures (latent graphs), and their posteriors given the energies of a model.

Each prior is a probability distribution over whole graphs: independent edges, symmetric graphs, a stochastic block
model, trees and others. Which prior is used is decided by its evidence (marginal likelihood) on the scenes, or by name
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
