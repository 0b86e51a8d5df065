"""Encoders by hand: loops over receivers and senders, convolutions as sums."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bouncegrad.models.encoders import (
    FIRST_BIAS,
    SHORTEST,
    CNNEncoder,
    MLPEncoder,
    Perceptron,
    StructureEncoder,
    convolution,
    dropout,
    linear,
)
from bouncegrad.models.super_graph import SuperGraph, super_graph
from bouncegrad.structures.layout import senders_of

HIDDEN, TIMES, FEATURES, KINDS, NODE_KINDS = 5, 15, 2, 3, 2
NAMES = ("mlp", "cnn", "structures")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def graph_of(*sizes: int) -> SuperGraph:
    """Scenes of so many entities, padded to the largest."""
    return super_graph(torch.arange(max(sizes)) < torch.tensor(sizes)[:, None])


def inputs_on(name: str, graph: SuperGraph, seed: int = 1) -> tuple[Tensor, ...]:
    """Random trajectories, or what is known of edges and of nodes."""
    if name != "structures":
        return (torch.randn(graph.num_nodes, TIMES, FEATURES, generator=generator(seed)),)
    shapes = ((len(graph.senders), KINDS), (graph.num_nodes, NODE_KINDS))
    return tuple(torch.rand(shape, generator=generator(seed + i)) for i, shape in enumerate(shapes))


def encoder_of(name: str, dropout: float = 0.0) -> Any:
    """An encoder that has gathered statistics of a few batches, so that its normalisations do something."""
    sizes = (HIDDEN, dropout, generator())
    if name == "structures":
        encoder: Any = StructureEncoder(KINDS, NODE_KINDS, *sizes)
    else:
        encoder = MLPEncoder(TIMES, FEATURES, *sizes) if name == "mlp" else CNNEncoder(FEATURES, *sizes)
    graph = graph_of(4, 4, 4)
    for seed in range(10, 20):
        encoder(*inputs_on(name, graph, seed), graph, generator())
    return encoder


def statistics(encoder: Any) -> list[Tensor]:
    return [value.clone() for value in encoder.buffers()]


def unchanged(encoder: Any, before: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(statistics(encoder), before, strict=True))


def perceptron(layer: Perceptron, inputs: Tensor) -> Tensor:
    """One item, statistics as gathered."""
    first, second = layer.layers
    hidden = functional.elu(second(functional.elu(first(inputs))))
    return batch_norm(layer.norm, hidden)


def batch_norm(norm: Any, values: Tensor) -> Tensor:
    return (values - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias


def by_pairs(graph: SuperGraph, decide: Any) -> Tensor:
    """``decide(scene, receiver, sender)`` of every edge, in the order of the slots."""
    found, first = [], 0
    for present in graph.present:
        size = int(present.sum())
        for receiver in range(size):
            found += [decide(first, receiver, sender, size) for sender in range(size) if sender != receiver]
        first += size
    return torch.stack(found)


def mlp_by_hand(encoder: MLPEncoder, states: Tensor) -> Any:
    def said(first: int, receiver: int, sender: int, size: int) -> Tensor:
        nodes = [perceptron(encoder.embed, states[first + entity].flatten()) for entity in range(size)]
        edges = {(i, j): perceptron(encoder.relate, torch.cat([nodes[i], nodes[j]])) for i, j in pairs(size)}
        gathered = [perceptron(encoder.gather, mean_of(edges, i, size)) for i in range(size)]
        return perceptron(encoder.decide, torch.cat([gathered[receiver], gathered[sender], edges[receiver, sender]]))

    return said


def cnn_by_hand(encoder: CNNEncoder, states: Tensor) -> Any:
    def summary(pair: Tensor) -> Tensor:
        hidden = pair
        for layer, norm in zip(encoder.convolutions, encoder.norms, strict=True):
            patches = hidden.unfold(0, 5, 1).transpose(1, 2)  # [time, width, channel]
            hidden = torch.einsum("twc,ocw->to", patches, layer.weight) + layer.bias
            hidden = batch_norm(norm, torch.relu(hidden))
            if layer is encoder.convolutions[0]:
                hidden = torch.stack([hidden[2 * i : 2 * i + 2].amax(0) for i in range(len(hidden) // 2)])
        predicted = hidden @ encoder.predict.weight[:, :, 0].T + encoder.predict.bias
        attention = (hidden @ encoder.attend.weight[:, :, 0].T + encoder.attend.bias).softmax(0)
        return (predicted * attention).mean(0)

    def said(first: int, receiver: int, sender: int, size: int) -> Tensor:
        edges = {
            (i, j): perceptron(encoder.relate, summary(torch.cat([states[first + i], states[first + j]], 1)))
            for i, j in pairs(size)
        }
        gathered = [perceptron(encoder.gather, mean_of(edges, i, size)) for i in range(size)]
        return perceptron(encoder.decide, torch.cat([gathered[receiver], gathered[sender], edges[receiver, sender]]))

    return said


def structures_by_hand(encoder: StructureEncoder, edges: Tensor, nodes: Tensor, graph: SuperGraph) -> Any:
    numbers = {(int(i), int(j)): n for n, (i, j) in enumerate(zip(graph.receivers, graph.senders, strict=True))}

    def said(first: int, receiver: int, sender: int, size: int) -> Tensor:
        seen = {(i, j): perceptron(encoder.embed, edges[numbers[first + i, first + j]]) for i, j in pairs(size)}
        hidden = [perceptron(encoder.meet, torch.cat([mean_of(seen, i, size), nodes[first + i]])) for i in range(size)]
        words = {
            (i, j): torch.cat([perceptron(encoder.relate, torch.cat([hidden[i], hidden[j]])), seen[i, j]])
            for i, j in pairs(size)
        }
        gathered = [perceptron(encoder.gather, mean_of(words, i, size)) for i in range(size)]
        return perceptron(encoder.decide, torch.cat([gathered[receiver], gathered[sender], words[receiver, sender]]))

    return said


def pairs(size: int) -> list[tuple[int, int]]:
    """Receiver, sender."""
    return [(i, int(j)) for i in range(size) for j in senders_of(size)[i]]


def mean_of(edges: dict[tuple[int, int], Tensor], receiver: int, size: int) -> Tensor:
    return torch.stack([edges[receiver, j] for j in range(size) if j != receiver]).mean(0)


@pytest.mark.parametrize("name", NAMES)
def test_every_edge_is_what_its_formula_says(name: str):
    """In a super-graph of scenes of 3 and of 2 entities."""
    encoder, graph = encoder_of(name), graph_of(3, 2)
    inputs = inputs_on(name, graph)
    with torch.no_grad():
        found, nodes = encoder(*inputs, graph, None)
        if name == "structures":
            by_hand = structures_by_hand(encoder, *inputs, graph)
        else:
            by_hand = (mlp_by_hand if name == "mlp" else cnn_by_hand)(encoder, *inputs)
        expected = by_pairs(graph, by_hand)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert found.shape == (8, HIDDEN)
    assert nodes.shape == (5, HIDDEN)
    there = found[(graph.receivers == 0) & (graph.senders == 1)]
    back = found[(graph.receivers == 1) & (graph.senders == 0)]
    assert (there - back).abs().max() > 0.01, "who receives and who sends makes a difference"


@pytest.mark.parametrize("name", NAMES)
def test_a_scene_is_read_alike_alone_and_among_others(name: str):
    encoder, sizes = encoder_of(name), (2, 5, 3, 4)
    together = graph_of(*sizes)
    inputs = inputs_on(name, together)
    edges, nodes = encoder(*inputs, together, None)
    starts = torch.tensor([0, *sizes]).cumsum(0)
    for scene, size in enumerate(sizes):
        its_nodes = slice(int(starts[scene]), int(starts[scene + 1]))
        its_edges = together.edge_scenes == scene
        alone = (inputs[0][its_nodes],) if name != "structures" else (inputs[0][its_edges], inputs[1][its_nodes])
        found = encoder(*alone, graph_of(size), None)
        torch.testing.assert_close(found[0], edges[its_edges], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found[1], nodes[its_nodes], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_dropped_and_nothing_gathered_without_a_generator(name: str):
    encoder, graph = encoder_of(name, 0.5), graph_of(3, 3)
    before, inputs = statistics(encoder), inputs_on(name, graph)
    first, again = (encoder(*inputs, graph, None)[0] for _ in range(2))
    assert torch.equal(first, again)
    assert unchanged(encoder, before)


@pytest.mark.parametrize("name", NAMES)
def test_dropout_comes_from_its_generator_alone(name: str):
    encoder, graph = encoder_of(name, 0.5), graph_of(3, 3)
    inputs = inputs_on(name, graph)
    first, again, other = (encoder(*inputs, graph, generator(seed))[0] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    random = generator(3)
    whole = encoder_of(name)
    whole(*inputs, graph, random)
    assert torch.equal(random.get_state(), generator(3).get_state()), "where nothing is dropped nothing is drawn"


@pytest.mark.parametrize("name", NAMES)
def test_statistics_are_gathered_only_where_something_is_learned(name: str):
    encoder, graph = encoder_of(name, 0.5), graph_of(3, 3)
    before, inputs = statistics(encoder), inputs_on(name, graph)
    with torch.no_grad():
        encoder(*inputs, graph, generator())
    assert unchanged(encoder, before), "who only proposes with dropout learns nothing"
    encoder(*inputs, graph, generator())
    assert not unchanged(encoder, before)


def test_a_batch_is_normalised_by_itself_while_it_is_learned_from():
    layer = Perceptron(3, 4, 0.0, generator())
    out = layer(torch.randn(50, 3, generator=generator(2)) * 7 + 2, generator())
    torch.testing.assert_close(out.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var(0, unbiased=False), torch.ones(4), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 2])
def test_a_batch_of_hardly_anybody(name: str, size: int):
    """One entity alone has no spread to be normalised by."""
    encoder, graph = encoder_of(name), graph_of(size)
    edges, nodes = encoder(*inputs_on(name, graph), graph, generator())
    assert edges.shape == (size * (size - 1), HIDDEN)
    assert nodes.isfinite().all()
    assert all(value.isfinite().all() for value in encoder.buffers())


@pytest.mark.parametrize("num_times", [SHORTEST, SHORTEST + 1, 40])
def test_convolutions_read_any_length_from_the_shortest_on(num_times: int):
    encoder, graph = encoder_of("cnn"), graph_of(3)
    states = torch.randn(3, num_times, FEATURES, generator=generator())
    assert encoder(states, graph, None)[0].isfinite().all()
    with pytest.raises(RuntimeError, match="[Kk]ernel size"):
        encoder(states[:, : SHORTEST - 1], graph, None)


def test_every_sample_of_a_long_trajectory_counts_for_convolutions_and_the_first_for_the_others():
    states, graph = torch.randn(3, 40, FEATURES, generator=generator()), graph_of(3)
    later = states.clone()
    later[:, 36] += 1
    cnn, mlp = encoder_of("cnn"), encoder_of("mlp")
    assert not torch.allclose(cnn(states, graph, None)[0], cnn(later, graph, None)[0])
    assert torch.equal(mlp(states, graph, None)[0], mlp(later, graph, None)[0])
    assert not torch.allclose(mlp(states, graph, None)[0], mlp(states.flip(1), graph, None)[0])


def test_dropout_keeps_the_mean():
    values = torch.full((200, 500), 2.0)
    for share in (0.2, 0.5):
        found = dropout(values, share, generator())
        assert set(found.unique().tolist()) == {0.0, values[0, 0].div(1 - share).item()}
        assert (found == 0).float().mean().item() == pytest.approx(share, abs=0.01)
        assert found.mean().item() == pytest.approx(2, abs=0.03)
    assert dropout(values, 0.5, None) is values
    assert dropout(values, 0.0, generator()) is values


def test_weights_start_as_they_should():
    layer, wide = linear(300, 500, generator()), convolution(40, 60, 5, generator())
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / 800), rel=0.02)
    assert wide.weight.std().item() == pytest.approx(math.sqrt(2 / (5 * 60)), rel=0.02)
    assert wide.bias is not None
    assert (layer.bias == FIRST_BIAS).all()
    assert (wide.bias == FIRST_BIAS).all()


@pytest.mark.parametrize("name", NAMES)
def test_one_seed_one_encoder(name: str):
    first, again = encoder_of(name), encoder_of(name)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
