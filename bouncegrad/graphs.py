"""The edge order, and many scenes as one super-graph.

This file is the only place that knows the order of edges. A scene of N entities has ``N * (N - 1)`` edge slots,
receiver-major: slot ``i * (N - 1) + r`` is the edge that ends at receiver ``i`` and starts at the ``r``-th of the
other entities in ascending order. So the incoming edges of a receiver lie side by side. With several node kinds,
``N`` node slots follow the edge slots.

(The reference implementations disagree here: in Kipf et al. 2018 the row-major pair (i, j) means "j acts on i", in
Alet et al. 2019 "i acts on j". It goes unnoticed on symmetric graphs only.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bouncegrad.types import RelaxedStructures, Structures


@lru_cache(maxsize=64)
def senders_of(num_entities: int) -> Int[Tensor, "receiver neighbour"]:
    """The senders of each receiver's incoming edges, in slot order: ``[receiver, neighbour]``.

    >>> senders_of(3).tolist()
    [[1, 2], [0, 2], [0, 1]]
    """
    everyone = torch.arange(num_entities).expand(num_entities, -1)
    return everyone[~torch.eye(num_entities, dtype=torch.bool)].view(num_entities, num_entities - 1)


def to_slots(matrix: Int[Tensor, "scene receiver sender"]) -> Structures:
    """Read the edge slots out of a matrix ``[scene, receiver, sender]``; the diagonal is ignored."""
    senders = senders_of(matrix.shape[-1]).to(matrix.device)
    return matrix.gather(-1, senders.expand(len(matrix), -1, -1)).flatten(1)


def to_matrix(structures: Tensor, num_entities: int, diagonal: float = -1) -> Tensor:
    """Write the edge slots into a matrix ``[scene, receiver, sender]``; the inverse of :func:`to_slots`.

    Args:
        structures: ``[scene, slot]`` or, for values of every kind, ``[scene, slot, kind]``; node slots are ignored.
        num_entities: N.
        diagonal: the value where an entity meets itself.
    """
    rest = structures.shape[2:]
    num_slots = num_entities * (num_entities - 1)
    matrix = structures.new_full((len(structures), num_entities**2, *rest), diagonal)
    off_diagonal = ~torch.eye(num_entities, dtype=torch.bool).flatten()
    matrix[:, off_diagonal.to(matrix.device)] = structures[:, :num_slots]
    return matrix.view(len(structures), num_entities, num_entities, *rest)


@dataclass(frozen=True, slots=True)
class Layout:
    """Which slots the structure of a scene has.

    Attributes:
        num_entities: N.
        num_edge_kinds: kinds that an edge slot takes.
        num_node_kinds: kinds that a node slot takes; with 1 there are no node slots.
    """

    num_entities: int
    num_edge_kinds: int
    num_node_kinds: int = 1

    @property
    def num_edge_slots(self) -> int:
        """N (N - 1)."""
        return self.num_entities * (self.num_entities - 1)

    @property
    def num_slots(self) -> int:
        """Edge slots and node slots."""
        return self.num_edge_slots + (self.num_entities if self.num_node_kinds > 1 else 0)

    @property
    def num_kinds(self) -> tuple[int, ...]:
        """The number of kinds of each slot."""
        num_node_slots = self.num_slots - self.num_edge_slots
        return (self.num_edge_kinds,) * self.num_edge_slots + (self.num_node_kinds,) * num_node_slots

    @property
    def receiver_slots(self) -> Int[Tensor, "receiver width"]:
        """All that decides how a receiver moves on: its incoming edges and, where there is one, its node slot."""
        slots = torch.arange(self.num_slots)
        blocks = slots[: self.num_edge_slots].view(self.num_entities, -1)
        nodes = slots[self.num_edge_slots :]
        return torch.cat([blocks, nodes[:, None]], 1) if len(nodes) else blocks

    @property
    def receiver_kinds(self) -> tuple[int, ...]:
        """The number of kinds of each column of :attr:`receiver_slots`."""
        edges = (self.num_edge_kinds,) * (self.num_entities - 1)
        return (*edges, self.num_node_kinds) if self.num_node_kinds > 1 else edges

    def random(self, num_tasks: int, generator: torch.Generator) -> Structures:
        """Uniformly random structures ``[task, slot]``."""
        uniform = torch.rand(num_tasks, self.num_slots, generator=generator, device=generator.device)
        return (uniform * torch.tensor(self.num_kinds, device=generator.device)).long()


@dataclass(frozen=True, slots=True)
class SuperGraph:
    """Complete graphs of many scenes as one graph; scenes may have different numbers of entities.

    Nodes are the present entities, scene by scene; edges are sorted by receiver and, within a receiver, by sender.

    Attributes:
        present: ``[scene, entity]``, which entities exist; the scenes are padded to the largest.
        senders: ``[edge]``, the node at which each edge starts.
        receivers: ``[edge]``, the node at which it ends.
        edge_scenes: ``[edge]``, the scene of each edge.
        edge_slots: ``[edge]``, its slot in that scene's (padded) structure.
        in_degree: the number of incoming edges of every node where that is one number, else 0.
    """

    present: Bool[Tensor, "scene entity"]
    senders: Int[Tensor, "edge"]
    receivers: Int[Tensor, "edge"]
    edge_scenes: Int[Tensor, "edge"]
    edge_slots: Int[Tensor, "edge"]
    in_degree: int

    @property
    def num_nodes(self) -> int:
        """The number of present entities of all scenes."""
        return int(self.present.sum())

    @property
    def exist(self) -> Bool[Tensor, "scene receiver neighbour"] | None:
        """Which edges there are, by their places in structures; None: all of them."""
        if self.present.all():
            return None
        senders = senders_of(self.present.shape[1]).to(self.present.device)
        return self.present[:, :, None] & self.present[:, senders]

    def pack_nodes(self, values: Tensor) -> Tensor:
        """``[scene, entity, ...]`` to ``[node, ...]``."""
        return values[self.present]

    def unpack_nodes(self, values: Tensor, fill: float = 0) -> Tensor:
        """``[node, ...]`` to ``[scene, entity, ...]``; absent entities get ``fill``."""
        padded = values.new_full((*self.present.shape, *values.shape[1:]), fill)
        return padded.index_put((self.present,), values)

    def pack_edges(
        self, structures: Structures | RelaxedStructures
    ) -> Int[Tensor, "edge"] | Float[Tensor, "edge kind"]:
        """The kinds on the edges: ``[scene, slot]`` to ``[edge]``; or relaxed, with an axis of kinds behind."""
        return structures.to(self.present.device)[self.edge_scenes, self.edge_slots]

    def pack_node_kinds(
        self, structures: Structures | RelaxedStructures
    ) -> Int[Tensor, "node"] | Float[Tensor, "node kind"]:
        """The kinds of the nodes; zeros for structures without node slots."""
        num_entities = self.present.shape[1]
        num_edge_slots = num_entities * (num_entities - 1)
        if structures.shape[1] == num_edge_slots:
            return torch.zeros(self.num_nodes, dtype=torch.long, device=self.present.device)
        return self.pack_nodes(structures[:, num_edge_slots:].to(self.present.device))

    def unpack_edges(self, values: Tensor, fill: float = 0) -> Tensor:
        """``[edge, ...]`` to edge slots ``[scene, slot, ...]``; slots of absent entities get ``fill``."""
        num_entities = self.present.shape[1]
        shape = (len(self.present), num_entities * (num_entities - 1), *values.shape[1:])
        return values.new_full(shape, fill).index_put((self.edge_scenes, self.edge_slots), values)

    def incoming(self, messages: Float[Tensor, "edge *rest"]) -> Float[Tensor, "node *rest"]:
        """The sum of the messages that arrive at each node."""
        if self.in_degree:
            return messages.view(-1, self.in_degree, *messages.shape[1:]).sum(1)
        return messages.new_zeros(self.num_nodes, *messages.shape[1:]).index_add(0, self.receivers, messages)

    def mean_incoming(self, messages: Float[Tensor, "edge *rest"]) -> Float[Tensor, "node *rest"]:
        """The mean of the messages that arrive at each node; zeros where none does."""
        degrees = self.incoming(messages.new_ones(len(messages)))
        return self.incoming(messages) / degrees.clamp_min(1).view(-1, *(1,) * (messages.dim() - 1))

    def ends(self, values: Float[Tensor, "node *rest last"]) -> Float[Tensor, "edge *rest both"]:
        """The values at both ends of every edge, the receiver's, then the sender's, along the last axis."""
        return torch.cat([values.index_select(0, self.receivers), values.index_select(0, self.senders)], -1)


def super_graph(present: Bool[Tensor, "scene entity"]) -> SuperGraph:
    """Join the complete graphs of all scenes.

    Args:
        present: ``[scene, entity]``, which entities exist in each scene.
    """
    num_entities = present.shape[1]
    nodes = torch.full(present.shape, -1, device=present.device)
    nodes[present] = torch.arange(int(present.sum()), device=present.device)
    order = senders_of(num_entities).to(present.device)
    exists = (present[:, :, None] & present[:, order]).flatten(1)
    edge_scenes, edge_slots = exists.nonzero(as_tuple=True)
    receivers = edge_slots // (num_entities - 1)
    degrees = present.sum(1)[present.any(1)] - 1
    regular = bool((degrees == degrees[:1]).all())
    return SuperGraph(
        present=present,
        senders=nodes[edge_scenes, order.flatten()[edge_slots]],
        receivers=nodes[edge_scenes, receivers],
        edge_scenes=edge_scenes,
        edge_slots=edge_slots,
        in_degree=int(degrees[0]) if regular and len(degrees) else 0,
    )
