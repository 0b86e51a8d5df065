"""Answers in the forms of other packages: the same pairs, the right way round, by their names."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import polars
import pytest
import torch

from bouncegrad import export
from bouncegrad.export import adjacency, relation_table, to_networkx, to_torch_geometric, to_xarray, write_table
from bouncegrad.export.packages import package
from bouncegrad.inference import Posterior
from bouncegrad.scenes import DataError, Scenes
from bouncegrad.structures.layout import Layout, to_slots

KINDS = torch.tensor([[[0, 1, 0, 0], [0, 0, 2, 1], [2, 0, 0, 0], [0, 2, 0, 0]], [[0, 2, 1, 0]] * 4])
NAMES = (("ann", "bob", "cat", ""), ("dog", "elk", "fox", "gnu"))


def world(*, names: bool = True) -> Scenes:
    """Two scenes of four, of which the first lacks the last; its second, bob, goes where it likes."""
    states = torch.arange(2 * 3 * 4 * 1.0).view(2, 3, 4, 1)
    mask = torch.ones(2, 3, 4, dtype=torch.bool)
    mask[0, :, 3] = False
    mask[0, 2, 2] = False
    exogenous = torch.zeros(2, 4, dtype=torch.bool)
    exogenous[0, 1] = True
    said = {"names": NAMES, "scene_names": ("monday", "friday")} if names else {}
    return Scenes(states, mask, 0.5, ("speed",), tuple("abcd"), exogenous=exogenous, **said)


def found() -> Posterior:
    """The kinds above, each with probability 0.8."""
    structures, layout = to_slots(KINDS), Layout(4, 3)
    marginals = torch.full((2, 12, 3), 0.1).scatter(2, structures[:, :, None], 0.8)
    return Posterior(structures, torch.tensor([1.0, 2.0]), marginals, layout, "none", torch.tensor([-1.0, -2.0]))


def test_the_row_of_a_matrix_is_acted_on():
    matrix = adjacency(found(), world(), 0)
    assert (matrix.rows, matrix.columns, matrix.names) == ("receiver", "sender", ("ann", "bob", "cat"))
    assert matrix.of(receiver="ann", sender="bob") == 1
    assert matrix.of(receiver="cat", sender="ann") == 2
    assert matrix.values[1].isnan().all()  # nobody asks who acts on bob
    with pytest.raises(ValueError, match="there is no entity 'gnu' in this scene: choose one of ann, bob, cat"):
        matrix.of(receiver="ann", sender="gnu")
    assert matrix.values.diagonal().isnan().all()
    assert adjacency(found(), world(), 0, kind=1).of(receiver="ann", sender="bob") == pytest.approx(0.8)


def test_the_other_way_round_is_the_transpose():
    ours, theirs = adjacency(found(), world(), 1), adjacency(found(), world(), 1, sender_first=True)
    assert (theirs.rows, theirs.columns) == ("sender", "receiver")
    torch.testing.assert_close(theirs.values, ours.values.T, equal_nan=True)
    assert theirs.of(receiver="dog", sender="elk") == ours.of(receiver="dog", sender="elk") == 2


def test_a_matrix_is_printed_and_framed_with_its_names():
    matrix = adjacency(found(), world(), 0)
    assert str(matrix).splitlines() == [
        "receiver \\ sender  ann  bob  cat",
        "ann                  -    1    0",
        "bob                  -    -    -",
        "cat                  2    0    -",
    ]
    frame = matrix.to_pandas()
    assert (frame.index.name, frame.columns.name) == ("receiver", "sender")
    assert frame.loc["cat", "ann"] == 2


def test_a_table_has_a_row_for_each_pair_that_is_asked_for():
    table = relation_table(found(), world())
    probabilities = [f"probability_{kind}" for kind in range(3)]
    assert table.columns == ["scene", "receiver", "sender", "kind", *probabilities]
    assert table["scene"].to_list() == ["monday"] * 4 + ["friday"] * 12
    assert table.rows()[0][:4] == ("monday", "ann", "bob", 1)
    assert table.rows()[2][:4] == ("monday", "cat", "ann", 2)
    assert table.select(probabilities).sum_horizontal().to_list() == pytest.approx([1.0] * 16)
    acting = relation_table(found(), world(), none_kind=0)
    assert acting.rows() == [row for row in table.rows() if row[3] != 0]
    assert relation_table(found(), world(names=False)).rows()[0][:3] == ("0", "a", "b")


def test_tables_as_files(tmp_path: Path):
    table = relation_table(found(), world())
    for name in ("found.csv", "found.parquet"):
        write_table(table, tmp_path / name)
    lines = (tmp_path / "found.csv").read_text().splitlines()
    assert lines[0] == "scene,receiver,sender,kind,probability_0,probability_1,probability_2"
    assert lines[1] == "monday,ann,bob,1,0.100000,0.800000,0.100000"
    assert polars.read_parquet(tmp_path / "found.parquet").equals(table)


def test_arrows_of_a_networkx_graph_lead_to_who_is_acted_on():
    graph = to_networkx(found(), world(), 0)
    assert dict(graph.nodes(data="exogenous")) == {"ann": False, "bob": True, "cat": False}
    assert graph.edges["bob", "ann"] == {"kind": 1, "probability": pytest.approx(0.8)}
    assert set(graph.edges) == {("bob", "ann"), ("cat", "ann"), ("ann", "cat"), ("bob", "cat")}
    assert graph.graph == {"scene": "monday", "prior": "none", "mode": "search"}
    assert set(to_networkx(found(), world(), 0, none_kind=0).edges) == {("bob", "ann"), ("ann", "cat")}


def test_a_graph_of_torch_geometric_has_states_and_probabilities():
    data = to_torch_geometric(found(), world(), 0, none_kind=0)
    assert data.names == ["ann", "bob", "cat"]
    assert data.edge_index.tolist() == [[1, 0], [0, 2]]  # senders above receivers
    assert data.edge_kind.tolist() == [1, 2]
    torch.testing.assert_close(data.edge_attr, torch.tensor([[0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]))
    assert data.x.tolist() == [[8.0], [9.0], [0.0]]
    assert data.measured.tolist() == [True, True, False]
    assert data.exogenous.tolist() == [False, True, False]
    assert data.is_directed()
    data.validate()
    assert to_torch_geometric(found(), world(), 1, time=0).x.flatten().tolist() == [12, 13, 14, 15]
    with pytest.raises(DataError, match="a time from 0 to 2"):
        to_torch_geometric(found(), world(), 0, time=3)


def test_entities_that_are_absent_shift_the_nodes_of_torch_geometric():
    """The first is absent: node 0 is the second."""
    mask = world().mask.clone()
    mask[1, :, 0] = False
    data = to_torch_geometric(found(), replace(world(), mask=mask), 1)
    assert data.names == ["elk", "fox", "gnu"]
    assert data.edge_index.tolist() == [[1, 2, 0, 2, 0, 1], [0, 0, 1, 1, 2, 2]]
    assert data.edge_kind.tolist() == [1, 0, 2, 0, 2, 1]


def test_arrays_of_xarray_are_labelled():
    dataset = to_xarray(found(), world(names=False))
    assert dict(dataset.sizes) == {"scene": 2, "receiver": 4, "sender": 4, "kind": 3}
    assert int(dataset.relation.sel(scene="0", receiver="a", sender="b")) == 1
    assert int(dataset.relation.sel(scene="0", receiver="b", sender="a")) == -1
    assert float(dataset.probability.sel(scene="1", receiver="a", sender="b", kind=2)) == pytest.approx(0.8)
    assert math.isnan(dataset.probability.sel(scene="0", receiver="d", sender="a", kind=0))
    assert dataset.loss.values.tolist() == [1, 2]
    assert dataset.attrs["prior"] == "none"


def test_names_that_differ_from_scene_to_scene_are_coordinates_of_both():
    dataset = to_xarray(found(), world())
    assert dataset.receiver_name.sel(scene="friday").values.tolist() == list(NAMES[1])
    assert dataset.sender_name.dims == ("scene", "sender")


@pytest.mark.parametrize("form", [adjacency, to_networkx, to_torch_geometric])
def test_what_cannot_be_asked(form):
    with pytest.raises(DataError, match="a scene from 0 to 1, got 2"):
        form(found(), world(), 2)
    with pytest.raises(DataError, match="about 2 scenes of 4 entities, but 1 of 4"):
        form(found(), world().at(0), 0)
    option = "kind" if form is adjacency else "none_kind"
    with pytest.raises(DataError, match="a kind from 0 to 2, got 3"):
        form(found(), world(), 0, **{option: 3})


def test_a_package_that_is_missing_is_named():
    with pytest.raises(ImportError, match="this answer needs no-such-thing: pip install no-such-thing"):
        package("no_such_thing.data", "no-such-thing")


def test_all_forms_are_exported():
    assert all(hasattr(export, name) for name in export.__all__)
