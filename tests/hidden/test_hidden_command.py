"""The verb ``hidden``: figures, tracks and a picture, and one clear line where the input cannot be used."""

import json
from pathlib import Path

import pytest
import torch

from bouncegrad.cli import main
from bouncegrad.cli.hidden import HiddenRequest
from bouncegrad.hidden import widening_of
from bouncegrad.models.checkpoint import save_model
from bouncegrad.plots import Unseen, draw_unseen
from bouncegrad.scenes import DataError, Scenes, has_split, write_folder, write_npz
from bouncegrad.structures.layout import to_slots
from exact import exact_springs, moving

RING = torch.tensor([[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]])


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return moving(exact_springs(), to_slots(RING[None].repeat(2, 1, 1)), 4, num_times=12)


@pytest.fixture(scope="module")
def words(tmp_path_factory, scenes) -> list[str]:
    """The verb with a model and data that it knows exactly."""
    folder = tmp_path_factory.mktemp("hidden")
    save_model(folder / "model", exact_springs())
    write_npz(folder / "scenes.npz", scenes)
    return ["hidden", "--model", str(folder / "model"), "--data", str(folder / "scenes.npz")]


def printed(capsys, words: list[str]) -> dict:
    capsys.readouterr()
    assert main(words) == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) == 1
    return json.loads(said)


def test_covered_entities_are_compared_with_the_truth(capsys, words, tmp_path):
    picture = tmp_path / "hidden.png"
    found = printed(capsys, [*words, "--hide", "0", "--json", "--picture", str(picture)])
    assert found["num_scenes"] == found["num_touching"] == 2
    assert found["hidden_mse"] == found["hidden_mse_touching"] < 1e-4
    assert found["hidden_relation_accuracy"] > 0.9
    assert picture.stat().st_size > 10_000


def test_hidden_entities_are_described(capsys, words):
    found = printed(capsys, [*words, "--scenes", "1", "--json"])
    (scene,) = found["scenes"]
    assert found["num_hidden"] == 1
    assert torch.tensor(scene["tracks"]).shape == torch.tensor(scene["band_low"]).shape == (1, 12, 4)
    assert torch.tensor(scene["relations"]).shape == (5, 5)
    assert torch.tensor(scene["probabilities"]).shape == (5, 5, 2)
    assert sum(scene["weights"]) == pytest.approx(1)
    assert 0 <= scene["acts_on_nobody"] <= 1
    assert found["none_kind"] == 0


def test_bands_are_calibrated_where_there_are_scenes_for_it(scenes, tmp_path):
    """On the split valid, if there is one in which somebody is found to act, or if it was asked for."""
    model = exact_springs()
    alone = moving(model, to_slots(torch.zeros_like(RING)[None].repeat(2, 1, 1)), 4, num_times=12)
    for name, valid in (("good", scenes), ("idle", alone)):
        write_folder(tmp_path / name, {"valid": valid, "test": scenes}, "springs4")
    write_folder(tmp_path / "none", {"test": scenes}, "springs4")
    good, idle, none = (str(tmp_path / name) for name in ("good", "idle", "none"))
    assert HiddenRequest(none, "test").widening(model) == 1.0
    assert HiddenRequest(good, "test", (3,), calibration=0).widening(model) == 1.0
    assert HiddenRequest(good, "test", (3,)).widening(model) == widening_of(model, scenes, (3,))
    assert HiddenRequest(idle, "test", (3,)).widening(model) == 1.0
    with pytest.raises(DataError, match="found to act: use more scenes"):
        HiddenRequest(idle, "test", (3,), calibration=2).widening(model)


def test_tables_for_people(capsys, words):
    assert main([*words, "--hide", "0"]) == 0
    assert "2 scenes, 2 of them with a hidden entity that interacts" in capsys.readouterr().out
    assert main([*words, "--scenes", "1"]) == 0
    assert "1 hidden, 1 scenes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--hide", "7"], "from 0 to 3, that leave two or more"),
        (["--scenes", "0"], "expected one scene or more, got 0"),
        (["--calibration", "3"], "of the split valid of a folder"),
        (["--number", "0"], "at least one hidden entity"),
        (["--scenes", "1", "--picture", "hidden.txt"], "expected a picture file"),
    ],
)
def test_one_clear_line(capsys, words, more, message):
    assert main([*words, *more]) == 2
    assert message in capsys.readouterr().err


def test_pictures_need_a_plane(scenes, tmp_path: Path):
    line = Scenes(scenes.states[..., [0, 2]], scenes.mask, 0.1, ("x", "vx"), scenes.entity_names)
    track = torch.zeros(2, 1, 12, 2)
    with pytest.raises(ValueError, match="scenes in a plane to draw, got the features x, vx"):
        draw_unseen(line, Unseen(line.states, line.states, track, track), tmp_path / "hidden.png")


def test_scenes_to_calibrate_on_may_have_any_features(tmp_path: Path):
    speeds = Scenes(torch.ones(2, 4, 3, 1), torch.ones(2, 4, 3, dtype=torch.bool), 0.1, ("speed",), ("a", "b", "c"))
    write_folder(tmp_path, {"test": speeds}, "cars")
    assert not has_split(tmp_path, "valid")
    write_folder(tmp_path, {"valid": speeds}, "cars")
    assert has_split(tmp_path, "valid")
