"""Modular meta-learning of functions: each task is a point set (regression), each structure chooses modules.

A structure is found by a search over the given points of its task (E-step), and modules are trained on the other
points (M-step); weights may adapt to each task by gradient steps, as in MAML.

Source: Alet, Lozano-Perez and Kaelbling, 2018, "Modular meta-learning".
"""

from bouncegrad.functions.adaptation import adapted, adapted_loss_fn, adapted_losses
from bouncegrad.functions.files import load_functions, save_functions
from bouncegrad.functions.inference import FunctionScore, infer_functions, score_functions
from bouncegrad.functions.model import AdaptationConfig, FunctionConfig, FunctionModel
from bouncegrad.functions.points import MetaSplits, PointSets, point_sets
from bouncegrad.functions.proposer import PointLearner, PointProposer
from bouncegrad.functions.recipes import FUNCTION_RECIPES, fit_functions
from bouncegrad.functions.recovery import Recovered, recovered_functions
from bouncegrad.functions.target import PointTarget
from bouncegrad.functions.tasks import PARTS, PointsConfig, sines, sums_of_functions
from bouncegrad.functions.training import FunctionRecipe, FunctionTraining

__all__ = [
    "FUNCTION_RECIPES",
    "PARTS",
    "AdaptationConfig",
    "FunctionConfig",
    "FunctionModel",
    "FunctionRecipe",
    "FunctionScore",
    "FunctionTraining",
    "MetaSplits",
    "PointLearner",
    "PointProposer",
    "PointSets",
    "PointTarget",
    "PointsConfig",
    "Recovered",
    "adapted",
    "adapted_loss_fn",
    "adapted_losses",
    "fit_functions",
    "infer_functions",
    "load_functions",
    "point_sets",
    "recovered_functions",
    "save_functions",
    "score_functions",
    "sines",
    "sums_of_functions",
]
