"""Networks compute where they are told to, and nothing that is said changes by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bouncegrad.cli import main
from bouncegrad.devices import device_named, on_cpu
from bouncegrad.estimator import RelationalModel
from bouncegrad.evaluation.score import score
from bouncegrad.fit import RunConfig, fit, fit_folder
from bouncegrad.hidden import Effort, count_hidden, find_hidden
from bouncegrad.inference import infer, predict
from bouncegrad.models.checkpoint import load_model, save_model
from bouncegrad.models.model import Model, ModelConfig
from bouncegrad.models.noise import NoiseConfig
from bouncegrad.models.proposer import ProposerConfig
from bouncegrad.recipes import Recipe, recipe_named
from bouncegrad.reproduce import Places
from bouncegrad.reproduce.baselines.lstm import LSTMConfig
from bouncegrad.reproduce.baselines.lstm_run import TRAINING, RecurrentTrainer, lstm_figures
from bouncegrad.scenes import Scenes, write_folder
from bouncegrad.structures import layout as layouts
from bouncegrad.training import BounceGrad, restarts
from bouncegrad.training.forecaster import ForecasterConfig
from bouncegrad.training.kind_merging import merge_kinds
from bouncegrad.training.restarts import NUM_ATTEMPTS
from bouncegrad.training.rollout_tuning import PolishConfig
from bouncegrad.trust import examine
from pretended import Refused, is_there, pretended_device
from small import platoons, same, springs, tiny


def of_modules(recipe: Recipe, **changes: object) -> Recipe:
    return replace(recipe, model=replace(recipe.model, network=replace(recipe.model.network, **changes)))


def with_noise(recipe: Recipe, scale: str) -> Recipe:
    return replace(recipe, model=ModelConfig(recipe.model.network, NoiseConfig(scale, None, hidden=4)))


def led_by(**proposer: object) -> Recipe:
    recipe = tiny(search="metropolis")
    network = ProposerConfig(hidden=8, structure_hidden=8, **proposer)
    bounce = replace(recipe.training.bounce, proposals="learned")
    return replace(recipe, training=replace(recipe.training, proposer=network, bounce=bounce))


def in_small(name: str) -> Recipe:
    recipe = of_modules(recipe_named(name), hidden=8)
    proposer = replace(recipe.training.proposer, hidden=8, structure_hidden=8)
    return replace(recipe, training=replace(recipe.training, num_passes=2, batch_size=8, proposer=proposer))


RECIPES: dict[str, Callable[[], Recipe]] = {
    "exact": tiny,
    "gibbs": lambda: tiny(search="gibbs"),
    "automatic heat": lambda: tiny(search="metropolis", heat="automatic"),
    "a network of trajectories": lambda: led_by(sees="trajectories", dropout=0.1),
    "a network of structures": lambda: led_by(sees="structures", dropout=0.1, averaging=0.0),
    "networks of both": lambda: led_by(sees="both", encoder="cnn"),
    "nri": lambda: in_small("nri"),
    "nri-true": lambda: in_small("nri-true"),
    "alet2019-small": lambda: in_small("alet2019-small"),
    "kinds of entities": lambda: of_modules(tiny(), update="general", num_node_kinds=2),
    "two rounds": lambda: of_modules(tiny(search="gibbs"), message_steps=2),
    "a horizon": lambda: tiny(horizon=3),
    "a history": lambda: of_modules(tiny(), history=2),
    "one scale": lambda: with_noise(tiny(), "shared"),
    "no scale": lambda: with_noise(tiny(heat="scheduled"), "none"),
    "polished": lambda: replace(tiny(), polish=PolishConfig(num_passes=1, horizon=4, batch_size=8)),
    "a forecaster": lambda: replace(
        tiny(), forecaster=ForecasterConfig(num_passes=1, horizon=4, hidden=8, batch_size=8, enough=0.0)
    ),
}


def everything_said(model: Model, scenes: Scenes) -> list[torch.Tensor]:
    """Posteriors in all modes that the model has, and a prediction."""
    modes = ["search", "both"] if model.proposer else ["search"]
    if model.proposer and "trajectories" in model.proposer.encoders:
        modes.append("proposal")
    posteriors = [infer(model, scenes, mode=mode) for mode in modes]
    predicted = predict(model, scenes, posteriors[0].structures, start=20, num_steps=3)
    return [predicted, *(posterior.marginals for posterior in posteriors)]


def alike(some: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return all(torch.equal(one.nan_to_num(), other.nan_to_num()) for one, other in zip(some, others, strict=True))


@pytest.mark.filterwarnings("ignore:training collapsed")
@pytest.mark.parametrize("name", RECIPES)
def test_a_fit_on_a_device_is_the_fit_on_the_cpu(name):
    recipe, scenes = RECIPES[name](), springs(20)
    here = fit(scenes, recipe)
    said = everything_said(here, scenes)
    with pretended_device() as device:
        there = fit(scenes, recipe, device="cuda")
        assert all(map(is_there, there.state_dict().values()))
        assert there.device.type == "cuda"
        before = device.num_operations
        assert alike(everything_said(there, scenes), said)
        assert device.num_operations > before
    assert same(here, there)


@pytest.mark.parametrize("recipe", [tiny(), of_modules(tiny(), history=2, update="general")], ids=["state", "history"])
def test_gaps_and_those_who_follow_nobody(recipe):
    scenes = platoons(10, 0)
    here = fit(scenes, recipe)
    with pretended_device():
        there = fit(scenes, recipe, device="cuda")
        assert alike(everything_said(there, scenes), everything_said(on_cpu(there), scenes))
    assert same(here, there)


def test_kinds_are_merged_on_a_device():
    scenes = springs(20)
    here = fit(scenes, tiny(cooling=0.3), kinds=3)
    with pretended_device():
        there = fit(scenes, tiny(cooling=0.3), kinds=3, device="cuda")
        assert is_there(merge_kinds(there, scenes).network.unit)
    assert same(here, there)


def test_a_training_starts_over_on_a_device(monkeypatch):
    monkeypatch.setattr(restarts, "TEST_AFTER_STEPS", 1)
    monkeypatch.setattr(restarts, "COLLAPSE_MEANING", 2.0)
    scenes = springs(20)

    def trained(device: str) -> BounceGrad:
        training = BounceGrad(scenes, scenes, tiny().model, tiny(num_passes=3).training, 0, device=device)
        list(training.passes())
        assert training.restarts.num_attempts == NUM_ATTEMPTS
        return training

    here = trained("cpu")
    with pretended_device():
        there = trained("cuda")
        assert is_there(there.model.network.unit)
    assert same(here.model, there.model)


@pytest.mark.parametrize("update", ["superposed", "general"])
def test_scenes_too_large_for_tables(update, monkeypatch):
    monkeypatch.setattr(layouts, "TABLE_LIMIT", 1)
    scenes, recipe = springs(3, num_entities=4), of_modules(tiny(), update=update)
    here = fit(springs(10), recipe)
    found = infer(here, scenes)
    with pretended_device():
        there = fit(springs(10), recipe, device="cuda")
        assert torch.equal(infer(there, scenes).marginals, found.marginals)


def test_what_is_asked_of_a_model_on_a_device(springs_model):
    long, some = springs(4, seed=3, num_steps=10_000), springs(12, seed=2)
    effort = Effort(num_starts=2)

    def answers(model: Model) -> list[object]:
        counted = count_hidden(model, some.at(range(1)), (0, 1), effort=effort)
        found = find_hidden(model, some.at(range(1)), effort=effort)
        return [score(model, long).mse, str(examine(model, some)), found.best_tracks.tolist(), counted.gains.tolist()]

    expected = answers(springs_model)
    with pretended_device():
        there = springs_model.to("cuda")
        try:
            assert answers(there) == expected
            assert is_there(there.network.unit)
        finally:
            springs_model.to("cpu")


def test_recurrent_baselines():
    scenes, test = springs(12), springs(4, seed=1, num_steps=10_000)
    config = replace(TRAINING, num_passes=2, batch_size=4)

    def figures(device: str) -> object:
        trainer = RecurrentTrainer(scenes, scenes, LSTMConfig(joint=False, hidden=8), config, 0, device)
        list(trainer.passes())
        assert is_there(trainer.best_network().change.bias) == (device == "cuda")
        return lstm_figures(trainer.best_network(), scenes, test)

    expected = figures("cpu")
    with pretended_device():
        assert figures("cuda") == expected


def test_a_run_goes_on_elsewhere(tmp_path):
    write_folder(tmp_path / "data", {"train": springs(16), "test": springs(4, seed=1)}, "springs3")
    config = RunConfig(str(tmp_path / "data"), "fast", tiny(num_passes=4))
    whole = fit_folder(config, tmp_path / "whole")

    def stop(report: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_folder(config, tmp_path / "parted", stop)
    with pretended_device():
        assert is_there(fit_folder(config, tmp_path / "parted", device="cuda").network.unit)
    assert same(load_model(tmp_path / "parted"), whole)


def test_models_are_loaded_anywhere(tmp_path, springs_model):
    with pretended_device():
        save_model(tmp_path, springs_model.to("cuda"))
        springs_model.to("cpu")
        assert not is_there(load_model(tmp_path).network.unit)
        assert is_there(load_model(tmp_path, "cuda").network.unit)
        assert is_there(RelationalModel.from_pretrained(tmp_path, device="cuda:0").model.network.unit)
        fitted = RelationalModel(tiny(num_passes=1), None, device="cuda").fit(springs(12))
        assert is_there(fitted.model.network.unit)
        assert repr(fitted).endswith("device='cuda')")


def test_the_command_names_a_device(tmp_path: Path):
    data = str(tmp_path / "data")
    write_folder(tmp_path / "data", {"train": springs(12), "test": springs(4, seed=1)}, "springs3")
    settings = ["--settings.training.num_passes", "1", "--settings.model.network.hidden", "8", "--quiet"]
    model = str(tmp_path / "run")
    asked = ["--model", model, "--data", data, "--device", "cuda"]
    with pretended_device() as device:
        assert main(["fit", "--data", data, "--out", model, "--device", "cuda", *settings]) == 0
        for words in (["infer", "--out", str(tmp_path / "graphs.csv")], ["evaluate"], ["trust", "--quiet"]):
            before = device.num_operations
            assert main([words[0], *asked, *words[1:]]) == 0
            assert device.num_operations > before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpu", "there is no device 'gpu' to compute on: choose cpu, cuda or cuda:N"),
        ("mps", "there is no device 'mps' to compute on"),
        ("cuda:99", r"the device 'cuda:99' was asked for, but torch can use \d+ CUDA devices here: choose another"),
    ],
)
def test_devices_that_are_not_there(name, message, tmp_path):
    for ask in (
        lambda: device_named(name),
        lambda: fit(springs(12), tiny(), device=name),
        lambda: RelationalModel(device=name),
        lambda: load_model("springs5", name),
        lambda: Places(tmp_path, tmp_path, name),
    ):
        with pytest.raises(ValueError, match=message):
            ask()


def test_what_a_gpu_refuses_is_refused(springs_model):
    numbers, generator = torch.ones(3), torch.Generator().manual_seed(0)
    with pretended_device():
        there = numbers.to("cuda")
        assert is_there(2 * there[torch.tensor([0, 1])])
        assert not is_there(there.cpu())
        for attempt in (
            lambda: there + numbers,
            lambda: torch.cat([there, numbers]),
            lambda: torch.zeros(()).add_(there.sum()),
            lambda: there.index_select(0, torch.tensor(0)),
            lambda: numbers[there.long()],
            lambda: there.numpy(),
            lambda: torch.rand(3, generator=generator, device="cuda"),
            lambda: there.normal_(generator=generator),
            lambda: springs_model.network.linear(torch.ones(2, 4, device="cuda")),
        ):
            with pytest.raises(Refused):
                attempt()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu(tmp_path, springs_model):
    scenes, test = springs(40), springs(10, seed=1, num_steps=10_000)
    expected = score(springs_model, test)
    save_model(tmp_path / "model", springs_model)
    found = score(load_model(tmp_path / "model", "cuda"), test)
    assert torch.equal(found.posterior.structures, expected.posterior.structures)
    assert found.mse == pytest.approx(expected.mse, rel=1e-3)
    write_folder(tmp_path / "data", {"train": scenes, "test": test}, "springs3")
    for name in ("exact", "networks of both", "nri", "a forecaster"):
        config, out = RunConfig(str(tmp_path / "data"), "fast", RECIPES[name]()), tmp_path / name
        model = fit_folder(config, out, device="cuda")
        assert model.device.type == "cuda"
        assert fit_folder(config, out).device.type == "cpu"
    training = RecurrentTrainer(scenes, scenes, LSTMConfig(joint=True, hidden=8), TRAINING, 0, "cuda")
    training.run_epoch()
    assert lstm_figures(training.best_network(), scenes, test).num_scenes == test.num_scenes
