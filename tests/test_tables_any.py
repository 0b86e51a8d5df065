"""Whatever a table holds, it becomes finite scenes or a clear refusal; and good tables never lose a number.

BOUNCEGRAD_EXAMPLES=5000 tries so many tables for each property, other ones in each run.
"""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from bouncegrad.scenes import DataError, Scenes, TableColumns, iter_tables, read_table, stack_scenes
from test_tables import assert_all_same

EXAMPLES = int(os.environ.get("BOUNCEGRAD_EXAMPLES", "0"))
FEW = 12
some = settings(
    max_examples=EXAMPLES or FEW,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(width=64),
    st.sampled_from([1e308, -1e308, 5e-324, 1e17, 2.0**53, 0.1, -0.0, math.nan, math.inf]),
    st.sampled_from(
        ["", " ", "a", "A", "1", "1.0", "0x1", "1e999", "nan", "NA", "-", "é", "ﬀ", "🚗", "\x00", '"', ",", "\n"]
    ),
    st.text(max_size=4),
    st.dates(),
    st.binary(max_size=3),
    st.lists(st.integers(0, 1), max_size=2),
)
DTYPES = [
    pl.Float32, pl.Float64, pl.Int8, pl.UInt64, pl.Int64, pl.String, pl.Boolean, pl.Categorical, pl.Null, pl.Datetime,
    pl.Date, pl.Duration, pl.Time, pl.Decimal(20, 3), pl.List(pl.Int64), pl.Binary, pl.Object,
]  # fmt: skip
NAMES = ["scene", "time", "agent", "x", "y", "vx", "speed", "role", "sort", "", "é", "Time", "id", "x0", "f0", "row"]


@st.composite
def good_rows(draw) -> list[dict[str, Any]]:
    """The rows of a table that nothing is wrong with, in any order, with gaps, late arrivals and departures."""
    step, rng = draw(st.sampled_from([1, 0.1, 0.04, 1 / 3, 1000])), np.random.default_rng(draw(st.integers(0, 9999)))
    rows = []
    for scene in range(draw(st.integers(1, 4))):
        start, length = int(rng.integers(-5, 50)), int(rng.integers(2, 9))
        for entity in range(int(rng.integers(2, 5))):
            there = rng.random(length) < 0.8
            there[: 2 if entity < 2 else 0] = True
            rows += [
                {
                    "scene": f"s{scene}", "time": (start + t) * step, "agent": f"e{entity}", "x": rng.normal(),
                    "speed": rng.normal(), "role": entity == 0, "sort": "ab"[entity % 2],
                }
                for t in range(length) if there[t]
            ]  # fmt: skip
    return [rows[i] for i in rng.permutation(len(rows))]


COLUMNS = TableColumns(features=("x", "speed"), role="role", entity_type="sort")


@some
@given(good_rows(), st.integers(1, 3))
def test_no_number_is_lost(rows, scenes_at_once):
    table = pl.DataFrame(rows)
    scenes = read_table(table, COLUMNS, velocities="none")
    assert int(scenes.mask.sum()) == len(rows)
    assert scenes.exogenous is not None
    starts = {name: min(row["time"] for row in rows if row["scene"] == name) for name in scenes.scene_names or ()}
    for row in rows:
        scene = (scenes.scene_names or ()).index(row["scene"])
        entity = scenes.names_in(scene).index(row["agent"])
        time = round((row["time"] - starts[row["scene"]]) / scenes.time_step)
        expected = [row["x"], row["speed"], float(row["sort"] == "a"), float(row["sort"] == "b")]
        assert scenes.states[scene, time, entity].tolist()[:2] == expected[:2]
        assert scenes.states[scene, time, entity].tolist()[2:] == expected[2 : scenes.num_features]
        assert bool(scenes.exogenous[scene, entity]) == row["role"]
    parts = list(iter_tables(table, COLUMNS, velocities="none", scenes_at_once=scenes_at_once))
    assert_all_same(stack_scenes(parts), scenes)


@some
@given(good_rows())
def test_every_way_to_read_it_is_the_same(rows):
    frame = pl.DataFrame(rows)
    expected = read_table(frame, COLUMNS)
    assert_all_same(read_table(frame.sort("time"), COLUMNS), expected)
    assert_all_same(read_table(pd.DataFrame(rows), COLUMNS), expected)
    with tempfile.TemporaryDirectory() as folder:
        frame.write_csv(f"{folder}/table.csv")
        frame.write_parquet(f"{folder}/table.parquet", row_group_size=7)
        assert_all_same(read_table(f"{folder}/table.csv", COLUMNS), expected)
        assert_all_same(read_table(f"{folder}/table.parquet", COLUMNS), expected)


@st.composite
def readings(draw) -> dict[str, Any]:
    """Options of :func:`read_table`."""
    name = st.sampled_from([*NAMES[:10], None])
    columns: dict[str, Any] = {}
    if draw(st.booleans()):
        resample = draw(st.sampled_from([None, "mean", "linear", "nearest"]))
        return {"resample": resample, "interpolate": draw(st.sampled_from([0, 1, 5]))}
    if draw(st.booleans()):
        columns = {word: draw(name) for word in ("entity_type", "role")}
        columns["features"] = draw(st.sampled_from([(), ("x",), ("speed", "x"), ("x", "y"), ("sort",), ("é",)]))
        columns["exogenous"] = draw(st.none() | st.tuples(st.sampled_from(NAMES), CELLS))
    return {
        "columns": TableColumns(**columns),
        "time_step": draw(st.sampled_from([None, None, 0.1, 1.0, 3.0, 1e-9, 1e300])),
        "resample": draw(st.sampled_from([None, None, "mean", "linear", "nearest"])),
        "interpolate": draw(st.sampled_from([0, 1, 5, 10**9])),
        "velocities": draw(st.sampled_from(["auto", "derive", "none"])),
        "relations": draw(st.none() | st.just(pl.DataFrame({"receiver": ["e0"], "sender": ["e1"], "relation": [1]}))),
    }


def check(source: Any, options: dict[str, Any]) -> None:
    """Scenes that hold what they promise, or a refusal."""
    try:
        scenes = read_table(source, **options)
    except DataError:
        event("refused")
        return
    event("read")
    assert isinstance(scenes, Scenes)
    assert bool(torch.isfinite(scenes.states).all())
    assert not bool(scenes.states[~scenes.mask].any())
    assert int(scenes.present.sum(1).min()) >= 2
    assert int(scenes.mask.any(2).sum(1).min()) >= 2


@st.composite
def spoilt_rows(draw) -> list[dict[str, Any]]:
    """A good table, to which something happened."""
    rows = [dict(row) for row in draw(good_rows())]
    for _ in range(draw(st.integers(0, 3))):
        i = draw(st.integers(0, len(rows) - 1))
        change = draw(st.sampled_from(["cell", "cell", "column", "repeat", "drop", "late", "other"]))
        name = draw(st.sampled_from(NAMES[:9]))
        if change == "cell":
            rows[i][name] = draw(CELLS)
        elif change == "column":
            cell = draw(CELLS)
            rows = [row | {name: cell} for row in rows]
        elif change == "repeat":
            rows.append(dict(rows[i]))
        elif change == "drop":
            rows = rows[: i + 1]
        elif change == "late":
            rows[i]["time"] = draw(st.floats(allow_nan=True))
        else:
            rows = [{draw(st.sampled_from(NAMES)) if word == name else word: row[word] for word in row} for row in rows]
    return rows


def polars_frame(rows: list[dict[str, Any]], dtypes: dict[str, Any]) -> pl.DataFrame | None:
    """The rows as polars would hold them; None where it cannot."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    try:
        frame = pl.DataFrame({name: [row.get(name) for row in rows] for name in names}, strict=False)
        return frame.with_columns(pl.col(name).cast(to, strict=False) for name, to in dtypes.items() if name in names)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None


@some
@given(spoilt_rows(), st.dictionaries(st.sampled_from(NAMES), st.sampled_from(DTYPES), max_size=2), readings())
def test_any_polars_frame(rows, dtypes, options):
    frame = polars_frame(rows, dtypes)
    if frame is not None:
        check(frame, options)


@some
@given(spoilt_rows(), readings())
def test_any_pandas_frame(rows, options):
    check(pd.DataFrame(rows), options)


@some
@given(spoilt_rows(), readings(), st.sampled_from(["csv", "parquet"]), st.data())
def test_any_file(rows, options, ending, data):
    frame = polars_frame(rows, {})
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / f"table.{ending}"
        try:
            assert frame is not None
            frame.write_csv(place) if ending == "csv" else frame.write_parquet(place)
        except (AssertionError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
            return
        content = bytearray(place.read_bytes())
        for _ in range(data.draw(st.integers(0, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        place.write_bytes(content[: data.draw(st.integers(0, len(content))) if data.draw(st.booleans()) else None])
        check(place, options)


@some
@given(st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES[:7], CELLS)), max_size=8), readings())
def test_any_cells(rows, options):
    frame = polars_frame(rows, {})
    if frame is not None:
        check(frame, options)
    check(pd.DataFrame(rows), options)


@some
@given(st.binary(max_size=60) | st.text(alphabet='0123456789.,;\n"ab-e\t', max_size=60).map(str.encode), readings())
def test_any_bytes(content, options):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "table.csv").write_bytes(b"time,agent,x\n" + content)
        check(Path(folder) / "table.csv", options)
