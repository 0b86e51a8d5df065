"""Trainings of functions in run folders: what was interrupted goes on."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bouncegrad.functions import FUNCTION_RECIPES, FunctionModel, FunctionRecipe, PointsConfig, fit_functions
from bouncegrad.functions.compositions import Sum
from bouncegrad.functions.recipes import function_recipe_named
from bouncegrad.functions.tasks import sums_of_functions
from bouncegrad.scenes import DataError
from bouncegrad.training.config import EpochReport

SPLITS = sums_of_functions(0, PointsConfig(20))


class KilledError(Exception):
    """Somebody pulled the plug."""


def recipe_of(name: str = "bouncegrad") -> FunctionRecipe:
    recipe = FUNCTION_RECIPES[name]
    model = replace(recipe.model, num_modules=4, hidden=(6,))
    proposer = replace(recipe.training.proposer, hidden=6)
    return replace(recipe, model=model, training=replace(recipe.training, num_passes=5, proposer=proposer))


def fitted(recipe: FunctionRecipe, folder: Path | None = None, last: int = 99, slots: int = 2) -> FunctionModel:
    def watch(report: EpochReport) -> None:
        numbers.append(report.number)
        if report.number == last:
            raise KilledError

    numbers.clear()
    return fit_functions(SPLITS.train, Sum(slots), recipe, held_out=SPLITS.valid, folder=folder, watch=watch)


numbers: list[int] = []


@pytest.mark.parametrize("name", ["bouncegrad", "bouncegrad-learned"])
def test_what_was_interrupted_goes_on_to_the_same_bits(tmp_path: Path, name: str):
    recipe = recipe_of(name)
    whole = fitted(recipe).state_dict()
    with pytest.raises(KilledError):
        fitted(recipe, tmp_path / "run", last=3)
    again = fitted(recipe, tmp_path / "run").state_dict()
    assert numbers == [4, 5]
    assert all(torch.equal(value, again[key]) for key, value in whole.items())


def test_a_folder_of_another_run_is_refused(tmp_path: Path):
    fitted(recipe_of(), tmp_path / "run")
    with pytest.raises(DataError, match=r"Sum\(2 slots\).*Sum\(3 slots\)"):
        fitted(recipe_of(), tmp_path / "run", slots=3)


def test_recipes_are_found_by_name():
    assert function_recipe_named("moma") is FUNCTION_RECIPES["moma"]
    with pytest.raises(ValueError, match="choose one of pooled, maml"):
        function_recipe_named("protomaml")
