from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bouncegrad.models.super_graph import super_graph
from bouncegrad.structures.layout import Layout, StructureSpace, senders_of, to_matrix, to_slots


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_presence(seed: int) -> torch.Tensor:
    """Scenes of different sizes, at least two entities in each."""
    present = torch.rand(4, 6, generator=generator(seed)) < 0.6
    present[:, :2] = True
    return present


def test_slots_are_receiver_major_with_ascending_senders():
    pairs = [(receiver, int(sender)) for receiver in range(4) for sender in senders_of(4)[receiver]]
    matrix = torch.zeros(1, 4, 4, dtype=torch.long)
    for slot, (receiver, sender) in enumerate(pairs):
        matrix[0, receiver, sender] = slot
    assert to_slots(matrix)[0].tolist() == list(range(12))
    assert pairs == sorted(pairs)


@given(st.integers(2, 8), st.integers(0, 10_000))
def test_matrix_and_slots_are_inverse(num_entities: int, seed: int):
    structures = Layout(num_entities, 3).random(3, generator(seed))
    matrix = to_matrix(structures, num_entities)
    assert torch.equal(to_slots(matrix), structures)
    assert (matrix.diagonal(dim1=1, dim2=2) == -1).all()


def test_matrix_of_probabilities_keeps_the_kinds_last():
    probabilities = torch.rand(2, 6, 3, generator=generator())
    matrix = to_matrix(probabilities, 3, diagonal=0)
    assert matrix.shape == (2, 3, 3, 3)
    assert torch.equal(matrix[:, 2, 0], probabilities[:, 4])


def test_an_edge_ends_at_its_receiver():
    """Row = who is acted on: a message along slot (receiver 0, sender 2) arrives at node 0 and nowhere else."""
    graph = super_graph(torch.ones(1, 3, dtype=torch.bool))
    matrix = torch.zeros(1, 3, 3, dtype=torch.long)
    matrix[0, 0, 2] = 1
    edge_kinds = graph.pack_edges(to_slots(matrix))
    edge = int(edge_kinds.nonzero())
    assert (int(graph.receivers[edge]), int(graph.senders[edge])) == (0, 2)
    assert graph.incoming(edge_kinds[:, None].float()).flatten().tolist() == [1, 0, 0]


@given(st.integers(0, 10_000))
@settings(max_examples=50)
def test_packing_and_unpacking_lose_nothing(seed: int):
    present = random_presence(seed)
    graph = super_graph(present)
    states = torch.rand(4, 6, 2, generator=generator(seed)) * present[..., None]
    assert torch.equal(graph.unpack_nodes(graph.pack_nodes(states)), states)
    structures = Layout(6, 2).random(4, generator(seed))
    exists = to_slots((present[:, :, None] & present[:, None, :]).long()).bool()
    assert torch.equal(graph.unpack_edges(graph.pack_edges(structures), fill=-1), structures.where(exists, -1))


@given(st.integers(0, 10_000))
@settings(max_examples=50)
def test_packing_preserves_the_computation(seed: int):
    """Sums over incoming edges of a super-graph are those of the scenes one by one."""
    present = random_presence(seed)
    graph = super_graph(present)
    values = torch.rand(4, 6, generator=generator(seed), dtype=torch.float64)
    together = graph.unpack_nodes(graph.incoming(graph.pack_nodes(values)[graph.senders]))
    for scene in range(4):
        alone = super_graph(present[scene : scene + 1])
        own = alone.incoming(values[scene][present[scene]][alone.senders])
        torch.testing.assert_close(together[scene][present[scene]], own)
        torch.testing.assert_close(own, values[scene][present[scene]].sum() - values[scene][present[scene]])


def test_edges_never_leave_their_scene():
    graph = super_graph(random_presence(3))
    scene_of_node = graph.pack_nodes(torch.arange(4)[:, None].expand(4, 6))
    assert torch.equal(scene_of_node[graph.senders], scene_of_node[graph.receivers])
    assert torch.equal(scene_of_node[graph.receivers], graph.edge_scenes)


@pytest.mark.parametrize("num_node_kinds", [1, 2])
def test_layout_gives_every_slot_to_one_receiver(num_node_kinds: int):
    layout = Layout(4, 3, num_node_kinds)
    assert sorted(layout.receiver_slots.flatten().tolist()) == list(range(layout.num_slots))
    assert [layout.num_kinds[slot] for slot in layout.receiver_slots[1]] == list(layout.receiver_kinds)
    structures = layout.random(2000, generator())
    assert structures.amax(0).tolist() == [count - 1 for count in layout.num_kinds]


def test_a_layout_is_a_space_of_structures():
    """Its own fields say all: kinds and blocks follow from them, also after one is replaced."""
    layout = replace(Layout(4, 2, 2), num_edge_kinds=3)
    assert layout == Layout(4, 3, 2) != Layout(4, 3)
    assert hash(layout) == hash(Layout(4, 3, 2))
    assert layout.num_kinds == (3,) * 12 + (2,) * 4
    plain = StructureSpace(layout.num_kinds, layout.blocks)
    assert torch.equal(plain.random(50, generator()), layout.random(50, generator()))


def test_node_slots_follow_the_edge_slots():
    graph = super_graph(torch.ones(2, 3, dtype=torch.bool))
    structures = torch.tensor([[0] * 6 + [1, 0, 1], [0] * 6 + [0, 0, 1]])
    assert graph.pack_node_kinds(structures).tolist() == [1, 0, 1, 0, 0, 1]
    assert graph.pack_node_kinds(structures[:, :6]).tolist() == [0] * 6
