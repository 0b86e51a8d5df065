"""The tables of the literature: a row is done once, and what is written of it follows from its file alone."""

import json
import math
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from bouncegrad import recipes
from bouncegrad.cli import main
from bouncegrad.inference import MODES
from bouncegrad.models.proposer import ProposerConfig
from bouncegrad.reproduce import Places, Request, reproduce, rows_of
from bouncegrad.reproduce.baselines.lstm import LSTMConfig
from bouncegrad.reproduce.curves import Between, Point, scenes_needed, times_fewer
from bouncegrad.reproduce.document import TARGETS, results_text
from bouncegrad.reproduce.functions import FUNCTIONS
from bouncegrad.reproduce.published import PREDICTION, RELATIONS
from bouncegrad.reproduce.ranking import disagreements
from bouncegrad.reproduce.readings import GIVEN, read
from bouncegrad.reproduce.result import Result, read_result, read_results, write_result
from bouncegrad.reproduce.rows import METHODS, SCALES, SYSTEMS, Method, Row, Scale, Training, curve_rows, table_row
from bouncegrad.reproduce.tables import TABLES, Line, savings_table, table
from bouncegrad.reproduce.work import do_row, scenes_of
from bouncegrad.scenes import DataError, read_scenes
from bouncegrad.simulate.dataset import SimulationRequest
from bouncegrad.simulate.dataset import simulate_folder as simulate
from bouncegrad.structures.priors import PRIORS
from bouncegrad.training import EpochReport
from pretended import NAME, pretended_device
from small import tiny

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "experiments" / "results" / "reproduce"
ROW = Row("tiny", "springs5", "small", 30)


def quick(request: SimulationRequest, out: Path) -> str:
    """Other scenes than the canonical ones, whose random numbers take seconds to be drawn."""
    said = simulate(replace(request, canonical=False), out)
    path = out / "scenes.json"
    constants = {"minimum": [-5.0, -5.0, -2.0, -2.0], "maximum": [5.0, 5.0, 2.0, 2.0]}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"normalization": constants}))
    return said


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """A work folder in which the scenes are."""
    return tmp_path_factory.mktemp("scenes")


@pytest.fixture(autouse=True)
def small_registry(monkeypatch) -> None:
    """Thirty scenes, and one method of two passes."""
    seeing = tiny(num_passes=1, proposer=ProposerConfig(sees="trajectories", hidden=8))
    monkeypatch.setitem(recipes.RECIPES, "tiny", tiny(num_passes=1))
    monkeypatch.setitem(recipes.RECIPES, "tiny-network", seeing)
    training = Training("tiny", {"springs5": 2}, 2)
    monkeypatch.setitem(SCALES, "small", Scale(30, 6, 4, (15, 30)))
    monkeypatch.setitem(METHODS, "tiny", Method({"small": training}, ("auto", "none", "truth", "full")))
    network = Training("tiny-network", {"springs5": 1}, 1)
    monkeypatch.setitem(METHODS, "network", Method({"small": network}, ("proposal", "both")))
    monkeypatch.setitem(TABLES, "table1", (Line("ours", "tiny", "none", "nri"), Line("other", "fast", "auto")))
    monkeypatch.setattr("bouncegrad.reproduce.work.simulate_folder", quick)


@pytest.fixture
def places(tmp_path, scenes) -> Places:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "scenes").symlink_to(scenes)
    return Places(tmp_path / "results", tmp_path / "work")


def result(method: str, num_scenes: int = 30, seed: int = 0, **changes) -> Result:
    """As if somebody had found it."""
    found = Result(
        row=f"springs5_{method}_{num_scenes}_seed{seed}",
        method=method,
        system="springs5",
        scale="small",
        seed=seed,
        scenes={"train": num_scenes, "valid": 6, "test": 4},
        passes=80,
        seconds=90.25,
        cpu_seconds=100.0,
        threads=2,
        hardware="an abacus, 2 cores",
        versions={"torch": "2"},
        settings={},
        figures={"none": {"relation_accuracy": 0.9, "mse": {"1": 1e-5, "10": 2e-3, "20": None}}},
    )
    return replace(found, **changes)


def done(request: Request, places: Places, watch=None) -> list[str]:
    return list(reproduce(request, places, lambda: nullcontext(watch)))


# doing rows


@pytest.mark.parametrize("method", ["tiny", "network", "lstm-single"])
def test_a_row_is_done_on_a_device(method, places, monkeypatch):
    monkeypatch.setattr("bouncegrad.reproduce.functions.LSTMConfig", partial(LSTMConfig, hidden=8))
    monkeypatch.setitem(METHODS, "lstm-single", Method(function="lstm_single", passes={"small": {"springs5": 2}}))
    row = replace(ROW, method=method)
    here = do_row(row, places)
    with pretended_device() as device:
        there = do_row(row, replace(places, device="cuda"), again=True)
    assert device.num_operations > 1000
    assert there.hardware == f"{NAME}; {here.hardware}"
    timed = [{**figures, "seconds": None} for found in (here, there) for figures in found.figures.values()]
    assert timed[: len(here.figures)] == timed[len(here.figures) :]


def test_a_row_is_done_once(places, monkeypatch):
    asked = Request("table1", systems=("springs5",), methods=("tiny",))
    first = done(asked, places)
    assert len(first) == 2
    assert "there already" not in first[0]
    [path] = (places.results / "small").iterdir()
    before = path.read_bytes()
    monkeypatch.setattr("bouncegrad.reproduce.do_row", None)  # would fail if it were called
    assert "there already" in done(asked, places)[0]
    assert path.read_bytes() == before
    found = read_result(path)
    assert found.figures.keys() == {"auto", "none", "truth", "full"}
    assert found.passes == 2
    assert found.scenes == {"train": 30, "valid": 6, "test": 4}
    assert found.seconds > 0
    assert found.cpu_seconds > 0
    for figures in found.figures.values():
        assert figures["mse"].keys() == {"1", "10", "20"}
        assert figures["mse_unit"] == "canonical training set"
    assert 0 <= found.figures["none"]["relation_accuracy"] <= 1
    assert "relation_accuracy" not in found.figures["truth"]
    document = (places.results / "table1_small.md").read_text()
    assert "| ours | " in document
    assert "| other | – | – | – | – | no result yet |" in document


def test_an_interrupted_row_goes_on(places):
    numbers = []

    def watch(report: EpochReport) -> None:
        numbers.append(report.number)
        if len(numbers) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        do_row(ROW, places, watch)
    assert not places.results.exists()
    spent = json.loads((places.run_of(ROW) / "spent.json").read_text())
    found = do_row(ROW, places, watch)
    assert numbers == [1, 2]
    assert found.seconds >= round(spent[0], 1)
    whole = do_row(ROW, replace(places, results=places.results / "again"), again=True)
    assert without_seconds(whole) == without_seconds(found)


def without_seconds(found: Result) -> dict:
    return {name: figures | {"seconds": None} for name, figures in found.figures.items()}


def test_a_proposal_network_is_read(places):
    found = do_row(Row("network", "springs5", "small", 30), places)
    assert found.figures.keys() == {"proposal", "both"}


def test_fewer_scenes_are_the_first_and_are_seen_more_often(places):
    few = Row("tiny", "springs5", "small", 15, seed=1)
    everything, first = (read_scenes(scenes_of(row, places.work), "train") for row in (ROW, few))
    assert first.states.equal(everything.states[:15])
    assert read_scenes(scenes_of(few, places.work), "valid").num_scenes == 3
    found = [row.recipe() for row in (ROW, few, Row("tiny", "springs5", "small", 3))]
    assert [recipe.training.num_passes for recipe in found if recipe] == [2, 4, 4]


def test_other_settings_are_refused_and_done_again(places, monkeypatch, capsys):
    do_row(ROW, places)
    changed = Method({"small": Training("tiny", {"springs5": 1}, 2)}, METHODS["tiny"].readings)
    monkeypatch.setitem(METHODS, "tiny", changed)
    words = ["reproduce", "table1", "--system", "springs5", "--rows", "tiny", "--quiet"]
    words += ["--out", str(places.results), "--work", str(places.work)]
    assert main(words) == 2
    expected = "other settings (recipe.training.num_passes: 2 then, 1 now): restore them, or compute it again with"
    assert expected in capsys.readouterr().err
    assert main([*words, "--again"]) == 0
    assert read_result(places.results / "small" / f"{ROW.name}.json").passes == 1


def test_settings_that_are_new_since_then_are_at_their_default(places):
    do_row(ROW, places)
    path = places.results / "small" / f"{ROW.name}.json"
    found = read_result(path)
    del found.settings["recipe"]["training"]["merge_kinds"]  # as if it had not existed
    write_result(path, found)
    assert "there already" in done(Request("table1", systems=("springs5",), methods=("tiny",)), places)[0]
    del found.settings["recipe"]["training"]["num_passes"]  # whose default is another number
    write_result(path, found)
    with pytest.raises(DataError, match=r"other settings .recipe\.training\.num_passes: 40 then, 2 now"):
        done(Request("table1", systems=("springs5",), methods=("tiny",)), places)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read .*delete it to have the row done again"),
        ("[]", "no result of a row .*a list"),
        ('{"row": "x"}', "no result of a row .*figures, hardware"),
    ],
)
def test_damaged_results(places, content, message):
    path = places.results / "small" / f"{ROW.name}.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        done(Request("table1", systems=("springs5",), methods=("tiny",)), places)
    with pytest.raises(DataError, match=message):
        read_results(places.results)


def test_what_cannot_be_done_is_refused_before_anything_is(places, monkeypatch, capsys):
    monkeypatch.setitem(METHODS, "fast", Method({"small": Training("nowhere", {"springs5": 2}, 1)}, ("none",)))
    with pytest.raises(ValueError, match="no recipe 'nowhere'"):
        done(Request("table1", systems=("springs5",)), places)
    assert not list(places.results.rglob("*.json"))
    assert main(["reproduce", "table1", "--rows", "dance"]) == 2
    assert "table1 has no rows 'dance': choose from tiny, fast" in capsys.readouterr().err
    assert main(["reproduce", "results", "--out", str(places.results)]) == 2
    assert "holds no results" in capsys.readouterr().err
    with pytest.raises(ValueError, match="no reading 'nonsense': choose one of auto, none"):
        read("nonsense", None, None, None)  # pyright: ignore[reportArgumentType]


# the registry


def test_every_line_can_be_done():
    for line in [line for lines in TABLES.values() for line in lines]:
        method = METHODS[line.method]
        assert bool(method.function) != bool(method.trainings)
        assert method.function is None or method.function in FUNCTIONS
        assert method.function or line.reading in method.readings
        assert {*method.readings} <= {"auto", *PRIORS, *MODES, *GIVEN}


def test_what_is_published_stands_somewhere(monkeypatch):
    monkeypatch.undo()
    stands = {name: {line.published for line in lines} - {None} for name, lines in TABLES.items()}
    assert stands == {"table1": set(PREDICTION), "table2": set(RELATIONS)}
    assert all(known.keys() == set(SYSTEMS) for known in [*PREDICTION.values(), *RELATIONS.values()])


def test_rows_of_the_tables_are_points_of_the_figure(monkeypatch):
    monkeypatch.undo()
    for scale in ("small", "full"):
        for method in ("nri", "alet2019", "fast"):
            assert table_row(method, "springs5", scale) in curve_rows(method, "springs5", scale)
    rows = rows_of(Request("figure3", systems=("springs5",), methods=("fast",)))
    assert [(row.num_scenes, row.seed) for row in rows] == [
        *((number, seed) for number in (10, 20, 30, 50, 100, 200) for seed in range(3)),
        *((500, 0), (1000, 0)),
    ]
    assert table_row("static", "charged5", "small") == table_row("static", "charged5", "full")
    assert SCALES["small"].counts(1000) == {"train": 1000, "valid": 200, "test": 300}
    assert SCALES["full"].counts(50_000) == {"train": 50_000, "valid": 10_000, "test": 10_000}


@pytest.mark.parametrize(
    ("system", "errors", "tolerance"),
    [("springs5", (7.83e-5, 7.595e-3, 2.828e-2), 0.005), ("charged5", (4.67e-3, 2.178e-2, 5.291e-2), 0.01)],
)
def test_the_protocol(system, errors, tolerance):
    """Repeating the last state of all canonical test scenes, in the canonical unit.

    Charged scenes are chaotic, so rounding alone moves their error: here 0.9 % at step 1, where the standard error over
    the 10,000 scenes is 2.3 %; the springs are held to half a percent.
    """
    found = read_result(COMMITTED / "canonical" / f"{table_row('static', system, 'small').name}.json")
    assert found.scenes["test"] == 10_000
    assert list(found.figures["prediction"]["mse"].values()) == pytest.approx(errors, rel=tolerance)


# what is written


def test_a_table_as_markdown():
    found = [result("tiny"), result("tiny", seed=1, seconds=120.0, figures={"none": {"mse": {"1": 3e-5}}})]
    text = """
| method | step 1 | step 10 | step 20 | published | COST |
|---|---|---|---|---|---|---|---|---|---|---|---|
| ours | 2.00e-5 (1.00e-5 to 3.00e-5) | 2.00e-3 | – | 3.12e-8 / 3.29e-6 / – | 30 | 4 | 80 | 0, 1 | SPENT |
| other | – | – | – | – | no result yet | – | – | – | – | – | – |
"""
    cost = "training scenes | test scenes | epochs | seeds | seconds | CPU seconds | hardware"
    text = text.replace("COST", cost).replace("SPENT", "105 (90 to 120) | 100 | an abacus, 2 cores; 2 threads")
    assert table("table1", found, "springs5", "small") == text.strip()


def test_what_is_ordered_otherwise_is_said(monkeypatch):
    lines = (Line("NRI", "nri", "none", "nri"), Line("correlation", "tiny", "none", "correlation"))
    monkeypatch.setitem(TABLES, "table2", lines)
    assert disagreements("table2", [result("nri")], "springs5", "small") == []
    worse = result("nri", figures={"none": {"relation_accuracy": 0.8}})
    assert disagreements("table2", [worse, result("tiny")], "springs5", "small") == [
        "NRI and correlation: 80.00 and 90.00 here, 99.90 and 52.40 published"
    ]


def test_results_are_what_the_files_say(monkeypatch):
    """If this fails: bouncegrad reproduce results."""
    monkeypatch.undo()
    written = (ROOT / "RESULTS.md").read_text()
    assert written == results_text(read_results(COMMITTED), COMMITTED.relative_to(ROOT))


def test_results_are_written_again_with_their_pictures(tmp_path):
    folder = tmp_path / "results"
    right = {"nri": "proposal", "fast": "auto"}
    for number, (method, reading) in enumerate(right.items()):
        for num_scenes in (100, 400):
            figures = {reading: {"relation_accuracy": 0.5 + num_scenes / 2000 + number / 10}}
            found = result(method, num_scenes, figures=figures)
            write_result(folder / "small" / f"{found.row}.json", found)
    document = tmp_path / "RESULTS.md"
    assert main(["reproduce", "results", "--out", str(folder), "--document", str(document)]) == 0
    text = document.read_text()
    assert text == results_text(read_results(folder), Path("results"))
    assert "![springs5](results/figure3_springs5_small.png)" in text
    assert (folder / "figure3_springs5_small.png").read_bytes().startswith(b"\x89PNG")
    assert not (folder / "figure3_charged5_small.png").exists()
    assert {path.name for path in folder.glob("*.md")} == {f"{target}_small.md" for target in TARGETS}
    assert "![springs5](figure3_springs5_small.png)" in (folder / "figure3_small.md").read_text()


# how many times fewer scenes


def curve(**points: float) -> list[Point]:
    """num_scenes -> accuracy, as ``n100=0.6``."""
    return [Point(int(name[1:]), (accuracy,)) for name, accuracy in points.items()]


def test_scenes_are_interpolated_in_their_logarithm():
    found = curve(n100=0.6, n1000=0.8, n10000=0.7)
    assert scenes_needed(found, 0.7).low == pytest.approx(100 * math.sqrt(10))
    assert scenes_needed(found, 0.7).high == scenes_needed(found, 0.7).low
    assert scenes_needed(found, 0.8) == Between(1000, 1000)
    assert scenes_needed(found, 0.6) == Between(0, 100)
    assert scenes_needed(found, 0.81) == Between(10000, math.inf)
    several = [Point(100, (0.1, 0.5, 0.6)), Point(1000, (0.7,))]
    assert scenes_needed(several, 0.6).low == pytest.approx(100 * math.sqrt(10))
    with pytest.raises(ValueError, match="at least one point"):
        scenes_needed([], 0.5)


@pytest.mark.parametrize(
    ("few", "many", "words"),
    [
        (Between(50, 50), Between(1000, 1000), "20"),
        (Between(0, 50), Between(1000, 1000), "more than 20"),
        (Between(50, 50), Between(1000, math.inf), "more than 20"),
        (Between(0, 50), Between(1000, math.inf), "more than 20"),
        (Between(50, 50), Between(0, 100), "2 or less"),
        (Between(0, 50), Between(0, 50), "unknown"),
        (Between(1000, math.inf), Between(1000, math.inf), "unknown"),
        (Between(1000, math.inf), Between(500, 500), "0.5 or less"),
    ],
)
def test_times_fewer(few, many, words):
    assert str(times_fewer(few, many)) == words


def test_savings():
    slow = {100: 0.55, 1000: 0.85}
    quick = {50: 0.85, 500: 0.99}
    found = [result("nri", n, figures={"proposal": {"relation_accuracy": share}}) for n, share in slow.items()]
    assert savings_table(found, "springs5", "small") is None
    found += [result("fast", n, figures={"auto": {"relation_accuracy": share}}) for n, share in quick.items()]
    lines = str(savings_table(found, "springs5", "small")).splitlines()
    assert lines[0].endswith("| scenes for `fast` | `fast` needs fewer than `nri`, times |")
    assert lines[3] == "| 70 | 316 | 50 or less | more than 6.32 |"
    assert lines[5] == "| 90 | more than 1,000 | 114 | more than 8.79 |"
    assert lines[-1] == "| 99 | more than 1,000 | 500 | more than 2 |"
