"""Scenes on disk: exact round trips, and a clear word about whatever is wrong with a file."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from bouncegrad.scenes import (
    NRI_TIME_STEP,
    DataError,
    Normalization,
    Scenes,
    read_meta,
    read_scenes,
    write_folder,
    write_npz,
)
from bouncegrad.scenes.writing import whole_files
from test_scenes import any_scenes, arrays, assert_same, scenes_like


def save(folder: Path, split="train", suffix="springs5", **changes):
    """A folder as others write it."""
    loc, vel, edges = arrays()
    for name, array in ({"loc": loc, "vel": vel, "edges": edges} | changes).items():
        if array is not None:
            np.save(folder / f"{name}_{split}_{suffix}.npy", array)
    return folder


@settings(max_examples=25, deadline=None)
@given(any_scenes, any_scenes)
def test_round_trips_are_exact(train, test):
    train = replace(train, entity_names=tuple(f"entity {i}" for i in range(train.num_entities)))
    with tempfile.TemporaryDirectory() as folder:
        write_npz(f"{folder}/one.npz", train)
        assert_same(read_scenes(f"{folder}/one.npz"), train)
        splits = {"train": train, "test": test} if train.feature_names == test.feature_names else {"train": train}
        write_folder(f"{folder}/set", splits, "toy_5", {"system": "toy"})
        for name, scenes in splits.items():
            assert_same(read_scenes(f"{folder}/set", name), scenes)


def named(scenes: Scenes, **changes) -> Scenes:
    """The same with whatever a scene can have beside its states."""
    return replace(
        scenes,
        exogenous=torch.tensor([[i == s % scenes.num_entities for i in range(scenes.num_entities)] for s in range(3)]),
        scene_names=("monday", "tuesday", "wednesday é"),
        names=tuple((*(f"car {s} {i}" for i in range(scenes.num_entities - 1)), "") for s in range(3)),
        **changes,
    )


@pytest.mark.parametrize("features", [("x", "y", "vx", "vy"), ("speed", "x", "type=car", "b"), ("x", "vx", "y", "vy")])
@pytest.mark.parametrize("holes", [True, False])
def test_all_that_scenes_have_comes_back(tmp_path, features, holes):
    scenes = named(scenes_like(holes=holes), feature_names=features)
    write_npz(tmp_path / "one.npz", scenes, {"system": "cars"})
    other = replace(named(scenes_like(1), feature_names=features), scene_names=("a", "b", "c"))
    write_folder(tmp_path / "set", {"train": scenes}, "cars")
    write_folder(tmp_path / "set", {"test": other}, "cars")
    found = [read_scenes(tmp_path / "one.npz"), *(read_scenes(tmp_path / "set", split) for split in ("train", "test"))]
    for same, before in zip(found, (scenes, scenes, other), strict=True):
        assert_same(same, before)
        assert same.exogenous is not None
        assert torch.equal(same.exogenous, before.exogenous)
        assert (same.scene_names, same.names) == (before.scene_names, before.names)


def test_names_and_states_of_before_do_not_stay(tmp_path):
    write_folder(tmp_path / "set", {"a": named(scenes_like(), feature_names=("a", "b", "c", "d"))}, "cars")
    write_folder(tmp_path / "set", {"a": scenes_like(1)}, "cars")
    found = read_scenes(tmp_path / "set", "a")
    assert_same(found, scenes_like(1))
    assert (found.exogenous, found.scene_names, found.names) == (None, None, None)
    write_npz(tmp_path / "one.npz", named(scenes_like()))
    write_npz(tmp_path / "two.npz", scenes_like(), read_meta(tmp_path / "one.npz"))
    assert read_scenes(tmp_path / "two.npz").names is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"states": np.zeros((3, 4, 3))}, "states of shape"),
        ({"states": np.full((3, 4, 3, 1), "a")}, "real numbers"),
        ({"mask": np.zeros((3, 4, 3))}, "mask must be bool"),
        ({"edges": np.full((3, 3, 3), "a")}, "real numbers"),
        ({"edges": np.zeros((3, 2, 2))}, "edges must fit"),
        ({"meta": np.array('{"feature_names": ["x", "y"]}')}, "expected 1 different feature names"),
    ],
)
def test_states_with_wrong_content(tmp_path, changes, message):
    np.savez(tmp_path / "one.npz", **({"states": np.zeros((3, 4, 3, 1))} | changes))
    with pytest.raises(DataError, match=message):
        read_scenes(tmp_path / "one.npz")


def test_files_as_others_write_them(tmp_path):
    scenes = read_scenes(save(tmp_path), "train")
    assert_same(replace(scenes_like(), time_step=NRI_TIME_STEP), scenes)
    save(tmp_path, "valid", edges=None)
    assert read_scenes(tmp_path, "valid").relations is None


def test_file_names_without_a_suffix(tmp_path):
    loc, vel, _ = arrays()
    np.save(tmp_path / "loc_train.npy", loc)
    np.save(tmp_path / "vel_train.npy", vel)
    assert read_scenes(tmp_path, "train").num_scenes == 3


def test_written_files_are_those_of_the_layout(tmp_path):
    scenes = scenes_like()
    write_folder(tmp_path / "new" / "set", {"train": scenes}, "springs3", {"system": "springs"})
    folder = tmp_path / "new" / "set"
    names = {"loc_train_springs3.npy", "vel_train_springs3.npy", "edges_train_springs3.npy", "scenes.json"}
    assert {path.name for path in folder.iterdir()} == names
    loc = np.load(folder / "loc_train_springs3.npy")
    assert loc.dtype == np.float64
    np.testing.assert_array_equal(loc, arrays()[0])


def test_what_is_written_beside_the_scenes_comes_back(tmp_path):
    scenes = scenes_like()
    constants = Normalization.fit(scenes)
    meta = {"system": "springs", "normalization": constants.to_dict()}
    write_folder(tmp_path / "set", {"train": scenes}, "toy", meta)
    write_npz(tmp_path / "one.npz", scenes, meta)
    for place in (tmp_path / "set", tmp_path / "one.npz"):
        found = read_meta(place)
        assert (found["system"], found["time_step"], found["feature_names"]) == (
            "springs",
            0.25,
            ["x", "y", "vx", "vy"],
        )
        assert Normalization.from_dict(found["normalization"]) == constants
    assert read_meta(save(tmp_path)) == {}


def test_splits_can_be_written_one_after_the_other(tmp_path):
    train, test = scenes_like(1), scenes_like(2)
    write_folder(tmp_path, {"train": train}, "toy", {"system": "toy"})
    write_folder(tmp_path, {"test": test}, "toy")
    assert_same(read_scenes(tmp_path, "train"), train)
    assert_same(read_scenes(tmp_path, "test"), test)
    assert read_meta(tmp_path)["system"] == "toy"


def test_a_set_without_relations_replaces_one_with(tmp_path):
    write_folder(tmp_path, {"train": scenes_like(1, holes=True)}, "toy")
    bare = scenes_like(2, with_relations=False)
    write_folder(tmp_path, {"train": bare}, "toy")
    assert_same(read_scenes(tmp_path, "train"), bare)


def test_a_failing_write_leaves_everything_as_it_was(tmp_path, monkeypatch):
    before = scenes_like(1)
    write_folder(tmp_path, {"train": before}, "toy")
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full_disk(path, array, **_):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full_disk)
    with pytest.raises(DataError, match=r"cannot write in .*No space left"):
        write_folder(tmp_path, {"train": scenes_like(2)}, "toy")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_a_failing_block_leaves_no_file(tmp_path):
    def interrupted():
        with whole_files(tmp_path) as temporary:
            (temporary / "a").write_text("half")
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        interrupted()
    assert list(tmp_path.iterdir()) == []


# what is wrong with a place


@pytest.mark.parametrize(
    "write", [lambda p, s: write_folder(p, {"train": s}, "toy"), lambda p, s: write_npz(p / "a.npz", s)]
)
def test_a_place_that_cannot_be_written(tmp_path, write):
    (tmp_path / "file").write_text("a regular file")
    with pytest.raises(DataError, match=r"cannot write in .*choose a folder"):
        write(tmp_path / "file" / "under", scenes_like())


def test_a_place_that_is_not_there(tmp_path):
    for read in (read_scenes, read_meta):
        with pytest.raises(DataError, match="does not exist"):
            read(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=r"neither a folder of .npy files nor a .npz file"):
        read_scenes(tmp_path / "notes.txt")
    with pytest.raises(DataError, match="holds no scenes"):
        read_scenes(tmp_path, "train")


def test_splits_are_listed(tmp_path):
    save(tmp_path)
    save(tmp_path, "valid")
    with pytest.raises(DataError, match=r"there is no split 'tset': .* holds 'train', 'valid'"):
        read_scenes(tmp_path, "tset")
    with pytest.raises(DataError, match=r"say which split to read: .* holds 'train', 'valid'"):
        read_scenes(tmp_path)


def test_several_data_sets_in_one_folder(tmp_path):
    save(tmp_path)
    save(tmp_path, suffix="charged5")
    with pytest.raises(DataError, match=r"several data sets .'charged5', 'springs5'."):
        read_scenes(tmp_path, "train")


def test_a_second_data_set_is_not_written_into_a_folder(tmp_path):
    save(tmp_path)
    with pytest.raises(DataError, match="already holds the data set 'springs5'"):
        write_folder(tmp_path, {"train": scenes_like()}, "charged5")


def test_an_archive_has_no_splits(tmp_path):
    write_npz(tmp_path / "one.npz", scenes_like())
    with pytest.raises(DataError, match="leave out split='train'"):
        read_scenes(tmp_path / "one.npz", "train")


# what is wrong with a file


def test_a_missing_companion(tmp_path):
    with pytest.raises(DataError, match=r"vel_train_springs5.npy does not exist"):
        read_scenes(save(tmp_path, vel=None), "train")


def test_errors_in_the_content_name_the_place(tmp_path):
    loc = arrays()[0]
    loc[0, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match=rf"^{tmp_path}: the state is nan at scene 0, time 0, entity 0"):
        read_scenes(save(tmp_path, loc=loc), "train")


def test_pickled_objects_are_refused(tmp_path):
    objects = np.array([{"a": 1}, print], dtype=object)
    with pytest.raises(DataError, match="pickled objects, which are never loaded"):
        read_scenes(save(tmp_path, loc=objects), "train")
    np.savez(tmp_path / "one.npz", loc=objects, vel=objects)
    with pytest.raises(DataError, match="pickled objects, which are never loaded"):
        read_scenes(tmp_path / "one.npz")


@pytest.mark.parametrize("length", [0, 3, 9, 60, 127, 130, 300])
def test_a_truncated_array(tmp_path, length):
    file = save(tmp_path) / "loc_train_springs5.npy"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(DataError, match=r"loc_train_springs5.npy (cannot be read|holds pickled)"):
        read_scenes(tmp_path, "train")


@pytest.mark.parametrize("length", [0, 3, 30, 100, 500, 1500])
def test_a_truncated_archive(tmp_path, length):
    file = tmp_path / "one.npz"
    write_npz(file, scenes_like())
    file.write_bytes(file.read_bytes()[:length])
    for read in (read_scenes, read_meta):
        with pytest.raises(DataError, match=r"one.npz (cannot be read|holds pickled)"):
            read(file)


def test_any_flipped_byte_is_an_error_or_a_number(tmp_path):
    file = tmp_path / "one.npz"
    write_npz(file, scenes_like(num_scenes=1, num_times=2, num_entities=2))
    content = file.read_bytes()
    for position in range(0, len(content), 7):
        file.write_bytes(content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :])
        with suppress(DataError):
            read_scenes(file)


def test_one_kind_of_file_under_the_name_of_another(tmp_path):
    np.save(tmp_path / "a.npy", arrays()[0])
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    with pytest.raises(DataError, match="is a single array"):
        read_scenes(tmp_path / "a.npz")
    write_npz(tmp_path / "b.npz", scenes_like())
    save(tmp_path)
    (tmp_path / "b.npz").rename(tmp_path / "loc_train_springs5.npy")
    with pytest.raises(DataError, match=r"is a .npz archive"):
        read_scenes(tmp_path, "train")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vel": None}, "has no array 'vel'"),
        ({"time_step": np.ones(2)}, "time_step must be one number"),
        ({"time_step": np.array("fast")}, "time_step must be one number"),
        ({"time_step": -1.0}, "time_step must be a positive number"),
        ({"meta": np.array("{")}, "is no valid JSON"),
        ({"meta": np.array("[1]")}, "must hold a JSON object"),
        ({"meta": np.array('{"entity_names": "abc"}')}, "entity_names must be a list"),
        ({"meta": np.array('{"feature_names": ["x"]}')}, "expected 4 different feature names"),
        ({"edges": np.zeros((3, 2, 2))}, "edges must fit loc"),
        ({"states": np.zeros((3, 4, 3, 1))}, "states beside loc"),
        ({"exogenous": np.zeros((3, 2), bool)}, "exogenous must be bool"),
        ({"exogenous": np.full((3, 3), "yes")}, "exogenous must be bool"),
        ({"meta": np.array('{"names": [["a", "b"]]}')}, "names must be 3 strings for each of the 3 scenes"),
        ({"meta": np.array('{"scene_names": ["a", 1, "c"]}')}, "scene_names must be 3 strings"),
        ({"meta": np.array('{"names": [1, 2, 3]}')}, "names must be"),
    ],
)
def test_an_archive_with_wrong_content(tmp_path, changes, message):
    content = {"loc": arrays()[0], "vel": arrays()[1]} | changes
    np.savez(tmp_path / "one.npz", **{name: array for name, array in content.items() if array is not None})
    with pytest.raises(DataError, match=message):
        read_scenes(tmp_path / "one.npz")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "scenes.json is no valid JSON"),
        (b"[]", "must hold a JSON object, got list"),
        (b"\xff\xfe", "scenes.json cannot be read"),
        (b"[" * 100_000, "is no valid JSON"),
        (b'{"time_step": "fast"}', "time_step must be a positive number"),
        (b'{"entity_names": ["a"]}', "must map each split"),
        (b'{"entity_names": {"train": [1, 2, 3]}}', "tuple of 3 strings"),
    ],
)
def test_a_wrong_description(tmp_path, text, message):
    (save(tmp_path) / "scenes.json").write_bytes(text)
    with pytest.raises(DataError, match=message):
        read_scenes(tmp_path, "train")


@pytest.mark.parametrize(
    ("splits", "suffix", "meta", "message"),
    [
        ({}, "toy", {}, "at least one split"),
        ({"a_b": scenes_like()}, "toy", {}, "a split is named with letters"),
        ({"../a": scenes_like()}, "toy", {}, "a split is named with letters"),
        ({"a": scenes_like()}, "../toy", {}, "a suffix is made of letters"),
        ({"a": scenes_like()}, "toy", {"constants": torch.zeros(1)}, "that JSON can hold"),
        ({"a": scenes_like()}, "toy", {"constants": float("nan")}, "that JSON can hold"),
        ({"a": scenes_like(), "b": replace(scenes_like(), time_step=1.0)}, "toy", {}, "the same time_step"),
        ({"a": scenes_like(), "b": scenes_like(num_dimensions=3)}, "toy", {}, "the same feature_names"),
        (
            {"a": scenes_like(), "b": replace(scenes_like(), feature_names=tuple("abcd"))},
            "toy",
            {},
            "the same feature_names",
        ),
    ],
)
def test_what_cannot_be_written_leaves_nothing(tmp_path, splits, suffix, meta, message):
    with pytest.raises(DataError, match=message):
        write_folder(tmp_path / "set", splits, suffix, meta)
    assert not (tmp_path / "set").exists() or not list((tmp_path / "set").iterdir())


def test_a_split_must_fit_those_that_stay(tmp_path):
    write_folder(tmp_path, {"train": scenes_like()}, "toy")
    with pytest.raises(DataError, match=r"the same time_step, got 1.0 and 0.25"):
        write_folder(tmp_path, {"test": replace(scenes_like(), time_step=1.0)}, "toy")


def test_an_archive_is_named_as_one(tmp_path):
    with pytest.raises(DataError, match=r"ends in .npz"):
        write_npz(tmp_path / "one.zip", scenes_like())


def test_the_description_is_plain_json(tmp_path):
    write_folder(tmp_path, {"train": scenes_like()}, "toy")
    assert json.loads((tmp_path / "scenes.json").read_text())["entity_names"] == {"train": ["0", "1", "2"]}
