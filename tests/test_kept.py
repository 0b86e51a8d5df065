"""What an earlier state of the package left on a disk is still read: a run goes on, and a model says what it said.

``kept/run`` was interrupted in the fifth of its eight passes over ``kept/scenes.npz``; ``kept/model`` has a proposal
network and a forecaster; ``kept/expected.json`` is what came of both then.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

import bouncegrad
from bouncegrad.cli import main

KEPT = Path(__file__).with_name("kept")
EXPECTED = json.loads((KEPT / "expected.json").read_text())
SURE = 0.55
"""Relations that were less probable than this may come out otherwise on another machine."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to work in, as if this version had begun the run: those of others are refused."""
    shutil.copytree(KEPT, tmp_path, dirs_exist_ok=True)
    settings = tmp_path / "run" / "config.yaml"
    _, others = settings.read_text().split("\n", 1)
    settings.write_text(f"# bouncegrad {bouncegrad.__version__}\n{others}")
    monkeypatch.chdir(tmp_path)  # the run has learned from scenes.npz, wherever that lies
    return tmp_path


def close(value: Any) -> Any:
    """Equal to a float but for how a machine rounds; all else to the letter."""
    return pytest.approx(value, rel=1e-3, abs=1e-6) if isinstance(value, float) else value


def timeless(line: str) -> dict[str, Any]:
    return {name: value for name, value in json.loads(line).items() if name != "seconds"}


def test_a_kept_run_goes_on_where_it_stood(folder: Path):
    before = (folder / "run" / "log.jsonl").read_text().splitlines()
    assert main(["fit", "--config", "run/config.yaml", "--out", "run", "--quiet"]) == 0
    after = (folder / "run" / "log.jsonl").read_text().splitlines()
    assert after[: len(before)] == before
    assert [json.loads(line)["number"] for line in after] == list(range(1, 9))
    for line, expected in zip(after[len(before) :], EXPECTED["log"], strict=True):
        assert timeless(line) == {name: close(value) for name, value in expected.items()}
    summary = json.loads((folder / "run" / "summary.json").read_text())
    assert summary["num_scenes"] == EXPECTED["summary"]["num_scenes"]
    assert summary["relation_accuracy"] == close(EXPECTED["summary"]["relation_accuracy"])
    assert summary["mse"] == pytest.approx(EXPECTED["summary"]["mse"], rel=1e-2)
    assert bouncegrad.load_model("run").feature_names == ("x", "y", "vx", "vy")


def four_scenes() -> bouncegrad.Scenes:
    return bouncegrad.read_scenes(KEPT / "scenes.npz").at(range(4))


@pytest.mark.parametrize("mode", ["search", "proposal"])
def test_a_kept_model_reads_the_same_relations(mode):
    posterior = bouncegrad.infer(bouncegrad.load_model(KEPT / "model"), four_scenes(), mode=mode)
    expected = torch.tensor(EXPECTED[mode]["probabilities"])
    assert posterior.probabilities == pytest.approx(expected, abs=1e-3)
    sure = expected.amax(-1) > SURE
    assert sure.sum() > 40, "of 48 relations, nearly all"
    assert torch.equal(posterior.relations[sure], torch.tensor(EXPECTED[mode]["relations"])[sure])


def test_a_kept_model_foretells_the_same(folder: Path):
    model, scenes = bouncegrad.load_model(KEPT / "model"), four_scenes()
    structures = bouncegrad.infer(model, scenes).structures
    states = bouncegrad.predict(model, scenes, structures, start=40, num_steps=4)
    assert states == pytest.approx(torch.tensor(EXPECTED["states"]), abs=1e-3)


def test_the_command_reads_a_kept_model(folder: Path):
    assert main(["infer", "--model", "model", "--data", "scenes.npz", "--out", "found.npz"]) == 0
    with numpy.load("found.npz") as found:
        said = torch.tensor(found["probabilities"])[:4]
    assert said == pytest.approx(torch.tensor(EXPECTED["search"]["probabilities"]), abs=1e-3)
