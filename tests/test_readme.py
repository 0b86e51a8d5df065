"""The README does what it says, at a smaller size."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import polars
import pytest

from bouncegrad.cli import main
from bouncegrad.recipes import LEADER, RECIPES
from bouncegrad.scenes import write_npz
from small import platoons, springs

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
LONGEST = 25
"""Lines in which a whole run fits."""

SMALL = {"NUM_SCENES": 20, "NUM_UNSEEN": 3}
SMALL_COUNTS = {"--train": "20", "--valid": "3", "--test": "3"}


def code_of(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def smaller(code: str) -> str:
    """The same code with the constants at its top made small."""
    for name, value in SMALL.items():
        code, count = re.subn(rf"^{name} = \d+$", f"{name} = {value}", code, flags=re.MULTILINE)
        assert count == 1, f"expected one line {name} = ... in the README"
    return code


def test_a_whole_run_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    code = code_of("python")[0]
    assert len(code.splitlines()) <= LONGEST
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(smaller(code), "README.md", "exec"), names)
    assert (tmp_path / "runs/python/scenes.png").exists()
    assert names["posterior"].relations.shape == (3, 5, 5)
    assert names["future"].shape == (3, 20, 5, 4)


def test_ready_models_and_answers_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    """The second block of code, on the scenes that it names."""
    code = code_of("python")[1]
    assert len(code.splitlines()) <= LONGEST
    monkeypatch.chdir(tmp_path)
    write_npz("scenes.npz", springs(12, num_entities=5, seed=1))
    names: dict = {}
    exec(compile(code.replace("minutes=10", "minutes=0.01"), "README.md", "exec"), names)
    assert names["table"].height == 12 * 20
    assert names["graph"].number_of_nodes() == 5
    assert names["future"].shape == (12, 20, 5, 4)
    assert "receiver" in capsys.readouterr().out
    assert (tmp_path / "runs/mine/README.md").exists()


def test_followers_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The third block of code, on a made-up table in place of the cars, with few passes."""
    code = code_of("python")[2]
    assert len(code.splitlines()) <= LONGEST
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
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["cars"].num_times == 40
    assert set(names["who_follows_whom"].columns) >= {"scene", "receiver", "sender", "kind"}


def test_a_whole_session_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    session = [shlex.split(line)[1:] for code in code_of("sh") for line in code.splitlines() if "bouncegrad " in line]
    verbs = ["simulate", "fit", "evaluate", "infer", "predict", "table", "hidden", "trust"]
    assert [words[0] for words in session] == verbs
    monkeypatch.chdir(tmp_path)
    Path("tracks.csv").write_text("time,agent,x\n0,a,0\n1,a,1\n0,b,5\n1,b,5\n")
    for words in session:
        reduced = [SMALL_COUNTS.get(before, word) for before, word in zip(["", *words], words, strict=False)]
        extra = ["--settings.training.num_passes", "2"] if words[0] == "fit" else []
        assert main([*reduced, *extra]) == 0
    assert json.loads(Path("runs/springs5/summary.json").read_text())["num_scenes"] == 3
    assert Path("runs/springs5/scenes.png").exists()
    assert Path("relations.csv").exists()
    assert Path("future.npz").exists()
    assert Path("data/tracks.npz").exists()
    assert Path("hidden.png").exists()
    assert Path("kinds.png").exists()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(name: str):
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / name).read_text()):
        assert (ROOT / target).exists(), target
