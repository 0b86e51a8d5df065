"""Worlds made by hand: what a graph network does is known, so it can be compared."""

import pytest
import torch

from bouncegrad.models.decoder import GraphNetwork, NetworkConfig
from bouncegrad.models.super_graph import super_graph
from bouncegrad.structures.layout import Layout, to_slots

EVERY_SHAPE = [
    NetworkConfig(hidden=6, inputs=inputs, update=update, skip=skip, num_edge_kinds=3, num_node_kinds=2)
    for inputs in ("absolute", "relative")
    for update in ("general", "superposed")
    for skip in (True, False)
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(config: NetworkConfig, seed: int = 0) -> GraphNetwork:
    made = GraphNetwork(config, 4, generator(seed))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator(seed + 1)))
    return made


def states_of(graph, *batch: int) -> torch.Tensor:
    return torch.randn(graph.num_nodes, *batch, 4, generator=generator(5))


@pytest.mark.parametrize("config", EVERY_SHAPE, ids=lambda c: f"{c.inputs}-{c.update}-{c.skip}")
@torch.no_grad()
def test_many_scenes_at_once_equal_one_by_one(config: NetworkConfig):
    present = torch.ones(5, 4, dtype=torch.bool)
    present[1, 3] = present[3, 2] = False
    graph, made = super_graph(present), network(config)
    structures = Layout(4, 3, 2).random(5, generator(2))
    states = states_of(graph, 3)
    together = graph.unpack_nodes(made.rollout(states, graph, structures, 4))
    padded = graph.unpack_nodes(states)
    for scene in range(5):
        alone = super_graph(present[scene : scene + 1])
        own = made.rollout(padded[scene][present[scene]], alone, structures[scene : scene + 1], 4)
        torch.testing.assert_close(together[scene][present[scene]], own, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", EVERY_SHAPE, ids=lambda c: f"{c.inputs}-{c.update}-{c.skip}")
@torch.no_grad()
def test_a_kind_acts_on_its_receiver_only(config: NetworkConfig):
    """Changing what sender 2 does to receiver 0 moves entity 0 and nobody else: fails when edges are transposed."""
    graph, made = super_graph(torch.ones(1, 3, dtype=torch.bool)), network(config)
    before = torch.zeros(1, 3, 3, dtype=torch.long)
    after = before.clone()
    after[0, 0, 2] = 1
    states = states_of(graph)
    moved = made.rollout(states, graph, to_slots(before), 1) - made.rollout(states, graph, to_slots(after), 1)
    assert (moved.abs().sum((1, 2)) > 1e-6).tolist() == [True, False, False]


@torch.no_grad()
def test_a_rollout_is_its_own_steps():
    """Step two starts from the predicted state, so only the first state can influence it."""
    graph, made = super_graph(torch.ones(2, 3, dtype=torch.bool)), network(NetworkConfig(hidden=6))
    structures = Layout(3, 2).random(2, generator(1))
    states = states_of(graph)
    rolled = made.rollout(states, graph, structures, 3)
    kinds = graph.pack_edges(structures), graph.pack_node_kinds(structures)
    for step in range(3):
        states = made.step(states, graph, *kinds)
        torch.testing.assert_close(rolled[:, step], states)


@torch.no_grad()
def test_superposed_messages_add_up():
    """With no network over the sum, the effect of two senders is the sum of the effects of each."""
    graph, made = super_graph(torch.ones(1, 3, dtype=torch.bool)), network(NetworkConfig(hidden=6))
    states = states_of(graph)

    def change(kind_from_1: int, kind_from_2: int) -> torch.Tensor:
        matrix = torch.zeros(1, 3, 3, dtype=torch.long)
        matrix[0, 0, 1], matrix[0, 0, 2] = kind_from_1, kind_from_2
        return made.rollout(states, graph, to_slots(matrix), 1)[0, 0]

    torch.testing.assert_close(
        change(1, 1) - change(0, 0), (change(1, 0) - change(0, 0)) + (change(0, 1) - change(0, 0))
    )


@torch.no_grad()
def test_the_gauge_is_fixed_without_changing_predictions():
    """A constant that hides in the messages is moved out; at another number of senders only that tells."""
    graph, made = super_graph(torch.ones(3, 4, dtype=torch.bool)), network(NetworkConfig(hidden=6))
    states, structures = states_of(graph, 5), Layout(4, 2).random(3, generator(1))
    before = made.rollout(states, graph, structures, 2)
    made.edge_modules.biases[-1].add_(0.7)
    made.node_modules.biases[-1].sub_(3 * 0.7)
    made.fix_gauge(states, graph)
    torch.testing.assert_close(made.rollout(states, graph, structures, 2), before, rtol=1e-4, atol=1e-4)
    inputs = made.edge_inputs(states[graph.receivers], states[graph.senders])
    mean = made.edge_modules.every_kind(inputs).flatten(0, -2).mean(0)
    torch.testing.assert_close(mean, torch.zeros(4), rtol=0, atol=1e-5)


@torch.no_grad()
def test_two_rounds_of_messages_reach_further():
    """An entity that acts only through another one needs two rounds to be felt within one step."""
    graph = super_graph(torch.ones(1, 3, dtype=torch.bool))
    for rounds, reaches in ((1, False), (2, True)):
        made = network(NetworkConfig(hidden=6, message_steps=rounds, inputs="absolute"))
        for bank in (made.edge_modules.weights[-1], made.edge_modules.biases[-1]):
            bank[0] = 0.0
        matrix = torch.zeros(1, 3, 3, dtype=torch.long)
        matrix[0, 1, 2] = matrix[0, 0, 1] = 1
        states = states_of(graph)
        pushed = states.clone()
        pushed[2] += 1.0
        structures = to_slots(matrix)
        moved = made.rollout(states, graph, structures, 1)[0] - made.rollout(pushed, graph, structures, 1)[0]
        assert bool(moved.abs().sum() > 1e-6) == reaches


@torch.no_grad()
def test_the_skip_is_the_least_squares_map():
    made = GraphNetwork(NetworkConfig(hidden=6), 4, generator())
    states = torch.randn(500, 4, generator=generator(1))
    matrix = 0.1 * torch.randn(4, 4, generator=generator(2))
    noise = 0.01 * torch.randn(500, 4, generator=generator(3))
    made.fit_skip(states, states + states @ matrix + 0.5 + noise)
    torch.testing.assert_close(made.skip_weight, matrix, atol=0.003, rtol=0)
    torch.testing.assert_close(made.skip_bias, torch.full((4,), 0.5), atol=0.003, rtol=0)
    torch.testing.assert_close(made.unit, torch.full((4,), 0.01), atol=0.001, rtol=0)
