"""The loss of a task as a sum of factors that each see few slots, and the state of chains over them."""

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
        kinds: ``[task, chain, factor, width]``, the kinds on the slots of each factor.
        energies: ``[task, chain, factor]``, in the unit of the loss.
        cache: whatever the factors need for an incremental update; nothing else reads it.
    """

    kinds: Int[Tensor, "task chain factor width"]
    energies: Float[Tensor, "task chain factor"]
    cache: Any

    def at(self, positions: Int[Tensor, "factor block"]) -> Int[Tensor, "task chain factor block"]:
        """The kinds at some positions of each factor's slots."""
        return self.kinds.gather(3, positions.expand(*self.kinds.shape[:2], *positions.shape))

    def codes_at(self, positions: Int[Tensor, "factor block"], num_kinds: int) -> Int[Tensor, "task chain factor"]:
        """The current codes of blocks of slots that take ``num_kinds``."""
        radix = num_kinds ** torch.arange(positions.shape[1] - 1, -1, -1)
        return (self.at(positions) * radix).sum(3)

    def with_kinds(self, positions: Int[Tensor, "factor block"], values: Tensor) -> Tensor:
        """All kinds, with others ``[task, chain, factor, block]`` at some positions."""
        return self.kinds.scatter(3, positions.expand_as(values), values)


class Factors(Protocol):
    """The loss of every task as a sum of terms that each see few slots; all that samplers see of a model.

    Every slot of a task is in exactly one factor. A *block* is some positions in the slots of each factor, of one
    number of kinds; a *code* says which kinds they take, as one mixed-radix number, the first the most significant.
    Energies do not change once there are factors, and weak references can be made to them: what follows from them is
    kept for as long as they are there.
    """

    @property
    def slots(self) -> Int[Tensor, "factor width"]:
        """The slots that each factor sees."""
        ...

    @property
    def num_kinds(self) -> tuple[int, ...]:
        """``[width]``, how many kinds the slots of a factor take (the same for every factor)."""
        ...

    @property
    def num_tasks(self) -> int:
        """How many tasks there are."""
        ...

    @property
    def exist(self) -> Bool[Tensor, "task factor width"] | None:
        """Which slots are asked about (somebody is at both ends, the receiver is not exogenous); None: all of them."""
        ...

    def __call__(self, structures: Structures) -> Losses:
        """The losses of structures."""
        ...

    def chain_state(self, kinds: Int[Tensor, "task chain factor width"]) -> ChainState:
        """Evaluate chains of structures afresh."""
        ...

    def alternatives(
        self, state: ChainState, positions: Int[Tensor, "factor block"]
    ) -> Float[Tensor, "task chain factor code"]:
        """The energy of every factor when its block takes each code and all else stays."""
        ...

    def move(
        self, state: ChainState, positions: Int[Tensor, "factor block"], codes: Int[Tensor, "task chain factor"]
    ) -> ChainState:
        """Give each factor's block the kinds of a code; the energies are not updated."""
        ...

    def tabulated(self) -> FactorTables | None:
        """Themselves if they are tables of all energies, else None."""
        ...

    def plus(self, other: Factors) -> Factors:
        """The sum of two losses over the same slots of the same tasks, factor by factor; tables where both are."""
        ...


def block_kinds(num_kinds: int, size: int) -> Int[Tensor, "code block"]:
    """The kinds of each code of a block.

    >>> block_kinds(2, 2).tolist()
    [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    return torch.tensor(list(product(range(num_kinds), repeat=size)), dtype=torch.long)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class FactorTables:
    """The loss of every task as a sum of tabulated terms; itself a :data:`LossFn` that only looks up.

    ``loss(structure) = sum_f energies[task, f, index_f(structure)]`` where ``index_f`` reads the kinds on
    ``slots[f]`` as one mixed-radix number, the first slot being the most significant digit.

    Attributes:
        energies: ``[task, factor, combination]``, in the unit of the loss.
        slots: ``[factor, width]``, the slots that each factor sees; every slot of a task is in exactly one.
        num_kinds: ``[width]``, how many kinds the slots of a factor take (the same for every factor).
        exist: ``[task, factor, width]``, which slots are asked about (:attr:`Factors.exist`); None: all of them.
    """

    energies: Float[Tensor, "task factor combination"]
    slots: Int[Tensor, "factor width"]
    num_kinds: tuple[int, ...]
    exist: Bool[Tensor, "task factor width"] | None = None

    @property
    def num_tasks(self) -> int:
        """How many tasks there are."""
        return len(self.energies)

    def __call__(self, structures: Structures) -> Losses:
        """Look the losses of ``structures`` up."""
        combinations = self.combinations_of(structures)
        return self.energies.gather(2, combinations[:, :, None]).squeeze(2).sum(1)

    def radix(self) -> Int[Tensor, "width"]:
        """The weight of each digit of a combination."""
        weights = [1]
        for count in reversed(self.num_kinds[1:]):
            weights.insert(0, weights[0] * count)
        return torch.tensor(weights, device=self.slots.device)

    def combinations_of(self, structures: Structures) -> Int[Tensor, "task factor"]:
        """The combination that each factor sees in ``structures``."""
        return (structures[:, self.slots] * self.radix()).sum(-1)

    def structures_of(self, combinations: Int[Tensor, "task factor"]) -> Structures:
        """The inverse of :meth:`combinations_of`."""
        kinds = combinations[:, :, None] // self.radix() % torch.tensor(self.num_kinds, device=self.slots.device)
        structures = kinds.new_zeros(len(combinations), self.slots.numel())
        structures[:, self.slots.flatten()] = kinds.flatten(1)
        return structures

    def chain_state(self, kinds: Int[Tensor, "task chain factor width"]) -> ChainState:
        """Look chains of structures up."""
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
        """Give each factor's block the kinds of a code."""
        kinds = block_kinds(self.num_kinds[int(positions[0, 0])], positions.shape[1])[codes]
        change = ((kinds - state.at(positions)) * self.radix()[positions]).sum(-1)
        return ChainState(state.with_kinds(positions, kinds), state.energies, state.cache + change)

    def tabulated(self) -> FactorTables:
        """Themselves."""
        return self

    def plus(self, other: Factors) -> Factors:
        """The sum with another loss over the same slots of the same tasks."""
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
        """The slots that each factor sees."""
        return self.one.slots

    @property
    def num_kinds(self) -> tuple[int, ...]:
        """How many kinds the slots of a factor take."""
        return self.one.num_kinds

    @property
    def num_tasks(self) -> int:
        """How many tasks there are."""
        return self.one.num_tasks

    @property
    def exist(self) -> Bool[Tensor, "task factor width"] | None:
        """Which slots are asked about."""
        return self.one.exist

    def __call__(self, structures: Structures) -> Losses:
        """The losses of structures."""
        return self.one(structures) + self.other(structures)

    def chain_state(self, kinds: Int[Tensor, "task chain factor width"]) -> ChainState:
        """Evaluate chains of structures afresh."""
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
        """Give each factor's block the kinds of a code."""
        one, other = state.cache
        cache = (self.one.move(one, positions, codes), self.other.move(other, positions, codes))
        return ChainState(cache[0].kinds, state.energies, cache)

    def tabulated(self) -> None:
        """No tables: at least one of the two is none."""

    def plus(self, other: Factors) -> SummedFactors:
        """The sum with a third loss over the same slots of the same tasks."""
        return SummedFactors(self, other)
