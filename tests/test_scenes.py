"""Scenes: what is refused and how, what survives a round trip, what stays apart."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bouncegrad.scenes import (
    DataError,
    Normalization,
    Scenes,
    from_arrays,
    relation_kinds,
    split,
    stack_scenes,
    to_arrays,
)


def arrays(seed=0, num_scenes=3, num_times=4, num_dimensions=2, num_entities=3):
    rng = np.random.default_rng(seed)
    shape = (num_scenes, num_times, num_dimensions, num_entities)
    edges = rng.integers(-1, 2, (num_scenes, num_entities, num_entities)).astype(float)
    return rng.normal(size=shape), rng.normal(size=shape), edges


def scenes_like(seed=0, with_relations=True, holes=False, **sizes) -> Scenes:
    loc, vel, edges = arrays(seed, **sizes)
    scenes = from_arrays(loc, vel, edges if with_relations else None, time_step=0.25)
    if not holes:
        return scenes
    mask = torch.rand(scenes.mask.shape, generator=torch.Generator().manual_seed(seed)) > 0.3
    return replace(scenes, mask=mask)


def assert_same(a: Scenes, b: Scenes):
    assert torch.equal(a.states, b.states)
    assert torch.equal(a.mask, b.mask)
    assert (a.time_step, a.feature_names, a.entity_names) == (b.time_step, b.feature_names, b.entity_names)
    assert (a.relations is None) == (b.relations is None)
    if a.relations is not None and b.relations is not None:
        assert torch.equal(a.relations.nan_to_num(99), b.relations.nan_to_num(99))


any_scenes = st.builds(
    scenes_like,
    seed=st.integers(0, 1000),
    with_relations=st.booleans(),
    holes=st.booleans(),
    num_scenes=st.integers(1, 4),
    num_times=st.integers(2, 5),
    num_dimensions=st.integers(1, 4),
    num_entities=st.integers(2, 5),
)


# the record


def test_layout_puts_every_number_where_it_belongs():
    loc, vel, edges = arrays()
    scenes = from_arrays(loc, vel, edges)
    assert scenes.states.dtype == torch.float64
    assert scenes.feature_names == ("x", "y", "vx", "vy")
    for feature, array in enumerate((loc[:, :, 0], loc[:, :, 1], vel[:, :, 0], vel[:, :, 1])):
        np.testing.assert_array_equal(scenes.states[..., feature].numpy(), array)
    assert scenes.relations is not None
    np.testing.assert_array_equal(scenes.relations.numpy(), edges)


@pytest.mark.parametrize(
    ("num_dimensions", "names"),
    [
        (1, ("x", "vx")),
        (3, ("x", "y", "z", "vx", "vy", "vz")),
        (4, ("x0", "x1", "x2", "x3", "vx0", "vx1", "vx2", "vx3")),
    ],
)
def test_any_number_of_dimensions(num_dimensions, names):
    scenes = scenes_like(num_dimensions=num_dimensions)
    assert scenes.feature_names == names
    assert scenes.num_features == len(names)


def test_sizes_and_parts():
    scenes = scenes_like(num_scenes=4, num_times=6, num_entities=3)
    assert (scenes.num_scenes, scenes.num_times, scenes.num_entities, scenes.num_features) == (4, 6, 3, 4)
    chosen = scenes.at([2, 0])
    assert torch.equal(chosen.states, scenes.states[[2, 0]])
    assert scenes.relations is not None
    assert chosen.relations is not None
    assert torch.equal(chosen.relations, scenes.relations[[2, 0]])
    assert torch.equal(scenes.at(3).states, scenes.states[3:])
    assert torch.equal(scenes.between(1, 4).states, scenes.states[:, 1:4])


def test_masked_states_are_stored_as_zero_even_if_nan():
    loc, vel, _ = arrays()
    loc[0, 1, 0, 2], vel[1, 0, 1, 1] = np.nan, np.inf
    mask = np.ones((3, 4, 3), dtype=bool)
    mask[0, 1, 2] = mask[1, 0, 1] = False
    scenes = from_arrays(loc, vel, mask=mask)
    assert torch.isfinite(scenes.states).all()
    assert not scenes.states[0, 1, 2].any()
    assert scenes.present.all()


def test_what_is_handed_in_is_neither_changed_nor_kept():
    loc, vel, edges = arrays()
    scenes = from_arrays(loc, vel, edges)
    before = scenes.states.clone()
    loc[:] = 7
    edges[:] = 7
    assert torch.equal(scenes.states, before)
    assert scenes.relations is not None
    assert not (scenes.relations == 7).any()


@pytest.mark.parametrize("convert", [torch.from_numpy, np.ndarray.tolist, lambda a: a.astype(">f4"), np.asfortranarray])
def test_many_kinds_of_arrays_are_taken(convert):
    loc, vel, edges = arrays()
    scenes = from_arrays(convert(loc), convert(vel), convert(edges))
    np.testing.assert_allclose(scenes.states[..., 0].numpy(), loc[:, :, 0], rtol=1e-6)


def broken(**changes):
    loc, vel, edges = arrays()
    return {"loc": loc, "vel": vel, "edges": edges} | changes


def with_value(value):
    loc = arrays()[0]
    loc[1, 2, 1, 0] = value
    return loc


BAD_ARRAYS = {
    "nan": (broken(loc=with_value(np.nan)), r"nan at scene 1, time 2, entity 0 \(feature 'y'"),
    "inf": (broken(loc=with_value(-np.inf)), r"-inf at scene 1, time 2, entity 0"),
    "rank": (broken(loc=np.zeros((4, 2, 3))), r"loc of shape \[scene, time, dimension, entity\].*loc\[None\]"),
    "vel shape": (broken(vel=np.zeros((3, 5, 2, 3))), r"loc and vel must have the same shape"),
    "other N": (broken(edges=np.zeros((3, 4, 4))), r"edges must fit loc.*\(3, 3, 3\).*\(3, 4, 4\)"),
    "other S": (broken(edges=np.zeros((2, 3, 3))), r"edges must fit loc"),
    "edges rank": (broken(edges=np.zeros((3, 9))), r"edges must fit loc"),
    "infinite edge": (broken(edges=np.full((3, 3, 3), np.inf)), r"infinite at scene 0, receiver 0, sender 0"),
    "one entity": (dict(zip(("loc", "vel"), arrays(num_entities=1)[:2], strict=True)), r"at least 2 entities, got 1"),
    "no scenes": (dict(zip(("loc", "vel"), arrays(num_scenes=0)[:2], strict=True)), r"no scenes"),
    "one time": (dict(zip(("loc", "vel"), arrays(num_times=1)[:2], strict=True)), r"at least 2 times.*got 1"),
    "no dimension": (dict(zip(("loc", "vel"), arrays(num_dimensions=0)[:2], strict=True)), r"at least one feature"),
    "words": (broken(loc=np.full((3, 4, 2, 3), "a")), r"loc must hold real numbers"),
    "complex": (broken(loc=np.zeros((3, 4, 2, 3), complex)), r"loc must hold real numbers"),
    "ragged": (broken(loc=[[1.0], [1.0, 2.0]]), r"loc is no array"),
    "nothing": (broken(loc=None), r"loc must hold real numbers"),
    "time step": (broken(time_step=0), r"time_step must be a positive number"),
    "time step nan": (broken(time_step=float("nan")), r"time_step must be a positive number"),
    "time step text": (broken(time_step="0.1"), r"time_step must be a positive number"),
    "mask shape": (broken(mask=np.ones((3, 4), bool)), r"mask of shape"),
    "mask sizes": (broken(mask=np.ones((3, 4, 5), bool)), r"mask must fit"),
    "mask values": (broken(mask=np.full((3, 4, 3), 2)), r"mask must be bool"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_are_refused_clearly(case):
    given_arrays, message = BAD_ARRAYS[case]
    with pytest.raises(DataError, match=message):
        from_arrays(**given_arrays)


def record(**changes):
    good = {
        "states": torch.zeros(2, 3, 2, 2), "mask": torch.ones(2, 3, 2, dtype=torch.bool), "time_step": 1.0,
        "feature_names": ("x", "vx"), "entity_names": ("a", "b"),
    }  # fmt: skip
    return good | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"states": np.zeros((2, 3, 2, 2))}, "must be a torch tensor, got ndarray"),
        ({"states": torch.zeros(2, 3, 2)}, "expected states of shape"),
        ({"states": torch.zeros(2, 3, 2, 2, dtype=torch.complex64)}, "must be real numbers"),
        ({"mask": torch.ones(2, 3, 2)}, "mask must be bool"),
        ({"feature_names": ("x",)}, "expected 2 different feature names"),
        ({"entity_names": ("a", "a")}, "expected 2 different entity names"),
        ({"entity_names": "ab"}, "tuple of 2 strings"),
        ({"entity_names": (0, 1)}, "tuple of 2 strings"),
        ({"relations": [[0, 1], [1, 0]]}, "relations must fit.*got list"),
        ({"relations": torch.zeros(2, 3, 3)}, "relations must fit"),
        ({"exogenous": torch.zeros(2, 2)}, r"exogenous must be bool \[scene, entity\] = \(2, 2\)"),
        ({"exogenous": torch.zeros(2, 3, dtype=torch.bool)}, "exogenous must be bool"),
        ({"exogenous": [True]}, "exogenous must be bool"),
        ({"scene_names": ("one",)}, "scene_names must be 2 strings"),
        ({"scene_names": "ab"}, "scene_names must be 2 strings"),
        ({"names": (("a", "b"),)}, "names must be 2 strings for each of the 2 scenes"),
        ({"names": (("a", "b"), ("c", "c"))}, "entities of scene 1 must have different names"),
        ({"names": (("a", "b"), ("c", 1))}, "names must be 2 strings"),
    ],
)
def test_bad_records_are_refused_clearly(changes, message):
    with pytest.raises(DataError, match=message):
        Scenes(**record(**changes))


def test_names_and_roles_stay_with_their_scenes():
    relations = torch.arange(8.0).view(2, 2, 2)
    exogenous = torch.tensor([[True, False], [False, False]])
    words = {"scene_names": ("monday", "tuesday"), "names": (("a", "b"), ("c", ""))}
    scenes = Scenes(**record(relations=relations, exogenous=exogenous, **words))
    assert scenes.predicted.tolist() == [[False, True], [True, True]]
    assert scenes.pairs[0].tolist() == [[False, False], [True, False]]
    assert scenes.known_relations is not None
    assert scenes.known_relations[0].nan_to_num(-1).tolist() == [[-1, -1], [2, -1]]
    for same in (scenes.at([1, 0]).at([1, 0]), stack_scenes([scenes.at(0), scenes.at(1)]), scenes.between(0, 2)):
        assert same.exogenous is not None
        assert torch.equal(same.exogenous, exogenous)
        assert (same.scene_names, same.names) == (scenes.scene_names, scenes.names)
    assert scenes.at([1, 1]).scene_name(0) == "tuesday"
    assert scenes.names_in(1) == ("c", "")


def test_stacked_scenes_without_names_keep_those_they_have():
    named = Scenes(**record(scene_names=("monday", "tuesday"), names=(("a", "b"), ("c", "d"))))
    larger = Scenes(**record(states=torch.zeros(2, 3, 3, 2), mask=torch.ones(2, 3, 3) > 0, entity_names=tuple("xyz")))
    stacked = stack_scenes([named, larger])
    assert stacked.names == (("a", "b", ""), ("c", "d", ""), ("x", "y", "z"), ("x", "y", "z"))
    assert stacked.scene_names == ("monday", "tuesday", "0", "1")
    assert stacked.exogenous is None


def test_single_precision_becomes_double():
    scenes = Scenes(**record(states=torch.zeros(2, 3, 2, 2, dtype=torch.float32)))
    assert scenes.states.dtype == torch.float64


@pytest.mark.parametrize("indices", [[3], [-1], [0, 99]])
def test_a_scene_that_is_not_there(indices):
    with pytest.raises(DataError, match="the 3 scenes count from 0"):
        scenes_like().at(indices)


@pytest.mark.parametrize("window", [(0, 9), (-1, 3), (3, 3), (2, 1)])
def test_a_window_outside_the_recording(window):
    with pytest.raises(DataError, match="expected 0 <= start < stop <= 4"):
        scenes_like().between(*window)


def test_no_scene_and_no_motion_left():
    with pytest.raises(DataError, match="no scenes"):
        scenes_like().at([])
    with pytest.raises(DataError, match="at least 2 times"):
        scenes_like().between(1, 2)


# parts and wholes


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 60), st.lists(st.integers(1, 5), min_size=1, max_size=4), st.booleans())
def test_parts_share_no_scene(num_scenes, weights, use_all):
    loc = np.zeros((num_scenes, 2, 1, 2))
    loc += np.arange(num_scenes)[:, None, None, None]
    fractions = [w / (sum(weights) + (0 if use_all else 1)) for w in weights]
    if num_scenes * min(fractions) <= 1:
        return
    parts = split(from_arrays(loc, loc), fractions, torch.Generator().manual_seed(0))
    found = [int(x) for part in parts for x in part.states[:, 0, 0, 0]]
    assert len(found) == len(set(found))
    assert not use_all or len(found) == num_scenes
    for part, fraction in zip(parts, fractions, strict=True):
        assert abs(part.num_scenes - fraction * num_scenes) <= 1


def test_the_same_generator_makes_the_same_parts():
    a, b = (split(scenes_like(num_scenes=9), (0.5, 0.5), torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(x.states, y.states) for x, y in zip(a, b, strict=True))


def test_a_part_without_scenes_is_refused():
    with pytest.raises(DataError, match=r"leave a part empty \(sizes \[3, 0\]\)"):
        split(scenes_like(), (0.99, 0.01), torch.Generator())


@pytest.mark.parametrize("fractions", [(), (0.5, 0.6), (1.0, 0.0), (-0.5,), (float("nan"),)])
def test_fractions_that_make_no_parts(fractions):
    with pytest.raises(DataError, match="positive fractions that sum to at most 1"):
        split(scenes_like(), fractions, torch.Generator())


def test_stacked_scenes_come_apart_unchanged():
    small, large = scenes_like(1, num_entities=2), scenes_like(2, num_entities=4, num_scenes=2)
    both = stack_scenes([small, large])
    assert (both.num_scenes, both.num_entities) == (5, 4)
    assert both.present.sum(1).tolist() == [2, 2, 2, 4, 4]
    assert torch.equal(both.states[:3, :, :2], small.states)
    assert torch.equal(both.states[3:], large.states)
    assert not both.states[:3, :, 2:].any()
    assert both.relations is not None
    assert small.relations is not None
    assert torch.equal(both.relations[:3, :2, :2], small.relations)
    assert both.relations[:3, 2:].isnan().all()
    assert both.relations[:3, :, 2:].isnan().all()
    assert both.entity_names == ("0", "1", "2", "3")


def test_stacked_relations_are_unknown_where_a_set_has_none():
    known, unknown = scenes_like(1), scenes_like(2, with_relations=False)
    both = stack_scenes([known, unknown])
    assert both.relations is not None
    assert both.relations[3:].isnan().all()
    assert stack_scenes([unknown, unknown]).relations is None


def test_stacked_names_that_do_not_agree_are_numbered():
    named = replace(scenes_like(), entity_names=("anna", "bob", "carl"))
    assert stack_scenes([named, named]).entity_names == ("anna", "bob", "carl")
    assert stack_scenes([named, scenes_like()]).entity_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ([], "at least one set"),
        ([scenes_like(), scenes_like(num_times=5)], "same num_times"),
        ([scenes_like(), scenes_like(num_dimensions=1)], "same feature_names"),
        ([scenes_like(), replace(scenes_like(), time_step=1.0)], "same time_step"),
    ],
)
def test_what_cannot_be_stacked(sets, message):
    with pytest.raises(DataError, match=message):
        stack_scenes(sets)


# relations


def test_every_label_keeps_its_identity():
    relations = torch.tensor([[[1.0, -1, 1], [-1, 1, 1], [1, float("nan"), 1]]])
    kinds, labels = relation_kinds(relations)
    assert labels == (-1.0, 1.0)
    assert kinds.tolist() == [[[-1, 0, 1], [0, -1, 1], [1, -1, -1]]]


def test_the_diagonal_names_no_kind():
    relations = torch.full((2, 3, 3), 5.0)
    relations[:, range(3), range(3)] = 1.0
    assert relation_kinds(relations)[1] == (5.0,)


def test_relations_of_another_shape_have_no_kinds():
    with pytest.raises(DataError, match="receiver, sender"):
        relation_kinds(torch.zeros(2, 3, 4))


# normalisation


def test_positions_share_one_pair_and_velocities_another():
    scenes = scenes_like(num_scenes=20)
    loc, vel = to_arrays(scenes)
    constants = Normalization.fit(scenes)
    assert constants.minimum == (loc.min(), loc.min(), vel.min(), vel.min())
    assert constants.maximum == (loc.max(), loc.max(), vel.max(), vel.max())
    reference = (loc - loc.min()) * 2 / (loc.max() - loc.min()) - 1
    normalised = constants.apply(scenes.states, torch.float64)
    np.testing.assert_array_equal(normalised[..., :2].numpy(), reference.swapaxes(2, 3))
    assert constants.apply(scenes.states).dtype == torch.float32


def test_only_what_is_given_and_valid_counts():
    scenes = scenes_like(num_scenes=4)
    states, mask = scenes.states.clone(), scenes.mask.clone()
    states[0] = 100.0
    states[1, 0, 0] = -100.0
    mask[1, 0, 0] = False
    dirty = replace(scenes, states=states, mask=mask)
    part = Normalization.fit(dirty.at([1, 2, 3]))
    assert max(part.maximum) < 100
    assert min(part.minimum) > -100
    assert Normalization.fit(dirty).maximum == (100.0,) * 4


def test_zeros_of_masked_states_are_no_extremes():
    loc = np.full((1, 3, 2, 2), 5.0) + np.arange(2)
    mask = np.array([[[True, True], [False, True], [True, True]]])
    assert Normalization.fit(from_arrays(loc, loc, mask=mask)).minimum == (5.0,) * 4


@settings(max_examples=30, deadline=None)
@given(any_scenes)
def test_undo_is_the_inverse(scenes):
    constants = Normalization.fit(replace(scenes, mask=torch.ones_like(scenes.mask)))
    normalised = constants.apply(scenes.states, torch.float64)
    assert float(normalised.abs().max()) <= 1 + 1e-12
    assert torch.allclose(constants.undo(normalised), scenes.states, atol=1e-12)
    assert Normalization.from_dict(json.loads(json.dumps(constants.to_dict()))) == constants


def test_a_constant_feature_becomes_zero_and_comes_back():
    constants = Normalization((3.0, 0.0), (3.0, 2.0))
    states = torch.tensor([[3.0, 1.5]])
    assert constants.apply(states).tolist() == [[0.0, 0.5]]
    assert constants.undo(constants.apply(states)).tolist() == [[3.0, 1.5]]


def test_other_features_are_groups_of_their_own():
    states = torch.arange(24, dtype=torch.float64).reshape(1, 4, 2, 3)
    scenes = Scenes(states, torch.ones(1, 4, 2, dtype=torch.bool), 1.0, ("x", "heading", "mood"), ("a", "b"))
    assert Normalization.fit(scenes).maximum == (21.0, 22.0, 23.0)
    assert Normalization.fit(scenes, ("a", "a", "b")).maximum == (22.0, 22.0, 23.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Normalization((0.0,), (1.0, 2.0)), "a minimum and a maximum for each feature"),
        (lambda: Normalization((), ()), "a minimum and a maximum for each feature"),
        (lambda: Normalization((2.0,), (1.0,)), "finite minimum <= maximum"),
        (lambda: Normalization((float("nan"),), (1.0,)), "finite minimum <= maximum"),
        (lambda: Normalization((-1e308,), (1e308,)), "finite minimum <= maximum"),
        (lambda: Normalization.from_dict({"minimum": [0.0]}), "expected normalization constants"),
        (lambda: Normalization.from_dict({"minimum": ["a"], "maximum": [1]}), "expected normalization constants"),
        (lambda: Normalization((0.0,), (1.0,)).apply(torch.zeros(3, 2)), "of 1 features, got"),
        (lambda: Normalization.fit(scenes_like(), ("a",)), "expected one group for each"),
        (lambda: Normalization.fit(Scenes(**record(mask=torch.zeros(2, 3, 2) > 0))), "no state is valid"),
    ],
)
def test_constants_that_make_no_sense(make, message):
    with pytest.raises(DataError, match=message):
        make()
