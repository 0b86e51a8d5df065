"""Gibbs moves of population annealing under each prior: slots that are redrawn together, and their log prior."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from bouncegrad.structures.factors import block_kinds
from bouncegrad.structures.layout import Layout, senders_of
from bouncegrad.structures.population_annealing import Moves, Round


def independent_moves(layout: Layout, log_weights: Float[Tensor, "kind"]) -> Moves:
    """Moves under independent edges: two incoming edges of every receiver at a time, so that senders can be exchanged.

    With moves of single edges an exchange passes through a receiver with both senders or with neither, states of very
    high energy under a good model.
    """
    num_neighbours, num_entities = layout.num_entities - 1, layout.num_entities
    alone = torch.arange(num_entities)[:, None]

    def draw(num_tasks: int, num_particles: int, generator: Generator) -> Tensor:
        edges = _draw_kinds(log_weights, (num_tasks, num_particles, num_entities, num_neighbours), generator)
        if layout.num_node_kinds == 1:
            return edges
        nodes = torch.randint(layout.num_node_kinds, (*edges.shape[:3], 1), generator=generator)
        return torch.cat([edges, nodes], 3)

    def sweep(generator: Generator) -> Iterator[Round]:
        for block in torch.randperm(num_neighbours, generator=generator).split(2):
            codes = block_kinds(layout.num_edge_kinds, len(block))
            log_prior = log_weights[codes].sum(1)
            yield Round(block.expand(num_entities, -1), alone, torch.arange(len(codes))[:, None], log_prior)
        if layout.num_node_kinds > 1:
            codes = torch.arange(layout.num_node_kinds)[:, None]
            yield Round(torch.full_like(alone, num_neighbours), alone, codes, torch.zeros(len(codes)))

    def log_prior(kinds: Tensor) -> Tensor:
        return log_weights[kinds[..., :num_neighbours]].sum(3)

    return Moves(draw, sweep, log_prior, separate=True)


def symmetric_moves(layout: Layout, log_weights: Float[Tensor, "kind"]) -> Moves:
    """Moves under symmetric graphs: the pairs of disjoint triangles in parallel, then every pair on its own.

    A triangle contains the exchange of one partner for another; the round-robin over single pairs covers all pairs.
    """
    num_entities = layout.num_entities

    def draw(num_tasks: int, num_particles: int, generator: Generator) -> Tensor:
        below = _draw_kinds(log_weights, (num_tasks, num_particles, num_entities, num_entities), generator).tril(-1)
        return (below + below.mT).gather(3, senders_of(num_entities).expand(num_tasks, num_particles, -1, -1))

    def sweep(generator: Generator) -> Iterator[Round]:
        if num_entities > 2:
            for _ in range((num_entities - 1) // 2):
                yield _triangles(torch.randperm(num_entities, generator=generator), log_weights)
        for pairs in tournament(torch.randperm(num_entities, generator=generator)):
            yield _pairs(num_entities, pairs, log_weights)

    def log_prior(kinds: Tensor) -> Tensor:
        return 0.5 * log_weights[kinds].sum(3)  # every pair is in the rows of two receivers

    return Moves(draw, sweep, log_prior)


def tournament(order: Int[Tensor, "entity"]) -> Iterator[Int[Tensor, "pair two"]]:
    """Round-robin tournament: rounds of disjoint pairs that contain every pair exactly once, by the circle method.

    >>> [pairs.tolist() for pairs in tournament(torch.arange(4))]
    [[[0, 3], [1, 2]], [[0, 2], [3, 1]], [[0, 1], [2, 3]]]
    """
    bye = torch.full((len(order) % 2,), -1)
    seats = torch.cat([order, bye])
    half = len(seats) // 2
    for _ in range(len(seats) - 1):
        pairs = torch.stack([seats[:half], seats[half:].flip(0)], 1)
        yield pairs[(pairs >= 0).all(1)]
        seats = torch.cat([seats[:1], seats[1:].roll(1)])


def _pairs(num_entities: int, pairs: Int[Tensor, "pair two"], log_weights: Tensor) -> Round:
    """The round that redraws disjoint pairs, both directions with the same edge type."""
    positions = torch.zeros(num_entities, 1, dtype=torch.long)
    first, second = pairs.T
    positions[first, 0], positions[second, 0] = _position(first, second), _position(second, first)
    kinds = torch.arange(len(log_weights))
    return Round(positions, pairs, torch.stack([kinds, kinds], 1), log_weights)


def _triangles(order: Int[Tensor, "entity"], log_weights: Tensor) -> Round:
    """The round that redraws the pairs of disjoint triangles of successive entities; one or two may be left over."""
    triangles = order[: len(order) // 3 * 3].view(-1, 3)
    positions = torch.arange(2).repeat(len(order), 1)  # distinct positions, also for left-over entities
    for corner, one, other in ((0, 1, 2), (1, 0, 2), (2, 0, 1)):
        receivers = triangles[:, corner]
        positions[receivers, 0] = _position(receivers, triangles[:, one])
        positions[receivers, 1] = _position(receivers, triangles[:, other])
    kinds = block_kinds(len(log_weights), 3)  # of the pairs (0, 1), (0, 2), (1, 2)
    high, low = kinds[:, [0, 0, 1]], kinds[:, [1, 2, 2]]
    return Round(positions, triangles, high * len(log_weights) + low, log_weights[kinds].sum(1))


def _position(receivers: Tensor, senders: Tensor) -> Tensor:
    """The position of each sender among the other entities of its receiver."""
    return senders - (senders > receivers).long()


def _draw_kinds(log_weights: Tensor, shape: tuple[int, ...], generator: Generator) -> Tensor:
    cumulative = torch.softmax(log_weights.double(), 0).cumsum(0)
    uniforms = torch.rand(shape, generator=generator, dtype=torch.float64)
    return torch.searchsorted(cumulative, uniforms).clamp_max(len(log_weights) - 1)
