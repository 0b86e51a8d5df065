"""Exact sums over graphs with one kind for each pair of entities, without listing the graphs.

Entities are taken in one after the other. What connects the first ``m`` of them with the others are the pairs between
the two groups, so all that must be remembered of the first ``m`` is a table over the kinds of those pairs: the forward
pass of a hidden Markov chain whose time is the number of entities taken in. For N = 5 its largest step has ``K^8``
numbers where there are ``K^10`` symmetric graphs, for N = 6 ``K^11`` in place of ``K^15``.

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
"""Numbers of one task in the largest step of an elimination: N = 8 at two kinds, 6 at three, 5 at five."""

CHUNK_CELLS = 2**20
"""Numbers of all tasks that are worked on at once: 8 MB in double precision."""

Reduction = Callable[[Tensor, int], Tensor]


def elimination_cells(num_entities: int, num_kinds: int) -> int:
    """Numbers of one task in the largest step: ``K^(N - 1 + m (N - 1 - m))`` at ``m = (N - 1) / 2``."""
    others = num_entities - 1
    return num_kinds ** (others + (others // 2) * (others - others // 2))


@dataclass(frozen=True, slots=True, eq=False)
class PairElimination:
    """``p(kinds) = exp(sum_m scores_m(kinds of the pairs with m) + sum_m ties_m) / Z``.

    When entity ``m`` is taken in, ``earlier`` are all kinds of the pairs ``(i, m)`` with ``i < m``, which are summed
    out; ``passing`` those of the pairs ``(i, j)`` with ``i < m < j``, and ``later`` those of the pairs ``(m, j)``.

    Attributes:
        scores: ``[task, entity, combination]``, an entity's part under all joint assignments to its N - 1 pairs, the
            first pair being the most significant digit.
        num_kinds: K.
        ties: for each entity ``[earlier, passing, later]``, what it adds as the middle one of triangles; or nothing.
        states: ``[task, earlier, passing]`` for each entity but the first: all that went before, as it is taken in.
        log_total: ``[task]``, log Z.
    """

    scores: Float[Tensor, "task entity combination"]
    num_kinds: int
    ties: Sequence[Tensor]
    states: tuple[Tensor, ...]
    log_total: Float[Tensor, "task"]

    @classmethod
    def of(cls, scores: Tensor, num_kinds: int, ties: Sequence[Tensor] = ()) -> PairElimination:
        """Sum over all kinds of all pairs."""
        return cls(scores, num_kinds, ties, *_forward(scores, num_kinds, ties, torch.logsumexp))

    def best(self) -> Int[Tensor, "task entity entity"]:
        """The most probable kinds of all pairs, as a symmetric matrix."""
        states, _ = _forward(self.scores, self.num_kinds, self.ties, torch.amax)
        return self._backward(states, lambda scores: scores.argmax(1))

    def draw(self, generator: Generator) -> Int[Tensor, "task entity entity"]:
        """One sample of the kinds of all pairs for each task, as a symmetric matrix."""
        return self._backward(self.states, lambda scores: categorical(scores.log_softmax(1), generator))

    def _backward(self, states: Sequence[Tensor], choose: Callable[[Tensor], Tensor]) -> Tensor:
        """From the last entity back, choose the kinds of its pairs with earlier ones, given those with later ones."""
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
        """What is seen as each entity is taken in, with its probability: entity, tasks (in chunks), probabilities."""
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
        """The probability of each kind of each pair; zeros on the diagonal."""
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
    """Read kinds as one number, the first being the most significant digit."""
    places = num_kinds ** torch.arange(digits.shape[-1] - 1, -1, -1, device=digits.device)
    return (digits * places).sum(-1)


def digits_of(numbers: Int[Tensor, "*batch"], num_kinds: int, num_places: int) -> Int[Tensor, "*batch place"]:
    """The inverse of :func:`number_of`."""
    places = num_kinds ** torch.arange(num_places - 1, -1, -1, device=numbers.device)
    return numbers[..., None] // places % num_kinds


def _forward(
    scores: Tensor, num_kinds: int, ties: Sequence[Tensor], reduce: Reduction
) -> tuple[tuple[Tensor, ...], Tensor]:
    """The states as each entity is taken in, and what remains when all are."""
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
    """``[task, passing, later]`` as a state: for each entity to come, its pairs with all those taken in."""
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
