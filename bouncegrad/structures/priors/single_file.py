"""The prior "file" (single file): in-degree and out-degree of every entity are at most 1, as in a queue."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Generator, Tensor

from bouncegrad.structures.factors import Factors
from bouncegrad.structures.layout import Layout, senders_of
from bouncegrad.structures.population_annealing import THOROUGH, Ladder, by_slot
from bouncegrad.structures.priors.in_degree import Counts
from bouncegrad.structures.priors.leader import check_kinds, energies_of_rows, with_empty_kind
from bouncegrad.structures.priors.posterior import Exact, categorical
from bouncegrad.types import Structures

LARGEST = 13
"""Largest number of entities, for which all sets of senders are enumerated (8,192 sets)."""

ABOUT = 1e-7
"""Tolerance of the log odds."""


@dataclass(frozen=True, slots=True, eq=False)
class SingleFile(Exact):
    """Rows as under :class:`bouncegrad.structures.priors.leader.Leader`, but no two receivers have the same sender.

    If all senders differ, ``p(graph)`` is proportional to the product over the followers (receivers with a sender) of
    ``odds p(kind)``, else it is 0; the odds are those at which the expected share of followers equals that of the
    weights. Sums over graphs are exact, by dynamic programming over receivers whose state is the set of senders already
    used: ``N 2^N`` steps.

    Attributes:
        layout: the slots.
        log_weights: ``[kind]``, log probability of the empty row (kind 0), and of a sender with each other edge type.
    """

    layout: Layout
    log_weights: Float[Tensor, "kind"]

    @classmethod
    def of(cls, layout: Layout) -> SingleFile:
        """The prior that is uniform over all allowed graphs.

        Raises:
            ValueError: node types, no edge type beside kind 0, or more entities than :data:`LARGEST`.
        """
        if layout.num_entities > LARGEST:
            raise ValueError(
                f"the prior 'file' enumerates the sets of at most {LARGEST} entities, got {layout.num_entities}: "
                "use 'leader'"
            )
        check_kinds("file", layout)
        num_kinds = layout.num_edge_kinds - 1
        followers = _counts(layout.num_entities).share_at(math.log(num_kinds))
        return cls(layout, torch.tensor([1 - followers, *[followers / num_kinds] * num_kinds]).log())

    def log_probability(self, structures: Structures) -> Float[Tensor, "task"]:
        """The sum of the log weights of all rows, normalised; -inf if an in-degree or out-degree is above 1."""
        num_entities = self.layout.num_entities
        rows = (structures.view(len(structures), num_entities, -1) > 0).long()
        followed = torch.zeros(len(structures), num_entities, dtype=torch.long)
        followed.index_add_(1, senders_of(num_entities).flatten(), rows.flatten(1))
        log_rows = self._log_rows(torch.ones(1, num_entities, num_entities - 1, dtype=torch.bool))
        kinds = structures.view(len(structures), num_entities, -1).amax(2)
        found = torch.cat([log_rows.new_zeros(1), log_rows[0, 0, 1 : self.layout.num_edge_kinds]])[kinds].sum(1)
        two = (rows.sum(2) > 1).any(1)
        total = _Sums.of(by_sender(log_rows, num_entities), num_entities).total
        found = (found - total).float().masked_fill(two, -math.inf)
        return found.masked_fill((followed > 1).any(1), -math.inf)

    def posterior(self, factors: Factors, temperature: float, ladder: Ladder = THOROUGH) -> SingleFilePosterior:
        """The exact posterior over all allowed graphs with the senders that are present."""
        del ladder
        num_entities, every = self.layout.num_entities, torch.ones(1, *factors.slots.shape, dtype=torch.bool)
        log_rows = self._log_rows(every if factors.exist is None else factors.exist)
        scores = log_rows - energies_of_rows(factors).double() / temperature
        before = _Sums.of(by_sender(log_rows, num_entities), num_entities).total
        sums = _Sums.of(by_sender(scores, num_entities), num_entities)
        return SingleFilePosterior(factors.slots, scores, sums, (sums.total - before).float())

    def with_weights(self, log_weights: Float[Tensor, "kind"]) -> SingleFile:
        """The same prior with other weights."""
        return replace(self, log_weights=log_weights)

    def _log_rows(self, exist: Bool[Tensor, "task receiver width"]) -> Float[Tensor, "task receiver row"]:
        """Log weight of every row: 0 for the empty row, -inf for senders that are absent."""
        shares = self.log_weights.double().log_softmax(0)
        odds = _log_odds(float(1 - shares[0].exp()), self.layout.num_entities)
        each = (odds + shares[1:].log_softmax(0)).expand(*exist.shape, -1).masked_fill(~exist[..., None], -math.inf)
        return torch.cat([each.new_zeros(*exist.shape[:2], 1), each.flatten(2)], 2)


def by_sender(
    scores: Float[Tensor, "task receiver row"], num_entities: int
) -> Float[Tensor, "task receiver sender_or_none"]:
    """Log weights of the sender of each receiver, summed over edge types: -inf for itself, the empty row last."""
    each = scores[:, :, 1:].unflatten(2, (num_entities - 1, -1)).logsumexp(3)
    found = scores.new_full((*scores.shape[:2], num_entities + 1), -math.inf)
    found.scatter_(2, senders_of(num_entities).expand(len(scores), -1, -1), each)
    found[:, :, -1] = scores[:, :, 0]
    return found


@lru_cache(maxsize=16)
def _sets(num_entities: int) -> tuple[Int[Tensor, "sender half"], Int[Tensor, "sender half"]]:
    """For each sender all sets of entities without it, and the same sets with it, as bit masks."""
    every = torch.arange(2**num_entities)
    without = [every[every >> sender & 1 == 0] for sender in range(num_entities)]
    return torch.stack(without), torch.stack([sets | 1 << sender for sender, sets in enumerate(without)])


@lru_cache(maxsize=16)
def _counts(num_entities: int) -> Counts:
    """The distribution of the number of followers (receivers with a sender).

    There are ``sum_k (-1)^k C(N, k) C(N - k, m - k)^2 (m - k)!`` graphs with m followers: placements of m
    rooks on a board without its diagonal.
    """
    numbers = range(num_entities + 1)
    ways = [sum((-1) ** k * _placements(num_entities, k, m) for k in range(m + 1)) for m in numbers]
    logs = torch.tensor([math.log(way) if way else -math.inf for way in ways], dtype=torch.float64)
    return Counts(torch.tensor([*numbers], dtype=torch.float64), logs, num_entities)


def _placements(num_entities: int, fixed: int, followers: int) -> int:
    free = math.comb(num_entities - fixed, followers - fixed) ** 2 * math.factorial(followers - fixed)
    return math.comb(num_entities, fixed) * free


@lru_cache(maxsize=256)
def _log_odds(share: float, num_entities: int) -> float:
    return _counts(num_entities).log_odds(share, ABOUT)


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """Backward sums of the dynamic program: log sum over all completions from each set of used senders.

    Attributes:
        scores: ``[task, receiver, sender_or_none]``, log weights; the last column is the empty row.
        ahead: ``[receiver + 1]`` of ``[task, set]``, log sum over the choices of this receiver to the last.
    """

    scores: Float[Tensor, "task receiver sender_or_none"]
    ahead: tuple[Float[Tensor, "task set"], ...]

    @classmethod
    def of(cls, scores: Float[Tensor, "task receiver sender_or_none"], num_entities: int) -> _Sums:
        ahead = [scores.new_zeros(len(scores), 2**num_entities)]
        for receiver in reversed(range(num_entities)):
            ahead.append(_ways(scores[:, receiver], ahead[-1]).logsumexp(1))
        return cls(scores, tuple(reversed(ahead)))

    @property
    def total(self) -> Float[Tensor, "task"]:
        """Log sum over all graphs."""
        return self.ahead[0][:, 0]


def _ways(
    scores: Float[Tensor, "task sender_or_none"], ahead: Float[Tensor, "task set"]
) -> Float[Tensor, "task sender_or_none set"]:
    """Log sum over completions after each choice of a receiver, from each set; -inf if the sender is already used."""
    without, with_it = _sets(scores.shape[1] - 1)
    ways = ahead.new_full((len(ahead), scores.shape[1], ahead.shape[1]), -math.inf)
    ways[:, -1] = ahead
    ways[:, :-1].scatter_(2, without.expand(len(ahead), -1, -1), ahead[:, with_it])
    return ways + scores[:, :, None]


@dataclass(frozen=True, slots=True, eq=False)
class SingleFilePosterior:
    """Exact posterior over graphs in which in-degrees and out-degrees are at most 1.

    Attributes:
        slots: ``[factor, width]``, the slots of each receiver.
        scores: ``[task, factor, row]``, log weights of the empty row, then of each sender with each kind but 0.
        sums: backward sums over all graphs.
        log_evidence: ``[task]``, log evidence.
    """

    slots: Int[Tensor, "factor width"]
    scores: Float[Tensor, "task factor row"]
    sums: _Sums
    log_evidence: Float[Tensor, "task"]

    def best(self) -> Structures:
        """The most probable structure of each task, by linear assignment of senders to receivers."""
        num_entities = len(self.slots)
        best = self.scores[:, :, 1:].unflatten(2, (num_entities - 1, -1)).amax(3)
        costs = self.scores.new_full((len(self.scores), num_entities, 2 * num_entities), -math.inf)
        costs.scatter_(2, senders_of(num_entities).expand(len(best), -1, -1), best)
        costs[:, range(num_entities), range(num_entities, 2 * num_entities)] = self.scores[:, :, 0]
        found = [linear_sum_assignment(-cost.clamp_min(-1e30).numpy())[1] for cost in costs]
        return self._structures(torch.from_numpy(np.stack(found)).clamp_max(num_entities), None)

    def draw(self, generator: Generator) -> Structures:
        """One exact sample for each task, drawn receiver by receiver."""
        num_tasks, num_entities = len(self.scores), len(self.slots)
        taken, chosen = torch.zeros(num_tasks, dtype=torch.long), []
        for receiver in range(num_entities):
            ways = _ways(self.sums.scores[:, receiver], self.sums.ahead[receiver + 1])
            now = ways.gather(2, taken[:, None, None].expand(-1, num_entities + 1, 1)).squeeze(2)
            sender = categorical(now.log_softmax(1), generator)
            taken = torch.where(sender < num_entities, taken | (1 << sender), taken)
            chosen.append(sender)
        return self._structures(torch.stack(chosen, 1), generator)

    def marginals(self) -> Float[Tensor, "task slot kind"]:
        """The probability of each kind on each slot."""
        return with_empty_kind(self._acting(), self.slots)

    def usage(self) -> Float[Tensor, "kind"]:
        """Expected number of empty rows, and of senders of each other edge type, among receivers that can have one."""
        acting, could = self._acting(), self.scores[:, :, 1:].isfinite().any(2)
        empty = could.sum() - acting.sum()
        return torch.cat([empty[None], acting.sum((0, 1, 2))]).float()

    def _senders(self) -> Float[Tensor, "task factor sender_or_none"]:
        """The probability of each sender of each receiver, by a forward pass that meets the backward sums."""
        num_entities = len(self.slots)
        behind = self.scores.new_full((len(self.scores), 2**num_entities), -math.inf)
        behind[:, 0] = 0
        without, with_it = _sets(num_entities)
        found = []
        for receiver in range(num_entities):
            scores = self.sums.scores[:, receiver]
            ways = _ways(scores, self.sums.ahead[receiver + 1]) + behind[:, None]
            found.append((ways.logsumexp(2) - self.sums.total[:, None]).exp())
            moved = behind.new_full((len(behind), num_entities + 1, behind.shape[1]), -math.inf)
            moved[:, -1] = behind
            moved[:, :-1].scatter_(2, with_it.expand(len(behind), -1, -1), behind[:, without])
            behind = (moved + scores[:, :, None]).logsumexp(1)
        return torch.stack(found, 1)

    def _kinds(self) -> Float[Tensor, "task factor width kind"]:
        """Log probabilities of the kinds but 0, given the sender."""
        each = self.scores[:, :, 1:].unflatten(2, (self.slots.shape[1], -1))
        return each.nan_to_num(neginf=-1e30).log_softmax(3)

    def _acting(self) -> Float[Tensor, "task factor width kind"]:
        num_entities = len(self.slots)
        senders = self._senders().gather(2, senders_of(num_entities).expand(len(self.scores), -1, -1))
        return senders[..., None] * self._kinds().exp()

    def _structures(self, chosen: Int[Tensor, "task factor"], generator: Generator | None) -> Structures:
        """Structures with the chosen senders, and the most probable edge types (or drawn ones, with a generator)."""
        kinds = self._kinds()
        drawn = kinds.argmax(3) if generator is None else categorical(kinds, generator)
        followed = senders_of(len(self.slots)) == chosen[:, :, None]
        each = torch.where(followed, drawn + 1, 0)
        return by_slot(each, self.slots)
