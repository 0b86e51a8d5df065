"""The verb ``trust``."""

import json

import numpy

from bouncegrad.cli import main
from bouncegrad.models.checkpoint import save_model
from small import springs


def test_command(springs_model, tmp_path, capsys):
    save_model(tmp_path / "model", springs_model)
    scenes = springs(30, seed=5)
    loc, vel = scenes.states.transpose(2, 3).numpy()[:, :, :2], scenes.states.transpose(2, 3).numpy()[:, :, 2:]
    numpy.savez(tmp_path / "scenes.npz", loc=loc, vel=vel)
    words = ["trust", "--model", str(tmp_path / "model"), "--data", str(tmp_path / "scenes.npz")]
    assert main([*words, "--scenes", "25", "--json", "--picture", str(tmp_path / "kinds.png")]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert said.err.splitlines()[0] == "  0%  relations of 25 scenes"
    assert "surrogate scenes of the permutation test: 19 of 19" in said.err
    assert len(said.err.splitlines()) <= 11
    assert found["null"]["has_relations"]
    assert found["null"]["num_scenes"] == 25
    assert found["misfit"]["warnings"] == []
    assert sorted(kind["word"] for kind in found["kinds"]) == ["attracts", "nothing"]
    assert (tmp_path / "kinds.png").stat().st_size > 1000
    assert main([*words, "--scenes", "20", "--quiet"]) == 0
    said = capsys.readouterr()
    assert "There are relations" in said.out
    assert said.err == ""
    assert main([*words, "--scenes", "0"]) == 2
    assert "expected one scene or more, got 0" in capsys.readouterr().err
