"""The prior "leader": every receiver has at most one sender (in-degree 0 or 1), and edge type 0 is the empty one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from bouncegrad.structures.factors import Factors
from bouncegrad.structures.layout import Layout
from bouncegrad.structures.population_annealing import THOROUGH, Ladder, by_slot
from bouncegrad.structures.priors.posterior import Exact, categorical, check_edges_only
from bouncegrad.types import Structures


@dataclass(frozen=True, slots=True, eq=False)
class Leader(Exact):
    """At most one sender for each receiver: kind 0 on all its incoming edges, or on all but one.

    ``p(row) = weight[0]`` for the empty row, ``weight[kind] / number of senders`` for each row with one sender.
    Receivers are independent and each has ``1 + (N - 1) (K - 1)`` rows, so the posterior is exact for any number of
    entities, with tables or without. Unlike under the prior "few", the empty edge type is fixed: kind 0 (which suits a
    model whose messages of kind 0 are zero).

    Attributes:
        layout: the slots.
        log_weights: ``[kind]``, log probability of the empty row (kind 0), and of a sender with each other edge type.
    """

    layout: Layout
    log_weights: Float[Tensor, "kind"]

    @classmethod
    def of(cls, layout: Layout) -> Leader:
        """The prior that is uniform over rows.

        Raises:
            ValueError: node types, or no edge type beside kind 0.
        """
        check_kinds("leader", layout)
        counts = torch.full((layout.num_edge_kinds,), float(layout.num_entities - 1))
        counts[0] = 1
        return cls(layout, (counts / counts.sum()).log())

    def log_probability(self, structures: Structures) -> Float[Tensor, "task"]:
        """The sum of the log probabilities of all rows; -inf if a receiver has two senders."""
        rows = structures.view(len(structures), self.layout.num_entities, -1)
        weights = self.log_weights.log_softmax(0)[rows.amax(2)]
        found = weights - math.log(rows.shape[2]) * (rows > 0).any(2)
        return found.masked_fill((rows > 0).sum(2) > 1, -math.inf).sum(1)

    def posterior(self, factors: Factors, temperature: float, ladder: Ladder = THOROUGH) -> LeaderPosterior:
        """The exact posterior, independent for each receiver, over the senders that are present."""
        del ladder
        scores = self._log_rows(factors).double() - energies_of_rows(factors).double() / temperature
        evidence = scores.logsumexp(2)
        return LeaderPosterior(factors.slots, scores - evidence[:, :, None], evidence.sum(1).float())

    def with_weights(self, log_weights: Float[Tensor, "kind"]) -> Leader:
        """The same prior with other weights."""
        return replace(self, log_weights=log_weights)

    def _log_rows(self, factors: Factors) -> Float[Tensor, "task factor row"]:
        """Log prior probability of every row; -inf for senders that are absent."""
        shape = (factors.num_tasks, *factors.slots.shape)
        exist = torch.ones(shape, dtype=torch.bool) if factors.exist is None else factors.exist
        weights = self.log_weights.log_softmax(0)
        each = weights[1:] - exist.sum(2).clamp_min(1).log()[:, :, None, None]
        each = each.expand(*shape, -1).masked_fill(~exist[..., None], -math.inf)
        empty = weights[0].expand(*shape[:2], 1).where(exist.any(2, keepdim=True), torch.zeros(()))
        return torch.cat([empty, each.flatten(2)], 2)


def energies_of_rows(factors: Factors) -> Float[Tensor, "task factor row"]:
    """The energy of the empty row, then of every row with one sender, sender-major, kinds 1 to K - 1.

    Energies do not depend on the temperature, so they are cached for as long as the factors exist.
    """
    found = _ROWS.get(factors)
    if found is None:
        found = _ROWS[factors] = _energies_of_rows(factors)
    return found


_ROWS: WeakKeyDictionary[Factors, Tensor] = WeakKeyDictionary()


def _energies_of_rows(factors: Factors) -> Float[Tensor, "task factor row"]:
    num_factors, width = factors.slots.shape
    empty = factors.chain_state(torch.zeros(factors.num_tasks, 1, num_factors, width, dtype=torch.long))
    columns = [empty.energies[:, 0, :, None]]
    for place in range(width):
        positions = torch.full((num_factors, 1), place)
        columns.append(factors.alternatives(empty, positions)[:, 0, :, 1:])
    return torch.cat(columns, 2)


def check_kinds(name: str, layout: Layout) -> None:
    """Raise a ValueError for layouts with node types or with a single edge type."""
    check_edges_only(name, layout)
    if layout.num_edge_kinds < 2:
        raise ValueError(
            f"the prior {name!r} needs an edge type for no edge and one for an edge: expected 2 kinds or more, got 1; "
            "have more kinds, or use 'none'"
        )


def with_empty_kind(
    acting: Float[Tensor, "task factor width kind"], slots: Int[Tensor, "factor width"]
) -> Float[Tensor, "task slot kind"]:
    """The probability of each kind on each slot, from the probabilities of all kinds but 0."""
    every = torch.cat([1 - acting.sum(3, keepdim=True), acting], 3).clamp_min(0).float()
    return by_slot(every, slots)


@dataclass(frozen=True, slots=True, eq=False)
class LeaderPosterior:
    """Exact posterior over the sender of each receiver and the edge type.

    Attributes:
        slots: ``[factor, width]``, the slots of each receiver.
        log_probabilities: ``[task, factor, row]``, the empty row, then each sender with each kind but 0, sender-major.
        log_evidence: ``[task]``, log evidence.
    """

    slots: Int[Tensor, "factor width"]
    log_probabilities: Float[Tensor, "task factor row"]
    log_evidence: Float[Tensor, "task"]

    def best(self) -> Structures:
        """The most probable structure of each task."""
        return self._structures(self.log_probabilities.argmax(2))

    def draw(self, generator: Generator) -> Structures:
        """One exact sample for each task."""
        return self._structures(categorical(self.log_probabilities, generator))

    def marginals(self) -> Float[Tensor, "task slot kind"]:
        """The probability of each kind on each slot."""
        return with_empty_kind(self._acting(), self.slots)

    def usage(self) -> Float[Tensor, "kind"]:
        """Expected number of empty rows, and of senders of each other edge type, among receivers that can have one."""
        could = self.log_probabilities[:, :, 1:].isfinite().any(2)
        empty = self.log_probabilities[:, :, 0].exp()[could].sum()
        return torch.cat([empty[None], self._acting().sum((0, 1, 2))]).float()

    def _acting(self) -> Float[Tensor, "task factor width kind"]:
        return self.log_probabilities[:, :, 1:].exp().unflatten(2, (self.slots.shape[1], -1))

    def _structures(self, rows: Int[Tensor, "task factor"]) -> Structures:
        num_factors, width = self.slots.shape
        num_kinds = (self.log_probabilities.shape[2] - 1) // width
        chosen = (rows - 1).clamp_min(0)
        kinds = torch.where(rows > 0, chosen % num_kinds + 1, 0)
        each = torch.zeros(len(rows), num_factors, width, dtype=torch.long)
        each.scatter_(2, (chosen // num_kinds)[:, :, None], kinds[:, :, None])
        return by_slot(each, self.slots)
