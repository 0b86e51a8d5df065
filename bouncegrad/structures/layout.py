"""The space of structures: which slots there are, what they take, and the order of edges.

This file is the only place that knows the order of edges. A scene of N entities has ``N * (N - 1)`` edge slots,
receiver-major: slot ``i * (N - 1) + r`` is the edge that ends at receiver ``i`` and starts at the ``r``-th of the
other entities in ascending order. So the incoming edges of a receiver lie side by side. With several node kinds,
``N`` node slots follow the edge slots.

(The reference implementations disagree here: in Kipf et al. 2018 the row-major pair (i, j) means "j acts on i", in
Alet et al. 2019 "i acts on j". It goes unnoticed on symmetric graphs only.)
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
"""Joint assignments of one block up to which tables are made; 2^12, so N = 13 at two edge types."""


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
class StructureSpace:
    """All structures of a task: edge types on the slots of a graph, or modules on those of a composition.

    Attributes:
        num_kinds: ``[slot]``, how many kinds each slot takes.
        blocks: ``[block, width]``, slots that are redrawn together: a receiver's incoming edges, say.
    """

    num_kinds: tuple[int, ...]
    blocks: Int[Tensor, "block width"]

    @property
    def num_slots(self) -> int:
        """Of a task."""
        return len(self.num_kinds)

    @property
    def num_structures(self) -> int:
        """Of a task."""
        return math.prod(self.num_kinds)

    @property
    def num_assignments(self) -> int:
        """Joint assignments of kinds to the slots of one block (the largest): the length of its table."""
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
    """The space of the latent graphs of scenes with N entities; a block is all that decides about one receiver.

    Attributes:
        num_entities: N.
        num_edge_kinds: edge types, the kinds that an edge slot takes.
        num_node_kinds: kinds that a node slot takes; with 1 there are no node slots.
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
        """N (N - 1)."""
        return self.num_entities * (self.num_entities - 1)

    @property
    def receiver_slots(self) -> Int[Tensor, "receiver width"]:
        """The blocks of a graph: a receiver's incoming edges and, where there is one, its node slot."""
        return self.blocks

    @property
    def receiver_kinds(self) -> tuple[int, ...]:
        """The number of kinds of each column of :attr:`receiver_slots`."""
        edges = (self.num_edge_kinds,) * (self.num_entities - 1)
        return (*edges, self.num_node_kinds) if self.num_node_kinds > 1 else edges
