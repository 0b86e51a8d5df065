"""The protocol: structure from samples 0 to 48, twenty free steps from sample 49, one relabelling for all scenes."""

import json
import math
from dataclasses import replace

import pytest
import torch

from bouncegrad.evaluation.metrics import match_relations
from bouncegrad.evaluation.score import score
from bouncegrad.inference import infer, predict
from bouncegrad.models.model import Model
from bouncegrad.scenes import DataError, Normalization, Scenes, stack_scenes
from small import springs, without_labels


@pytest.fixture(scope="module")
def long_scenes() -> Scenes:
    return springs(20, seed=1, num_steps=10_000)


def errors_by_hand(model: Model, scenes: Scenes, start: int) -> dict[int, float]:
    structures = infer(model, scenes.between(0, start)).structures
    predicted = predict(model, scenes, structures, start=start, num_steps=20)
    low, high = (
        torch.tensor(values, dtype=torch.float64)
        for values in (model.normalization.minimum, model.normalization.maximum)
    )
    found = {}
    for step in (1, 10, 20):
        difference = (predicted[:, step - 1] - scenes.states[:, start + step]) * 2 / (high - low)
        found[step] = float(difference.square().mean())
    return found


def test_the_protocol_on_99_samples(springs_model, long_scenes):
    assert long_scenes.num_times == 99
    found = score(springs_model, long_scenes)
    assert found.num_observed == 49
    assert found.mse == pytest.approx(errors_by_hand(springs_model, long_scenes, 49), rel=1e-9)
    expected = match_relations(infer(springs_model, long_scenes.between(0, 49)).relations, long_scenes.relations)
    assert found.match is not None
    assert found.match.accuracy == expected.accuracy > 0.95


@pytest.mark.parametrize(("num_times", "start"), [(98, 49), (70, 49), (69, 48), (40, 19), (23, 2)])
def test_shorter_scenes_give_their_end_to_the_prediction(springs_model, long_scenes, num_times, start):
    scenes = long_scenes.between(0, num_times)
    found = score(springs_model, scenes)
    assert found.num_observed == start
    assert found.mse == pytest.approx(errors_by_hand(springs_model, scenes, start), rel=1e-9)


def test_scenes_that_are_too_short(springs_model, long_scenes):
    with pytest.raises(DataError, match="at least 23 samples .*got 22: bring longer scenes"):
        score(springs_model, long_scenes.between(0, 22))


def test_what_comes_later_does_not_change_the_structure(springs_model, long_scenes):
    states = long_scenes.states.clone()
    states[:, 49:] *= -1
    changed = score(springs_model, replace(long_scenes, states=states))
    assert torch.equal(changed.posterior.structures, score(springs_model, long_scenes).posterior.structures)
    states = long_scenes.states.clone()
    states[:, 70:] = 0
    assert score(springs_model, replace(long_scenes, states=states)).mse == score(springs_model, long_scenes).mse


def test_errors_in_another_unit(springs_model, long_scenes):
    own = score(springs_model, long_scenes)
    low, high = springs_model.normalization.minimum, springs_model.normalization.maximum
    wider = Normalization(tuple(2 * x for x in low), tuple(2 * x for x in high))
    found = score(springs_model, long_scenes, ("twice as wide", wider))
    assert found.unit == "twice as wide"
    assert found.mse == pytest.approx({step: error / 4 for step, error in own.mse.items()})


def test_without_labels_there_is_no_accuracy(springs_model, long_scenes):
    found = score(springs_model, without_labels(long_scenes))
    assert found.match is None
    assert found.calibration_error is None
    assert found.to_dict()["reliability"] is None
    assert found.mse == score(springs_model, long_scenes).mse
    unknown = torch.full_like(long_scenes.relations, math.nan)
    assert score(springs_model, replace(long_scenes, relations=unknown)).match is None


def test_absent_entities_count_nowhere(springs_model, long_scenes):
    """Also where a file labels them."""
    padded = stack_scenes([long_scenes, springs(2, num_entities=4, num_steps=10_000)]).at(range(20))
    assert padded.relations is not None
    labelled = replace(padded, relations=padded.relations.nan_to_num(nan=7.0))
    expected = score(springs_model, long_scenes)
    for scenes in (padded, labelled):
        found = score(springs_model, scenes)
        assert found.match is not None
        assert expected.match is not None
        assert found.match.accuracy == expected.match.accuracy
        assert found.calibration_error == pytest.approx(expected.calibration_error, abs=1e-6)
        assert found.mse == pytest.approx(expected.mse, rel=1e-4)


def test_a_scene_with_a_gap_at_the_start_is_left_out_of_the_errors(springs_model, long_scenes):
    mask = long_scenes.mask.clone()
    mask[0, 49, 1] = False
    found = score(springs_model, replace(long_scenes, mask=mask))
    rest = score(springs_model, long_scenes.at(range(1, 20)))
    assert found.mse == pytest.approx(rest.mse, rel=1e-6)


def test_figures_are_plain_json(springs_model, long_scenes):
    figures = json.loads(json.dumps(score(springs_model, long_scenes).to_dict(), allow_nan=False))
    assert figures["mse"].keys() == {"1", "10", "20"}
    assert figures["num_scenes"] == 20
    assert figures["relation_accuracy"] > 0.95
    assert 0 <= figures["calibration_error"] <= 1
    rows = figures["reliability"]
    assert sum(row["count"] for row in rows) == 20 * 6
    assert all(row["above"] < row["confidence"] <= row["up_to"] + 1e-6 and 0 <= row["right"] <= 1 for row in rows)
    gaps = sum(row["count"] * abs(row["right"] - row["confidence"]) for row in rows) / (20 * 6)
    assert gaps == pytest.approx(figures["calibration_error"])
    assert sorted(figures["kind_of_label"]) == [0, 1]
    never = score(springs_model, replace(long_scenes, mask=long_scenes.mask.index_fill(1, torch.tensor([69]), False)))
    assert json.loads(json.dumps(never.to_dict(), allow_nan=False))["mse"]["20"] is None
