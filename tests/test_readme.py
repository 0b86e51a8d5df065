"""The README and docs/using.md do what they say, at a smaller size; what documents name is there."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import polars
import pytest

from bouncegrad.cli import main
from bouncegrad.recipes import LEADER, RECIPES
from bouncegrad.scenes import Scenes, write_npz
from small import platoons, springs

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
USING = (ROOT / "docs" / "using.md").read_text()
DOCUMENTS = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
LONGEST, LONGEST_README = 30, 150
"""Lines in which a whole run fits, and that somebody reads to the end."""

SMALL_COUNTS = {"--train": "20", "--valid": "3", "--test": "3", "--shuffles": "4"}


def code_of(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def smaller(code: str, **constants: int) -> str:
    """The same code with the constants at its top made small."""
    for name, value in constants.items():
        code, count = re.subn(rf"^{name} = \d+$", f"{name} = {value}", code, flags=re.MULTILINE)
        assert count == 1, f"expected one line {name} = ..."
    return code


def run(code: str) -> dict:
    assert len(code.splitlines()) <= LONGEST
    names: dict = {}
    exec(compile(code.replace("minutes=10", "minutes=0.01"), "document.md", "exec"), names)
    return names


def session_of(text: str) -> list[list[str]]:
    return [
        shlex.split(line)[1:] for code in code_of(text, "sh") for line in code.splitlines() if "bouncegrad " in line
    ]


def run_session(text: str, verbs: list[str]) -> None:
    """All commands, with few scenes and passes."""
    session = session_of(text)
    assert [words[0] for words in session] == verbs
    for words in session:
        reduced = [SMALL_COUNTS.get(before, word) for before, word in zip(["", *words], words, strict=False)]
        extra = ["--settings.training.num_passes", "2"] if words[0] == "fit" else []
        assert main([*reduced, *extra]) == 0


def write_table(scenes: Scenes, path: str) -> None:
    rows = [
        (scene, float(time), entity, *scenes.states[scene, time, place, :2].tolist())
        for scene in range(scenes.num_scenes)
        for time in range(scenes.num_times)
        for place, entity in enumerate(scenes.entity_names)
    ]
    polars.DataFrame(rows, ["scene", "time", "agent", "x", "y"], orient="row").write_csv(path)


def test_the_readme_is_short():
    assert len(README.splitlines()) <= LONGEST_README
    assert (ROOT / "docs" / "scenes.png").stat().st_size < 150_000


def test_your_own_data_in_a_few_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write_table(springs(12), "tracks.csv")
    run_session(README, ["table", "fit", "trust", "infer", "predict"])
    assert polars.read_csv("relations.csv").height == 12 * 6
    assert Path("relations.png").exists()
    assert Path("future.npz").exists()


def test_your_own_data_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write_table(springs(12), "tracks.csv")
    names = run(code_of(README, "python")[0])
    assert names["relations"].height == 12 * 6
    assert names["future"].shape == (12, 20, 3, 4)


def test_the_algorithm_in_ten_lines():
    names = run(smaller(code_of(README, "python")[1], NUM_SCENES=6, NUM_EPOCHS=2))
    assert names["structures"].shape == (6, 20)
    assert all(parameter.grad.any() for parameter in names["model"].network.edge_modules.parameters())
    assert names["prior"].log_probability(names["structures"]).isfinite().all()  # what one does, the other does


def test_a_whole_run_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    names = run(smaller(code_of(USING, "python")[0], NUM_SCENES=20, NUM_UNSEEN=3))
    assert (tmp_path / "runs/python/scenes.png").exists()
    assert names["posterior"].relations.shape == (3, 5, 5)
    assert names["future"].shape == (3, 20, 5, 4)


def test_ready_models_and_answers_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    """The second block of code, on the scenes that it names."""
    monkeypatch.chdir(tmp_path)
    write_npz("scenes.npz", springs(12, num_entities=5, seed=1))
    names = run(code_of(USING, "python")[1])
    assert names["table"].height == 12 * 20
    assert names["graph"].number_of_nodes() == 5
    assert names["future"].shape == (12, 20, 5, 4)
    assert "receiver" in capsys.readouterr().out
    assert (tmp_path / "runs/mine/README.md").exists()


def test_followers_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The third block of code, on a made-up table in place of the cars, with few passes."""
    monkeypatch.chdir(tmp_path)
    cars = platoons(3, 0)
    rows = [
        (f"run{scene}", time / 10, f"car{car}", place, float(cars.states[scene, time // 10, car, 0]))
        for scene in range(3)
        for place, car in enumerate(cars.present[scene].nonzero().flatten().tolist())
        for time in range(400)
    ]
    polars.DataFrame(rows, ["scene", "time", "agent", "position", "speed"], orient="row").write_parquet("cars.parquet")
    monkeypatch.setitem(RECIPES, "leader", replace(LEADER, training=replace(LEADER.training, num_passes=1)))
    names = run(code_of(USING, "python")[2])
    assert names["cars"].num_times == 40
    assert set(names["who_follows_whom"].columns) >= {"scene", "receiver", "sender", "kind"}


def test_a_whole_session_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("tracks.csv").write_text("time,agent,x\n0,a,0\n1,a,1\n0,b,5\n1,b,5\n")
    run_session(USING, ["simulate", "fit", "evaluate", "infer", "predict", "table", "hidden", "trust"])
    assert json.loads(Path("runs/springs5/summary.json").read_text())["num_scenes"] == 3
    assert Path("runs/springs5/scenes.png").exists()
    assert Path("relations.csv").exists()
    assert Path("future.npz").exists()
    assert Path("data/tracks.npz").exists()
    assert Path("hidden.png").exists()
    assert Path("kinds.png").exists()


def test_code_that_stands_in_a_sentence_runs():
    lines = {
        line for name in DOCUMENTS for line in re.findall(r"`(from bouncegrad[\w.]* import [^`]+)`", prose_of(name))
    }
    assert len(lines) >= 2
    for line in lines:
        exec(line, {})


def prose_of(name: str) -> str:
    """A document without its blocks of code."""
    return re.sub(r"^```.*?^```", "", (ROOT / name).read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors_of(name: str) -> set[str]:
    """The headings of a document, as links write them."""
    headings = re.findall(r"^#+ (.*)$", prose_of(name), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str):
    place = ROOT / name
    for target, anchor in re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", prose_of(name)):
        found = place.parent / target if target else place
        assert found.exists(), target
        assert not anchor or anchor in anchors_of(str(found.resolve().relative_to(ROOT))), f"{target}#{anchor}"


def files_called(path: str) -> list[Path]:
    """As seen from the repository or from the package; by its name alone, wherever it is."""
    places = [folder / path for folder in (ROOT, ROOT / "bouncegrad")]
    if "/" not in path:
        places += [place for folder in ("bouncegrad", "tests") for place in (ROOT / folder).rglob(path)]
    return [place for place in places if place.exists()]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_that_are_named_are_there(name: str):
    """And define what they are said to."""
    text = prose_of(name)
    for path in re.findall(r"`([a-z_/0-9]+(?:\.py|/))`", text):
        assert files_called(path), path
    for symbol, path in re.findall(r"`(\w+)` (?:in|of) `([a-z_/0-9]+\.py)`", text):
        assert re.search(rf"\b{symbol}\b", files_called(path)[0].read_text()), f"{symbol} in {path}"


def test_options_that_are_named_exist(capsys: pytest.CaptureFixture[str]):
    text = ""
    for verb in ("simulate", "table", "fit", "infer", "trust", "predict", "evaluate", "hidden", "reproduce"):
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        text += capsys.readouterr().out
    named = {option for name in DOCUMENTS for option in re.findall(r"`[^`\n]*?(--[a-z][\w.-]*[a-z_])", prose_of(name))}
    assert len(named) > 20
    assert not {option for option in named if not re.search(rf"{re.escape(option)}\b", text)}
