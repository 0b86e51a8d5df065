"""The four algorithms of Alet, Lozano-Perez and Kaelbling, 2018, and two that go beyond them, as recipes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

from torch import Tensor

from bouncegrad.functions.compositions import Composition
from bouncegrad.functions.files import described
from bouncegrad.functions.model import AdaptationConfig, FunctionConfig, FunctionModel
from bouncegrad.functions.points import PointSets
from bouncegrad.functions.training import FunctionRecipe, FunctionTraining
from bouncegrad.models.proposer import ProposerConfig
from bouncegrad.training.bounce import BounceConfig
from bouncegrad.training.config import EpochReport, TrainingConfig
from bouncegrad.training.run_folder import InMemory, Run, RunFolder

ONE = FunctionConfig(num_modules=1)

ADAPTED = AdaptationConfig(num_steps=5, step_size=0.1, clip_norm=5.0)

TRAINING = TrainingConfig(
    num_passes=2000,
    batch_size=32,
    learning_rate=3e-3,
    averaging=0.98,
    bounce=BounceConfig(search="metropolis", block="edge", heat="steered", hottest=1.0, cooling=0.7),
)

LEARNED = replace(
    TRAINING,
    bounce=replace(TRAINING.bounce, proposals="learned"),
    proposer=ProposerConfig(sees="points", hidden=128, dropout=0.1, learn_from="dreams", optimizer="adam", floor=0.1),
)

EXACT = replace(TRAINING, bounce=BounceConfig(search="exact", heat="scheduled", hottest=0.3, coolest=1e-3))

FUNCTION_RECIPES = {
    "pooled": FunctionRecipe(ONE, TRAINING),
    "maml": FunctionRecipe(replace(ONE, adaptation=ADAPTED), TRAINING),
    "bouncegrad": FunctionRecipe(FunctionConfig(), TRAINING),
    "moma": FunctionRecipe(FunctionConfig(adaptation=ADAPTED), TRAINING),
    "bouncegrad-learned": FunctionRecipe(FunctionConfig(), LEARNED),
    "bouncegrad-exact": FunctionRecipe(FunctionConfig(), EXACT),
}
"""``pooled``: one module for all tasks, as it is. ``maml``: one module, adapted to each task. ``bouncegrad``: a library
of modules, of which each task finds its own; one slot of each task is proposed anew in each epoch. ``moma``: both, so
that a structure is judged by what it becomes. These are the four of the paper; they differ in the number of modules and
in adaptation only.

``bouncegrad-learned``: the proposals come from a network that reads the given points; it learns from random structures
and what the modules make of them, of which there are more than tasks.
``bouncegrad-exact``: structures are drawn from tables of all of them, as hot as a falling schedule says.
"""


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class FunctionRun:
    """What a run folder of functions was asked to do.

    Attributes:
        data: which tasks, by a checksum.
        composition: what makes functions of modules.
        recipe: how modules are learned.
        seed: of all randomness.
        minutes: None: it ends when its epochs are done.
    """

    data: str
    composition: str
    recipe: FunctionRecipe
    seed: int
    minutes: float | None = None


def function_recipe_named(name: str) -> FunctionRecipe:
    """Look a recipe up.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in FUNCTION_RECIPES:
        raise ValueError(f"there is no recipe {name!r} for functions: choose one of {', '.join(FUNCTION_RECIPES)}")
    return FUNCTION_RECIPES[name]


def fit_functions(
    tasks: PointSets,
    composition: Composition,
    recipe: str | FunctionRecipe = "bouncegrad",
    *,
    held_out: PointSets | None = None,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    watch: Callable[[EpochReport], None] | None = None,
) -> FunctionModel:
    """Learn a library of modules from tasks.

    Args:
        tasks: to learn from: structures are searched on their given points, modules learn from the asked ones.
        composition: how modules make a function; with recipes of one module, all slots hold that one.
        recipe: a name in :data:`FUNCTION_RECIPES`, or all the settings.
        held_out: tasks by which the best modules are chosen; None: the same tasks.
        seed: of all randomness.
        folder: where the training leaves its log and a checkpoint, from which it goes on when it is called again; None:
            nowhere.
        watch: called after each epoch.

    Returns:
        The modules of the epoch that explained the held-out tasks best; they adapt as the recipe says.

    Raises:
        ValueError: an unknown recipe, a composition that does not work, or a training that diverged.
        DataError: a folder that cannot be written, or that holds another run.
    """
    recipe = function_recipe_named(recipe) if isinstance(recipe, str) else recipe
    held_out = tasks if held_out is None else held_out
    training = FunctionTraining(tasks, held_out, composition, recipe, seed)
    run: Run = InMemory(watch=watch)
    if folder is not None:
        data = _checksum(tasks, held_out)
        run = RunFolder(Path(folder), FunctionRun(data, described(composition), recipe, seed), data, watch)
    run.train(training)
    return training.best_model()


def _checksum(*sets: PointSets) -> str:
    values = (getattr(points, field.name) for points in sets for field in fields(points))
    parts = (value.numpy().tobytes() for value in values if isinstance(value, Tensor))
    return hashlib.sha256(b"".join(parts)).hexdigest()
