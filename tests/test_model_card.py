"""Models that are handed on: whole, described, and never taken for what they are not."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path

import polars
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bouncegrad.cli import main
from bouncegrad.evaluation.metrics import match_relations
from bouncegrad.inference import infer
from bouncegrad.model_card import Origin, card, name_of, origin_of_fit, read_origin, save_pretrained
from bouncegrad.models.checkpoint import (
    PRETRAINED,
    CheckpointError,
    load_model,
    model_folder,
    pretrained_names,
    read_about,
    save_model,
)
from bouncegrad.models.edge_kinds import KindsReport, Merge
from bouncegrad.models.model import Model
from bouncegrad.recipes import RECIPES, Recipe
from bouncegrad.scenes import DataError, Normalization, Scenes, from_arrays, write_npz
from bouncegrad.simulate import Charged, Springs, simulate
from small import springs, tiny

ORIGIN = Origin(
    recipe="fast",
    kinds="auto",
    seed=3,
    scenes="three beads",
    num_scenes=40,
    num_entities=3,
    num_times=49,
    time_step=0.1,
    figures={"share of relations right": 0.975},
    figures_of="4 held-out scenes",
    licence="mit",
)


def some_model() -> Model:
    scenes = springs(2)
    return Model(tiny().model, Normalization.fit(scenes), scenes.feature_names, torch.Generator().manual_seed(3)).eval()


def are_same(one: Model, other: Model) -> bool:
    weights = other.state_dict()
    described = (one.config, one.feature_names, one.normalization, one.reading, one.kinds) == (
        other.config, other.feature_names, other.normalization, other.reading, other.kinds,
    )  # fmt: skip
    return described and all(torch.equal(value, weights[name]) for name, value in one.state_dict().items())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_pretrained(tmp_path / "model", some_model(), ORIGIN)
    return tmp_path / "model"


def test_a_model_comes_back_with_its_origin(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert are_same(load_model(folder), some_model())
    assert read_origin(folder) == ORIGIN


def test_no_model_without_its_card(folder, tmp_path, monkeypatch):
    """Neither where there was nothing nor where there was another one, when the disk is full at the last file."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_text = Path.write_text

    def full(self: Path, *arguments: str, **options: str) -> int:
        if self.name == "README.md":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_text(self, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", full)
    for place in (folder, tmp_path / "new"):
        with pytest.raises(DataError, match=f"cannot write in {place}: No space left on device"):
            save_pretrained(place, some_model(), replace(ORIGIN, seed=4))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not list((tmp_path / "new").iterdir())


def test_nothing_is_known_of_a_model_that_was_only_saved(tmp_path):
    save_model(tmp_path, some_model())
    assert read_origin(tmp_path) == Origin(versions={})
    assert "about" not in json.loads((tmp_path / "config.json").read_text())


def test_the_card_says_what_the_model_is(folder):
    text = (folder / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    said = yaml.safe_load(front)
    assert said["library_name"] == "bouncegrad"
    assert said["license"] == "mit"
    assert "relational-inference" in said["tags"]
    for words in (
        "# Who acts on whom: three beads",
        "- scenes: 40",
        "- time from one sample to the next: 0.1",
        "- features: x, y, vx, vy",
        "- recipe: fast",
        "edge types: 2",
        "prior over latent graphs: none",
        "temperature of the posterior: 1",
        "Measured on 4 held-out scenes",
        "share of relations right: 0.975",
        "When not to trust it",
        "a time step other than 0.1",
        "from_pretrained",
    ):
        assert words in body, words


def test_the_card_of_a_model_of_which_nothing_is_known():
    model = some_model()
    model.kinds = KindsReport(3, (Merge(2, 0, 0.0, 0.0),))
    text = card(model, Origin())
    assert "license" not in text
    assert "Measured" not in text
    assert "- scenes: not known" in text
    assert "3 kinds asked for, 2 found" in text


def test_the_origin_of_a_fit():
    scenes = springs(20)
    origin = origin_of_fit(some_model(), scenes, Recipe(), None, 1)
    assert (origin.recipe, origin.num_scenes, origin.num_entities, origin.num_times) == ("fast", 20, 3, 49)
    assert origin.time_step == scenes.time_step
    assert origin.figures_of.startswith("2 held-out scenes")
    assert 0 <= origin.figures["share of relations right"] <= 1
    assert not origin_of_fit(some_model(), springs(5), tiny(), None, 1).figures  # held out are those learned from
    assert not origin_of_fit(some_model(), scenes.between(0, 20), tiny(), None, 1).figures


def test_recipes_have_names():
    assert [name_of(recipe) for recipe in RECIPES.values()] == list(RECIPES)
    assert name_of(tiny()) == ""


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_changed_file_is_refused(folder, name):
    content = (folder / name).read_bytes()
    for changed in (content.replace(b"8", b"9", 1), content[: len(content) // 2], b""):
        (folder / name).write_bytes(changed)
        for read in (load_model, read_origin):
            with pytest.raises(CheckpointError):
                read(folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(CheckpointError):
        load_model(folder)


def test_a_changed_origin_is_refused(folder):
    description = json.loads((folder / "config.json").read_text())
    description["about"]["num_scenes"] = 50_000
    (folder / "config.json").write_text(json.dumps(description))
    with pytest.raises(CheckpointError, match="checksums differ"):
        load_model(folder)


@pytest.mark.parametrize("about", [3, ["x"]])
def test_an_origin_that_is_none_is_refused(folder, monkeypatch, about):
    """Also where somebody made the checksum fit."""
    description = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**description, "about": about, "sha256": "fits"}))
    monkeypatch.setattr("bouncegrad.models.checkpoint._checksum", lambda *_: "fits")
    with pytest.raises(CheckpointError, match="no JSON object"):
        read_about(folder)


@pytest.fixture(scope="module")
def contents(tmp_path_factory) -> tuple[Path, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("shared")
    save_pretrained(folder, some_model(), ORIGIN)
    return folder, {name: (folder / name).read_bytes() for name in ("config.json", "model.safetensors")}


@settings(max_examples=150)
@given(data=st.data())
def test_whatever_bytes_change_it_is_noticed(contents, data):
    """Refused, or white space in the description that carries no meaning."""
    folder, files = contents
    name = data.draw(st.sampled_from(sorted(files)))
    changed = bytearray(files[name])
    where = st.integers(0, len(changed) - 1)
    for place, value in data.draw(st.lists(st.tuples(where, st.integers(0, 255)), min_size=1, max_size=4)):
        changed[place] = value
    try:
        (folder / name).write_bytes(bytes(changed))
        found, origin = load_model(folder), read_origin(folder)
    except CheckpointError:
        assert bytes(changed) != files[name]
    else:
        assert are_same(found, some_model())
        assert origin == ORIGIN
    finally:
        (folder / name).write_bytes(files[name])


def test_ready_models_have_names_and_cards():
    assert pretrained_names() == ("charged5", "springs5")
    for name in pretrained_names():
        origin = read_origin(name)
        assert (PRETRAINED / name / "README.md").read_text() == card(load_model(name), origin)
        assert (origin.recipe, origin.num_scenes, origin.time_step, origin.licence) == (
            "fast-forecast",
            1000,
            0.1,
            "mit",
        )


def test_only_the_ready_model_that_needs_one_has_a_forecaster():
    assert load_model("springs5").forecaster is None
    assert load_model("charged5").forecaster is not None
    words = "predictions come from separate modules"
    assert [words in (PRETRAINED / name / "README.md").read_text() for name in pretrained_names()] == [True, False]


def test_a_name_that_there_is_not_lists_those_that_there_are(tmp_path):
    with pytest.raises(CheckpointError, match="springs6 holds no model.*pretrained models are charged5, springs5"):
        load_model("springs6")


def test_a_folder_with_a_model_goes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "springs5").mkdir()
    assert model_folder("springs5") == PRETRAINED / "springs5"
    save_model("springs5", some_model())
    assert model_folder("springs5") == Path("springs5")
    assert model_folder("../pretrained/springs5") == Path("../pretrained/springs5")


def simulated(system: Springs | Charged, num_scenes: int) -> Scenes:
    found = simulate(system, num_scenes, generator=77)
    return from_arrays(found.loc, found.vel, found.edges, time_step=found.time_step)


@pytest.mark.parametrize(("system", "least"), [(Springs(5), 1.0), (Charged(5), 0.95)])
def test_ready_models_are_right(system, least):
    scenes = simulated(system, 20)
    found = infer(load_model("springs5" if isinstance(system, Springs) else "charged5"), scenes)
    assert match_relations(found.relations, scenes.relations).accuracy >= least


def test_the_command_takes_a_name_and_draws_graphs(tmp_path, capsys):
    write_npz(tmp_path / "scenes.npz", simulated(Springs(5), 4))
    given = ["--model", "springs5", "--data", str(tmp_path / "scenes.npz")]
    for name in ("found.csv", "found.parquet"):
        assert main(["infer", *given, "--out", str(tmp_path / name), "--picture", str(tmp_path / "graph.png")]) == 0
    assert "edge type 0 has almost no effect" in capsys.readouterr().out
    assert len((tmp_path / "found.csv").read_text().splitlines()) == 1 + 4 * 20
    assert polars.read_parquet(tmp_path / "found.parquet").height == 80
    assert (tmp_path / "graph.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["infer", *given, "--out", str(tmp_path / "a.csv"), "--picture", "graph.txt"]) == 2
    assert "expected a picture file" in capsys.readouterr().err
    assert not (tmp_path / "a.csv").exists()
