"""The words of the project as types: axes, records and the seams between search and networks.

Axis legend, used in every shape annotation of the package:

==============  =====================================================================================
``scene``       one recording of interacting entities, with its own relations
``time``        samples of a scene, equally spaced
``entity``      the things of one scene (particles, cars, animals, players)
``feature``     what is measured of an entity at one time (positions, then velocities)
``receiver``    the entity that is acted on
``sender``      the entity that acts
``task``        one search problem: here a scene of the current batch
``slot``        a place of a structure that holds one module (an ordered pair, or an entity)
``kind``        which module of the library sits on a slot, an integer from 0
``node``        an entity of any scene inside a super-graph of many scenes
``edge``        an ordered pair of nodes inside a super-graph
``start``       times from which rollouts begin, many in one batch
``step``        steps of a rollout
``factor``      a term of a task's loss that sees few slots (under teacher forcing: one per receiver)
``combination`` all joint assignments of kinds to the slots of one factor, mixed-radix order
==============  =====================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

Structures: TypeAlias = Int[Tensor, "task slot"]
"""The kind on every slot of every task: one integer tensor, nothing stored beside it."""

Losses: TypeAlias = Float[Tensor, "task"]

LossFn: TypeAlias = Callable[[Structures], Losses]
"""Structures -> losses. All that a search kernel ever sees of data and networks."""

LogPrior: TypeAlias = Callable[[Structures], Float[Tensor, "task"]]
"""Structures -> log prior probability, up to a constant of each task."""

Schedule: TypeAlias = Callable[[int], float]
"""Step -> value. Numbers are lifted to schedules by :func:`bouncegrad.search.annealing.as_schedule`."""


@dataclass(frozen=True, slots=True)
class FactorTables:
    """The loss of every task as a sum of tabulated terms; itself a :data:`LossFn` that only looks up.

    ``loss(structure) = sum_f energies[task, f, index_f(structure)]`` where ``index_f`` reads the kinds on
    ``slots[f]`` as one mixed-radix number, the first slot being the most significant digit.

    Attributes:
        energies: ``[task, factor, combination]``, in the unit of the loss.
        slots: ``[factor, width]``, the slots that each factor sees; every slot of a task is in exactly one.
        num_kinds: ``[width]``, how many kinds the slots of a factor take (the same for every factor).
    """

    energies: Float[Tensor, "task factor combination"]
    slots: Int[Tensor, "factor width"]
    num_kinds: tuple[int, ...]

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


@dataclass(frozen=True, slots=True)
class Proposed:
    """Structures to try, and how much likelier the way back is than the way there.

    Attributes:
        structures: ``[task, slot]``.
        log_ratio: ``[task]``, ``log q(old | new) - log q(new | old)``; 0 for symmetric proposals.
    """

    structures: Structures
    log_ratio: Float[Tensor, "task"]


Proposal: TypeAlias = Callable[[Structures, Generator], Proposed]
"""Structures -> one proposal for each task."""


@dataclass(frozen=True, slots=True)
class SearchState:
    """What the next step of a search needs.

    Attributes:
        structures: ``[task, slot]``, the current structures.
        losses: ``[task]``, their losses.
        temperature: divides the loss: the target is ``exp(-loss / temperature + log_prior)``.
    """

    structures: Structures
    losses: Losses
    temperature: float


@dataclass(frozen=True, slots=True)
class SearchInfo:
    """What a report on one step needs.

    Attributes:
        changed: ``[task]``, the structure is another one than before the step.
        accepted: ``[task]``, another structure was proposed and accepted (rejection-free kernels accept every one).
        worse: ``[task]``, the proposal had a larger loss than the current structure, and a finite one: a hotter search
            would have accepted it more easily.
        num_evaluations: loss evaluations spent on each task.
    """

    changed: Bool[Tensor, "task"]
    accepted: Bool[Tensor, "task"]
    worse: Bool[Tensor, "task"]
    num_evaluations: int


@dataclass(frozen=True, slots=True)
class Kernel:
    """A search algorithm: a pair of functions over all tasks at once.

    ``init(structures, loss_fn, temperature) -> state`` and
    ``step(state, loss_fn, generator) -> (state, info)``.
    """

    init: Callable[[Structures, LossFn, float], SearchState]
    step: Callable[[SearchState, LossFn, Generator], tuple[SearchState, SearchInfo]]
