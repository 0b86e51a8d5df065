"""The forecaster: better predictions, the same reading, only where it is needed."""

from dataclasses import replace

import pytest
import torch

from bouncegrad.evaluation.drift import drift, drift_of_rest
from bouncegrad.fit import RunConfig, fit, fit_folder
from bouncegrad.inference import infer, predict
from bouncegrad.models.checkpoint import load_model, save_model
from bouncegrad.models.decoder import NetworkConfig
from bouncegrad.models.model import Model, ModelConfig
from bouncegrad.models.noise import NoiseConfig
from bouncegrad.recipes import Recipe
from bouncegrad.scenes import Normalization, Scenes, write_folder
from bouncegrad.training import BounceGrad
from bouncegrad.training import forecaster as forecasting
from bouncegrad.training.forecaster import ForecasterConfig, add_forecaster, forecaster_training, with_forecaster
from bouncegrad.training.run_folder import InMemory
from small import same, springs, tiny, without_labels

CONFIG = ForecasterConfig(num_passes=3, horizon=4, hidden=8, batch_size=8, enough=0.0)


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return springs(24)


@pytest.fixture(scope="module")
def rough(scenes) -> Model:
    """A model that has hardly begun to learn."""
    return fit(scenes, tiny())


def trained(model: Model, scenes: Scenes, config: ForecasterConfig, seed: int = 0) -> BounceGrad:
    training = forecaster_training(model, scenes, scenes, config, seed)
    for _ in training.passes():
        pass
    return training


def test_rollouts_drift_less_and_graphs_are_read_alike():
    scenes, held_out = springs(60), springs(30, seed=1)
    model = fit(scenes, tiny(num_passes=1))
    config = ForecasterConfig(num_passes=40, hidden=32)
    structures = infer(model, held_out).structures
    found = with_forecaster(model, trained(model, scenes, config).best_model(), held_out, structures, config)
    assert torch.equal(infer(found, held_out).structures, structures)
    assert torch.equal(infer(found, held_out).losses, infer(model, held_out).losses)
    assert model.forecaster is None
    assert found.forecaster is not None
    assert drift(found.forecaster, held_out, structures, 20) < drift(model, held_out, structures, 20) - 0.2
    predicted = predict(found, held_out, structures, start=20, num_steps=20)
    assert torch.equal(predicted, predict(found.forecaster, held_out, structures, start=20, num_steps=20))
    assert not torch.equal(predicted, predict(model, held_out, structures, start=20, num_steps=20))


def test_its_structures_are_those_that_the_model_reads_and_stay(rough, scenes):
    training = trained(rough, without_labels(scenes), CONFIG)
    assert torch.equal(training.structures, infer(rough, scenes).structures)


def test_the_same_seed_gives_the_same_bits_and_labels_change_nothing(rough, scenes):
    once, without, other = (
        trained(rough, data, CONFIG, seed).best_model()
        for data, seed in ((scenes, 3), (without_labels(scenes), 3), (scenes, 4))
    )
    assert same(once, without)
    assert not same(once, other)


def test_none_is_trained_where_none_is_asked_for_or_needed(rough, scenes):
    assert add_forecaster(rough, scenes, scenes, ForecasterConfig(), 0) is rough
    rest = drift_of_rest(rough, scenes, 8)
    share = torch.tensor(drift(rough, scenes, infer(rough, scenes).structures, 8) - rest).exp().item()
    numbers = []
    run = InMemory(watch=lambda report: numbers.append(report.number))
    assert add_forecaster(rough, scenes, scenes, replace(CONFIG, enough=1.01 * share), 0, run) is rough
    assert numbers == []
    add_forecaster(rough, scenes, scenes, replace(CONFIG, enough=0.99 * share), 0, run)
    assert numbers == [1, 2, 3]


def test_one_that_drifts_more_is_refused(rough, scenes, monkeypatch):
    worse, structures = trained(rough, scenes, CONFIG).best_model(), infer(rough, scenes).structures
    monkeypatch.setattr(forecasting, "drift", lambda model, *_: 1.0 if model is worse else 0.5)
    assert with_forecaster(rough, worse, scenes, structures, CONFIG) is rough
    monkeypatch.setattr(forecasting, "drift", lambda model, *_: float("nan") if model is worse else 0.5)
    assert with_forecaster(rough, worse, scenes, structures, CONFIG) is rough


def test_it_has_the_kinds_and_the_history_of_its_model(scenes):
    shape = NetworkConfig(num_edge_kinds=3, num_node_kinds=2, hidden=8, history=2, silent_first=True)
    model = fit(scenes, replace(tiny(num_passes=1), model=ModelConfig(shape, NoiseConfig(hidden=4))))
    found = trained(model, scenes, replace(CONFIG, num_passes=1)).best_model()
    network = found.config.network
    assert (network.num_edge_kinds, network.num_node_kinds, network.history, network.silent_first) == (3, 2, 2, True)
    structures = infer(model, scenes).structures
    assert predict(found, scenes, structures, start=9, num_steps=3).shape == (24, 3, 3, 4)


def test_short_scenes_have_short_rollouts(rough, scenes):
    short = scenes.between(0, 3)
    assert trained(rough, short, CONFIG).config.horizon == 2


def forecast() -> Recipe:
    return replace(tiny(), forecaster=CONFIG)


def accepting(monkeypatch) -> None:
    monkeypatch.setattr(forecasting, "drift", lambda model, *_: float(model.scale is not None))


def test_a_recipe_can_ask_for_it(rough, scenes, monkeypatch):
    accepting(monkeypatch)
    seen = []
    found = fit(scenes, forecast(), watch=seen.append)
    assert [report.number for report in seen] == [1, 2, 3, 4, 1, 2, 3]
    assert found.forecaster is not None
    weights = {name: value for name, value in found.state_dict().items() if not name.startswith("forecaster.")}
    assert all(torch.equal(value, weights[name]) for name, value in rough.state_dict().items())


def test_it_is_kept_with_its_model(scenes, monkeypatch, tmp_path):
    accepting(monkeypatch)
    found = fit(scenes, forecast())
    save_model(tmp_path, found)
    loaded = load_model(tmp_path)
    assert same(found, loaded)
    structures = infer(found, scenes).structures
    assert torch.equal(*(predict(each, scenes, structures, start=9, num_steps=3) for each in (found, loaded)))
    monkeypatch.undo()
    save_model(tmp_path / "without", fit(scenes, tiny()))
    assert load_model(tmp_path / "without").forecaster is None


class Stopped(Exception):
    pass


def test_an_interrupted_run_goes_on_to_the_same_bits(scenes, monkeypatch, tmp_path):
    accepting(monkeypatch)
    write_folder(tmp_path / "data", {"train": scenes, "valid": springs(6, seed=1)}, "springs3")
    asked = RunConfig(str(tmp_path / "data"), "fast", forecast(), None, 0)
    whole = fit_folder(asked, tmp_path / "whole")
    seen = []

    def stop(report):
        seen.append(report)
        if len(seen) == 6:
            raise Stopped

    with pytest.raises(Stopped):
        fit_folder(asked, tmp_path / "run", stop)
    again = fit_folder(asked, tmp_path / "run", seen.append)
    assert same(whole, again)
    assert [report.number for report in seen] == [1, 2, 3, 4, 1, 2, 3]
    assert whole.forecaster is not None


def test_minutes_bound_the_search_alone(scenes, monkeypatch, tmp_path):
    accepting(monkeypatch)
    write_folder(tmp_path / "data", {"train": scenes, "valid": springs(6, seed=1)}, "springs3")
    numbers = []
    asked = RunConfig(str(tmp_path / "data"), "fast", forecast(), 1e-9, 0)
    fit_folder(asked, tmp_path / "run", lambda report: numbers.append(report.number))
    assert numbers == [1, 2, 3]  # there was no time for any other pass


def test_senders_that_are_silent_have_none():
    model = ModelConfig(NetworkConfig(unseen="silent"))
    with pytest.raises(ValueError, match="3 epochs of polish or forecaster"):
        Recipe(model, forecaster=CONFIG)


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_passes", -1), ("num_passes", 1.5), ("horizon", 0), ("hidden", 0), ("learning_rate", 0.0), ("enough", -1.0)],
)
def test_bad_settings_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        ForecasterConfig(**{name: value})


def test_drift_of_rest_is_that_of_a_network_that_says_nothing(scenes):
    shape = NetworkConfig(inputs="absolute", update="general", skip=False, hidden=4)
    config = ModelConfig(shape, NoiseConfig("none", None))
    still = Model(config, Normalization.fit(scenes), scenes.feature_names, torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        for parameter in still.network.node_modules.parameters():
            parameter.zero_()
    structures = torch.zeros(24, 6, dtype=torch.int64)
    assert drift(still, scenes, structures, 8) == drift_of_rest(still, scenes, 8)
