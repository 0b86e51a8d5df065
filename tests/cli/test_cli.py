"""The command: what it promises, and one clear line wherever the input cannot be used."""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch

from bouncegrad.cli import VERBS, main
from bouncegrad.models.checkpoint import load_model
from bouncegrad.scenes import read_scenes, write_npz

TINY = ["--quiet", "--settings.training.num_passes", "2", "--settings.model.network.hidden", "8"]
FIGURES = {"relation_accuracy", "mse", "num_scenes", "seconds"}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "data"
    words = ["--entities", "3", "--train", "12", "--valid", "4", "--test", "5", "--out", str(folder)]
    assert main(["simulate", "springs", *words]) == 0
    return folder


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    folder = data.parent / "run"
    assert main(["fit", "--data", str(data), "--out", str(folder), *TINY]) == 0
    return folder


@pytest.fixture(scope="module")
def run_with_network(data: Path) -> Path:
    """A run that trains a proposal network beside the modules."""
    folder = data.parent / "run-with-network"
    network = ["--settings.training.proposer.sees", "trajectories", "--settings.training.proposer.hidden", "8"]
    assert main(["fit", "--data", str(data), "--out", str(folder), *TINY, *network]) == 0
    return folder


@pytest.fixture
def one_file(data: Path, tmp_path: Path) -> Path:
    write_npz(tmp_path / "scenes.npz", read_scenes(data, "test"))
    return tmp_path / "scenes.npz"


@pytest.fixture
def refuses(capsys) -> Callable[..., None]:
    """Check that a call is refused with one line on stderr that matches, and nothing is left behind."""

    def check(words: list[object], message: str, out: Path | None = None) -> None:
        capsys.readouterr()
        there = out is not None and out.exists()
        assert main([str(word) for word in words]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert re.fullmatch(rf"bouncegrad( \w+)?: error: .*{message}.*\n", said.err), said.err
        if out is not None:
            assert out.exists() == there, "something was written"

    return check


def printed(capsys, *words: object) -> dict:
    """The one JSON object that a command prints."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 1
    assert said.err == ""
    return json.loads(said.out)


def broken(data: Path, tmp_path: Path, name: str, change: Callable[[numpy.ndarray], numpy.ndarray]) -> Path:
    """A copy of the data in which one file of each split is changed."""
    copy = tmp_path / "broken"
    copy.mkdir()
    for path in data.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
        if path.name.startswith(f"{name}_"):
            numpy.save(copy / path.name, change(numpy.load(path)))
    return copy


# what is promised


@pytest.mark.parametrize("system", ["springs", "charged"])
@pytest.mark.parametrize("words", [[], ["--canonical"]])
def test_simulate(tmp_path, system, words):
    numbers = ["--entities", "5", "--train", "3", "--valid", "0", "--test", "0"]
    assert main(["simulate", system, *numbers, "--out", str(tmp_path / "data"), *words]) == 0
    scenes = read_scenes(tmp_path / "data", "train")
    assert scenes.states.shape == (3, 49, 5, 4)
    assert scenes.relations is not None


def test_simulate_is_repeatable(data, tmp_path):
    words = ["--entities", "3", "--train", "12", "--valid", "4", "--test", "5", "--out", str(tmp_path / "again")]
    assert main(["simulate", "springs", *words]) == 0
    assert main(["simulate", "springs", *words[:-1], str(tmp_path / "other"), "--seed", "1"]) == 0
    for split in ("train", "valid", "test"):
        states = read_scenes(data, split).states
        assert torch.equal(read_scenes(tmp_path / "again", split).states, states)
        assert not torch.equal(read_scenes(tmp_path / "other", split).states, states)
    assert read_scenes(data, "train").num_times == 49
    assert read_scenes(data, "test").num_times == 99


def test_directed_springs_are_directed(tmp_path):
    words = ["--train", "20", "--valid", "0", "--test", "0", "--directed", "--strengths", "0", "1", "2"]
    assert main(["simulate", "springs", *words, "--out", str(tmp_path)]) == 0
    relations = read_scenes(tmp_path, "train").relations
    assert relations is not None
    assert not torch.equal(relations, relations.mT)
    assert relations.unique().tolist() == [0, 1, 2]


def test_sparse_springs_are_sparse(tmp_path):
    words = ["--train", "20", "--valid", "0", "--test", "0", "--density", "0.1", "--entities", "8"]
    assert main(["simulate", "springs", *words, "--out", str(tmp_path)]) == 0
    relations = read_scenes(tmp_path, "train").relations
    assert relations is not None
    assert 0.05 < relations.sum() / (20 * 56) < 0.15


def test_evaluate_prints_one_object(data, run, capsys):
    figures = printed(capsys, "evaluate", "--model", run, "--data", data, "--json")
    assert figures.keys() >= FIGURES
    assert figures["mse"].keys() == {"1", "10", "20"}
    assert figures["num_scenes"] == 5
    assert 0 <= figures["relation_accuracy"] <= 1
    assert figures["seconds"] >= 0


def test_evaluate_takes_one_file(data, run, one_file, capsys):
    figures = printed(capsys, "evaluate", "--model", run / "model", "--data", one_file, "--json")
    folder = printed(capsys, "evaluate", "--model", run, "--data", data, "--split", "test", "--json")
    assert {**figures, "seconds": 0} == {**folder, "seconds": 0}


def test_evaluate_without_labels(run, one_file, capsys):
    arrays = dict(numpy.load(one_file))
    arrays.pop("edges")
    numpy.savez(one_file, **arrays)
    figures = printed(capsys, "evaluate", "--model", run, "--data", one_file, "--json")
    assert figures["relation_accuracy"] is None
    words = ["evaluate", "--model", str(run), "--data", str(one_file), "--reliability", "reliability.png"]
    assert main(words) == 2
    assert "bring scenes with relations" in capsys.readouterr().err
    assert figures["mse"]["1"] > 0


def test_evaluate_for_people(data, run, capsys, tmp_path):
    picture, curve = tmp_path / "scenes.png", tmp_path / "reliability.png"
    words = ["--picture", str(picture), "--reliability", str(curve)]
    assert main(["evaluate", "--model", str(run), "--data", str(data), *words]) == 0
    assert re.search(r"^\d+ of 30 relations right$", capsys.readouterr().out, re.MULTILINE)
    assert picture.stat().st_size > 1000
    assert curve.stat().st_size > 1000


def test_fit_takes_one_file(one_file, tmp_path):
    assert main(["fit", "--data", str(one_file), "--out", str(tmp_path / "run"), *TINY]) == 0
    assert load_model(tmp_path / "run").feature_names == ("x", "y", "vx", "vy")


def test_a_runs_configuration_can_be_given_back(run, tmp_path):
    config = run / "config.yaml"
    assert main(["fit", "--config", str(config), "--out", str(tmp_path / "again"), "--quiet"]) == 0
    assert (tmp_path / "again" / "config.yaml").read_bytes() == config.read_bytes()
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "again" / "model" / name).read_bytes() == (run / "model" / name).read_bytes()
    assert main(["fit", "--config", str(config), "--seed", "1", "--out", str(tmp_path / "other"), "--quiet"]) == 0
    assert "seed: 1" in (tmp_path / "other" / "config.yaml").read_text()


def test_the_same_call_resumes(data, run, capsys):
    before = (run / "model" / "model.safetensors").read_bytes()
    assert main(["fit", "--data", str(data), "--out", str(run), *TINY]) == 0
    assert (run / "model" / "model.safetensors").read_bytes() == before


def test_a_recipe_brings_its_settings(data, tmp_path):
    words = ["--settings.training.num_passes", "1", "--minutes", "0.01", "--seed", "2", "--quiet"]
    assert main(["fit", "--data", str(data), "--recipe", "alet2019-small", "--out", str(tmp_path / "run"), *words]) == 0
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert "recipe: alet2019-small" in config
    assert "search: metropolis" in config
    assert "minutes: 0.01" in config


def test_infer_writes_a_row_for_each_pair(data, run, tmp_path, capsys):
    assert main(["infer", "--model", str(run), "--data", str(data), "--out", str(tmp_path / "found.csv")]) == 0
    assert "relations of 5 scenes, under the prior " in capsys.readouterr().out
    with (tmp_path / "found.csv").open() as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert reader.fieldnames == ["scene", "receiver", "sender", "kind", "probability_0", "probability_1"]
    pairs = [(scene, i, j) for scene in "01234" for i in "012" for j in "012" if i != j]
    assert [(row["scene"], row["receiver"], row["sender"]) for row in rows] == pairs
    assert all(float(row["probability_0"]) + float(row["probability_1"]) == pytest.approx(1, abs=1e-5) for row in rows)
    assert main(["infer", "--model", str(run), "--data", str(data), "--out", str(tmp_path / "found.npz")]) == 0
    relations = numpy.load(tmp_path / "found.npz")["relations"]
    first = {(row["receiver"], row["sender"]): int(row["kind"]) for row in rows if row["scene"] == "0"}
    assert all(relations[0, int(i), int(j)] == kind for (i, j), kind in first.items())


@pytest.mark.parametrize("mode", ["search", "proposal", "both"])
def test_modes(data, tmp_path, capsys, run_with_network, mode):
    given = ["--model", run_with_network, "--data", data, "--mode", mode]
    figures = printed(capsys, "evaluate", *given, "--json")
    assert figures["mode"] == mode
    assert figures.keys() >= FIGURES
    assert main([str(word) for word in ["infer", *given, "--out", tmp_path / "found.npz"]]) == 0
    found = numpy.load(tmp_path / "found.npz")
    assert found["relations"].shape == (5, 3, 3)
    assert numpy.isnan(found["losses"]).all() == (mode == "proposal")


def test_absent_entities_have_no_rows(data, run, tmp_path):
    scenes = read_scenes(data, "test")
    mask = scenes.mask.numpy().copy()
    mask[0, :, 2] = False
    loc, vel = scenes.states.swapaxes(2, 3).numpy()[:, :, :2], scenes.states.swapaxes(2, 3).numpy()[:, :, 2:]
    numpy.savez(tmp_path / "gaps.npz", loc=loc, vel=vel, mask=mask)
    given = ["--model", str(run), "--data", str(tmp_path / "gaps.npz"), "--out"]
    assert main(["infer", *given, str(tmp_path / "found.csv")]) == 0
    assert len((tmp_path / "found.csv").read_text().splitlines()) == 1 + 4 * 6 + 2
    assert main(["infer", *given, str(tmp_path / "found.npz")]) == 0
    assert (numpy.load(tmp_path / "found.npz")["relations"][0, 2] == -1).all()
    assert main(["predict", *given, str(tmp_path / "future.npz"), "--steps", "3"]) == 0
    future = read_scenes(tmp_path / "future.npz")
    assert future.present.tolist() == [[True, True, False], *[[True] * 3] * 4]


@pytest.mark.parametrize("verb", ["infer", "predict"])
def test_a_prior_by_name(data, run, tmp_path, verb, capsys):
    """What one pair does to the other hangs on what is believed of both."""
    answers = []
    for prior in ("none", "symmetric"):
        words = ["--model", str(run), "--data", str(data), "--out", str(tmp_path / "out.npz"), "--prior", prior]
        assert main([verb, *words]) == 0
        answers.append(numpy.load(tmp_path / "out.npz"))
    name = "relations" if verb == "infer" else "edges"
    matrix = answers[1][name]
    assert (numpy.nan_to_num(matrix) == numpy.nan_to_num(matrix).swapaxes(1, 2)).all()
    capsys.readouterr()


@pytest.mark.parametrize(("start", "steps"), [("-1", 1), ("-1", 20), ("48", 3)])
def test_predict(data, run, tmp_path, start, steps):
    words = ["--model", str(run), "--data", str(data), "--out", str(tmp_path / "future.npz")]
    assert main(["predict", *words, "--start", start, "--steps", str(steps)]) == 0
    arrays = numpy.load(tmp_path / "future.npz")
    num_times = max(2, steps)
    assert arrays["loc"].shape == arrays["vel"].shape == (5, num_times, 2, 3)
    assert arrays["edges"].shape == (5, 3, 3)
    assert numpy.isfinite(arrays["loc"]).all()
    future = read_scenes(tmp_path / "future.npz")
    assert future.num_times == num_times
    assert future.mask[:, :steps].all()
    assert not future.mask[:, steps:].any()


def test_a_picture_of_the_first_scenes_says_so(data, run, tmp_path, capsys):
    picture = tmp_path / "who.png"
    words = ["infer", "--model", str(run), "--data", str(data), "--out", str(tmp_path / "who.csv")]
    assert main([*words, "--picture", str(picture)]) == 0
    assert f"; {picture} shows the first 3 of them" in capsys.readouterr().out
    assert picture.stat().st_size > 1000
    assert main([*words, "--split", "valid"]) == 0
    assert "shows" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["infer", "--help"])
    assert "graphs of the first 3 scenes" in " ".join(capsys.readouterr().out.split())


def test_one_step_is_the_first_of_many(data, run, tmp_path, capsys):
    words = ["predict", "--model", str(run), "--data", str(data)]
    for steps in ("1", "5"):
        assert main([*words, "--steps", steps, "--out", str(tmp_path / f"{steps}.npz")]) == 0
    assert "1 sample (and an empty one: mask) after sample 98" in capsys.readouterr().out
    one, five = (read_scenes(tmp_path / f"{steps}.npz") for steps in ("1", "5"))
    assert torch.equal(one.states[:, 0], five.states[:, 0])


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_worth_reading(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert f"  bouncegrad {verb} " in said, "no example"
    options = re.findall(r"^  (--(?!settings|help|print_config)\w+)(.*(?:\n {10,}.*)*)", said, re.MULTILINE)
    assert options
    for option, text in options:
        assert len(text.split()) > 3, f"{option} is not explained"


def test_the_whole_has_help(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    for verb in ("simulate", "fit", "infer", "predict", "evaluate", "reproduce"):
        assert f"bouncegrad {verb} " in said
    for verb in VERBS.values():
        assert f"{verb.name} {verb.summary}" in " ".join(said.split())


# what is refused: words


BAD_WORDS = [
    ([], "one of .*simulate.*--help"),
    (["dance"], "invalid choice: 'dance'.*simulate.*--help"),
    (["simulate"], "--help"),
    (["simulate", "orbits", "--out", "OUT"], "invalid choice: 'orbits'.*springs.*charged"),
    (["simulate", "springs"], "required: --out"),
    (["simulate", "springs", "--entities", "1", "--out", "OUT"], "2 or more.*got 1"),
    (["simulate", "springs", "--entities", "2.5", "--out", "OUT"], "--entities: Expected a int.*2.5"),
    (["simulate", "springs", "--train", "-1", "--out", "OUT"], "0 or more train scenes, got -1"),
    (["simulate", "springs", "--test", "-5", "--out", "OUT"], "0 or more test scenes, got -5"),
    (["simulate", "springs", "--train", "0", "--valid", "0", "--test", "0", "--out", "OUT"], "at least one scene"),
    (["simulate", "springs", "--canonical", "--strengths", "0", "2", "--out", "OUT"], "leave .*--strengths"),
    (["simulate", "springs", "--canonical", "--seed", "3", "--out", "OUT"], "leave .*--seed"),
    (["simulate", "springs", "--canonical", "--train", "50001", "--out", "OUT"], "50000 scenes.*50001"),
    (["simulate", "charged", "--strengths", "0", "2", "--out", "OUT"], "only springs can have --strengths"),
    (["simulate", "charged", "--directed", "--out", "OUT"], "only springs can have --directed"),
    (["simulate", "springs", "--strengths", "0", ".nan", "--out", "OUT"], "finite strengths.*nan"),
    (["simulate", "charged", "--density", "0.2", "--out", "OUT"], "only springs can have --density"),
    (["simulate", "springs", "--density", "1.2", "--out", "OUT"], "density from 0 to 1.*1.2"),
    (["simulate", "springs", "--density", "0.2", "--strengths", "1", "--out", "OUT"], "two --strengths or more"),
    (["simulate", "springs", "--noise", "-1", "--out", "OUT"], "finite noise, 0 or more.*-1"),
    (["simulate", "springs", "--noise", ".inf", "--out", "OUT"], "finite noise, 0 or more.*inf"),
    (["simulate", "springs", "--seed", "-1", "--out", "OUT"], "seed of 0 or more, got -1"),
    (["simulate", "springs", "--train", "100000000000", "--out", "OUT"], "not enough memory"),
    (["fit", "--out", "OUT"], "required: --data"),
    (["fit", "--data", "DATA"], "required: --out"),
    (["fit", "--data", "DATA", "--out", "OUT", "--recip", "fast"], "unrecognized arguments: --recip"),
    (
        ["fit", "--data", "DATA", "--out", "OUT", "--recipe", "slow"],
        "no recipe 'slow': choose one of alet2019, alet2019-small, fast",
    ),
    (["fit", "--data", "DATA", "--out", "OUT", "--minutes", "0"], "positive, finite number of minutes, got 0"),
    (["fit", "--data", "DATA", "--out", "OUT", "--minutes", "-3"], "positive, finite number of minutes, got -3"),
    (["fit", "--data", "DATA", "--out", "OUT", "--minutes", "nan"], "--minutes: Expected a float.*nan"),
    (["fit", "--data", "DATA", "--out", "OUT", "--minutes", ".nan"], "positive, finite number of minutes, got nan"),
    (["fit", "--data", "DATA", "--out", "OUT", "--minutes", ".inf"], "positive, finite number of minutes, got inf"),
    (["fit", "--data", "DATA", "--out", "OUT", "--seed", "-1"], "seed from 0"),
    (["fit", "--data", "DATA", "--out", "OUT", "--seed", "1" + "0" * 30], "seed from 0"),
    (["fit", "--data", "DATA", "--out", "OUT", "--config", "nowhere.yaml"], "--config.*not exist.*nowhere.yaml"),
    (["fit", "--data", "DATA", "--out", "OUT", "--settings", "nowhere.yaml"], "--settings.*nowhere.yaml"),
    (["infer", "--model", "RUN", "--data", "DATA", "--out", "OUT/a.txt"], ".csv, .parquet or .npz, got 'a.txt'"),
    (
        ["infer", "--model", "RUN", "--data", "DATA", "--out", "OUT/a.csv", "--mode", "both"],
        "no proposal network: fit with .*proposer.sees",
    ),
    (["evaluate", "--model", "RUN", "--data", "DATA", "--mode", "quick"], "--mode.*quick.*search"),
    (["predict", "--model", "RUN", "--data", "DATA", "--out", "OUT/a.csv"], "as .npz, got 'a.csv'"),
    (["predict", "--model", "RUN", "--data", "DATA", "--out", "OUT/a.npz", "--steps", "0"], "at least one step"),
    (["predict", "--model", "RUN", "--data", "DATA", "--out", "OUT/a.npz", "--start", "99"], "start from 1 to 98"),
    (
        ["predict", "--model", "RUN", "--data", "DATA", "--out", "OUT/a.npz", "--start", "-100"],
        "start from 1 to 98",
    ),
    (["evaluate", "--model", "RUN"], "required: --data"),
    (["evaluate", "--model", "RUN", "--data", "nowhere"], "nowhere does not exist: expected a folder"),
    (
        ["evaluate", "--model", "RUN", "--data", "DATA", "--split", "dev"],
        "no split 'dev': .*'test', 'train', 'valid'",
    ),
    (["evaluate", "--model", "DATA", "--data", "DATA"], "holds no model.*bouncegrad fit"),
    (["evaluate", "--model", "nowhere", "--data", "DATA", "--json"], "nowhere holds no model"),
    (["evaluate", "--model", "RUN", "--data", "DATA/loc_test_springs3.npy"], "neither a folder .* nor a .npz file"),
]


@pytest.mark.parametrize(
    ("words", "message"), BAD_WORDS, ids=lambda part: " ".join(part)[-60:] if isinstance(part, list) else ""
)
def test_words_that_cannot_be(data, run, tmp_path, refuses, words, message):
    places = {"DATA": str(data), "RUN": str(run), "OUT": str(tmp_path / "out")}
    refuses([re.sub("DATA|RUN|OUT", lambda found: places[found[0]], word) for word in words], message, tmp_path / "out")


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("training.bounce.search", "nonsense", "Expected one of .*'exact', 'metropolis'.*nonsense"),
        ("training.batch_size", "0", "batch_size must be a whole number, 1 or more; got 0"),
        ("training.num_passes", "0", "num_passes must be a whole number, 1 or more; got 0"),
        ("training.num_passes", "2.5", "Expected a int.*2.5"),
        ("training.horizon", "-1", "horizon must be a whole number, 1 or more; got -1"),
        ("training.learning_rate", ".nan", "learning_rate must be a finite number above 0; got nan"),
        ("model.network.hidden", "0", "hidden must be a whole number, 1 or more; got 0"),
        ("model.network.hidden", "1000000000", "not enough memory"),
        ("model.network.num_edge_kinds", "0", "num_edge_kinds must be a whole number, 1 or more; got 0"),
        ("model.network.message_steps", "2", "one round of messages"),
        ("model.noise.scale", "nonsense", "Expected one of .*'none', 'shared', 'learned'.*nonsense"),
        ("model.noise.degrees_of_freedom", "0", "degrees_of_freedom must be a finite number above 0; got 0"),
        ("training.nonsense", "1", "unrecognized arguments: --settings.training.nonsense"),
    ],
)
def test_settings_that_cannot_be(data, tmp_path, refuses, setting, value, message):
    out = tmp_path / "out"
    refuses(["fit", "--data", data, "--out", out, f"--settings.{setting}", value], message, out)


def test_kinds_are_not_merged_where_one_is_silent(data, tmp_path, refuses):
    out = tmp_path / "out"
    words = ["fit", "--data", data, "--out", out, "--recipe", "leader", "--kinds", "auto"]
    refuses(
        words, "leave --kinds out, and set the number of edge types with --settings.model.network.num_edge_kinds", out
    )


def test_a_configuration_file_that_is_none(data, run, tmp_path, refuses):
    out = tmp_path / "out"
    refuses(["fit", "--config", data / "loc_train_springs3.npy", "--out", out], "is no text: give a YAML file", out)
    (tmp_path / "config.yaml").write_text("data: [unfinished")
    refuses(["fit", "--config", tmp_path / "config.yaml", "--out", out], "--help", out)
    (tmp_path / "config.yaml").write_text("nonsense: 3\n")
    refuses(["fit", "--config", tmp_path / "config.yaml", "--data", data, "--out", out], "nonsense", out)
    message = "--recipe alet2019-small but the --config file has recipe fast: leave one of them out"
    refuses(["fit", "--config", run / "config.yaml", "--recipe", "alet2019-small", "--out", out], message, out)


# what is refused: files


def with_value(value: float) -> Callable[[numpy.ndarray], numpy.ndarray]:
    def change(array: numpy.ndarray) -> numpy.ndarray:
        array[2, 3, 1, 0] = value
        return array

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("loc", with_value(numpy.nan), "the state is nan at scene 2, time 3, entity 0 .*set mask to False"),
        ("vel", with_value(numpy.inf), "the state is inf at scene 2, time 3, entity 0"),
        ("loc", lambda array: array[0], "expected loc of shape .scene, time, dimension, entity., got 3 axes"),
        ("vel", lambda array: array[:, 1:], "loc and vel must have the same shape"),
        ("edges", lambda array: array[:, :2, :2], r"edges must fit loc, .* = \(\d+, 3, 3\), got \(\d+, 2, 2\)"),
        ("edges", lambda array: array[1:], "edges must fit loc"),
        ("loc", lambda array: array.astype(str), "real numbers, got dtype"),
    ],
)
def test_scenes_that_cannot_be(data, run, tmp_path, refuses, name, change, message):
    place, out = broken(data, tmp_path, name, change), tmp_path / "out"
    refuses(["fit", "--data", place, "--out", out, *TINY], message, out)
    refuses(["evaluate", "--model", run, "--data", place, "--json"], message)
    refuses(["infer", "--model", run, "--data", place, "--out", out / "found.csv"], message, out)
    refuses(["predict", "--model", run, "--data", place, "--out", out / "future.npz"], message, out)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 30, 2, 1), "at least 2 entities, got 1"),
        ((0, 30, 2, 3), "no scenes: expected at least one"),
        ((4, 1, 2, 3), "at least 2 times"),
        ((4, 30, 0, 3), "at least one feature"),
    ],
)
def test_arrays_that_are_too_small(run, tmp_path, refuses, shape, message):
    path, out = tmp_path / "small.npz", tmp_path / "out"
    numpy.savez(path, loc=numpy.zeros(shape), vel=numpy.zeros(shape))
    refuses(["fit", "--data", path, "--out", out, *TINY], message, out)
    refuses(["evaluate", "--model", run, "--data", path, "--json"], message)


def random_file(path: Path, *shape: int) -> Path:
    generator = numpy.random.default_rng(0)
    numpy.savez(path, loc=generator.normal(size=shape), vel=generator.normal(size=shape))
    return path


def test_trajectories_that_are_too_short(run, tmp_path, refuses):
    path, out = random_file(tmp_path / "short.npz", 12, 10, 2, 3), tmp_path / "out"
    message = "a rollout of 10 steps needs scenes of at least 11 samples, these have 10.*lower the horizon to 9"
    refuses(["fit", "--data", path, "--recipe", "alet2019-small", "--out", out], message, out)
    refuses(["evaluate", "--model", run, "--data", path, "--json"], "at least 23 samples.*got 10: bring longer scenes")


def test_a_model_of_other_features(run, tmp_path, refuses):
    path, out = random_file(tmp_path / "space.npz", 6, 40, 3, 3), tmp_path / "out"
    message = "trained on the features x, y, vx, vy, but the scenes have x, y, z, vx, vy, vz"
    refuses(["evaluate", "--model", run, "--data", path, "--json"], message)
    refuses(["infer", "--model", run, "--data", path, "--out", out / "found.csv"], message, out)
    refuses(["predict", "--model", run, "--data", path, "--out", out / "future.npz"], message, out)


def test_splits_of_different_features(data, tmp_path, refuses):
    place = broken(data, tmp_path, "none", lambda array: array)
    (place / "scenes.json").unlink()
    (place / "edges_test_springs3.npy").unlink()
    for name in ("loc", "vel"):
        numpy.save(place / f"{name}_test_springs3.npy", numpy.ones((2, 60, 3, 3)))
    refuses(["fit", "--data", place, "--out", tmp_path / "out", *TINY], "features x, y, vx, vy, but", tmp_path / "out")


@pytest.mark.parametrize("name", ["table.xls", "notes.txt", "loc_train.npy"])
def test_other_files_as_data(run, tmp_path, refuses, name):
    (tmp_path / name).write_text("1,2,3\n")
    out = tmp_path / "out"
    refuses(["fit", "--data", tmp_path / name, "--out", out], "neither a folder of .npy files nor a .npz file", out)
    refuses(["evaluate", "--model", run, "--data", tmp_path / name], "neither a folder of .npy files nor a .npz file")


def test_an_empty_folder_as_data(tmp_path, refuses):
    (tmp_path / "empty").mkdir()
    refuses(["fit", "--data", tmp_path / "empty", "--out", tmp_path / "out"], "holds no scenes", tmp_path / "out")


def test_a_damaged_model(data, run, tmp_path, refuses):
    copy = tmp_path / "model"
    copy.mkdir()
    for path in (run / "model").iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "model.safetensors").write_bytes((run / "model" / "model.safetensors").read_bytes()[:-4])
    refuses(["evaluate", "--model", copy, "--data", data], "checksums differ.*restore both files or fit again")


# what is refused: places


def test_places_that_cannot_be_written(data, run, tmp_path, refuses):
    file = tmp_path / "file"
    file.write_text("theirs")
    for place in (file, file / "below", file / "far" / "below"):
        refuses(["simulate", "springs", "--train", "2", "--out", place], "is a file; choose a folder")
        refuses(["fit", "--data", data, "--out", place, *TINY], "is a file; choose a folder")
        refuses(["infer", "--model", run, "--data", data, "--out", place / "a.csv"], "is a file; choose a folder")
        refuses(["predict", "--model", run, "--data", data, "--out", place / "a.npz"], "is a file; choose a folder")
    assert file.read_text() == "theirs"


def test_a_folder_with_another_run(data, run, refuses):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    words = ["fit", "--data", data, "--out", run, *TINY, "--seed", "5"]
    refuses(words, "another configuration .*'seed: 0' where 'seed: 5'.*choose another --out")
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_folder_with_another_data_set(data, tmp_path, refuses):
    before = sorted(path.name for path in data.iterdir())
    words = ["simulate", "charged", "--train", "2", "--valid", "0", "--test", "0", "--out", data]
    refuses(words, "already holds the data set 'springs3': write 'charged5' to a folder of its own")
    assert before == sorted(path.name for path in data.iterdir())


def test_an_interrupted_simulation_leaves_no_file(tmp_path, monkeypatch, capsys):
    whole, written = numpy.save, []

    def save(path: Path, array: numpy.ndarray, **options) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path)
        whole(path, array, **options)

    monkeypatch.setattr(numpy, "save", save)
    words = ["--train", "2", "--valid", "2", "--test", "0", "--out", str(tmp_path / "data")]
    assert main(["simulate", "springs", *words]) == 130
    assert capsys.readouterr().err == "bouncegrad simulate: stopped; what was finished is kept\n"
    assert not list((tmp_path / "data").iterdir())


def test_a_full_disk(data, tmp_path, monkeypatch, refuses):
    def full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    refuses(["fit", "--data", data, "--out", tmp_path / "run", *TINY], "No space left on device.*has room")
    assert not list((tmp_path / "run").glob("*.safetensors"))


def test_mistakes_of_ours_are_not_hidden(data, run, monkeypatch):
    def mistaken(*_: object, **__: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr("bouncegrad.cli.evaluate.read_part", mistaken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        main(["evaluate", "--model", str(run), "--data", str(data)])


# as a process


def test_exit_codes(data, run, tmp_path):
    start = [sys.executable, "-c", "import sys; from bouncegrad.cli import main; sys.exit(main())"]
    good = [*start, "evaluate", "--model", str(run), "--data", str(data), "--json"]
    done = subprocess.run(good, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout).keys() >= FIGURES
    bad = [*start, "fit", "--data", str(data), "--out", str(tmp_path / "out"), "--settings.training.batch_size", "0"]
    done = subprocess.run(bad, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "bouncegrad fit: error: batch_size must be a whole number, 1 or more; got 0\n"
    assert not (tmp_path / "out").exists()
