"""Relational inference by modular meta-learning: who acts on whom, with which edge type, and what happens next.

The names below are the public interface; everything else is imported from its own module.
"""

import sys

from bouncegrad import inference
from bouncegrad.estimator import RelationalModel
from bouncegrad.evaluation.metrics import match_relations
from bouncegrad.evaluation.score import Score, score
from bouncegrad.export import adjacency, relation_table, to_networkx, to_torch_geometric, to_xarray
from bouncegrad.fit import fit
from bouncegrad.hidden import count_hidden, find_hidden
from bouncegrad.inference import Posterior, infer, predict
from bouncegrad.models.checkpoint import load_model, pretrained_names, save_model
from bouncegrad.models.model import Model
from bouncegrad.plots import Answer, draw_scenes
from bouncegrad.recipes import RECIPES, Recipe
from bouncegrad.scenes import (
    DataError,
    Normalization,
    Scenes,
    TableColumns,
    from_arrays,
    iter_tables,
    read_scenes,
    read_table,
    stack_scenes,
)
from bouncegrad.simulate import Charged, Kuramoto, Springs, simulate, simulate_canonical
from bouncegrad.version import __version__

sys.modules["bouncegrad.infer"] = inference  # code of version 0.1 imports from there

__all__ = [
    "RECIPES",
    "Answer",
    "Charged",
    "DataError",
    "Kuramoto",
    "Model",
    "Normalization",
    "Posterior",
    "Recipe",
    "RelationalModel",
    "Scenes",
    "Score",
    "Springs",
    "TableColumns",
    "__version__",
    "adjacency",
    "count_hidden",
    "draw_scenes",
    "find_hidden",
    "fit",
    "from_arrays",
    "infer",
    "iter_tables",
    "load_model",
    "match_relations",
    "predict",
    "pretrained_names",
    "read_scenes",
    "read_table",
    "relation_table",
    "save_model",
    "score",
    "simulate",
    "simulate_canonical",
    "stack_scenes",
    "to_networkx",
    "to_torch_geometric",
    "to_xarray",
]
