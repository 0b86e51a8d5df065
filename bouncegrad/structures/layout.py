"""The space of structures (latent graphs): slots, the kinds (edge types) that each slot takes, and the order of edges.

The order of edges is defined in this file only. A scene of N entities has ``N * (N - 1)`` edge slots, receiver-major:
slot ``i * (N - 1) + r`` is the edge that ends at receiver ``i`` and starts at the ``r``-th of the other entities in
ascending order. So the incoming edges of a receiver are contiguous. With several node types, ``N`` node slots follow
the edge slots.

(The reference implementations disagree here: in Kipf et al. 2018 the row-major pair (i, j) means "j acts on i", in
Alet et al. 2019 "i acts on j". The difference has no effect on symmetric graphs only.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from bouncegrad.types import Structures

TABLE_LIMIT = 4096
"""Largest number of joint assignments of one block that are tabulated: 2^12, so N = 13 at two edge types."""


@lru_cache(maxsize=64)
def senders_of(num_entities: int) -> Int[Tensor, "receiver neighbour"]:
    """The sender of every incoming edge of every receiver, in slot order: ``[receiver, neighbour]``.

    >>> senders_of(3).tolist()
    [[1, 2], [0, 2], [0, 1]]
    """
    everyone = torch.arange(num_entities).expand(num_entities, -1)
    return everyone[~torch.eye(num_entities, dtype=torch.bool)].view(num_entities, num_entities - 1)


def to_slots(matrix: Int[Tensor, "scene receiver sender"]) -> Structures:
    """The edge slots ``[scene, slot]`` of a matrix ``[scene, receiver, sender]``; the diagonal is ignored."""
    senders = senders_of(matrix.shape[-1]).to(matrix.device)
    return matrix.gather(-1, senders.expand(len(matrix), -1, -1)).flatten(1)


def to_matrix(structures: Tensor, num_entities: int, diagonal: float = -1) -> Tensor:
    """The matrix ``[scene, receiver, sender]`` of edge slots; the inverse of :func:`to_slots`.

    Args:
        structures: ``[scene, slot]`` or, for values of every kind, ``[scene, slot, kind]``; node slots are ignored.
        num_entities: N.
        diagonal: the value on the diagonal (receiver = sender).
    """
    rest = structures.shape[2:]
    num_slots = num_entities * (num_entities - 1)
    matrix = structures.new_full((len(structures), num_entities**2, *rest), diagonal)
    off_diagonal = ~torch.eye(num_entities, dtype=torch.bool).flatten()
    matrix[:, off_diagonal.to(matrix.device)] = structures[:, :num_slots]
    return matrix.view(len(structures), num_entities, num_entities, *rest)


@dataclass(frozen=True, slots=True)
class StructureSpace:
    """The set of all structures of a task: edge types on the slots of a graph, or modules on those of a composition.

    Attributes:
        num_kinds: ``[slot]``, the number of kinds of each slot.
        blocks: ``[block, width]``, slots that are redrawn together, such as the incoming edges of a receiver.
    """

    num_kinds: tuple[int, ...]
    blocks: Int[Tensor, "block width"]

    @property
    def num_slots(self) -> int:
        """The number of slots of a task."""
        return len(self.num_kinds)

    @property
    def num_structures(self) -> int:
        """The number of different structures of a task."""
        return math.prod(self.num_kinds)

    @property
    def num_assignments(self) -> int:
        """The number of joint assignments of kinds to the slots of the largest block: the length of its table."""
        return max(math.prod(self.num_kinds[slot] for slot in block) for block in self.blocks.tolist())

    @property
    def fits_tables(self) -> bool:
        """Whether the losses of all assignments of a block can be tabulated (:data:`TABLE_LIMIT`)."""
        return self.num_assignments <= TABLE_LIMIT

    def random(self, num_tasks: int, generator: Generator) -> Structures:
        """Uniformly random structures ``[task, slot]``."""
        uniform = torch.rand(num_tasks, self.num_slots, generator=generator, device=generator.device)
        return (uniform * torch.tensor(self.num_kinds, device=generator.device)).long()


@dataclass(frozen=True, slots=True)
class Layout(StructureSpace):
    """The space of the latent graphs of scenes with N entities; one block for each receiver.

    Attributes:
        num_entities: N.
        num_edge_kinds: number of edge types, the kinds that an edge slot takes.
        num_node_kinds: number of node types, the kinds that a node slot takes; with 1 there are no node slots.
    """

    num_kinds: tuple[int, ...] = field(init=False, repr=False, compare=False)
    blocks: Int[Tensor, "receiver width"] = field(init=False, repr=False, compare=False)
    num_entities: int
    num_edge_kinds: int
    num_node_kinds: int = 1

    def __post_init__(self) -> None:
        num_nodes = self.num_entities if self.num_node_kinds > 1 else 0
        edges = torch.arange(self.num_edge_slots).view(self.num_entities, self.num_entities - 1)
        nodes = torch.arange(self.num_edge_slots, self.num_edge_slots + num_nodes)
        num_kinds = (self.num_edge_kinds,) * self.num_edge_slots + (self.num_node_kinds,) * num_nodes
        object.__setattr__(self, "num_kinds", num_kinds)
        object.__setattr__(self, "blocks", torch.cat([edges, nodes[:, None]], 1) if num_nodes else edges)

    @property
    def num_edge_slots(self) -> int:
        """The number of edge slots, N (N - 1)."""
        return self.num_entities * (self.num_entities - 1)

    @property
    def num_assignments(self) -> int:
        """The number of joint assignments of kinds to the slots of a receiver, the same for all of them."""
        return math.prod(self.receiver_kinds)

    @property
    def receiver_slots(self) -> Int[Tensor, "receiver width"]:
        """The slots of each receiver: its incoming edges, then its node slot if there are node types."""
        return self.blocks

    @property
    def receiver_kinds(self) -> tuple[int, ...]:
        """The number of kinds of each column of :attr:`receiver_slots`."""
        edges = (self.num_edge_kinds,) * (self.num_entities - 1)
        return (*edges, self.num_node_kinds) if self.num_node_kinds > 1 else edges
