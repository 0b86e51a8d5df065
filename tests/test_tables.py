"""Tables become scenes: every number at its place, whatever the order of the rows; all else is refused clearly."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from bouncegrad.cli import main
from bouncegrad.scenes import (
    DataError,
    Scenes,
    TableColumns,
    iter_tables,
    read_meta,
    read_scenes,
    read_table,
    stack_scenes,
)
from test_scenes import assert_same

CARS = Path(__file__).parents[2] / "shared" / "data" / "openacc.parquet"

WALK = """scene,time,agent,x,speed
b,0.0,anna,0,1
b,0.1,anna,1,1
b,0.2,anna,3,1
b,0.1,bob,5,2
b,0.2,bob,5,2
a,3.0,carl,0,3
a,3.1,carl,1,3
a,3.2,carl,2,3
a,3.3,carl,3,3
a,3.0,anna,9,4
a,3.1,anna,9,4
a,3.3,anna,9,4
"""


def walk() -> pl.DataFrame:
    return pl.read_csv(WALK.encode())


def table(**columns) -> pl.DataFrame:
    """Two entities at times 0 to 3, with other columns where wanted."""
    rows = {"scene": ["s"] * 8, "time": [0, 1, 2, 3] * 2, "agent": ["a"] * 4 + ["b"] * 4}
    return pl.DataFrame({**rows, "x": [0.0, 1, 2, 3, 9, 9, 9, 9]} | columns, strict=False)


def sampled(times, values, **columns) -> pl.DataFrame:
    """The same samples of a and, far off, b; features are no positions."""
    double = {"time": [*times, *times], "agent": ["a"] * len(times) + ["b"] * len(times)}
    return pl.DataFrame({**double, "speed": [*values, *(100 + v for v in values)]} | columns, strict=False)


def assert_all_same(one: Scenes, other: Scenes):
    assert_same(one, other)
    assert (one.scene_names, one.names) == (other.scene_names, other.names)
    assert (one.exogenous is None) == (other.exogenous is None)
    if one.exogenous is not None and other.exogenous is not None:
        assert torch.equal(one.exogenous, other.exogenous)


def speeds(scenes: Scenes, entity: int = 0, scene: int = 0) -> list[float | None]:
    """The first feature of an entity, None where it was not measured."""
    values, known = scenes.states[scene, :, entity, 0].tolist(), scenes.mask[scene, :, entity].tolist()
    return [value if there else None for value, there in zip(values, known, strict=True)]


# every number at its place


def check_walk(scenes: Scenes):
    assert scenes.scene_names == ("a", "b")
    assert scenes.names == (("anna", "carl"), ("anna", "bob"))
    assert scenes.entity_names == ("0", "1")
    assert (scenes.time_step, scenes.feature_names) == (0.1, ("x", "vx", "speed"))
    assert scenes.mask[0].T.tolist() == [[True, True, False, False], [True] * 4]
    assert scenes.mask[1].T.tolist() == [[True, True, True, False], [False, True, True, False]]
    torch.testing.assert_close(scenes.states[1, :3, 0], torch.tensor([[0, 10, 1], [1, 15, 1], [3, 20, 1.0]]).double())
    torch.testing.assert_close(scenes.states[0, :, 1, 1], torch.full((4,), 10.0).double())
    assert not scenes.states[0, 2:, 0].any()


def test_a_walk_from_every_source(tmp_path):
    (tmp_path / "walk.csv").write_text(WALK)
    (tmp_path / "walk.tsv").write_text(WALK.replace(",", "\t"))
    (tmp_path / "semicolons.csv").write_text(WALK.replace(",", ";"))
    walk().write_parquet(tmp_path / "walk.parquet")
    (tmp_path / "parts").mkdir()
    walk().filter(pl.col("scene") == "a").write_csv(tmp_path / "parts/1.csv")
    walk().filter(pl.col("scene") == "b").write_csv(tmp_path / "parts/2.csv")
    sources = [
        tmp_path / "walk.csv", str(tmp_path / "walk.tsv"), tmp_path / "semicolons.csv", tmp_path / "walk.parquet",
        str(tmp_path / "parts/*.csv"), [tmp_path / "parts/1.csv", tmp_path / "parts/2.csv"],
        walk(), walk().lazy(),
        walk().sample(fraction=1.0, shuffle=True, seed=1), walk().cast({"scene": pl.Categorical}),
        pd.read_csv(tmp_path / "walk.csv"), pd.read_csv(tmp_path / "walk.csv").convert_dtypes(),
        pd.read_csv(tmp_path / "walk.csv").astype({"agent": "category", "time": "float32"}),
    ]  # fmt: skip
    first = read_table(sources[0])
    check_walk(first)
    for source in sources[1:]:
        assert_all_same(read_table(source), first)
    assert_all_same(read_scenes(tmp_path / "walk.csv"), first)
    assert_all_same(read_scenes(tmp_path / "walk.parquet"), first)
    assert read_meta(tmp_path / "walk.csv") == {}


def test_files_without_scenes_are_one_each(tmp_path):
    for name in ("9", "10"):
        table().drop("scene").write_csv(tmp_path / f"{name}.csv")
    scenes = read_table(str(tmp_path / "*.csv"))
    assert scenes.scene_names == ("9", "10")
    assert scenes.entity_names == ("a", "b")
    assert read_table(table().drop("scene")).scene_names == ("0",)


def test_numbers_as_names_are_sorted_as_numbers():
    scenes = read_table(table(agent=[10] * 4 + [9] * 4, scene=[2.0] * 8))
    assert (scenes.names, scenes.scene_names) == ((("9", "10"),), ("2",))


def test_names_of_columns_can_be_said():
    named = table().rename({"time": "when", "agent": "who", "scene": "which", "x": "height"})
    scenes = read_table(named, TableColumns(scene="which", time="when", entity="who", features=("height",)))
    assert scenes.feature_names == ("height",)
    assert speeds(scenes) == [0, 1, 2, 3]


def test_what_is_guessed_is_said(caplog):
    with caplog.at_level(logging.INFO, "bouncegrad"):
        read_table(walk())
    assert "column 'agent'; features: x, speed" in caplog.text
    assert "time step: 0.1" in caplog.text
    assert "vx derived" in caplog.text


@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S%.3f", "%Y-%m-%dT%H:%M:%S%.3fZ", None])
def test_dates_are_times(form):
    date = pl.datetime(2026, 3, 1) + pl.duration(milliseconds=pl.col("time") * 250)
    dated = table().with_columns(time=date.dt.to_string(form) if form else date)
    scenes = read_table(dated)
    assert (scenes.time_step, scenes.num_times) == (0.25, 4)


def test_missing_numbers_are_not_measured(tmp_path):
    (tmp_path / "gaps.csv").write_text(
        "time,id,speed,v\n0,a,1,1\n1,a,,1\n2,a,3,nan\n3,a,4,1\n0,b,NA,1\n1,b,1,1\n3,b,1,1"
    )
    scenes = read_table(tmp_path / "gaps.csv", TableColumns(features=("speed", "v")))
    assert speeds(scenes) == [1, None, None, 4]
    assert speeds(scenes, 1) == [None, 1, None, 1]


def test_rows_that_repeat_are_dropped_and_counted(caplog):
    with caplog.at_level(logging.INFO, "bouncegrad"):
        scenes = read_table(pl.concat([walk(), walk(), walk()[:1]]))
    check_walk(scenes)
    assert "13 rows repeat another one" in caplog.text


# times


def test_times_of_single_precision_make_a_grid():
    times = (5000 + 0.1 * np.arange(3000)).astype(np.float32)
    scenes = read_table(sampled(times, np.arange(3000.0)))
    assert (scenes.time_step, scenes.num_times) == (0.1, 3000)
    assert speeds(scenes) == list(range(3000))


def test_jitter_is_taken_for_the_grid():
    times = np.arange(50) + np.random.default_rng(0).uniform(-0.07, 0.07, 50)
    times[0] = 0.07
    scenes = read_table(sampled(times, np.arange(50.0)), time_step=1.0)
    assert speeds(scenes) == list(range(50))


def test_a_time_step_that_no_short_number_holds():
    scenes = read_table(sampled(np.arange(60_000) / 30, np.zeros(60_000)))
    assert scenes.time_step == pytest.approx(1 / 30, rel=1e-9)
    assert bool(scenes.mask.all())


def test_means_of_bins():
    scenes = read_table(sampled(np.arange(10) / 2, np.arange(10.0)), time_step=1.0, resample="mean")
    assert speeds(scenes) == [0.5, 2.5, 4.5, 6.5, 8.5]
    assert speeds(scenes, 1) == [100.5, 102.5, 104.5, 106.5, 108.5]


def test_linear_does_not_cross_gaps():
    times = [0, 1.2, 2, 3, 6, 7, 8]
    scenes = read_table(sampled(times, [10.0 * time for time in times]), time_step=0.5, resample="linear")
    expected = [t / 2 * 10 if t / 2 <= 3 or t / 2 >= 6 else None for t in range(17)]
    assert speeds(scenes) == pytest.approx(expected, abs=1e-12)


def test_the_nearest_sample():
    times = [0, 1, 2.2, 3, 4, 8]
    scenes = read_table(sampled(times, [0.0, 1, 2, 3, 4, 8]), time_step=1.0, resample="nearest")
    assert speeds(scenes) == [0, 1, 2, 3, 4, None, None, None, 8]
    finer = read_table(sampled([0, 1, 2], [0.0, 1, 2]), time_step=0.25, resample="nearest")
    assert speeds(finer) == [0, 0, 1, 1, 1, 1, 2, 2, 2]


def test_short_gaps_are_filled():
    times = [0, 1, 3, 6, 7]
    given = sampled(times, [0.0, 1, 5, 8, 9])
    assert speeds(read_table(given)) == [0, 1, None, 5, None, None, 8, 9]
    assert speeds(read_table(given, interpolate=1)) == [0, 1, 3, 5, None, None, 8, 9]
    assert speeds(read_table(given, interpolate=2)) == [0, 1, 3, 5, 6, 7, 8, 9]


def test_velocities():
    given = table(time=[0, 2, 4, 8] * 2, x=[0.0, 2, 8, 5, 1, 1, 1, 1])
    scenes = read_table(given, time_step=2)
    assert scenes.mask[0, :, 0].tolist() == [True, True, True, False, False]
    assert scenes.states[0, :3, 0].tolist() == [[0, 1], [2, 2], [8, 3]]
    assert read_table(given, velocities="none").feature_names == ("x",)
    both = table(vx=[7.0] * 8, y=[0.0] * 8)
    kept = read_table(both)
    assert kept.feature_names == ("x", "y", "vx", "vy")
    assert kept.states[0, :, 0, 2].tolist() == [7] * 4
    assert read_table(both, velocities="derive").states[0, :, 0, 2].tolist() == [1] * 4
    assert read_table(table(vx=[7.0] * 8)).feature_names == ("x", "vx")


# roles, types, relations


@pytest.mark.parametrize(
    "columns",
    [
        {"role": ["exogenous"] * 4 + ["follower"] * 4},
        {"role": [True] * 4 + [False] * 4},
        {"role": [1] * 4 + [0] * 4},
        {"role": [1] * 4 + [None] * 4},
    ],
)
def test_roles(columns):
    scenes = read_table(table(**columns), TableColumns(role="role"))
    assert scenes.exogenous is not None
    assert scenes.exogenous.tolist() == [[True, False]]


@pytest.mark.parametrize("value", [1, "1", 1.0])
@pytest.mark.parametrize("values", [[1, 2], ["1", "2"], [1.0, 2.0]])
def test_a_rule_for_roles(value, values):
    given = table(position=[values[0]] * 4 + [values[1]] * 4)
    scenes = read_table(given, TableColumns(exogenous=("position", value)))
    assert scenes.exogenous is not None
    assert scenes.exogenous.tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("value", "leads"), [("min", [[False, True], [True, False]]), ("max", [[True, False], [False, True]])]
)
def test_the_least_or_the_greatest_of_each_scene(value, leads):
    positions = [5] * 4 + [4] * 4 + [1] * 4 + [2] * 4
    rows = table()
    two = pl.concat([rows.with_columns(scene=pl.lit("one")), rows.with_columns(scene=pl.lit("two"))])
    scenes = read_table(two.with_columns(pl.Series("position", positions)), TableColumns(exogenous=("position", value)))
    assert scenes.exogenous is not None
    assert scenes.exogenous.tolist() == leads


def test_the_least_of_each_scene_in_text_and_in_several_files(tmp_path):
    rows = "".join(
        f"{scene},{time},{car},{time + car},{car}\n" for scene in "ab" for time in range(3) for car in (2, 1, 3)
    )
    head = "scene,time,car,speed,position\n"
    (tmp_path / "all.csv").write_text(head + rows)
    lines = rows.splitlines(keepends=True)
    for car in "123":  # each file has one entity of both scenes
        (tmp_path / f"car{car}.csv").write_text(head + "".join(line for line in lines if line.split(",")[2] == car))
    for source in ("all.csv", "car*.csv"):
        for word, leads in (("min", [True, False, False]), ("max", [False, False, True])):
            scenes = read_table(tmp_path / source, TableColumns(exogenous=("position", word)))
            assert scenes.exogenous is not None
            assert scenes.exogenous.tolist() == [leads, leads]
            parts = list(iter_tables(tmp_path / source, TableColumns(exogenous=("position", word)), scenes_at_once=1))
            assert_same(stack_scenes(parts), scenes)


def test_names_of_columns_in_capitals_and_with_spaces_around_them(tmp_path):
    rows = [(time, car, 2 * time, car, 2, 0) for time in range(3) for car in (0, 1)]
    text = "".join(", ".join(map(str, row)) + "\n" for row in rows)
    (tmp_path / "spaces.csv").write_text("time, id, x, y, vx, vy\n" + text)
    (tmp_path / "capitals.csv").write_text("Time,ID,X,Y,VX,VY\n" + text)
    (tmp_path / "places.csv").write_text("time, id, x, y, a, b\n" + text)
    plain, capitals = read_table(tmp_path / "spaces.csv"), read_table(tmp_path / "capitals.csv")
    assert plain.feature_names == ("x", "y", "vx", "vy")
    assert capitals.feature_names == ("X", "Y", "VX", "VY")
    assert torch.equal(plain.states, capitals.states)
    assert read_table(tmp_path / "places.csv").feature_names == ("x", "y", "vx", "vy")
    derived = read_table(tmp_path / "capitals.csv", velocities="derive")
    assert derived.feature_names == capitals.feature_names
    assert torch.equal(derived.states, capitals.states)
    frame = pl.read_csv(tmp_path / "capitals.csv").rename(lambda name: f" {name.lower()} ")
    assert_same(replace(read_table(frame), scene_names=None), replace(plain, scene_names=None))


def test_types_are_features():
    scenes = read_table(table(sort=["car"] * 4 + ["bus"] * 4), TableColumns(entity_type="sort"))
    assert scenes.feature_names == ("x", "vx", "type=bus", "type=car")
    assert scenes.states[0, :, :, 2:].tolist() == [[[0, 1], [1, 0]]] * 4


def test_relations():
    labels = pl.DataFrame({"scene": ["a", "b"], "receiver": ["anna", "bob"], "sender": ["carl", "anna"], "relation": 2})
    scenes = read_table(walk(), relations=labels)
    assert scenes.relations is not None
    assert scenes.relations.nan_to_num(-1).tolist() == [[[-1, 2], [-1, -1]], [[-1, -1], [2, -1]]]
    everywhere = pl.DataFrame({"receiver": ["a"], "sender": ["b"], "relation": [0.5]})
    assert read_table(table(), relations=everywhere).labelled


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"receiver": ["a"], "sender": ["b"]}, "has no column 'relation'"),
        ({"receiver": ["a"], "sender": ["z"], "relation": [1]}, "the sender 'z' in scene 's'"),
        ({"receiver": ["a"], "sender": ["b"], "relation": ["x"]}, "a finite number as relation"),
        ({"receiver": ["a"], "sender": ["b"], "relation": [float("inf")]}, "a finite number as relation"),
        ({"receiver": ["a", "a"], "sender": ["b", "b"], "relation": [1, 2]}, "two things of one pair"),
        ({"scene": ["q"], "receiver": ["a"], "sender": ["b"], "relation": [1]}, "scene 'q', which"),
    ],
)
def test_wrong_relations(labels, message):
    with pytest.raises(DataError, match=message):
        read_table(table(), relations=pl.DataFrame(labels))


# parts


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("scenes_at_once", [1, 2, 7])
def test_parts_are_the_whole(tmp_path, ending, scenes_at_once):
    rng = np.random.default_rng(3)
    rows = [
        {"scene": f"s{s}", "time": t, "agent": f"e{e}", "x": rng.normal(), "sort": "ab"[e % 2], "role": e == s}
        for s in range(5) for t in range(3 + s) for e in range(s % 2, 3) if rng.random() < 0.9
    ]  # fmt: skip
    given = pl.DataFrame(rows).sample(fraction=1.0, shuffle=True, seed=0)
    place = tmp_path / f"many.{ending}"
    given.write_csv(place) if ending == "csv" else given.write_parquet(place)
    labels = pl.DataFrame({"scene": ["s1", "s4"], "receiver": ["e1", "e2"], "sender": ["e2", "e1"], "relation": [0, 1]})
    options = {"columns": TableColumns(entity_type="sort", role="role"), "relations": labels}
    whole = read_table(place, **options, interpolate=1)
    parts = list(iter_tables(place, **options, interpolate=1, scenes_at_once=scenes_at_once))
    assert [part.num_scenes for part in parts] == [min(scenes_at_once, 5 - s) for s in range(0, 5, scenes_at_once)]
    assert_all_same(stack_scenes(parts), whole)


@pytest.mark.parametrize("scenes_at_once", [0, -1, 1.5, True])
def test_parts_of_no_scenes(scenes_at_once):
    with pytest.raises(DataError, match="scenes_at_once must be"):
        iter_tables(walk(), scenes_at_once=scenes_at_once)


# what is refused

DOUBLE = pl.concat([table(), table(x=[5.0] * 8)])

REFUSED = {
    "unknown column": (table(), {"columns": TableColumns(features=("speed",))}, "no column 'speed': there are 'scene'"),
    "no entity": (table().rename({"agent": "who"}), {}, "no column of the entity such as .*TableColumns.entity="),
    "no time": (table().rename({"time": "when"}), {}, "no column of the time such as"),
    "no features": (table().rename({"x": "height"}), {}, "no columns of features such as 'x'"),
    "two entities": (table(player=["a"] * 8), {}, "several columns that could be the entity: 'agent', 'player'"),
    "two features": (table(X=[1.0] * 8), {}, "could be one feature: 'x', 'X'"),
    "empty": (table()[:0], {}, "has no rows"),
    "one entity": (table()[:4], {}, "scene 's' of the table has one entity only"),
    "one time": (table().filter(pl.col("time") == 1), {}, "scene 's' of the table has one time only"),
    "nothing measured": (table(x=[None] * 8), {}, "scene 's' of the table has not 2 measured entities"),
    "one measured": (table(x=[1.0] * 4 + [None] * 4), {}, "scene 's' of the table has not 2 measured entities"),
    "contradiction": (DOUBLE, {}, "different samples of entity 'a' in scene 's' at one time, 0.0: .0.0,. and .5.0,."),
    "text": (table(x=["1"] * 7 + ["fast"]), {}, "'x' is 'fast' in row 8 .scene 's', entity 'b', time '3'.: .*a number"),
    "infinite": (table(x=[1.0] * 6 + [np.inf, 1]), {}, "'x' is 'inf' in row 7 .*expected a finite number"),
    "lists": (table(x=[[1.0]] * 8), {}, "the column 'x' must hold numbers, got List"),
    "list names": (table(agent=[["a"]] * 8), {}, "the column 'agent' must hold names"),
    "no time there": (table(time=[0, 1, 2, None] * 2), {}, "'time' is None in row 4 .*a time is a finite number"),
    "time text": (table(time=["0", "1", "2", "soon"] * 2), {}, "'time' is 'soon' in row 4"),
    "time infinite": (table(time=[0, 1, 2, np.inf] * 2), {}, "'time' is 'inf' in row 4"),
    "no name": (table(agent=["a"] * 4 + [None] * 4), {}, "'agent' is None in row 5 .*the name of its entity"),
    "no scene name": (table(scene=["s"] * 7 + [""]), {}, "'scene' is '' in row 8 .*the name of its scene"),
    "uneven": (table(time=[0, 1, 2, 3.4] * 2), {}, "entity 'a' in scene 's' was measured at time 3.4, .*resample="),
    "wrong step": (table(), {"time_step": 0.7}, "was measured at time .*expected a whole number"),
    "mistyped time": (table(time=[0, 1, 2, 3e9] * 2), {}, "places .*the longest scene is 's', from 0.0 to 3000000000"),
    "too long a step": (table(), {"time_step": 9, "resample": "mean"}, "not 2 measured times, at a time step of 9"),
    "no neighbours": (table(x=[1.0, None] * 4), {}, "not 2 measured entities that have a neighbour in time"),
    "once each": (table()[::5], {}, "no entity of the table was measured twice"),
    "role changes": (
        table(role=[1, 0] * 4), {"columns": TableColumns(role="role")}, "the role of entity 'a' in scene 's'.* changes",
    ),
    "type changes": (
        table(sort=list("abababab")), {"columns": TableColumns(entity_type="sort")}, "the type of entity 'a'.* changes",
    ),
    "no type": (
        table(sort=["a"] * 7 + [None]), {"columns": TableColumns(entity_type="sort")}, "needs the type of its entity",
    ),
    "nothing to derive": (
        table().rename({"x": "speed"}), {"velocities": "derive"}, "from positions",
    ),
    "step": (table(), {"time_step": 0}, "time_step must be a positive number"),
    "resample": (table(), {"resample": "cubic"}, "resample must be one of mean, linear, nearest"),
    "interpolate": (table(), {"interpolate": -1}, "interpolate must be a number of samples"),
    "velocities": (table(), {"velocities": "yes"}, "velocities must be one of"),
    "no frame": ({"x": [1]}, {}, "expected a path to a .csv or .parquet, or a data frame, got dict"),
    "nothing": (None, {}, "got NoneType"),
    "no paths": ([], {}, "expected a list of paths"),
    "mixed names": (pd.DataFrame({"t": [0, 1], "id": ["a", 1], "x": [0, 0]}), {}, "'id' mixes cells .* and numbers"),
    "numbers as columns": (pd.DataFrame([[0, 1]]), {}, "the name of a column must be text, got 0"),
    "levels of columns": (pd.DataFrame({("a", "x"): [1]}), {}, "the name of a column must be text"),
    "two of a name": (pd.DataFrame([[0, 1, 2]], columns=["t", "x", "x"]), {}, "expected a path .* got DataFrame"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bad_tables_are_refused_clearly(case):
    source, options, message = REFUSED[case]
    with pytest.raises(DataError, match=message):
        read_table(source, **options)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"features": "x"}, "features must be a tuple of column names"),
        ({"features": ("x", "x")}, "given for two things"),
        ({"time": "x", "features": ("x",)}, "given for two things"),
        ({"exogenous": "position=1"}, "exogenous must be a column and a value"),
        ({"entity": 3}, "columns are given by their names"),
    ],
)
def test_bad_columns_are_refused_clearly(columns, message):
    with pytest.raises(DataError, match=message):
        TableColumns(**columns)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "cannot be read"),
        ("a.csv", b"time,id,x\n", "has no rows"),
        ("a.csv", b"time,id,x\n1,\xff\xfe,2\n", "cannot be read"),
        ("a.csv", b"time,id,x\n1,a,2,9\n2,a,2\n1,b,1\n2,b,2\n", "cannot be read"),
        ("a.csv", b"time,id,x\n1,a\n", "one entity only"),
        ("a.csv", b"\x00\x01\x02", "has no column of the time"),
        ("a.parquet", b"PAR1", "cannot be read"),
        ("a.parquet", b"time,id,x\n", "cannot be read"),
        ("a.xlsx", b"", "ends in .csv, .tsv, .parquet"),
    ],
)
def test_files_that_are_no_tables(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / name)


def test_places_without_tables(tmp_path):
    for source in (tmp_path / "none.csv", str(tmp_path / "*.csv"), tmp_path, "\0.csv"):
        with pytest.raises(DataError, match=r"does not exist|no file is called|is a folder|is no path"):
            read_table(source)


def test_a_cut_file_is_refused(tmp_path):
    walk().write_parquet(tmp_path / "walk.parquet")
    content = (tmp_path / "walk.parquet").read_bytes()
    for length in range(0, len(content), 97):
        (tmp_path / "walk.parquet").write_bytes(content[:length])
        with pytest.raises(DataError, match="cannot be read"):
            read_table(tmp_path / "walk.parquet")


# the command, and cars


def test_the_command(tmp_path, capsys):
    (tmp_path / "walk.csv").write_text(WALK)
    words = ["table", str(tmp_path / "walk.csv"), "--out", str(tmp_path / "walk.npz"), "--features", "x"]
    assert main([*words, "--exogenous", "agent=anna", "--interpolate", "1"]) == 0
    said = capsys.readouterr().out
    assert "2 scenes of 2 entities at 3 to 4 times, time step 0.1" in said
    assert "1 samples inside short gaps were interpolated" in said
    columns = TableColumns(features=("x",), exogenous=("agent", "anna"))
    whole = read_table(tmp_path / "walk.csv", columns, interpolate=1)
    assert_all_same(read_scenes(tmp_path / "walk.npz"), whole)
    assert main([*words, "--exogenous", "anna"]) == 2
    assert "expected COLUMN=VALUE" in capsys.readouterr().err


@pytest.mark.skipif(not CARS.exists(), reason="shared/data/openacc.parquet is not there")
def test_real_cars():
    columns = TableColumns(features=("speed",), exogenous=("position", 1))
    scenes = read_table(CARS, columns, time_step=1.0, resample="mean")
    assert (scenes.num_scenes, scenes.feature_names, scenes.time_step) == (36, ("speed",), 1.0)
    assert scenes.present.sum(1).tolist()[:4] == [11, 10, 10, 11]
    assert scenes.exogenous is not None
    rows = pl.read_parquet(CARS).filter(pl.col("position") == 1).select("scene", "agent").unique()
    for scene, agent in rows.rows():
        number = (scenes.scene_names or ()).index(scene)
        assert [
            name for name, marked in zip(scenes.names_in(number), scenes.exogenous[number], strict=True) if marked
        ] == [agent]
    assert int(scenes.exogenous.sum()) == rows.height
    one = pl.read_parquet(CARS).filter((pl.col("scene") == "dynamic_part2") & (pl.col("position") == 3)).sort("time")
    mean = one["speed"].cast(pl.Float64)[:10].mean()
    number = (scenes.scene_names or ()).index("dynamic_part2")
    assert scenes.states[number, 0, scenes.names_in(number).index(one["agent"][0]), 0].item() == pytest.approx(mean)
    assert replace(scenes, exogenous=None).mask.any(2).sum(1).min() > 2
