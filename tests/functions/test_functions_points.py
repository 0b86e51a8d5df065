"""Point sets, and the tasks that are made of known functions."""

import math
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy
import pytest
import torch

from bouncegrad.functions import PARTS, MetaSplits, PointsConfig, PointSets, point_sets, sines, sums_of_functions
from bouncegrad.functions.points import split_tasks
from bouncegrad.scenes import DataError
from points import ragged
from worlds import generator

NUMPY: dict[str, Callable[[numpy.ndarray], numpy.ndarray]] = {
    "abs": numpy.abs,
    "arcsinh": lambda x: numpy.arcsinh(4 * x) / numpy.arcsinh(4),
    "arctan": lambda x: numpy.arctan(4 * x) / numpy.arctan(4),
    "cbrt": numpy.cbrt,
    "ceil": numpy.ceil,
    "cos": lambda x: numpy.cos(4 * numpy.pi * x),
    "cosh": lambda x: numpy.cosh(4 * x) / numpy.cosh(4),
    "exp2": lambda x: numpy.exp2(4 * x) / numpy.exp2(4),
    "floor": numpy.floor,
    "id": lambda x: x,
    "rint": numpy.rint,
    "sign": numpy.sign,
    "sin": lambda x: numpy.sin(4 * numpy.pi * x),
    "sinc": lambda x: numpy.sinc(4 * numpy.pi * x),
    "square": numpy.square,
    "tanh": numpy.tanh,
}


def line(length: int, size: int | None = None) -> tuple[numpy.ndarray, numpy.ndarray]:
    """A task whose numbers say which point they are."""
    inputs = numpy.arange(length, dtype=float)
    return (inputs if size is None else numpy.repeat(inputs[:, None], size, 1)), -inputs


def apart(points: PointSets) -> bool:
    """Whether no point is both given and asked."""
    return not (points.given & points.asked).any()


# Tasks of one's own


@pytest.mark.parametrize(("share", "numbers"), [(0.2, [1, 1, 2]), (0.5, [1, 2, 4]), (0.99, [1, 2, 8]), (0.01, [1] * 3)])
def test_some_points_are_given_and_all_others_asked(share: float, numbers: list[int]):
    points = point_sets([line(2), line(3), line(9)], share_given=share)
    assert points.given.sum(1).tolist() == numbers
    assert (points.given | points.asked).sum(1).tolist() == [2, 3, 9]
    assert apart(points)
    assert points.inputs.shape == points.outputs.shape == (3, 9, 1)
    assert points.names == ("0", "1", "2")


def test_points_are_those_that_were_brought():
    tasks = [line(5, 2), line(3, 2), line(4, 2)]
    points = point_sets(tasks, names=("five", "three", "four"))
    there = points.given | points.asked
    for task, (inputs, outputs) in enumerate(tasks):
        numpy.testing.assert_allclose(points.inputs[task, there[task]], inputs)
        numpy.testing.assert_allclose(points.outputs[task, there[task], 0], outputs)
    assert points.names == ("five", "three", "four")


def test_lists_arrays_and_tensors_are_the_same_points():
    inputs, outputs = line(4)
    versions = [
        point_sets([(kind(inputs), kind(outputs))]) for kind in (list, numpy.asarray, torch.as_tensor, numpy.float32)
    ]
    assert all(torch.equal(version.inputs, versions[0].inputs) for version in versions)
    assert all(torch.equal(version.given, versions[0].given) for version in versions)


def test_the_seed_draws_which_points_are_given():
    one, again, other = (point_sets([line(20)] * 3, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.given, again.given)
    assert not torch.equal(one.given, other.given)
    assert not torch.equal(one.given[0], one.given[1])


@pytest.mark.parametrize(
    ("tasks", "settings", "message"),
    [
        ([], {}, "expected at least one task and a name for each, got 0 tasks, 0 names"),
        ([line(3)], {"names": ("a", "b")}, "got 1 tasks, 2 names"),
        ([line(3)], {"share_given": 0.0}, "share_given must be between 0 and 1, got 0.0"),
        ([line(3)], {"share_given": 1}, "share_given must be between 0 and 1, got 1: some points are given, some"),
        ([line(3), line(1)], {}, r"task '1': expected .* same two or more points, got shapes \(1, 1\) and \(1, 1\)"),
        ([(line(3)[0], line(4)[1])], {"names": ["odd"]}, r"task 'odd': expected .*got shapes \(3, 1\) and \(4, 1\)"),
        ([(numpy.zeros((2, 2, 2)), numpy.zeros(2))], {}, r"task '0': expected .*got shapes \(2, 2, 2\)"),
        ([(1.0, 2.0)], {}, r"task '0': expected .*got shapes \(\) and \(\)"),
        ([(["a", "b"], [1, 2])], {}, "task '0': expected arrays of numbers"),
        ([([1, 2], [1, math.nan])], {}, "task '0': some numbers are not finite; leave those points out"),
        ([([1, math.inf], [1, 2])], {}, "task '0': some numbers are not finite"),
        ([line(3), line(3, 2)], {}, r"inputs and outputs of one size, got \(in, out\) of \[\(1, 1\), \(2, 1\)\]"),
    ],
)
def test_what_is_no_task_is_told_why(tasks: Any, settings: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message):
        point_sets(tasks, **settings)


# Views


def test_tasks_are_chosen_by_number():
    points = ragged()
    for chosen in ([3, 0, 3], torch.tensor([3, 0, 3])):
        some = points.at(chosen)
        assert some.names == ("3", "0", "3")
        for name in ("inputs", "outputs", "given", "asked"):
            assert torch.equal(getattr(some, name), getattr(points, name)[[3, 0, 3]])


def test_given_points_stay_and_no_others():
    points = ragged()
    known = points.only_given()
    assert known.inputs.shape == (5, int(points.given.sum(1).max()), 2)
    assert not known.asked.any()
    assert known.names == points.names
    for task in range(points.num_tasks):
        assert torch.equal(known.inputs[task, known.given[task]], points.inputs[task, points.given[task]])
        assert torch.equal(known.outputs[task, known.given[task]], points.outputs[task, points.given[task]])


def test_points_are_given_anew_from_all_that_a_task_has():
    points = ragged()
    there, random = points.given | points.asked, generator()
    counts = torch.zeros(points.given.shape)
    for _ in range(400):
        drawn = points.given_anew(random)
        assert torch.equal(drawn.given.sum(1), points.given.sum(1))
        counts += drawn.given
    assert torch.equal(counts > 0, there)
    shares = (points.given.sum(1) / there.sum(1))[:, None].expand_as(counts)
    torch.testing.assert_close(counts[there] / 400, shares[there], atol=0.1, rtol=0)


def test_points_given_anew_are_drawn():
    points = ragged()
    one, again, other = (points.given_anew(generator(seed)).given for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_splits_are_groups_of_tasks():
    splits = split_tasks(ragged(), [[4, 0], [1], [2, 3]])
    assert [each.names for each in (splits.train, splits.valid, splits.test)] == [("4", "0"), ("1",), ("2", "3")]


# The tasks of 2018


@pytest.mark.parametrize("name", NUMPY)
def test_functions_are_those_of_numpy(name: str):
    inputs = numpy.concatenate([numpy.linspace(-1, 1, 401), [-0.5, 0.5, 0.0]])
    found = PARTS[name](torch.as_tensor(inputs)).numpy()
    numpy.testing.assert_allclose(found, NUMPY[name](inputs), atol=1e-12)
    assert numpy.abs(found).max() <= 1 + 1e-12


def all_tasks(splits: MetaSplits) -> tuple[str, ...]:
    return splits.train.names + splits.valid.names + splits.test.names


def test_sums_are_all_pairs_of_the_sixteen_functions():
    splits = sums_of_functions(seed=3)
    assert len(NUMPY) == len(PARTS) == 16
    assert [each.num_tasks for each in (splits.train, splits.valid, splits.test)] == [96, 12, 12]
    assert sorted(all_tasks(splits)) == sorted("+".join(pair) for pair in combinations(PARTS, 2))
    for tasks in (splits.train, splits.valid, splits.test):
        for task, name in enumerate(tasks.names):
            one, other = (NUMPY[part](tasks.inputs[task].double().numpy()) for part in name.split("+"))
            numpy.testing.assert_allclose(tasks.outputs[task], (one + other) / 2, atol=1e-5)


@pytest.mark.parametrize("seed", range(12))
def test_every_function_is_learned_in_three_pairs_or_more(seed: int):
    learned = [part for name in sums_of_functions(seed).train.names for part in name.split("+")]
    assert min(learned.count(part) for part in PARTS) >= 3


@pytest.mark.parametrize("made", [sums_of_functions, lambda seed: sines(40, seed)], ids=["sums", "sines"])
def test_the_seed_draws_splits_and_points(made: Callable[[int], MetaSplits]):
    one, again, other = (made(seed) for seed in (0, 0, 1))
    for name in ("train", "valid", "test"):
        same, less = getattr(again, name), getattr(other, name)
        assert getattr(one, name).names == same.names
        assert torch.equal(getattr(one, name).inputs, same.inputs)
        assert torch.equal(getattr(one, name).outputs, same.outputs)
        assert set(getattr(one, name).names) != set(less.names)
        assert not torch.equal(getattr(one, name).inputs, less.inputs)


def test_no_two_tasks_have_the_same_points():
    splits = sums_of_functions(0)
    inputs = torch.cat([splits.train.inputs, splits.valid.inputs, splits.test.inputs])[:, :, 0]
    assert len(inputs.unique(dim=0)) == 120
    assert inputs.abs().max() <= 1
    assert abs(float(inputs.mean())) < 0.03
    assert abs(float(inputs.var()) - 1 / 3) < 0.02


@pytest.mark.parametrize(("config", "numbers"), [(None, (80, 16)), (PointsConfig(10, 0.5), (10, 5))])
def test_so_many_points_are_given_as_is_said(config: PointsConfig | None, numbers: tuple[int, int]):
    for splits in (sums_of_functions(0, config), sines(20, 0, config)):
        for tasks in (splits.train, splits.valid, splits.test):
            assert tasks.given.shape[1] == numbers[0]
            assert (tasks.given.sum(1) == numbers[1]).all()
            assert torch.equal(tasks.asked, ~tasks.given)


def test_sines_are_what_their_names_say():
    splits = sines(50, seed=1)
    assert [each.num_tasks for each in (splits.train, splits.valid, splits.test)] == [40, 5, 5]
    for tasks in (splits.train, splits.valid, splits.test):
        for task, name in enumerate(tasks.names):
            words = name.replace("(", "").replace(")", "").split()
            frequency, phase = float(words[2]), float(words[5])
            assert 0.1 <= frequency <= 5
            assert 0 <= phase <= math.pi
            expected = numpy.sin(numpy.pi * (frequency * tasks.inputs[task].numpy() + phase))
            numpy.testing.assert_allclose(tasks.outputs[task], expected, atol=4e-3)


def test_frequencies_and_phases_fill_their_ranges():
    words = [name.replace("(", "").replace(")", "").split() for name in all_tasks(sines(400, seed=2))]
    for place, least, most in ((2, 0.1, 5.0), (5, 0.0, math.pi)):
        values = torch.tensor([float(each[place]) for each in words])
        assert float(values.min()) < least + 0.05 * (most - least)
        assert float(values.max()) > most - 0.05 * (most - least)
        assert abs(float(values.mean()) - (least + most) / 2) < 0.1 * (most - least)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: sines(9, 0), "expected ten or more tasks, so that each split has some; got 9"),
        (lambda: sines(10.5, 0), "expected ten or more tasks"),  # type: ignore[arg-type]
        (lambda: PointsConfig(num_points=0), "num_points must be a whole number"),
        (lambda: PointsConfig(share_given=1.0), "share_given must be a share, from 0 to below 1"),
        (lambda: PointsConfig(num_points=1, share_given=0.9), "expected some points given and some asked, got 1 of 1"),
        (lambda: PointsConfig(num_points=2, share_given=0.1), "got 0 of 2"),
    ],
)
def test_settings_that_make_no_tasks_are_refused(wrong: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        wrong()


def test_numbers_of_any_type_are_read_as_single_precision():
    whole = point_sets([(numpy.arange(4), numpy.arange(4) % 2 == 0)])
    assert whole.inputs.dtype == whole.outputs.dtype == torch.float32
