"""The belief that everybody follows one other at most."""

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
    """Each receiver has one sender at most: kind 0 on all its edges but one, or on all of them.

    ``p(row) = weight[0]`` for nobody, ``weight[kind] / number of senders`` for each of them. Receivers do not know of
    each other, and a row is one of ``1 + (N - 1) (K - 1)``: exact for any number of entities, with tables or without.
    Unlike under the prior "few", it is kind 0 that means that nobody acts (a silent kind 0 goes well with it).

    Attributes:
        layout: the slots.
        log_weights: ``[kind]``, how often nobody is followed, or somebody in the way of each other kind.
    """

    layout: Layout
    log_weights: Float[Tensor, "kind"]

    @classmethod
    def of(cls, layout: Layout) -> Leader:
        """All rows alike to begin with.

        Raises:
            ValueError: node kinds, or no kind beside kind 0.
        """
        check_kinds("leader", layout)
        counts = torch.full((layout.num_edge_kinds,), float(layout.num_entities - 1))
        counts[0] = 1
        return cls(layout, (counts / counts.sum()).log())

    def log_probability(self, structures: Structures) -> Float[Tensor, "task"]:
        """The weights of all rows; -inf where somebody follows two."""
        rows = structures.view(len(structures), self.layout.num_entities, -1)
        weights = self.log_weights.log_softmax(0)[rows.amax(2)]
        found = weights - math.log(rows.shape[2]) * (rows > 0).any(2)
        return found.masked_fill((rows > 0).sum(2) > 1, -math.inf).sum(1)

    def posterior(self, factors: Factors, temperature: float, ladder: Ladder = THOROUGH) -> LeaderPosterior:
        """Every receiver on its own, and every sender that is there."""
        del ladder
        scores = self._log_rows(factors).double() - energies_of_rows(factors).double() / temperature
        evidence = scores.logsumexp(2)
        return LeaderPosterior(factors.slots, scores - evidence[:, :, None], evidence.sum(1).float())

    def with_weights(self, log_weights: Float[Tensor, "kind"]) -> Leader:
        """The same belief with other weights."""
        return replace(self, log_weights=log_weights)

    def _log_rows(self, factors: Factors) -> Float[Tensor, "task factor row"]:
        """Log probabilities of all rows."""
        shape = (factors.num_tasks, *factors.slots.shape)
        exist = torch.ones(shape, dtype=torch.bool) if factors.exist is None else factors.exist
        weights = self.log_weights.log_softmax(0)
        each = weights[1:] - exist.sum(2).clamp_min(1).log()[:, :, None, None]
        each = each.expand(*shape, -1).masked_fill(~exist[..., None], -math.inf)
        nobody = weights[0].expand(*shape[:2], 1).where(exist.any(2, keepdim=True), torch.zeros(()))
        return torch.cat([nobody, each.flatten(2)], 2)


def energies_of_rows(factors: Factors) -> Float[Tensor, "task factor row"]:
    """What it costs to follow nobody, then each sender in the way of each kind.

    Temperatures do not change it, so it is kept for as long as the factors are there.
    """
    found = _ROWS.get(factors)
    if found is None:
        found = _ROWS[factors] = _energies_of_rows(factors)
    return found


_ROWS: WeakKeyDictionary[Factors, Tensor] = WeakKeyDictionary()


def _energies_of_rows(factors: Factors) -> Float[Tensor, "task factor row"]:
    num_factors, width = factors.slots.shape
    nobody = factors.chain_state(torch.zeros(factors.num_tasks, 1, num_factors, width, dtype=torch.long))
    columns = [nobody.energies[:, 0, :, None]]
    for place in range(width):
        positions = torch.full((num_factors, 1), place)
        columns.append(factors.alternatives(nobody, positions)[:, 0, :, 1:])
    return torch.cat(columns, 2)


def check_kinds(name: str, layout: Layout) -> None:
    """Refuse node kinds, and layouts in which nobody can be followed."""
    check_edges_only(name, layout)
    if layout.num_edge_kinds < 2:
        raise ValueError(
            f"the prior {name!r} needs a kind for nobody and one for somebody: expected 2 kinds or more, got 1; "
            "have more kinds, or use 'none'"
        )


def with_nobody(
    acting: Float[Tensor, "task factor width kind"], slots: Int[Tensor, "factor width"]
) -> Float[Tensor, "task slot kind"]:
    """The probability of each kind on each slot, given those of all kinds but 0."""
    every = torch.cat([1 - acting.sum(3, keepdim=True), acting], 3).clamp_min(0).float()
    return by_slot(every, slots)


@dataclass(frozen=True, slots=True, eq=False)
class LeaderPosterior:
    """Whom each receiver follows, and in which way.

    Attributes:
        slots: ``[factor, width]``.
        log_probabilities: ``[task, factor, row]``: nobody, then each sender in the way of each kind but 0.
        log_evidence: ``[task]``.
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
        return with_nobody(self._acting(), self.slots)

    def usage(self) -> Float[Tensor, "kind"]:
        """How often nobody is followed, and somebody in the way of each other kind; by those who could follow."""
        could = self.log_probabilities[:, :, 1:].isfinite().any(2)
        nobody = self.log_probabilities[:, :, 0].exp()[could].sum()
        return torch.cat([nobody[None], self._acting().sum((0, 1, 2))]).float()

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
