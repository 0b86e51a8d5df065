"""What new tasks are made of, how good that is, and libraries in files."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from bouncegrad.functions import (
    AdaptationConfig,
    FunctionModel,
    PointLearner,
    PointProposer,
    PointSets,
    adapted_loss_fn,
    infer_functions,
    load_functions,
    save_functions,
    score_functions,
)
from bouncegrad.functions.compositions import Chain, Composition, Sum
from bouncegrad.functions.proposer import beliefs_of
from bouncegrad.functions.target import PointTarget, tables_of
from bouncegrad.models.checkpoint import CheckpointError, load_tensors, save_tensors
from bouncegrad.models.proposer import ProposerConfig
from bouncegrad.structures import layout as layouts
from bouncegrad.training.proposal_learner import SearchOutcome
from points import COMPOSITIONS, Product, library, ragged, task_of, with_other_padding
from worlds import generator

SEES = ProposerConfig(sees="points", hidden=6, dropout=0.0, optimizer="adam")


@pytest.fixture(params=COMPOSITIONS)
def composition(request: pytest.FixtureRequest) -> Composition:
    """Every composition in turn."""
    return COMPOSITIONS[request.param]


def with_proposer(composition: Composition, points: PointSets) -> FunctionModel:
    """A library and a network that has learned a little."""
    model = library(composition, points)
    learner = PointLearner(PointProposer(SEES, model, generator()), model)
    structures = model.space.random(points.num_tasks, generator())
    learner.learn(points, SearchOutcome(structures, structures, torch.ones(len(structures)).bool()), generator())
    model.proposer = learner.final_network()
    return model


# Structures


@pytest.mark.parametrize("num_steps", [0, 1])
def test_the_structures_that_are_found_cost_least(composition: Composition, num_steps: int):
    points = ragged()
    model = library(composition, points, 2, AdaptationConfig(num_steps))
    least = tables_of(PointTarget(model, points)).energies[:, 0].min(1).values
    torch.testing.assert_close(adapted_loss_fn(model, points)(infer_functions(model, points)), least)


def test_annealing_finds_what_trying_all_finds(composition: Composition, monkeypatch: pytest.MonkeyPatch):
    points = ragged()
    model, losses = library(composition, points), []
    for limit in (layouts.TABLE_LIMIT, 1):
        monkeypatch.setattr(layouts, "TABLE_LIMIT", limit)
        losses.append(adapted_loss_fn(model, points)(infer_functions(model, points)))
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-5)


def test_annealing_is_its_seed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(layouts, "TABLE_LIMIT", 1)
    points = ragged()
    model = library(Product(), points)
    one, again = (infer_functions(model, points, seed=4) for _ in range(2))
    assert torch.equal(one, again)


def test_tasks_that_cost_the_same_by_all_structures_are_annealed_as_well(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(layouts, "TABLE_LIMIT", 1)
    points = ragged()
    model = library(Sum(3), points)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert infer_functions(model, points).shape == (5, 3)


def test_structures_without_a_loss_are_never_found(composition: Composition):
    """One module says nothing that is a number; the best of the others are found."""
    points = ragged()
    model = library(composition, points)
    with torch.no_grad():
        for number in range(len(model.libraries)):
            model.library(number).biases[-1][1] = torch.nan
    found = infer_functions(model, points)
    assert not (found == 1).any()
    assert adapted_loss_fn(model, points)(found).isfinite().all()


def test_libraries_of_one_module_have_one_structure():
    points = ragged()
    assert torch.equal(infer_functions(library(Chain(3), points, 1), points), torch.zeros(5, 3).long())


def test_structures_are_found_by_given_points_only(composition: Composition):
    points = ragged()
    model = library(composition, points, adaptation=AdaptationConfig(1))
    spoiled = replace(with_other_padding(points), asked=~points.given)
    spoiled = replace(spoiled, outputs=torch.where(points.given[:, :, None], points.outputs, 40.0))
    assert torch.equal(infer_functions(model, points), infer_functions(model, spoiled))


def test_a_network_says_at_once_what_it_thinks():
    points = ragged()
    model = with_proposer(Chain(3), points)
    assert isinstance(model.proposer, PointProposer)
    guess = infer_functions(model, points, "proposal")
    assert torch.equal(guess, beliefs_of(model.proposer, model, points).argmax(2))
    assert torch.equal(score_functions(model, points, "proposal").structures, guess)


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("proposal", 'this library was trained without a proposal network: infer with mode "search"'),
        ("both", 'mode must be "search" or "proposal"; got \'both\''),
    ],
)
def test_modes_that_there_are_not_are_refused(mode: str, message: str):
    model = library(Sum(3), ragged())
    for ask in (infer_functions, score_functions):
        with pytest.raises(ValueError, match=message):
            ask(model, ragged(), mode)  # type: ignore[arg-type]


# Scores


@pytest.mark.parametrize("num_steps", [0, 2])
def test_errors_are_mean_squares_of_asked_points(composition: Composition, num_steps: int):
    points = ragged(size_out=2)
    score = score_functions(library(composition, points, 2, AdaptationConfig(num_steps)), points)
    for task in range(points.num_tasks):
        _, truth = task_of(points, task, points.asked)
        expected = ((score.predictions[task, points.asked[task]] - truth) ** 2).mean()
        torch.testing.assert_close(score.errors[task], expected)
    assert score.error == pytest.approx(float(score.errors.mean()))
    assert not score.predictions.requires_grad


def test_predictions_without_adaptation_are_those_of_the_structures():
    points = ragged()
    model = library(Product(), points)
    score = score_functions(model, points)
    torch.testing.assert_close(score.predictions, model.predict(score.structures, points.inputs).detach())


def test_errors_are_in_the_unit_of_the_user():
    points = ragged()
    far = replace(points, inputs=5 * points.inputs + 1, outputs=1000 * points.outputs)
    here, there = (
        score_functions(library(Chain(3), each, adaptation=AdaptationConfig(2)), each) for each in (points, far)
    )
    torch.testing.assert_close(there.errors, 1e6 * here.errors, rtol=1e-3, atol=0.0)
    torch.testing.assert_close(there.predictions, 1000 * here.predictions, rtol=1e-3, atol=0.5)
    assert torch.equal(here.structures, there.structures)


# Files


@pytest.mark.parametrize("made", [library, with_proposer], ids=["alone", "with a network"])
def test_libraries_come_back_from_files(made, composition: Composition, tmp_path: Path):
    points = ragged()
    model = made(composition, points)
    model.adaptation = AdaptationConfig(2, 0.3, "first")
    save_functions(tmp_path / "functions.safetensors", model)
    again = load_functions(tmp_path / "functions.safetensors", composition)
    assert (again.config, again.adaptation) == (model.config, model.adaptation)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert not again.training
    for mode in ("search", "proposal") if model.proposer else ("search",):
        one, other = (score_functions(each.eval(), points, mode) for each in (model, again))
        assert torch.equal(one.structures, other.structures)
        assert torch.equal(one.predictions, other.predictions)
    assert (again.proposer is None) == (model.proposer is None)


@dataclass(frozen=True)
class Scaled(Sum):
    """A sum with a setting of its own."""

    factor: float = 1.0

    def forward(self, modules, inputs):
        return self.factor * super().forward(modules, inputs)


@pytest.mark.parametrize(
    ("saved", "loaded", "message"),
    [
        (Sum(3), Sum(2), r"is a library for Sum\(3 slots\), got the composition Sum\(2 slots\)"),
        (Sum(3), Chain(3), r"for Sum\(3 slots\), got the composition Chain\(3 slots, width=None\)"),
        (Chain(3), Chain(3, width=4), r"Chain\(3 slots, width=None\), got the composition Chain\(3 slots, width=4\)"),
        (Scaled(2, 1.0), Scaled(2, 2.0), "factor=1.0.*factor=2.0.*: load it with the composition with which"),
    ],
)
def test_libraries_of_another_composition_are_refused(
    saved: Composition, loaded: Composition, message: str, tmp_path: Path
):
    save_functions(tmp_path / "functions.safetensors", library(saved, ragged()))
    with pytest.raises(CheckpointError, match=message):
        load_functions(tmp_path / "functions.safetensors", loaded)


def test_damaged_files_are_refused(tmp_path: Path):
    path = tmp_path / "functions.safetensors"
    with pytest.raises(CheckpointError, match="no file of tensors"):
        load_functions(path, Sum(3))
    save_functions(path, library(Sum(3), ragged()))
    whole = path.read_bytes()
    for damaged in (whole[:-7], whole[:-1] + bytes([whole[-1] ^ 1]), b"nothing"):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="it may be damaged"):
            load_functions(path, Sum(3))


def test_files_of_something_else_are_refused(tmp_path: Path):
    path, model = tmp_path / "functions.safetensors", library(Sum(3), ragged())
    save_tensors(path, {"weight": torch.zeros(2)}, {"what": "else"})
    with pytest.raises(CheckpointError, match="does not hold a library of functions"):
        load_functions(path, Sum(3))
    save_functions(path, model)
    _, meta = load_tensors(path)
    for wrong in (
        {"config": {}},
        {"sizes": [2]},
        {"sizes": [3, 1]},
        {"adaptation": {"num_steps": -1}},
        {"proposer": 3},
    ):
        save_tensors(path, dict(model.state_dict()), {**meta, **wrong})
        with pytest.raises(CheckpointError, match="restore it or fit again"):
            load_functions(path, Sum(3))
