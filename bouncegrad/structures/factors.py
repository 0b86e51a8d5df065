"""Energies of structures (latent graphs) as sums of factors that each depend on few slots.

Under teacher forcing the loss of a scene is a sum over receivers, and the term of a receiver depends on the edge types
of its incoming edges only. :class:`Factors` is the protocol, :class:`FactorTables` tabulates all energies of every
factor, and :class:`ChainState` is the state of parallel Markov chains over structures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bouncegrad.types import Losses, Structures


@dataclass(frozen=True, slots=True)
class ChainState:
    """State of parallel chains: current edge types, energy of each factor, and each factor's cache for incremental
    updates.

    Attributes:
        kinds: ``[task, chain, factor, width]``, the kinds (edge types) on the slots of each factor.
        energies: ``[task, chain, factor]``, in the unit of the loss.
        cache: values that the factors need for an incremental update; only the factors read it.
    """

    kinds: Int[Tensor, "task chain factor width"]
    energies: Float[Tensor, "task chain factor"]
    cache: Any

    def at(self, positions: Int[Tensor, "factor block"]) -> Int[Tensor, "task chain factor block"]:
        """The kinds at the given positions within each factor's slots."""
        return self.kinds.gather(3, positions.expand(*self.kinds.shape[:2], *positions.shape))

    def codes_at(self, positions: Int[Tensor, "factor block"], num_kinds: int) -> Int[Tensor, "task chain factor"]:
        """The current codes of blocks whose slots take ``num_kinds`` kinds each."""
        radix = num_kinds ** torch.arange(positions.shape[1] - 1, -1, -1)
        return (self.at(positions) * radix).sum(3)

    def with_kinds(self, positions: Int[Tensor, "factor block"], values: Tensor) -> Tensor:
        """A copy of the kinds with ``values``, ``[task, chain, factor, block]``, at the given positions."""
        return self.kinds.scatter(3, positions.expand_as(values), values)


class Factors(Protocol):
    """The loss of every task as a sum of terms that depend on few slots each: the interface of samplers to a model.

    Every slot of a task is in exactly one factor. A *block* is a set of positions in the slots of each factor, all
    with the same number of kinds; a *code* is a joint assignment of kinds to a block as one mixed-radix number, the
    first position being the most significant digit. Factors are immutable and weakly referenceable, so that derived
    values can be cached for as long as the factors exist.
    """

    @property
    def slots(self) -> Int[Tensor, "factor width"]:
        """The slots on which each factor depends."""
        ...

    @property
    def num_kinds(self) -> tuple[int, ...]:
        """``[width]``, the number of kinds of each slot of a factor (the same for every factor)."""
        ...

    @property
    def num_tasks(self) -> int:
        """The number of tasks."""
        ...

    @property
    def exist(self) -> Bool[Tensor, "task factor width"] | None:
        """Mask of the slots to infer (both entities are present, the receiver is not exogenous); None: all of them."""
        ...

    def __call__(self, structures: Structures) -> Losses:
        """The loss of one structure for each task."""
        ...

    def chain_state(self, kinds: Int[Tensor, "task chain factor width"]) -> ChainState:
        """The state of chains at these kinds, with all energies evaluated from the start."""
        ...

    def alternatives(
        self, state: ChainState, positions: Int[Tensor, "factor block"]
    ) -> Float[Tensor, "task chain factor code"]:
        """The energy of every factor when its block takes each code and all else stays."""
        ...

    def move(
        self, state: ChainState, positions: Int[Tensor, "factor block"], codes: Int[Tensor, "task chain factor"]
    ) -> ChainState:
        """Set each factor's block to the kinds of a code; the energies are not updated."""
        ...

    def tabulated(self) -> FactorTables | None:
        """The factors themselves if they are tables of all energies, else None."""
        ...

    def plus(self, other: Factors) -> Factors:
        """The sum of two losses over the same slots of the same tasks, factor by factor; tables where both are."""
        ...


def block_kinds(num_kinds: int, size: int) -> Int[Tensor, "code block"]:
    """The kinds that each code of a block stands for.

    >>> block_kinds(2, 2).tolist()
    [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    return torch.tensor(list(product(range(num_kinds), repeat=size)), dtype=torch.long)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class FactorTables:
    """The loss of every task as a sum of tabulated terms; a :data:`LossFn` that costs one look-up per factor.

    ``loss(structure) = sum_f energies[task, f, index_f(structure)]`` where ``index_f`` reads the kinds on
    ``slots[f]`` as one mixed-radix number, the first slot being the most significant digit.

    Attributes:
        energies: ``[task, factor, combination]``, in the unit of the loss.
        slots: ``[factor, width]``, the slots on which each factor depends; every slot of a task is in exactly one.
        num_kinds: ``[width]``, the number of kinds of each slot of a factor (the same for every factor).
        exist: ``[task, factor, width]``, mask of the slots to infer (:attr:`Factors.exist`); None: all of them.
    """

    energies: Float[Tensor, "task factor combination"]
    slots: Int[Tensor, "factor width"]
    num_kinds: tuple[int, ...]
    exist: Bool[Tensor, "task factor width"] | None = None

    @property
    def num_tasks(self) -> int:
        """The number of tasks."""
        return len(self.energies)

    def __call__(self, structures: Structures) -> Losses:
        """The loss of one structure for each task, by look-up."""
        combinations = self.combinations_of(structures)
        return self.energies.gather(2, combinations[:, :, None]).squeeze(2).sum(1)

    def radix(self) -> Int[Tensor, "width"]:
        """The place value of each slot in the mixed-radix number of a combination."""
        weights = [1]
        for count in reversed(self.num_kinds[1:]):
            weights.insert(0, weights[0] * count)
        return torch.tensor(weights, device=self.slots.device)

    def combinations_of(self, structures: Structures) -> Int[Tensor, "task factor"]:
        """The combination of each factor: the kinds on its slots as one mixed-radix number."""
        return (structures[:, self.slots] * self.radix()).sum(-1)

    def structures_of(self, combinations: Int[Tensor, "task factor"]) -> Structures:
        """The inverse of :meth:`combinations_of`."""
        kinds = combinations[:, :, None] // self.radix() % torch.tensor(self.num_kinds, device=self.slots.device)
        structures = kinds.new_zeros(len(combinations), self.slots.numel())
        structures[:, self.slots.flatten()] = kinds.flatten(1)
        return structures

    def chain_state(self, kinds: Int[Tensor, "task chain factor width"]) -> ChainState:
        """The state of chains at these kinds; the cache holds the current combinations."""
        combinations = (kinds * self.radix()).sum(-1)
        return ChainState(kinds, self._look_up(combinations[..., None]).squeeze(3), combinations)

    def alternatives(
        self, state: ChainState, positions: Int[Tensor, "factor block"]
    ) -> Float[Tensor, "task chain factor code"]:
        """The energy of every factor when its block takes each code and all else stays."""
        radix = self.radix()[positions]
        kinds = block_kinds(self.num_kinds[int(positions[0, 0])], positions.shape[1])
        rest = state.cache - (state.at(positions) * radix).sum(-1)
        return self._look_up(rest[..., None] + radix @ kinds.T)

    def move(
        self, state: ChainState, positions: Int[Tensor, "factor block"], codes: Int[Tensor, "task chain factor"]
    ) -> ChainState:
        """Set each factor's block to the kinds of a code; the energies are not updated."""
        kinds = block_kinds(self.num_kinds[int(positions[0, 0])], positions.shape[1])[codes]
        change = ((kinds - state.at(positions)) * self.radix()[positions]).sum(-1)
        return ChainState(state.with_kinds(positions, kinds), state.energies, state.cache + change)

    def tabulated(self) -> FactorTables:
        """These tables."""
        return self

    def plus(self, other: Factors) -> Factors:
        """The sum with another loss over the same slots of the same tasks; tables if the other has tables."""
        tables = other.tabulated()
        if tables is None:
            return SummedFactors(self, other)
        return replace(self, energies=self.energies + tables.energies)

    def _look_up(self, combinations: Int[Tensor, "task chain factor code"]) -> Float[Tensor, "task chain factor code"]:
        by_factor = combinations.transpose(1, 2)
        found = self.energies.gather(2, by_factor.flatten(2)).view(by_factor.shape)
        return found.transpose(1, 2)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class SummedFactors:
    """The sum of two losses of the same tasks, factor by factor.

    Attributes:
        one: the first.
        other: the second, over the same slots.
    """

    one: Factors
    other: Factors

    @property
    def slots(self) -> Int[Tensor, "factor width"]:
        """The slots on which each factor depends."""
        return self.one.slots

    @property
    def num_kinds(self) -> tuple[int, ...]:
        """The number of kinds of each slot of a factor."""
        return self.one.num_kinds

    @property
    def num_tasks(self) -> int:
        """The number of tasks."""
        return self.one.num_tasks

    @property
    def exist(self) -> Bool[Tensor, "task factor width"] | None:
        """Mask of the slots to infer (:attr:`Factors.exist`)."""
        return self.one.exist

    def __call__(self, structures: Structures) -> Losses:
        """The loss of one structure for each task."""
        return self.one(structures) + self.other(structures)

    def chain_state(self, kinds: Int[Tensor, "task chain factor width"]) -> ChainState:
        """The state of chains at these kinds; the cache holds the states of both losses."""
        one, other = self.one.chain_state(kinds), self.other.chain_state(kinds)
        return ChainState(kinds, one.energies + other.energies, (one, other))

    def alternatives(
        self, state: ChainState, positions: Int[Tensor, "factor block"]
    ) -> Float[Tensor, "task chain factor code"]:
        """The energy of every factor when its block takes each code and all else stays."""
        one, other = state.cache
        return self.one.alternatives(one, positions) + self.other.alternatives(other, positions)

    def move(
        self, state: ChainState, positions: Int[Tensor, "factor block"], codes: Int[Tensor, "task chain factor"]
    ) -> ChainState:
        """Set each factor's block to the kinds of a code; the energies are not updated."""
        one, other = state.cache
        cache = (self.one.move(one, positions, codes), self.other.move(other, positions, codes))
        return ChainState(cache[0].kinds, state.energies, cache)

    def tabulated(self) -> None:
        """None: at least one of the two losses has no tables."""

    def plus(self, other: Factors) -> SummedFactors:
        """The sum with a third loss over the same slots of the same tasks."""
        return SummedFactors(self, other)
