"""Exact sums over structures with one edge type for each pair of entities, by variable elimination.

Entities are eliminated one after the other. The first ``m`` entities interact with the others only through the pairs
between the two groups, so the state is a table over the edge types of those pairs: the forward pass of a hidden Markov
model whose time is the number of eliminated entities. For N = 5 its largest step has ``K^8`` numbers where there are
``K^10`` symmetric graphs, for N = 6 ``K^11`` in place of ``K^15``.

Source: variable elimination (Zhang and Poole 1994, "A simple approach to Bayesian network computations"); forward
filtering, backward sampling (Carter and Kohn 1994, "On Gibbs sampling for state space models").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from bouncegrad.structures.priors.posterior import categorical

ELIMINATION_CELLS = 2**19
"""Largest size of a step of an elimination, numbers per task: N = 8 at two edge types, 6 at three, 5 at five."""

CHUNK_CELLS = 2**20
"""Largest size of a chunk of tasks that are computed together, in numbers: 8 MB in double precision."""

Reduction = Callable[[Tensor, int], Tensor]
"""Log weights, dimension -> their logsumexp (a sum) or their maximum."""


def elimination_cells(num_entities: int, num_kinds: int) -> int:
    """The size of the largest step, numbers per task: ``K^(N - 1 + m (N - 1 - m))`` at ``m = (N - 1) / 2``."""
    others = num_entities - 1
    return num_kinds ** (others + (others // 2) * (others - others // 2))


@dataclass(frozen=True, slots=True, eq=False)
class PairElimination:
    """Distribution over the edge types of all pairs, ``p = exp(sum_m scores_m(types of the pairs of m) + ties) / Z``.

    In the step of entity ``m``, ``earlier`` indexes the types of the pairs ``(i, m)`` with ``i < m``, which are summed
    out; ``passing`` those of the pairs ``(i, j)`` with ``i < m < j``, and ``later`` those of the pairs ``(m, j)``.

    Attributes:
        scores: ``[task, entity, combination]``, log potential of an entity for all joint assignments to its N - 1
            pairs, the first pair being the most significant digit.
        num_kinds: K, the number of edge types.
        ties: for each entity ``[earlier, passing, later]``, log potential of the triangles of which it is the middle
            entity; an empty sequence for none.
        states: ``[task, earlier, passing]`` for each entity but the first: forward messages before its step.
        log_total: ``[task]``, log Z.
    """

    scores: Float[Tensor, "task entity combination"]
    num_kinds: int
    ties: Sequence[Tensor]
    states: tuple[Tensor, ...]
    log_total: Float[Tensor, "task"]

    @classmethod
    def of(cls, scores: Tensor, num_kinds: int, ties: Sequence[Tensor] = ()) -> PairElimination:
        """Run the forward pass: sum over all edge types of all pairs."""
        return cls(scores, num_kinds, ties, *_forward(scores, num_kinds, ties, torch.logsumexp))

    def best(self) -> Int[Tensor, "task entity entity"]:
        """The most probable edge types of all pairs, as a symmetric matrix."""
        states, _ = _forward(self.scores, self.num_kinds, self.ties, torch.amax)
        return self._backward(states, lambda scores: scores.argmax(1))

    def draw(self, generator: Generator) -> Int[Tensor, "task entity entity"]:
        """One exact sample of the edge types of all pairs for each task, as a symmetric matrix."""
        return self._backward(self.states, lambda scores: categorical(scores.log_softmax(1), generator))

    def _backward(self, states: Sequence[Tensor], choose: Callable[[Tensor], Tensor]) -> Tensor:
        """Backward pass: for each entity, last first, choose the types of its pairs with earlier entities."""
        num_tasks, num_entities = self.scores.shape[:2]
        kinds = torch.zeros(num_tasks, num_entities, num_entities, dtype=torch.long, device=self.scores.device)
        every = torch.arange(num_tasks, device=kinds.device)
        for entity in reversed(range(1, num_entities)):
            passing = number_of(kinds[:, :entity, entity + 1 :].mT.flatten(1), self.num_kinds)
            later = number_of(kinds[:, entity, entity + 1 :], self.num_kinds)
            own = self.scores[:, entity].reshape(num_tasks, self.num_kinds**entity, -1)
            scores = states[entity - 1][every, :, passing] + own[every, :, later]
            if self.ties:
                scores = scores + self.ties[entity][:, passing, later].T
            chosen = digits_of(choose(scores), self.num_kinds, entity)
            kinds[:, :entity, entity] = kinds[:, entity, :entity] = chosen
        return kinds

    def joints(self) -> Iterator[tuple[int, slice, Float[Tensor, "task earlier passing later"]]]:
        """Joint probabilities of all types in the step of each entity: entity, chunk of tasks, probabilities."""
        num_entities = self.scores.shape[1]
        for tasks in _chunks(self.scores, self.num_kinds):
            after = self.log_total.new_ones(len(self.scores[tasks]), 1)
            for entity in reversed(range(1, num_entities)):
                seen = _joint(self.states[entity - 1][tasks], self.scores[tasks, entity], self._tie(entity))
                apart = _separate(after, self.num_kinds, entity, num_entities)
                probabilities = torch.softmax(seen, 1).mul_(apart.view_as(seen[:, 0])[:, None])
                yield entity, tasks, probabilities
                after = probabilities.sum(3).flatten(1)

    def marginals(self) -> Float[Tensor, "task entity entity kind"]:
        """The probability of each edge type on each pair; zeros on the diagonal."""
        num_tasks, num_entities = self.scores.shape[:2]
        found = self.scores.new_zeros(num_tasks, num_entities, num_entities, self.num_kinds)
        for entity, tasks, probabilities in self.joints():
            earlier = probabilities.sum((2, 3))
            digits = digits_of(torch.arange(earlier.shape[1], device=earlier.device), self.num_kinds, entity)
            for kind in range(self.num_kinds):
                found[tasks, :entity, entity, kind] = earlier @ (digits == kind).to(earlier)
        return found + found.transpose(1, 2)

    def _tie(self, entity: int) -> Tensor | None:
        return self.ties[entity] if self.ties else None


def number_of(digits: Int[Tensor, "*batch place"], num_kinds: int) -> Int[Tensor, "*batch"]:
    """Kinds as one number in base ``num_kinds``, the first being the most significant digit."""
    places = num_kinds ** torch.arange(digits.shape[-1] - 1, -1, -1, device=digits.device)
    return (digits * places).sum(-1)


def digits_of(numbers: Int[Tensor, "*batch"], num_kinds: int, num_places: int) -> Int[Tensor, "*batch place"]:
    """The inverse of :func:`number_of`."""
    places = num_kinds ** torch.arange(num_places - 1, -1, -1, device=numbers.device)
    return numbers[..., None] // places % num_kinds


def _forward(
    scores: Tensor, num_kinds: int, ties: Sequence[Tensor], reduce: Reduction
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Forward pass: the message before the step of each entity but the first, and the total of each task."""
    num_tasks, num_entities = scores.shape[:2]
    state, states = scores[:, 0], []
    for entity in range(1, num_entities):
        states.append(state.reshape(num_tasks, num_kinds**entity, -1))
        parts = []
        for tasks in _chunks(scores, num_kinds):
            seen = _joint(states[-1][tasks], scores[tasks, entity], ties[entity] if ties else None)
            parts.append(reduce(seen, 1))
        state = _interleave(torch.cat(parts), num_kinds, entity, num_entities)
    return tuple(states), state.flatten()


def _chunks(scores: Tensor, num_kinds: int) -> Iterator[slice]:
    size = max(1, CHUNK_CELLS // elimination_cells(scores.shape[1], num_kinds))
    for first in range(0, max(1, len(scores)), size):
        yield slice(first, min(first + size, len(scores)))


def _joint(state: Tensor, own: Tensor, tie: Tensor | None) -> Float[Tensor, "task earlier passing later"]:
    own = own.reshape(*state.shape[:2], -1)
    seen = state[:, :, :, None] + own[:, :, None, :]
    return seen if tie is None else seen + tie


def _interleave(apart: Tensor, num_kinds: int, entity: int, num_entities: int) -> Float[Tensor, "task state"]:
    """``[task, passing, later]`` as a message: for each later entity, its pairs with all eliminated entities."""
    left = num_entities - 1 - entity
    shape = (*[num_kinds**entity] * left, *[num_kinds] * left)
    order = [place for pair in zip(range(1, left + 1), range(left + 1, 2 * left + 1), strict=True) for place in pair]
    return apart.reshape(-1, *shape).permute(0, *order).flatten(1) if left else apart.flatten(1)


def _separate(state: Tensor, num_kinds: int, entity: int, num_entities: int) -> Float[Tensor, "task apart"]:
    """The inverse of :func:`_interleave`, flat."""
    left = num_entities - 1 - entity
    shape = [num_kinds**entity, num_kinds] * left
    order = (*range(1, 2 * left, 2), *range(2, 2 * left + 1, 2))
    return state.reshape(-1, *shape).permute(0, *order).flatten(1) if left else state
