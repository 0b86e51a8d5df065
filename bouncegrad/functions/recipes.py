"""Recipes of functions: the four algorithms of Alet, Lozano-Perez and Kaelbling, 2018, and two extensions."""

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
"""``pooled``: one module for all tasks, without adaptation. ``maml``: one module, adapted to each task. ``bouncegrad``:
a library of modules and a structure per task, found by Metropolis steps that propose one slot per epoch. ``moma``:
both; the loss of a structure is that after adaptation. These are the four algorithms of the paper; they differ only in
the number of modules and in adaptation.

``bouncegrad-learned``: proposals come from a proposal network on the given points, trained on random structures and the
outputs of the modules under them, which are more numerous than tasks.
``bouncegrad-exact``: structures are drawn exactly from tables of all of them, at a temperature with a falling schedule.
"""


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class FunctionRun:
    """Configuration of a run folder of functions.

    Attributes:
        data: checksum of the tasks.
        composition: text for the composition.
        recipe: settings of the training.
        seed: seed of all randomness.
        minutes: training time; None: until all epochs are done.
    """

    data: str
    composition: str
    recipe: FunctionRecipe
    seed: int
    minutes: float | None = None


def function_recipe_named(name: str) -> FunctionRecipe:
    """The recipe of functions with this name.

    Raises:
        ValueError: there is no recipe with this name.
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
    """Train a library of modules on tasks.

    Args:
        tasks: training tasks: structures are searched on their given points (E-step), modules are trained on the asked
            points (M-step).
        composition: how modules are combined to a function; with recipes of one module, all slots hold it.
        recipe: a name in :data:`FUNCTION_RECIPES`, or a recipe.
        held_out: tasks that select the best epoch; None: the training tasks.
        seed: seed of all randomness.
        folder: run folder with log and checkpoint, from which the same call resumes an interrupted training; None: no
            files.
        watch: called after each epoch.

    Returns:
        The modules of the epoch with the smallest loss on the held-out tasks, with the adaptation of the recipe.

    Raises:
        ValueError: an unknown recipe, a composition that fails, or a training that diverged.
        DataError: the folder cannot be written, or holds another run.
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
