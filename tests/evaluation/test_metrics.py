"""Metrics in worlds whose answers are known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bouncegrad.evaluation.metrics import expected_calibration_error, match_relations, reliability_curve, rollout_mse
from bouncegrad.scenes import relation_kinds


def graphs(seed=0, num_scenes=6, num_entities=4, num_kinds=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(num_kinds, (num_scenes, num_entities, num_entities), generator=generator)


# relations


def test_kinds_may_be_numbered_in_any_way():
    truth = graphs(num_kinds=3)
    for order in itertools.permutations(range(3)):
        match = match_relations(torch.tensor(order)[truth], truth.double())
        assert match.accuracy == 1.0
        assert [order[label] for label in match.relabelling] == [0, 1, 2]


def test_one_relabelling_serves_all_scenes():
    truth = torch.tensor([[[0, 1], [1, 0]], [[0, 1], [1, 0]]])
    inferred = torch.stack([truth[0], 1 - truth[1]])
    assert [match_relations(inferred[s : s + 1], truth[s : s + 1].double()).accuracy for s in (0, 1)] == [1.0, 1.0]
    assert match_relations(inferred, truth.double()).accuracy == 0.5


def test_three_kinds_are_not_the_larger_of_a_share_and_its_rest():
    truth = torch.arange(3).repeat(40)[: 5 * 5 * 4].reshape(4, 5, 5)
    inferred = (truth + 1) % 3
    assert (inferred == truth).sum() == 0
    assert match_relations(inferred, truth.double()).accuracy == 1.0


def test_the_best_relabelling_is_not_the_greedy_one():
    """Confusion [[0, 10, 9], [0, 9, 0], [0, 0, 1]]: 10 + 1 for the greedy choice, 9 + 9 for the best."""
    rows, columns = [0] * 19 + [1] * 9 + [2], [1] * 10 + [2] * 9 + [1] * 9 + [2]
    truth, inferred = torch.full((1, 30, 30), math.nan, dtype=torch.float64), torch.zeros(1, 30, 30, dtype=torch.int64)
    truth[0, 0, 1:], inferred[0, 0, 1:] = torch.tensor(rows).double(), torch.tensor(columns)
    match = match_relations(inferred, truth)
    assert match.confusion.tolist() == [[0, 10, 9], [0, 9, 0], [0, 0, 1]]
    assert (match.num_right, match.num_pairs) == (18, 29)


def test_labels_of_the_file_are_kept_apart():
    truth = torch.tensor([[[1.0, -1, 1], [-1, 1, -1], [1, -1, 1]]])
    match = match_relations((truth > 0).long(), truth)
    assert (match.accuracy, match.labels, match.relabelling) == (1.0, (-1.0, 1.0), (0, 1))


def test_sender_and_receiver_are_not_the_same():
    truth = torch.tensor([[[0, 1, 1], [0, 0, 1], [0, 0, 0]]])
    chain = torch.tensor([[[0, 1, 0], [0, 0, 0], [0, 1, 0]]])
    assert match_relations(truth, truth.double()).accuracy == 1.0
    assert match_relations(chain, chain.double()).accuracy == 1.0
    assert match_relations(chain.transpose(1, 2), chain.double()).accuracy < 1.0


def test_the_diagonal_is_not_looked_at():
    truth = graphs()
    inferred = truth.clone()
    inferred[:, range(4), range(4)] = -1
    match = match_relations(inferred, truth.double())
    assert (match.accuracy, match.num_pairs) == (1.0, 6 * 4 * 3)


@pytest.mark.parametrize(("num_kinds", "num_labels"), [(4, 2), (2, 4), (1, 2), (2, 1)])
def test_more_kinds_than_labels_and_the_other_way_round(num_kinds, num_labels):
    code = torch.arange(4).repeat(12)[: 4 * 12].reshape(4, 12)
    truth, inferred = torch.zeros(4, 4, 4), torch.zeros(4, 4, 4, dtype=torch.int64)
    apart = ~torch.eye(4, dtype=torch.bool).expand(4, 4, 4)
    truth[apart], inferred[apart] = (code % num_labels).flatten().float(), (code % num_kinds).flatten()
    match = match_relations(inferred, truth)
    assert match.accuracy == pytest.approx(min(num_labels, num_kinds) / max(num_labels, num_kinds))
    assert sum(label >= 0 for label in match.relabelling) == min(num_kinds, num_labels)
    assert match.confusion.shape == (num_labels, num_kinds)


def test_unknown_labels_and_absent_entities_are_left_out():
    truth, inferred = graphs(), graphs()
    present = torch.ones(6, 4, dtype=torch.bool)
    present[0, 3] = False
    inferred[0, 3] = inferred[0, :, 3] = 7
    relations = truth.double()
    relations[1, 0, 1], inferred[1, 0, 1] = math.nan, -1
    match = match_relations(inferred, relations, present)
    assert (match.accuracy, match.num_pairs) == (1.0, 6 * 12 - 6 - 1)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 4))
def test_the_relabelling_is_the_best_of_all(seed, num_kinds, num_labels):
    inferred, truth = graphs(seed, 2, 3, num_kinds), graphs(seed + 1, 2, 3, num_labels)
    match = match_relations(inferred, truth.double())
    confusion = match.confusion
    short, long = sorted(confusion.shape)
    wide = confusion if confusion.shape[0] == short else confusion.T
    best = max(int(wide[range(short), order].sum()) for order in itertools.permutations(range(long), short))
    assert match.num_right == best
    assert match.accuracy == best / match.num_pairs


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 4))
def test_true_kinds_count_the_same_as_the_confusion(seed, num_kinds, num_labels):
    inferred, relations = graphs(seed, 2, 3, num_kinds), graphs(seed + 1, 2, 3, num_labels).double()
    match = match_relations(inferred, relations)
    truth = match.true_kinds(relations)
    assert int(((truth == inferred) & (truth >= 0)).sum()) == match.num_right
    assert int((truth >= 0).sum()) == match.num_pairs
    assert torch.equal(match.true_kinds(relations[:1]), truth[:1])


def test_true_kinds_of_a_label_that_was_never_seen():
    match = match_relations(graphs(), graphs().double())
    with pytest.raises(ValueError, match=r"got 5\.0"):
        match.true_kinds(torch.full((1, 4, 4), 5.0))


@pytest.mark.parametrize(
    ("inferred", "relations", "present", "message"),
    [
        (graphs(), None, None, "no true relations"),
        (graphs()[:2], graphs().double(), None, "integer kinds of shape"),
        (graphs().double(), graphs().double(), None, "integer kinds of shape.*float64"),
        (graphs(), torch.full((6, 4, 4), math.nan), None, "nothing to compare"),
        (graphs() - 1, graphs().double(), None, "kinds count from 0, got -1"),
        (graphs(), graphs().double(), torch.ones(6, 5) > 0, "expected present of shape"),
    ],
)
def test_what_cannot_be_compared(inferred, relations, present, message):
    with pytest.raises(ValueError, match=message):
        match_relations(inferred, relations, present)


# calibration


def world(confidence, num_right, num_wrong):
    """Answers of one confidence, some right and some wrong."""
    count = num_right + num_wrong
    probabilities = torch.tensor([[confidence, 1 - confidence]], dtype=torch.float64).repeat(count, 1)
    return probabilities, torch.tensor([0] * num_right + [1] * num_wrong)


@pytest.mark.parametrize(
    ("confidence", "num_right", "num_wrong", "expected"),
    [(0.75, 3, 1, 0.0), (0.75, 4, 0, 0.25), (1.0, 0, 5, 1.0), (0.9, 1, 1, 0.4), (0.5, 1, 1, 0.0)],
)
def test_calibration_of_one_confidence(confidence, num_right, num_wrong, expected):
    assert expected_calibration_error(*world(confidence, num_right, num_wrong)) == pytest.approx(expected)


def test_bins_count_by_their_size():
    sure, unsure = world(0.95, 10, 10), world(0.55, 11, 9)
    probabilities, kinds = (torch.cat(pair) for pair in zip(sure, unsure, strict=True))
    curve = reliability_curve(probabilities, kinds)
    assert curve.count.tolist() == [0, 0, 0, 0, 0, 20, 0, 0, 0, 20]
    assert curve.accuracy[[5, 9]].tolist() == pytest.approx([0.55, 0.5])
    assert curve.confidence[[5, 9]].tolist() == pytest.approx([0.55, 0.95])
    assert curve.accuracy[0].isnan()
    assert curve.expected_error == pytest.approx(0.45 / 2)
    assert torch.allclose(curve.bounds, torch.linspace(0, 1, 11, dtype=torch.float64))


def test_bins_that_hold_answers_are_rows():
    sure, unsure = world(0.95, 3, 1), world(0.55, 1, 0)
    rows = reliability_curve(*(torch.cat(pair) for pair in zip(sure, unsure, strict=True))).to_rows()
    assert [row["count"] for row in rows] == [1, 4]
    assert rows[1] == pytest.approx({"above": 0.9, "up_to": 1.0, "confidence": 0.95, "right": 0.75, "count": 4})


def test_answers_drawn_from_their_own_probabilities_are_calibrated():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], 40_000)
    kinds = (rng.random(40_000)[:, None] > probabilities.cumsum(1)).sum(1)
    truth, answers = torch.from_numpy(kinds), torch.from_numpy(probabilities)
    assert expected_calibration_error(answers, truth) < 0.01
    sharpened = answers**3 / (answers**3).sum(-1, keepdim=True)
    assert expected_calibration_error(sharpened, truth) > 0.1


def test_unknown_kinds_are_left_out_and_kinds_that_nobody_has_are_wrong():
    probabilities = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
    assert expected_calibration_error(probabilities, torch.tensor([[-1, 0], [0, -1]])) == 0.0
    assert expected_calibration_error(probabilities, torch.tensor([[-1, 2], [0, -1]])) == 0.5


def test_matched_kinds_and_probabilities_fit_together():
    truth = graphs()
    match = match_relations(1 - truth, truth.double())
    probabilities = torch.nn.functional.one_hot(1 - truth, 2).double()
    assert expected_calibration_error(probabilities, match.true_kinds(truth.double())) == 0.0
    assert expected_calibration_error(probabilities, relation_kinds(truth.double())[0]) == 1.0


@pytest.mark.parametrize(
    ("probabilities", "kinds", "num_bins", "message"),
    [
        (torch.ones(3, 2) / 2, torch.zeros(4), 10, "kinds .*got"),
        (torch.ones(3, 2), torch.zeros(3), 10, "apply softmax"),
        (torch.tensor([[1.5, -0.5]]), torch.zeros(1), 10, "apply softmax"),
        (torch.full((3, 2), math.nan), torch.zeros(3), 10, "apply softmax"),
        (torch.ones(3, 2) / 2, -torch.ones(3), 10, "nothing to compare"),
        (torch.ones(3, 2) / 2, torch.zeros(3), 0, "at least one bin"),
    ],
)
def test_what_has_no_calibration(probabilities, kinds, num_bins, message):
    with pytest.raises(ValueError, match=message):
        expected_calibration_error(probabilities, kinds.long(), num_bins)


# rollouts


def test_errors_of_each_step():
    truth = torch.zeros(3, 4, 5, 2)
    predicted = torch.arange(4.0)[None, :, None, None].expand_as(truth)
    assert rollout_mse(predicted, truth).tolist() == [0.0, 1.0, 4.0, 9.0]


def test_only_valid_entries_count_whatever_the_others_hold():
    truth, predicted = torch.zeros(2, 2, 3, 2), torch.ones(2, 2, 3, 2)
    mask = torch.ones(2, 2, 3, dtype=torch.bool)
    predicted[0, 0, 1], mask[0, 0, 1] = math.nan, False
    predicted[1, 0] = 3.0
    mask[:, 1] = False
    errors = rollout_mse(predicted, truth, mask)
    assert errors[0].item() == pytest.approx((2 * 1 + 3 * 9) / 5)
    assert errors[1].isnan()


def test_a_prediction_that_explodes_is_not_hidden():
    predicted = torch.zeros(1, 2, 2, 1)
    predicted[0, 1, 0] = math.inf
    assert rollout_mse(predicted, torch.zeros(1, 2, 2, 1)).tolist() == [0.0, math.inf]


@pytest.mark.parametrize(
    ("predicted", "mask", "message"),
    [
        (torch.zeros(2, 3, 4, 2), None, "one shape"),
        (torch.zeros(2, 3, 4), None, "one shape"),
        (torch.zeros(2, 3, 4, 4), torch.ones(2, 3) > 0, "expected mask of shape"),
    ],
)
def test_shapes_that_do_not_fit(predicted, mask, message):
    with pytest.raises(ValueError, match=message):
        rollout_mse(predicted, torch.zeros(2, 3, 4, 4), mask)
