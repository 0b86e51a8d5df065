"""The verb ``trust``."""

import json

import numpy

from bouncegrad.checkpoint import save_model
from bouncegrad.cli import main
from small import springs


def test_command(springs_model, tmp_path, capsys):
    save_model(tmp_path / "model", springs_model)
    scenes = springs(30, seed=5)
    loc, vel = scenes.states.transpose(2, 3).numpy()[:, :, :2], scenes.states.transpose(2, 3).numpy()[:, :, 2:]
    numpy.savez(tmp_path / "scenes.npz", loc=loc, vel=vel)
    words = ["trust", "--model", str(tmp_path / "model"), "--data", str(tmp_path / "scenes.npz")]
    assert main([*words, "--scenes", "25", "--json", "--picture", str(tmp_path / "kinds.png")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["null"]["has_relations"]
    assert found["null"]["num_scenes"] == 25
    assert found["misfit"]["warnings"] == []
    assert sorted(kind["word"] for kind in found["kinds"]) == ["attracts", "nothing"]
    assert (tmp_path / "kinds.png").stat().st_size > 1000
    assert main([*words, "--scenes", "20"]) == 0
    assert "There are relations" in capsys.readouterr().out
    assert main([*words, "--scenes", "0"]) == 2
    assert "expected one scene or more, got 0" in capsys.readouterr().err
