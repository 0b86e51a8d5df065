"""One object for the whole method: it does what the functions do, and says when it cannot."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bouncegrad import RelationalModel
from bouncegrad.estimator import NotFittedError
from bouncegrad.evaluation.score import score
from bouncegrad.fit import fit
from bouncegrad.hidden import Effort
from bouncegrad.inference import infer, predict, weakest_kind
from bouncegrad.models.checkpoint import CheckpointError, load_model, save_model
from bouncegrad.recipes import Recipe, recipe_named
from bouncegrad.scenes import DataError, write_folder, write_npz
from small import springs, tiny

PASSES = 3
LITTLE = Effort(num_patterns=2, num_starts=1, first_rounds=1, num_kept=1, last_rounds=1)


@pytest.fixture(scope="module")
def scenes():
    return springs(12, num_steps=4000)


@pytest.fixture(scope="module")
def fitted(scenes) -> RelationalModel:
    return RelationalModel(tiny(num_passes=PASSES), None, seed=2).fit(scenes)


@pytest.fixture(scope="module")
def ready() -> RelationalModel:
    return RelationalModel.from_pretrained("springs5")


def test_it_says_how_it_is_set():
    assert repr(RelationalModel()) == "RelationalModel()"
    assert repr(RelationalModel(kinds=3, prior="tree", minutes=0.5)) == (
        "RelationalModel(kinds=3, prior='tree', minutes=0.5)"
    )
    assert repr(RelationalModel(tiny(), None)) == "RelationalModel(recipe=Recipe(...), kinds=None)"


def test_what_cannot_be_is_refused_at_once():
    with pytest.raises(ValueError, match="there is no recipe 'slow'"):
        RelationalModel("slow")
    with pytest.raises(ValueError, match="there is no prior 'odd'"):
        RelationalModel(prior="odd")
    with pytest.raises(ValueError, match="kinds must be a whole number"):
        RelationalModel(kinds=0)
    with pytest.raises(ValueError, match="kinds are merged by tables"):
        RelationalModel("alet2019-small", 3)


@pytest.mark.parametrize("prior", ["leader", "file", "tree"])
def test_one_kind_says_nothing_of_who_is_followed(prior):
    with pytest.raises(ValueError, match=f"the prior '{prior}' needs .* expected 2 kinds or more, got 1; have more"):
        RelationalModel(kinds=1, prior=prior)
    with pytest.raises(ValueError, match="expected 2 kinds"):
        RelationalModel("nri-full", None, prior=prior)
    RelationalModel("nri-full", prior="few")


def test_who_has_learned_nothing_says_so(scenes, tmp_path):
    new = RelationalModel()
    asked = [
        lambda: new.infer(scenes),
        lambda: new.predict(scenes, num_steps=1),
        lambda: new.score(scenes),
        lambda: new.weakest_kind(scenes),
        lambda: new.find_hidden(scenes),
        lambda: new.count_hidden(scenes),
        lambda: new.save_pretrained(tmp_path),
        lambda: new.model,
    ]
    for ask in asked:
        with pytest.raises(NotFittedError, match=r"is not fitted: call \.fit\(scenes\)"):
            ask()
    assert not hasattr(new, "model")


def test_it_learns_what_fit_learns(fitted, scenes):
    seen: list[int] = []
    again = RelationalModel(tiny(num_passes=PASSES), None, seed=2)
    assert again.fit(scenes, watch=lambda report: seen.append(report.number)) is again
    plain = fit(scenes, tiny(num_passes=PASSES), seed=2).state_dict()
    for model in (fitted, again):
        assert all(torch.equal(value, plain[name]) for name, value in model.model.state_dict().items())
    assert seen == list(range(1, PASSES + 1))
    assert (again.origin.num_scenes, again.origin.num_entities, again.origin.kinds) == (12, 3, None)


def test_kinds_are_found_where_they_can_be_merged(scenes):
    found = RelationalModel(tiny(num_passes=2)).fit(scenes)
    assert found.model.kinds is not None
    assert found.model.kinds.asked == 4
    assert found.origin.kinds == "auto"


def test_kinds_stay_as_many_as_they_are_where_they_cannot_be_merged(scenes):
    for recipe in (tiny(search="metropolis", num_passes=1), silent(tiny(num_passes=1))):
        found = RelationalModel(recipe).fit(scenes)
        assert found.model.kinds is None
        assert found.model.config.network.num_edge_kinds == 2


def silent(recipe: Recipe) -> Recipe:
    return replace(recipe, model=replace(recipe.model, network=replace(recipe.model.network, silent_first=True)))


def test_a_prior_is_believed_while_it_learns_and_when_it_reads(scenes):
    found = RelationalModel(tiny(num_passes=1), None, prior="dyads").fit(scenes)
    assert "dyads" in found.model.reading.weights
    assert found.infer(scenes).prior == "dyads"
    assert RelationalModel("alet2019-small", prior="dyads")._settings() == recipe_named("alet2019-small")


def test_its_answers_are_those_of_the_functions(fitted, scenes):
    found, plain = fitted.infer(scenes), infer(fitted.model, scenes, seed=2)
    assert torch.equal(found.structures, plain.structures)
    assert torch.equal(found.marginals, plain.marginals)
    given = fitted.predict(scenes, start=20, num_steps=4, structures=found.structures)
    assert torch.equal(given, predict(fitted.model, scenes, found.structures, start=20, num_steps=4))
    assert fitted.score(scenes).mse == score(fitted.model, scenes).mse
    assert fitted.weakest_kind(scenes) == weakest_kind(fitted.model, scenes)


def test_a_prediction_sees_nothing_of_the_future(fitted, scenes):
    found = fitted.predict(scenes, start=20, num_steps=4)
    early = scenes.between(0, 21)
    assert torch.equal(found, fitted.predict(early, num_steps=4))
    assert torch.equal(found, fitted.predict(early, start=-1, num_steps=4))
    for start in (0, 39, -39):
        with pytest.raises(DataError, match="expected a start from 1 to 38"):
            fitted.predict(scenes, start=start, num_steps=4)
    structures = fitted.infer(scenes).structures
    assert fitted.predict(scenes, start=0, num_steps=4, structures=structures).shape == (12, 4, 3, 4)


def test_scenes_may_be_files(fitted, scenes, tmp_path: Path):
    write_npz(tmp_path / "scenes.npz", scenes)
    write_folder(tmp_path / "data", {"train": scenes, "test": scenes.at([3, 4])}, "springs3")
    whole = fitted.infer(scenes)
    assert torch.equal(fitted.infer(str(tmp_path / "scenes.npz")).structures, whole.structures)
    assert torch.equal(fitted.infer(tmp_path / "data").structures, whole.structures[3:5])
    again = RelationalModel(tiny(num_passes=1), None).fit(tmp_path / "data")
    assert again.origin.num_scenes == 12


def test_another_time_step_is_warned_of(fitted, scenes):
    with pytest.warns(UserWarning, match=r"samples 0\.1 apart, these are 0\.2 apart"):
        fitted.infer(replace(scenes, time_step=0.2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted.infer(scenes)


def test_it_is_saved_and_loaded(fitted, scenes, tmp_path: Path):
    fitted.save_pretrained(tmp_path)
    again = RelationalModel.from_pretrained(tmp_path, seed=2)
    assert torch.equal(again.infer(scenes).marginals, fitted.infer(scenes).marginals)
    assert again.origin == fitted.origin
    assert again.recipe == Recipe(tiny().model)  # its training has no name
    assert again.kinds is None
    assert "learned without labels" in (tmp_path / "README.md").read_text()


def test_plain_models_and_run_folders_are_loaded_too(fitted, tmp_path: Path):
    save_model(tmp_path / "run" / "model", fitted.model)
    assert RelationalModel.from_pretrained(tmp_path / "run").origin.num_scenes is None
    with pytest.raises(CheckpointError, match="charged5, springs5"):
        RelationalModel.from_pretrained("springs")


def test_ready_models_answer(ready):
    scenes = springs(3, num_entities=5, seed=9)
    assert repr(ready) == "RelationalModel(recipe='fast-forecast', kinds=None)"
    posterior = ready.infer(scenes)
    assert scenes.relations is not None
    none_kind = ready.weakest_kind(scenes)
    assert torch.equal(posterior.relations.where(scenes.pairs, 0) != none_kind, scenes.relations == 1)
    assert torch.equal(posterior.structures, infer(load_model("springs5"), scenes).structures)


def test_hidden_entities_are_asked_for(ready):
    scenes = springs(1, num_entities=4, seed=9)
    found = ready.find_hidden(scenes, effort=LITTLE)
    assert found.best_tracks.shape == (1, 1, scenes.num_times, 4)
    assert ready.count_hidden(scenes, (0, 1), effort=LITTLE).candidates == (0, 1)
