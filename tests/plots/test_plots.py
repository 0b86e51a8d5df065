"""Pictures and tables: they say what is so, and touch nothing global."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from bouncegrad.cli.text import confusion_table
from bouncegrad.evaluation.metrics import match_relations, reliability_curve
from bouncegrad.plots import Answer, draw_graphs, draw_reliability, draw_scene, draw_scenes
from bouncegrad.plots.colours import entity_colours
from bouncegrad.plots.graph import Edge, _strokes, edges_of
from bouncegrad.plots.picture import _graph_title
from bouncegrad.scenes import Scenes, from_arrays


def toy(num_entities=4, num_dimensions=2, relations=True) -> Scenes:
    rng = np.random.default_rng(0)
    vel = rng.normal(size=(3, 12, num_dimensions, num_entities)) * 0.3
    edges = np.triu(rng.integers(0, 2, (3, num_entities, num_entities)), 1)
    edges = edges + edges.swapaxes(1, 2)
    return from_arrays(vel.cumsum(1), vel, edges if relations else None)


def truth_of(scenes: Scenes) -> torch.Tensor:
    assert scenes.relations is not None
    return scenes.relations.long()


def drawn(path) -> np.ndarray:
    """The picture, after a check that it shows something."""
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    image = imread(path)
    assert image.shape[0] > 500
    assert image.shape[1] > 1000
    assert image[..., :3].std() > 0.03
    assert len(np.unique(image[..., :3] @ np.array([65536.0, 256.0, 1.0]))) > 100
    return image


def has_colour(image: np.ndarray, colour: str) -> bool:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return bool((np.abs(image[..., :3] - wanted).max(-1) < 0.01).sum() > 50)


def test_a_picture_shows_wrong_edges_red_and_missed_ones_grey(tmp_path):
    scenes = toy()
    kinds = truth_of(scenes).clone()
    draw_scene(scenes, 0, Answer(kinds, none_kind=0), tmp_path / "right.png")
    right = drawn(tmp_path / "right.png")
    assert not has_colour(right, "#d62839")
    assert not has_colour(right, "#a3abb8")
    edge, gap = (torch.nonzero((kinds[0] == k).triu(1))[0].tolist() for k in (1, 0))
    kinds[0, edge[0], edge[1]], kinds[0, gap[0], gap[1]] = 0, 1
    draw_scene(scenes, 0, Answer(kinds, none_kind=0), tmp_path / "wrong.png")
    wrong = drawn(tmp_path / "wrong.png")
    assert has_colour(wrong, "#d62839")
    assert has_colour(wrong, "#a3abb8")


@pytest.mark.parametrize("num_dimensions", [1, 2, 3])
def test_predictions_of_any_dimension(tmp_path, num_dimensions):
    scenes = toy(num_dimensions=num_dimensions)
    predicted = scenes.states[:, 8:12] + 0.05
    for num_observed, steps in ((8, predicted), (12, predicted[:, :1])):
        answer = Answer(truth_of(scenes), 0, ("none", "spring"), steps, num_observed)
        draw_scene(scenes, 1, answer, tmp_path / "new" / "a.png")
        drawn(tmp_path / "new" / "a.png")


def test_several_scenes_stand_below_each_other(tmp_path):
    scenes = toy()
    answer = Answer(truth_of(scenes))
    draw_scenes(scenes, [0], answer, tmp_path / "one.png")
    draw_scenes(scenes, [2, 0, 1], answer, tmp_path / "three.png")
    one, three = drawn(tmp_path / "one.png"), drawn(tmp_path / "three.png")
    assert one.shape[1] == three.shape[1]
    assert 2.5 < three.shape[0] / one.shape[0] < 3


@pytest.mark.parametrize("suffix", [".pdf", ".svg", ".PNG"])
def test_other_file_types(tmp_path, suffix):
    scenes = toy()
    draw_scene(scenes, 0, Answer(truth_of(scenes)), tmp_path / f"a{suffix}")
    assert (tmp_path / f"a{suffix}").stat().st_size > 3000
    assert len(list(tmp_path.iterdir())) == 1


def test_awkward_scenes_are_drawn(tmp_path, recwarn):
    scenes = toy(num_entities=12, relations=False)
    mask = scenes.mask.clone()
    mask[0, :, 3] = mask[0, 4:6, 1] = mask[0, 6:, 2] = mask[1] = False
    states = scenes.states.clone()
    states[2] = 1.0
    dirty = replace(scenes, states=states, mask=mask, entity_names=tuple(f"player {i}" for i in range(12)))
    predicted = torch.full((3, 4, 12, 4), 1e12)
    predicted[:, 2:] = torch.nan
    kinds = torch.arange(3 * 144).reshape(3, 12, 12) % 5
    for none_kind in (None, 0):
        draw_scenes(dirty, [0, 1, 2], Answer(kinds, none_kind, (), predicted, 7), tmp_path / "a.png")
        drawn(tmp_path / "a.png")
    assert [str(warning.message) for warning in recwarn.list] == []


def test_relations_that_are_all_unknown_are_not_compared(tmp_path):
    scenes = toy()
    unknown = replace(scenes, relations=torch.full_like(truth_of(scenes).double(), torch.nan))
    draw_scene(unknown, 0, Answer(truth_of(scenes), 0), tmp_path / "a.png")
    drawn(tmp_path / "a.png")


def test_what_is_drawn_of_a_graph():
    scenes = toy(num_entities=3)
    relations = torch.tensor([[[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]]).expand(3, 3, 3)
    scenes = replace(scenes, relations=relations)
    kinds = 1 - relations.long()
    kinds[1, 0, 1], kinds[1, 0, 2] = 1, 0
    answer = Answer(kinds, none_kind=1)
    match = match_relations(kinds, relations)
    assert match.relabelling == (1, 0)
    edges = edges_of(scenes, 1, answer, match)
    assert {(e.receiver, e.sender): e.verdict for e in edges} == {
        (0, 1): "missed", (0, 2): "wrong", (1, 0): "", (1, 2): "", (2, 1): "",
    }  # fmt: skip
    assert _graph_title(scenes, 1, answer, match) == "4 of 6 relations right"
    assert _graph_title(scenes, 0, answer, match) == "6 of 6 relations right"
    assert _graph_title(scenes, 0, answer, None) == "Who acts on whom"


def test_a_symmetric_graph_has_lines_and_another_has_arrows():
    there, back, other = Edge(0, 1, 1, ""), Edge(1, 0, 1, ""), Edge(2, 0, 1, "")
    assert list(_strokes([there, back])) == [(there, 0, 0.0)]
    assert list(_strokes([there, back, other])) == [(there, 2, 0.0), (other, 1, 0.0)]
    assert [heads for _, heads, _ in _strokes([there, replace(back, kind=2)])] == [1, 1]


@pytest.mark.parametrize(
    ("index", "changes", "name", "message"),
    [
        (3, {}, "a.png", r"scenes among 0 .. 2"),
        (-1, {}, "a.png", r"scenes among 0 .. 2"),
        (0, {}, "a.gif", r"expected a picture file"),
        (0, {"kinds": torch.zeros(3, 4, 5).long()}, "a.png", r"integer kinds \[scene"),
        (0, {"kinds": torch.zeros(3, 4, 4)}, "a.png", r"integer kinds \[scene"),
        (0, {"num_observed": 13}, "a.png", r"num_observed from 1 to 12, got 13"),
        (0, {"num_observed": 0}, "a.png", r"num_observed from 1 to 12, got 0"),
        (0, {"predicted": torch.zeros(3, 4, 4)}, "a.png", r"expected predicted"),
        (0, {"predicted": torch.zeros(2, 5, 4, 4)}, "a.png", r"expected predicted"),
        (0, {}, "file/a.png", r"cannot write in"),
    ],
)
def test_what_cannot_be_drawn(tmp_path, index, changes, name, message):
    scenes = toy()
    (tmp_path / "file").write_text("a regular file")
    answer = replace(Answer(truth_of(scenes)), **changes)
    with pytest.raises(ValueError, match=message):
        draw_scene(scenes, index, answer, tmp_path / name)
    assert not list(tmp_path.glob("*.png"))


def test_pyplot_and_its_global_state_stay_out():
    code = "import sys, bouncegrad.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_table_of_three_kinds():
    truth = torch.arange(36).reshape(1, 6, 6) % 3
    table = confusion_table(match_relations((truth + 1) % 3, truth.double() * 0.5))
    lines = table.splitlines()
    assert lines[:2] == ["30 of 30 relations right", "relation accuracy 100.00 %"]
    assert lines[2].split() == ["kind", "0", "kind", "1", "kind", "2"]
    assert [line.split() for line in lines[3:]] == [
        ["label", "0", "0", "10*", "0"], ["label", "0.5", "0", "0", "10*"], ["label", "1", "10*", "0", "0"],
    ]  # fmt: skip


def test_the_number_of_right_relations_is_written_without_separators():
    truth = torch.arange(200)[:, None, None] % 2 * torch.ones(5, 5, dtype=torch.long)
    lines = confusion_table(match_relations(truth, truth.double())).splitlines()
    assert lines[0] == "4000 of 4000 relations right"


def test_a_curve_of_reliability_is_drawn(tmp_path):
    confidence = torch.linspace(0.5, 1, 400, dtype=torch.float64)
    curve = reliability_curve(torch.stack([confidence, 1 - confidence], 1), (torch.arange(400) % 3 == 0).long())
    draw_reliability(curve, tmp_path / "reliability.png")
    image = imread(tmp_path / "reliability.png")
    assert has_colour(image, "#3b6fb6")
    with pytest.raises(ValueError, match="expected a picture file"):
        draw_reliability(curve, tmp_path / "reliability.txt")


def test_graphs_are_drawn_of_any_features(tmp_path):
    scenes = toy(relations=False)
    speeds = replace(scenes, states=scenes.states[..., 2:3], feature_names=("speed",))
    for name, kinds in (("none.png", 0), ("all.png", 1)):
        draw_graphs(speeds, [0, 2], Answer(torch.full((3, 4, 4), kinds), none_kind=0), tmp_path / name)
    assert len(np.unique(drawn(tmp_path / "none.png"))) > 10
    assert (drawn(tmp_path / "all.png") != drawn(tmp_path / "none.png")).any()


def test_long_names_leave_the_circle_as_large_as_it_was(tmp_path):
    """From the topmost node to the one at the bottom."""
    scenes, colours = toy(relations=False), entity_colours(4)
    heights = []
    for name in "abcd", ["MERCEDES_GLE450", "JAGUAR_I_PACE", "SMART_TARGET", "AUDI_A4"]:
        named = replace(scenes, entity_names=tuple(name))
        draw_graphs(named, [0, 1, 2], Answer(torch.zeros(3, 4, 4, dtype=torch.long), 0), tmp_path / "graph.png")
        image = imread(tmp_path / "graph.png")[..., :3]
        rows = [np.nonzero((np.abs(image - to_rgb(colours[i])).max(-1) < 0.01).any(1))[0].mean() for i in (0, 2)]
        heights.append(rows[1] - rows[0])
    assert heights[1] == pytest.approx(heights[0], rel=0.05)


def test_graphs_show_wrong_edges_red(tmp_path):
    scenes = toy()
    draw_graphs(scenes, [0], Answer(truth_of(scenes), none_kind=0), tmp_path / "right.png")
    draw_graphs(scenes, [0], Answer(1 - truth_of(scenes).triu(2) * 1, none_kind=0), tmp_path / "wrong.png")
    assert not has_colour(imread(tmp_path / "right.png"), "#d62839")
    assert has_colour(imread(tmp_path / "wrong.png"), "#d62839")


def test_nobody_acts_on_who_is_exogenous():
    scenes = replace(toy(relations=False), exogenous=torch.tensor([[True, False, False, False]] * 3))
    edges = edges_of(scenes, 0, Answer(torch.ones(3, 4, 4, dtype=torch.long), none_kind=0), None)
    assert len(edges) == 9
    assert all(edge.receiver != 0 for edge in edges)


def test_labels_of_who_is_exogenous_are_left_out(tmp_path):
    """Also one that nobody else has."""
    scenes = replace(toy(), exogenous=torch.tensor([[True, False, False, False]] * 3))
    assert scenes.relations is not None
    relations = scenes.relations.clone()
    relations[:, 0] = 7.0
    odd = replace(scenes, relations=relations)
    answer = Answer(truth_of(scenes), none_kind=0)
    assert "9 of 9" in _graph_title(odd, 0, answer, match_relations(answer.kinds, odd.known_relations))
    draw_scenes(odd, [0], answer, tmp_path / "odd.png")
    assert not has_colour(drawn(tmp_path / "odd.png"), "#d62839")
