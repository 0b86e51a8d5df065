"""Training of functions: every recipe, repeatable and resumable to the bit; and that it finds what is true."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bouncegrad.functions import (
    FUNCTION_RECIPES,
    AdaptationConfig,
    FunctionConfig,
    FunctionModel,
    FunctionRecipe,
    FunctionTraining,
    PointsConfig,
    PointSets,
    adapted_losses,
    fit_functions,
    infer_functions,
    recovered_functions,
    score_functions,
)
from bouncegrad.functions.compositions import Chain, Composition, Sum
from bouncegrad.models.checkpoint import CheckpointError, load_tensors, save_tensors
from bouncegrad.models.proposer import ProposerConfig
from bouncegrad.training import TrainingConfig
from bouncegrad.training.bounce import BounceConfig
from points import Product, library, ragged
from small import same
from worlds import generator

KNOWN: dict[str, Callable[[Tensor], Tensor]] = {
    "slope": lambda x: 1.5 * x,
    "edge": lambda x: 2 * x.abs(),
    "hat": lambda x: 2 * (2 * x.abs() - 1).abs(),
}
UNSEEN = ("slope", "edge")


def tiny(name: str, **changes: Any) -> FunctionRecipe:
    """A recipe with next to nothing in it; ``changes`` are to the training."""
    chosen = FUNCTION_RECIPES[name]
    modules = min(3, chosen.model.num_modules)
    adaptation = replace(chosen.model.adaptation, num_steps=min(2, chosen.model.adaptation.num_steps))
    model = FunctionConfig(modules, (6,), adaptation)
    proposer = replace(chosen.training.proposer, hidden=8)
    training = replace(chosen.training, num_passes=4, batch_size=3, proposer=proposer)
    return FunctionRecipe(model, replace(training, **changes))


def searched_by(search: str, **bounce: Any) -> FunctionRecipe:
    """A tiny training with another search."""
    return tiny("bouncegrad", bounce=BounceConfig(search=search, heat="scheduled", hottest=1.0, **bounce))  # type: ignore[arg-type]


def training_of(
    recipe: FunctionRecipe, tasks: PointSets | None = None, composition: Composition | None = None, seed: int = 0
) -> FunctionTraining:
    tasks = tasks or ragged()
    return FunctionTraining(tasks, ragged(9), composition or Sum(3), recipe, seed)


def same_state(one: FunctionTraining, other: FunctionTraining) -> bool:
    """To the bit."""
    (tensors, meta), (others, more) = one.state(), other.state()
    assert tensors.keys() == others.keys()
    same_tensors = all(torch.equal(value, others[name]) for name, value in tensors.items())
    return same_tensors and json.dumps(meta) == json.dumps(more)


RECIPES = {
    **{name: tiny(name) for name in FUNCTION_RECIPES},
    "gibbs": searched_by("gibbs"),
    "frozen": searched_by("frozen"),
    "automatic": tiny("bouncegrad", bounce=BounceConfig("metropolis", block="edge", heat="automatic")),
    "exact and a network": tiny("bouncegrad-exact", proposer=ProposerConfig(sees="points", hidden=8, averaging=0.0)),
}


@pytest.fixture(params=RECIPES)
def recipe(request: pytest.FixtureRequest) -> FunctionRecipe:
    """Every recipe in turn, and some other searches."""
    return RECIPES[request.param]


# Every recipe


def test_every_recipe_trains_and_says_what_it_did(recipe: FunctionRecipe):
    training = training_of(recipe)
    reports = list(training.passes())
    assert [report.number for report in reports] == [1, 2, 3, 4]
    assert [report.progress for report in reports] == [0.25, 0.5, 0.75, 1.0]
    assert all(math.isfinite(report.loss) and math.isfinite(report.held_out) for report in reports)
    assert all(0 <= (report.acceptance or 0) <= report.proposed <= 1 for report in reports)
    best = training.best_model()
    assert not best.training
    assert (best.proposer is not None) == (recipe.training.proposer.sees == "points")
    assert score_functions(best, ragged(5)).predictions.isfinite().all()


@pytest.mark.parametrize("name", ["moma", "bouncegrad-learned", "exact and a network"])
def test_the_seed_decides_the_training(name: str):
    once, again, other = (training_of(RECIPES[name], seed=seed) for seed in (3, 3, 4))
    for training in (once, again, other):
        training.run_epoch()
    assert same_state(once, again)
    assert not same(once.model, other.model)


def test_a_training_goes_on_to_the_bit(recipe: FunctionRecipe, tmp_path: Path):
    """From a file, in a training that was made with another seed, in the middle of everything."""
    whole, resumed = training_of(recipe), training_of(recipe, seed=9)
    whole.run_epoch()
    whole.run_epoch()
    save_tensors(tmp_path / "state.safetensors", *whole.state())
    resumed.load_state(*load_tensors(tmp_path / "state.safetensors"))
    assert same_state(whole, resumed)
    assert [whole.run_epoch(), whole.run_epoch()] == [resumed.run_epoch(), resumed.run_epoch()]
    assert same_state(whole, resumed)
    assert same(whole.best_model(), resumed.best_model())


@pytest.mark.parametrize("name", ["bouncegrad", "moma", "bouncegrad-learned"])
@pytest.mark.parametrize("composition", [Chain(3), Product()], ids=["chain", "product"])
def test_other_compositions_train_as_well(name: str, composition: Composition):
    reports = list(training_of(tiny(name), composition=composition).passes())
    assert all(math.isfinite(report.loss) for report in reports)


# What it learns from


def test_modules_learn_from_asked_points():
    """Under the structures that the search has just found."""
    training, fresh = (training_of(tiny("bouncegrad", batch_size=5)) for _ in range(2))
    report = training.run_epoch()
    asked, given = (
        adapted_losses(fresh.model, training.structures, fresh.tasks, counted).mean().item()
        for counted in (fresh.tasks.asked, fresh.tasks.given)
    )
    assert report.loss == pytest.approx(asked, rel=1e-5)
    assert report.loss != pytest.approx(given, rel=1e-3)


def test_a_search_without_heat_finds_the_best_structures_of_given_points():
    cold = BounceConfig("exact", heat="scheduled", hottest=1e-9, coolest=1e-9)
    training = training_of(tiny("bouncegrad-exact", bounce=cold, batch_size=5))
    best = infer_functions(training_of(tiny("bouncegrad-exact")).ema_model, training.tasks)
    training.run_epoch()
    fresh = training_of(tiny("bouncegrad-exact"))
    given = fresh.tasks.given
    found, least = (adapted_losses(fresh.model, each, fresh.tasks, given) for each in (training.structures, best))
    torch.testing.assert_close(found, least)


def test_points_that_are_neither_given_nor_asked_are_not_learned_from():
    tasks = ragged()
    alone = replace(tasks, asked=tasks.asked & (tasks.asked.cumsum(1) > 1))
    spoiled = replace(alone, outputs=torch.where((alone.given | alone.asked)[:, :, None], alone.outputs, 1e3))
    one, other = (training_of(tiny("moma"), each) for each in (alone, spoiled))
    for training in (one, other):
        list(training.passes())
    assert same(one.model, other.model)


def test_held_out_tasks_only_choose():
    one, other = (FunctionTraining(ragged(), held, Sum(3), tiny("moma"), 0) for held in (ragged(9), ragged(7)))
    for training in (one, other):
        list(training.passes())
    assert same(one.model, other.model)
    assert one.best_score != other.best_score


def test_the_best_pass_is_kept():
    training, weights, losses = training_of(tiny("bouncegrad", num_passes=8, learning_rate=0.1)), [], []
    for report in training.passes():
        weights.append({name: value.clone() for name, value in training.ema_model.state_dict().items()})
        losses.append(report.held_out)
    best = weights[losses.index(min(losses))]
    assert all(torch.equal(value, best[name]) for name, value in training.best_model().state_dict().items())
    assert training.best_score == min(losses)


def test_a_batch_that_diverged_moves_nothing():
    """Steps of adaptation that are far too long end in numbers that are not finite."""
    recipe = tiny("moma", num_passes=2)
    far = replace(recipe.model, adaptation=AdaptationConfig(40, 1e9))
    training = FunctionTraining(ragged(), ragged(), Sum(3), replace(recipe, model=far), 0)
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    reports = list(training.passes())
    assert not math.isfinite(reports[-1].loss)
    assert all(torch.equal(value, before[name]) for name, value in training.model.state_dict().items())
    with pytest.raises(ValueError, match="step_size"):
        training.best_model()


def test_a_fit_is_its_training():
    tasks, recipe, reports = ragged(), tiny("moma"), []
    model = fit_functions(tasks, Sum(3), recipe, seed=3, watch=reports.append)
    training = FunctionTraining(tasks, tasks, Sum(3), recipe, 3)
    assert [report.loss for report in training.passes()] == [report.loss for report in reports]
    assert same(model, training.best_model())
    assert model.adaptation == recipe.model.adaptation != AdaptationConfig()


# That it learns


def known_sums(seed: int) -> tuple[PointSets, PointSets]:
    """Sums of two of three functions, also of one with itself; one pair is never learned from."""
    pairs, random = list(combinations_with_replacement(KNOWN, 2)), generator(seed)

    def drawn(chosen: list[tuple[str, str]]) -> PointSets:
        functions = [lambda x, pair=pair: KNOWN[pair[0]](x) + KNOWN[pair[1]](x) for pair in chosen]
        return PointsConfig(16, 0.5).points_of(functions, ["+".join(pair) for pair in chosen], random)

    return drawn([pair for pair in pairs if pair != UNSEEN] * 4), drawn([UNSEEN] * 4)


@pytest.mark.parametrize("seed", range(3))
def test_known_functions_are_found_and_make_sums_that_were_never_seen(seed: int):
    """By a library of one module more than it takes."""
    tasks, unseen = known_sums(seed)
    chosen = FUNCTION_RECIPES["bouncegrad-exact"].training
    training = replace(chosen, num_passes=300, learning_rate=2e-2, batch_size=10)
    model = fit_functions(tasks, Sum(2), FunctionRecipe(FunctionConfig(4, (16, 16)), training), seed=seed)
    assert score_functions(model, unseen).error < 0.05 * float(unseen.outputs.var())
    found = recovered_functions(model, KNOWN, torch.linspace(-1, 1, 51)[:, None])
    assert all(each.explained > 0.85 for each in found.values())
    assert len({each.module for each in found.values()}) == 3


# Checkpoints that do not fit


@pytest.mark.parametrize(
    "other",
    [
        lambda recipe: training_of(recipe, ragged().at([0, 1, 2, 3])),
        lambda recipe: training_of(recipe, composition=Sum(2)),
        lambda recipe: training_of(recipe, composition=Chain(3, width=4)),
        lambda recipe: training_of(replace(recipe, model=replace(recipe.model, num_modules=2))),
        lambda recipe: training_of(replace(recipe, model=replace(recipe.model, hidden=(7,)))),
    ],
    ids=["fewer tasks", "fewer slots", "other modules", "fewer modules", "wider modules"],
)
def test_checkpoints_of_others_are_refused(other: Callable[[FunctionRecipe], FunctionTraining]):
    recipe = tiny("bouncegrad-learned")
    tensors, meta = training_of(recipe).state()
    with pytest.raises(CheckpointError, match="does not fit this library and these tasks"):
        other(recipe).load_state(tensors, meta)


@pytest.mark.parametrize("name", ["bouncegrad-learned", "bouncegrad-exact"])
def test_broken_checkpoints_are_refused(name: str):
    training = training_of(tiny(name))
    tensors, meta = training.state()
    broken: list[tuple[Mapping[str, Tensor], Mapping[str, Any]]] = [
        (tensors, {}),
        (tensors, {**meta, "bounce": 3}),
        ({name: value for name, value in tensors.items() if name != "structures"}, meta),
        ({name: value for name, value in tensors.items() if not name.startswith("averaged.")}, meta),
    ]
    for parts in broken:
        with pytest.raises(CheckpointError, match="Choose another run folder"):
            training.load_state(*parts)


# Errors


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (TrainingConfig(bounce=BounceConfig("relaxed", heat="scheduled"), proposer=ProposerConfig("trajectories")),
         '"metropolis", "gibbs", "exact" or "frozen"; got "relaxed"'),
        (TrainingConfig(), 'functions have no heat "entropy"'),
        (TrainingConfig(bounce=BounceConfig("gibbs", heat="steered"), proposer=ProposerConfig("both")),
         "a proposal network of functions sees \"points\"; got 'both'"),
    ],
)  # fmt: skip
def test_searches_that_functions_do_not_have_are_refused(training: TrainingConfig, message: str):
    with pytest.raises(ValueError, match=message):
        training_of(FunctionRecipe(FunctionConfig(3, (4,)), training))


def test_structures_that_are_too_many_are_not_listed():
    recipe = replace(tiny("bouncegrad-exact"), model=FunctionConfig(17, (2,)))
    with pytest.raises(ValueError, match='17 x 17 x 17 are too many: choose search "metropolis"$'):
        training_of(recipe)
    training_of(replace(recipe, model=FunctionConfig(16, (2,))))
    training_of(replace(recipe, training=tiny("bouncegrad").training))


def test_a_diverged_training_has_no_best_model():
    recipe = tiny("moma")
    adaptation = AdaptationConfig(5, 1e6)
    training = training_of(replace(recipe, model=replace(recipe.model, adaptation=adaptation)))
    list(training.passes())
    with pytest.raises(ValueError, match=r"no pass had a finite loss.*step_size"):
        training.best_model()


def test_recipes_go_by_their_names():
    with pytest.raises(ValueError, match="there is no recipe 'mmaml' for functions: choose one of pooled, maml"):
        fit_functions(ragged(), Sum(2), "mmaml")


# Recovery


def with_modules(functions: list[tuple[float, float]], points: PointSets) -> FunctionModel:
    """A library of lines: slope and height of each, in the user's unit but for the model's centres."""
    model = library(Sum(2), points, len(functions), hidden=())
    bank, scales = model.library(0), model.scale_in / model.scale_out
    with torch.no_grad():
        for kind, (slope, height) in enumerate(functions):
            bank.weights[0][kind], bank.biases[0][kind] = slope * scales, height
    return model


def test_functions_are_matched_one_to_one_whatever_their_constants():
    points = ragged(size_in=1)
    model = with_modules([(2.0, 5.0), (-1.0, -3.0), (0.5, 0.0)], points)
    inputs = torch.linspace(-1, 1, 21)[:, None]
    found = recovered_functions(model, {"down": lambda x: -x, "up": lambda x: 2 * x + 9}, inputs)
    assert {name: each.module for name, each in found.items()} == {"down": 1, "up": 0}
    assert all(each.whole and each.explained == pytest.approx(1) for each in found.values())


def test_what_is_not_there_is_not_recovered():
    model = with_modules([(2.0, 0.0), (2.0, 1.0)], ragged(size_in=1))
    inputs = torch.linspace(-1, 1, 21)[:, None]
    found = recovered_functions(model, {"up": lambda x: 2 * x, "half": lambda x: x}, inputs)
    assert found["up"].whole
    assert found["half"].explained == pytest.approx(0, abs=1e-5)
    assert not found["half"].whole
    assert {each.module for each in found.values()} == {0, 1}


def test_more_functions_than_modules_are_not_matched():
    model = with_modules([(1.0, 0.0)], ragged(size_in=1))
    with pytest.raises(ValueError, match="2 functions cannot be matched with 1 modules one to one"):
        recovered_functions(model, {"a": torch.abs, "b": torch.sin}, torch.zeros(3, 1))
