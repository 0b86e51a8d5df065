"""A run folder: whatever ends the process, the same command goes on to the same bits."""

import json
import os
import random
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import yaml

from bouncegrad.fit import RunConfig, fit_folder, training_scenes, unseen_scenes
from bouncegrad.models.checkpoint import CheckpointError, load_model, load_tensors
from bouncegrad.recipes import RECIPES, Recipe
from bouncegrad.scenes import DataError, Normalization, Scenes, read_scenes, write_folder
from bouncegrad.training import EpochReport
from small import springs, tiny, without_labels

ALIKE = ("model/model.safetensors", "model/config.json", "config.yaml", "versions.json")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "springs3"
    write_folder(folder, {"train": springs(24), "valid": springs(5, seed=1)}, "springs3")
    return folder


def config(data: Path, recipe: Recipe | None = None, **changes) -> RunConfig:
    return replace(RunConfig(str(data), "fast", recipe or tiny()), **changes)


def log_of(folder: Path) -> list[dict]:
    return [{**json.loads(line), "seconds": None} for line in (folder / "log.jsonl").read_text().splitlines()]


def assert_same_run(folder: Path, other: Path) -> None:
    for name in ALIKE:
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name
    assert log_of(folder) == log_of(other)
    (tensors, meta), (others, other_meta) = (
        load_tensors(place / "checkpoint.safetensors") for place in (folder, other)
    )
    assert meta["trainer"] == other_meta["trainer"]
    assert tensors.keys() == others.keys()
    assert {"structures", "generator"} <= tensors.keys()
    assert all(torch.equal(value, others[name]) for name, value in tensors.items())
    assert not list(folder.rglob(".writing-*"))


def interrupt_after(number: int):
    def watch(report: EpochReport) -> None:
        if report.number == number:
            raise KeyboardInterrupt

    return watch


def killed(words: list[str], deaths: list[float | str], folder: Path) -> dict:
    task = json.dumps({"words": words, "deaths": deaths, "log": str(folder / "log.jsonl")})
    script = Path(__file__).parents[1] / "killed.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, script, task], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_killed_run_ends_in_the_same_bits(data, tmp_path):
    """Killed at random moments and while it writes checkpoint and model."""
    num_passes = 24
    words = ["fit", "--data", str(data), "--quiet", "--settings.training.num_passes", str(num_passes)]
    words += ["--settings.training.batch_size", "8", "--settings.model.network.hidden", "16"]
    whole = killed([*words, "--out", str(tmp_path / "whole")], [], tmp_path / "whole")
    assert whole["end"] == 0
    moments = random.Random(4)
    delays = [moments.uniform(0, 0.5 * whole["seconds"]) for _ in range(6)]
    deaths = ["checkpoint.safetensors", *delays, "checkpoint.safetensors"]
    found = killed([*words, "--out", str(tmp_path / "killed")], deaths, tmp_path / "killed")
    assert found["end"] == 0
    assert found["statuses"][0] == -9
    assert any(0 < lines < num_passes for lines in found["lines"]), "no kill came in the middle"
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def steered(search: str) -> Recipe:
    return tiny(search=search, heat="steered", horizon=2, stride=8)


RECIPES_TO_RESUME = {
    "exact": tiny(),
    "metropolis": steered("metropolis"),
    "gibbs": steered("gibbs"),
    "frozen": tiny(search="frozen"),
}


@pytest.mark.parametrize("recipe", RECIPES_TO_RESUME.values(), ids=RECIPES_TO_RESUME)
def test_every_search_resumes(data, tmp_path, recipe):
    asked = config(data, recipe)
    fit_folder(asked, tmp_path / "whole")
    for number in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            fit_folder(asked, tmp_path / "parts", interrupt_after(number))
    fit_folder(asked, tmp_path / "parts")
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


def test_a_finished_run_stays_as_it_is(data, tmp_path):
    fit_folder(config(data), tmp_path / "once")
    fit_folder(config(data), tmp_path / "twice")
    fit_folder(config(data), tmp_path / "twice")
    assert_same_run(tmp_path / "twice", tmp_path / "once")


def test_passes_that_were_logged_but_not_kept_are_logged_once(data, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit_folder(config(data), tmp_path / "run", interrupt_after(2))
    with (tmp_path / "run" / "log.jsonl").open("a") as log:
        log.write('{"number": 3, "loss": 99}\n{"number": 4, "lo')
    fit_folder(config(data), tmp_path / "run")
    fit_folder(config(data), tmp_path / "whole")
    assert_same_run(tmp_path / "run", tmp_path / "whole")


class Ticks:
    """A clock that goes on by a twentieth of a second whenever somebody looks at it."""

    def __init__(self) -> None:
        self.looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return self.looks / 20


def test_a_run_bounded_by_minutes_resumes(data, tmp_path, monkeypatch):
    clock = Ticks()
    monkeypatch.setattr("bouncegrad.training.trainer.time", clock)
    asked = config(data, minutes=0.04)
    with pytest.raises(KeyboardInterrupt):
        fit_folder(asked, tmp_path, interrupt_after(2))
    begin = clock.monotonic()
    fit_folder(asked, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["number"] for line in lines] == list(range(1, len(lines) + 1))
    assert len(lines) > 2
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)
    assert lines[-1]["progress"] == 1
    assert seconds[-1] - seconds[1] <= clock.monotonic() - begin
    fit_folder(asked, tmp_path)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == len(lines), "no time was left, yet it went on"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 1}, "'seed: 0' where 'seed: 1'"),
        ({"minutes": 3.0}, "minutes"),
        ({"settings": tiny(num_passes=5)}, "num_passes"),
    ],
)
def test_another_configuration_is_refused(data, tmp_path, changes, words):
    fit_folder(config(data), tmp_path / "run")
    fit_folder(config(data), tmp_path / "other")
    with pytest.raises(DataError, match=f"another configuration .*{words}.*choose another --out"):
        fit_folder(config(data, **changes), tmp_path / "run")
    assert_same_run(tmp_path / "run", tmp_path / "other")


def without_settings(folder: Path) -> None:
    """As an older program wrote it, which did not have two of the settings, nor a whole section of them."""
    text = (folder / "config.yaml").read_text()
    values = yaml.safe_load(text)
    del values["kinds"], values["settings"]["model"]["network"]["history"], values["settings"]["polish"]
    version = text.split("\n")[0]
    (folder / "config.yaml").write_text(f"{version}\n{yaml.safe_dump(values, sort_keys=False)}")


def test_settings_that_came_later_had_their_defaults(data, tmp_path):
    for name in ("run", "other"):
        with pytest.raises(KeyboardInterrupt):
            fit_folder(config(data), tmp_path / name, interrupt_after(1))
    without_settings(tmp_path / "run")
    for name in ("run", "other"):
        fit_folder(config(data), tmp_path / name)
    model = "model/model.safetensors"
    assert (tmp_path / "run" / model).read_bytes() == (tmp_path / "other" / model).read_bytes()


def test_settings_that_came_later_and_are_not_their_defaults_are_refused(data, tmp_path):
    recipe = tiny()
    network = replace(recipe.model.network, history=2)
    another = replace(recipe, model=replace(recipe.model, network=network))
    fit_folder(config(data, another), tmp_path)
    without_settings(tmp_path)
    with pytest.raises(DataError, match="another configuration .*'history: 1' where 'history: 2'"):
        fit_folder(config(data, another), tmp_path)
    other = tiny(batch_size=5)
    with pytest.raises(DataError, match="another configuration .*'batch_size: .*' where 'batch_size: 5'"):
        fit_folder(config(data, other), tmp_path)


def test_settings_that_are_gone_are_refused(data, tmp_path):
    fit_folder(config(data), tmp_path)
    text = (tmp_path / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace("  training:\n", "  training:\n    patience: 3\n"))
    with pytest.raises(DataError, match="another configuration .*'patience: 3' where 'nothing'"):
        fit_folder(config(data), tmp_path)


def test_a_folder_with_somebody_elses_settings_is_left_alone(data, tmp_path):
    (tmp_path / "config.yaml").write_text("theirs: 1\n")
    with pytest.raises(DataError, match="another configuration"):
        fit_folder(config(data), tmp_path)
    assert (tmp_path / "config.yaml").read_text() == "theirs: 1\n"
    assert len(list(tmp_path.iterdir())) == 1


def test_changed_scenes_are_refused(tmp_path):
    write_folder(tmp_path / "data", {"train": springs(12)}, "springs3")
    fit_folder(config(tmp_path / "data"), tmp_path / "run")
    write_folder(tmp_path / "data", {"train": springs(12, seed=1)}, "springs3")
    with pytest.raises(DataError, match="a run on other scenes.*bring the old ones back"):
        fit_folder(config(tmp_path / "data"), tmp_path / "run")


def test_labels_that_come_later_change_nothing(tmp_path):
    scenes = springs(12)
    write_folder(tmp_path / "data", {"train": without_labels(scenes)}, "springs3")
    with pytest.raises(KeyboardInterrupt):
        fit_folder(config(tmp_path / "data"), tmp_path / "parts", interrupt_after(2))
    write_folder(tmp_path / "data", {"train": scenes}, "springs3")
    fit_folder(config(tmp_path / "data"), tmp_path / "parts")
    fit_folder(config(tmp_path / "data"), tmp_path / "whole")
    assert (tmp_path / "parts/model/model.safetensors").read_bytes() == (
        tmp_path / "whole/model/model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda content: b"", lambda content: b"\x80\x04N."])
def test_a_damaged_checkpoint_is_refused(data, tmp_path, damage):
    fit_folder(config(data), tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors.*damaged"):
        fit_folder(config(data), tmp_path)


def test_what_lies_in_a_run_folder(data, tmp_path):
    fit_folder(config(data), tmp_path)
    names = {path.name for path in tmp_path.iterdir() if not path.name.startswith("events.")}
    expected = {"config.yaml", "versions.json", "log.jsonl", "checkpoint.safetensors", "model", "summary.json"}
    assert names == expected
    assert any(path.name.startswith("events.") for path in tmp_path.iterdir())
    assert json.loads((tmp_path / "summary.json").read_text())["num_scenes"] == 5
    assert list(asdict(RECIPES["fast"])) == ["model", "training", "polish", "forecaster"]


def extreme(scenes: Scenes) -> Scenes:
    return replace(scenes, states=scenes.states * 50)


def test_the_normalisation_is_that_of_the_training_scenes(tmp_path):
    train, valid, test = springs(12), extreme(springs(4, seed=1)), extreme(springs(4, seed=2))
    write_folder(tmp_path / "data", {"train": train, "valid": valid, "test": test}, "springs3")
    fit_folder(config(tmp_path / "data"), tmp_path / "run")
    assert load_model(tmp_path / "run").normalization == Normalization.fit(train)
    kept, held_out = training_scenes(tmp_path / "data", 0)
    assert torch.equal(kept.states, train.states)
    assert torch.equal(held_out.states, valid.states)


def test_without_a_valid_split_a_tenth_is_held_out(tmp_path):
    write_folder(tmp_path, {"train": springs(30)}, "springs3")
    kept, held_out = training_scenes(tmp_path, 0)
    assert (kept.num_scenes, held_out.num_scenes) == (27, 3)
    everything = read_scenes(tmp_path, "train").states
    together = torch.cat([kept.states, held_out.states])
    assert torch.equal(together.flatten(1).sum(1).sort().values, everything.flatten(1).sum(1).sort().values)
    assert torch.equal(training_scenes(tmp_path, 0)[1].states, held_out.states)


def test_a_belief_that_one_kind_cannot_have_is_refused_before_anything_is_read(tmp_path):
    recipe = tiny(prior="leader")
    with pytest.raises(ValueError, match="the prior 'leader' needs .* expected 2 kinds or more, got 1; have more"):
        RunConfig(str(tmp_path / "nothing"), "fast", recipe, kinds=1)


@pytest.mark.parametrize("minutes", [0, -1.0, float("nan"), float("inf")])
def test_impossible_minutes(minutes):
    with pytest.raises(ValueError, match="positive, finite number of minutes"):
        RunConfig("data", "fast", tiny(), minutes)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_impossible_seeds(seed):
    with pytest.raises(ValueError, match="expected a seed from 0"):
        RunConfig("data", "fast", tiny(), seed=seed)


def test_folders_of_other_features_have_splits_as_well(tmp_path):
    states = torch.randn(6, 9, 3, 1, generator=torch.Generator().manual_seed(0))
    scenes = Scenes(states, torch.ones(6, 9, 3) > 0, 1.0, ("speed",), ("a", "b", "c"))
    parts = {"train": scenes.at([0, 1, 2]), "valid": scenes.at([3]), "test": scenes.at([4, 5])}
    write_folder(tmp_path, parts, "cars")
    train, valid = training_scenes(tmp_path, 0)
    assert torch.equal(train.states, scenes.states[:3])
    assert torch.equal(valid.states, scenes.states[3:4])
    assert torch.equal(unseen_scenes(str(tmp_path), valid).states, scenes.states[4:])
