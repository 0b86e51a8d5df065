"""The super-graph: nodes and edges of a batch of scenes as one graph, for message passing in parallel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bouncegrad.structures.layout import senders_of
from bouncegrad.types import RelaxedStructures, Structures


@dataclass(frozen=True, slots=True)
class SuperGraph:
    """The complete graphs of many scenes as one graph; scenes may have different numbers of entities.

    Nodes are the present entities, scene by scene; edges are sorted by receiver and, within a receiver, by sender.

    Attributes:
        present: ``[scene, entity]``, which entities exist; the scenes are padded to the largest.
        senders: ``[edge]``, the sending node of each edge.
        receivers: ``[edge]``, the receiving node of each edge.
        edge_scenes: ``[edge]``, the scene of each edge.
        edge_slots: ``[edge]``, its slot in that scene's (padded) structure.
        in_degree: the number of incoming edges of a node if it is the same for all nodes, else 0.
    """

    present: Bool[Tensor, "scene entity"]
    senders: Int[Tensor, "edge"]
    receivers: Int[Tensor, "edge"]
    edge_scenes: Int[Tensor, "edge"]
    edge_slots: Int[Tensor, "edge"]
    in_degree: int

    @property
    def num_nodes(self) -> int:
        """Number of present entities in all scenes together."""
        return int(self.present.sum())

    @property
    def exist(self) -> Bool[Tensor, "scene receiver neighbour"] | None:
        """Which edge slots of structures are edges between present entities; None: all of them."""
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
        """Edge types from structures: ``[scene, slot]`` to ``[edge]``; or relaxed, with a last axis ``kind``."""
        return structures.to(self.present.device)[self.edge_scenes, self.edge_slots]

    def pack_node_kinds(
        self, structures: Structures | RelaxedStructures
    ) -> Int[Tensor, "node"] | Float[Tensor, "node kind"]:
        """Node types from structures: ``[scene, slot]`` to ``[node]``; zeros for structures without node slots."""
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
        """Sum of the incoming messages of each node."""
        if self.in_degree:
            return messages.view(-1, self.in_degree, *messages.shape[1:]).sum(1)
        return messages.new_zeros(self.num_nodes, *messages.shape[1:]).index_add(0, self.receivers, messages)

    def mean_incoming(self, messages: Float[Tensor, "edge *rest"]) -> Float[Tensor, "node *rest"]:
        """Mean of the incoming messages of each node; zeros for nodes without incoming edges."""
        degrees = self.incoming(messages.new_ones(len(messages)))
        return self.incoming(messages) / degrees.clamp_min(1).view(-1, *(1,) * (messages.dim() - 1))

    def ends(self, values: Float[Tensor, "node *rest last"]) -> Float[Tensor, "edge *rest both"]:
        """Values at the receiver and at the sender of each edge, concatenated along the last axis in this order."""
        return torch.cat([values.index_select(0, self.receivers), values.index_select(0, self.senders)], -1)


def super_graph(present: Bool[Tensor, "scene entity"]) -> SuperGraph:
    """Build the super-graph of a batch from the complete graphs of its scenes.

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
