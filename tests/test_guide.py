"""The guide to one's own data does what it says, on a small table of made-up cars."""

import re
import shlex
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bouncegrad.cli import main

PLACE = Path(__file__).parents[1] / "docs" / "your-data.md"
GUIDE = PLACE.read_text()
LONGEST = 150
"""Lines that somebody reads to the end."""

NUM_SCENES, NUM_CARS, SECONDS, HERTZ = 6, 3, 40, 5


def code_of(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


def platoons(seed: int = 0) -> pl.DataFrame:
    """Each car comes near the speed of the one before it; the first wanders."""
    generator = np.random.default_rng(seed)
    num_times = SECONDS * HERTZ
    speeds = np.full((NUM_SCENES, num_times, NUM_CARS), 10.0)
    for time in range(1, num_times):
        before = speeds[:, time - 1]
        towards = np.concatenate([np.full((NUM_SCENES, 1), 10.0), before[:, :-1]], 1)
        kicks = generator.normal(size=before.shape) * np.where(np.arange(NUM_CARS) == 0, 0.5, 0.02)
        speeds[:, time] = before + (towards - before) * 0.5 / HERTZ + kicks
    scene, time, car = (index.ravel() for index in np.indices(speeds.shape))
    return pl.DataFrame(
        {
            "scene": [f"drive_{number}" for number in scene],
            "time": time / HERTZ,
            "agent": [f"CAR_{number}" for number in car],
            "position": car + 1,
            "speed": speeds.ravel(),
        }
    )


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All commands of the guide have run here, with fewer passes."""
    place = tmp_path_factory.mktemp("guide")
    extra = {"fit": ["--settings.training.num_passes", "2"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        platoons().write_parquet("openacc.parquet")
        for words in commands():
            assert main([*words, *extra.get(words[0], [])]) == 0
    return place


def commands() -> list[list[str]]:
    return [shlex.split(line)[1:] for code in code_of("sh") for line in code.splitlines()]


def test_the_guide_is_short_and_goes_from_the_table_to_the_prediction():
    assert len(GUIDE.splitlines()) <= LONGEST
    assert [words[0] for words in commands()] == ["table", "fit", "infer", "trust", "predict"]


def test_the_options_that_the_text_names_exist(capsys: pytest.CaptureFixture[str]):
    text = ""
    for verb in ("table", "fit", "infer", "trust", "predict", "evaluate"):
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        text += capsys.readouterr().out
    named = set(re.findall(r"--[a-z][\w.-]*", GUIDE))
    assert len(named) > 10
    assert not {option for option in named if not re.search(rf"{re.escape(option)}\b", text)}


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", GUIDE):
        assert (PLACE.parent / target).exists(), target


def test_every_command_leaves_what_the_guide_speaks_of(session: Path):
    who = pl.read_csv(session / "who.csv")
    assert who.columns == ["scene", "receiver", "sender", "kind", *(f"probability_{kind}" for kind in range(3))]
    assert who.height == NUM_SCENES * (NUM_CARS - 1) ** 2  # nobody asks whom the first car follows
    assert "CAR_0" not in who["receiver"].to_list()
    for picture in ("who.png", "kinds.png"):
        assert (session / picture).stat().st_size > 1000
    assert np.load(session / "next.npz")["states"].shape == (NUM_SCENES, 10, NUM_CARS, 1)


def test_every_block_of_python_runs(session: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(session)
    blocks = code_of("python")
    assert blocks
    names: dict = {}
    for code in blocks:
        exec(compile(smaller(code), "your-data.md", "exec"), names)
    assert names["scenes"].num_scenes == NUM_SCENES
    assert names["table"].height == NUM_SCENES * (NUM_CARS - 1) ** 2
    said = capsys.readouterr().out
    assert "receiver" in said
    assert "agree on" in said


def smaller(code: str) -> str:
    """Fits that take a moment."""
    return re.sub(r"minutes=\d+", "minutes=0.01", code)
