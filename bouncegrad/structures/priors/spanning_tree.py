"""The belief that everybody but one follows exactly one other, and nobody follows himself in a circle."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from bouncegrad.structures.factors import Factors, FactorTables
from bouncegrad.structures.layout import Layout, senders_of, to_matrix, to_slots
from bouncegrad.structures.population_annealing import THOROUGH, Ladder
from bouncegrad.structures.priors.empty_kind import EmptyKindPosterior, mix_posteriors
from bouncegrad.structures.priors.posterior import OnTables, categorical, check_edges_only, uniform
from bouncegrad.types import Structures

IMPOSSIBLE = -1e9
"""Nats of what cannot be: far below any energy, and small enough to cancel to 1e-7 in double precision."""

Reduction = Callable[[Tensor, int], Tensor]


def log_trees(
    log_edges: Float[Tensor, "task receiver sender"],
    log_roots: Float[Tensor, "task receiver"],
    reduce: Reduction = torch.logsumexp,
) -> Float[Tensor, "task"]:
    """Log of the sum over rooted spanning trees of ``root weight * product of edge weights``.

    The sum over the trees of one root is a cofactor of the Laplacian (directed matrix-tree theorem: Tutte 1948), and
    these are in the ratio of the stationary probabilities of the chain that moves from receiver to sender. Eliminating
    entity after entity gets both without a subtraction (Grassmann, Taksar and Heyman 1985), so logarithms of any size
    do no harm, and with ``amax`` in place of ``logsumexp`` the result is the weight of the heaviest tree.

    >>> log_trees(torch.zeros(1, 5, 5), torch.zeros(1, 5)).exp().round().item()  # 5^4 rooted trees
    625.0
    """
    edges, total, steps = log_edges, torch.zeros_like(log_roots[:, 0]), []
    for last in range(log_roots.shape[1] - 1, 0, -1):
        away, towards = edges[:, last, :last], edges[:, :last, last]
        pivot = reduce(away, 1)
        through = towards[:, :, None] + (away - pivot[:, None])[:, None, :]
        edges = reduce(torch.stack([edges[:, :last, :last], through]), 0)
        total = total + pivot
        steps.append(towards - pivot[:, None])
    visits = torch.zeros_like(log_roots[:, :1])
    for step in reversed(steps):
        visits = torch.cat([visits, reduce(visits + step, 1)[:, None]], 1)
    return total + reduce(log_roots + visits, 1)


@dataclass(frozen=True, slots=True, eq=False)
class SpanningTreePosterior:
    """All rooted spanning trees, with one kind for everything that is not on the tree.

    Attributes:
        log_kinds: ``[task, receiver, sender, kind]``, what each edge weighs against the empty row, IMPOSSIBLE for the
            empty kind and on the diagonal.
        log_roots: ``[task, receiver]``, what the empty row weighs.
        empty: the kind of all other edges.
    """

    log_kinds: Float[Tensor, "task receiver sender kind"]
    log_roots: Float[Tensor, "task receiver"]
    empty: int

    @property
    def log_evidence(self) -> Float[Tensor, "task"]:
        """Log of the mean over all trees."""
        num_entities = self.log_roots.shape[1]
        trees = log_trees(self.log_kinds.logsumexp(3), self.log_roots)
        return (trees - (num_entities - 1) * math.log(num_entities)).float()

    def best(self) -> Structures:
        """The most probable structure of each task."""
        return self._decide(torch.amax, lambda scores: scores.argmax(1))

    def draw(self, generator: Generator) -> Structures:
        """One exact sample for each task, receiver by receiver."""
        return self._decide(torch.logsumexp, lambda scores: categorical(scores.log_softmax(1), generator))

    def marginals(self) -> Float[Tensor, "task slot kind"]:
        """The probability of each kind on each slot: derivatives of the log of the sum."""
        with torch.enable_grad():
            log_kinds = self.log_kinds.detach().requires_grad_()
            total = log_trees(log_kinds.logsumexp(3), self.log_roots).sum()
            (found,) = torch.autograd.grad(total, log_kinds)
        found[..., self.empty] = 0
        found[..., self.empty] = (1 - found.sum(3)).clamp_min(0)
        return torch.stack([to_slots(kind) for kind in found.float().unbind(3)], 2)

    def usage(self) -> Float[Tensor, "kind"]:
        """How often each kind is on an edge."""
        return self.marginals().sum((0, 1))

    def _decide(self, reduce: Reduction, choose: Callable[[Tensor], Tensor]) -> Structures:
        """Choose each receiver's sender (or that it is the root), given those before; then the kinds of these edges."""
        num_tasks, num_entities = self.log_roots.shape
        edges, roots = reduce(self.log_kinds, 3), self.log_roots
        every = torch.arange(num_tasks, device=roots.device)
        kinds = torch.full((num_tasks, num_entities, num_entities), self.empty, device=roots.device)
        for receiver in range(num_entities):
            options = [_only_option(edges, roots, receiver, option) for option in range(num_entities)]
            chosen = choose(torch.stack([log_trees(*option, reduce) for option in options], 1))
            edges = torch.stack([option[0] for option in options])[chosen, every]
            roots = torch.stack([option[1] for option in options])[chosen, every]
            what = choose(self.log_kinds[every, receiver, chosen])
            kinds[every, receiver, chosen] = what.where(chosen != receiver, self.empty)
        return to_slots(kinds)


def _only_option(edges: Tensor, roots: Tensor, receiver: int, option: int) -> tuple[Tensor, Tensor]:
    """Weights under which the receiver has that sender, or is the root if the option is the receiver itself."""
    edges, roots = edges.clone(), roots.clone()
    others = torch.arange(edges.shape[2], device=edges.device) != option
    edges[:, receiver] = edges[:, receiver].masked_fill(others, IMPOSSIBLE)
    if option == receiver:
        roots = roots.masked_fill(others, IMPOSSIBLE)
    else:
        roots[:, receiver] = IMPOSSIBLE
    return edges, roots


@dataclass(frozen=True, slots=True, eq=False)
class SpanningTree(OnTables):
    """Rooted spanning trees, all alike; which kind means that nobody acts is found out.

    ``p(graph | empty kind) = N^-(N - 1) * product over the edges of the tree of p(kind | empty kind)``.

    Attributes:
        layout: the slots.
        log_weights: ``[empty * kind]``, the shares of edges of each kind while each is the empty one, row by row.
    """

    layout: Layout
    log_weights: Float[Tensor, "choice"]

    @classmethod
    def of(cls, layout: Layout) -> SpanningTree:
        """All kinds alike to begin with.

        Raises:
            ValueError: node kinds, or no kind for the edges of the tree.
        """
        check_edges_only("tree", layout)
        if layout.num_edge_kinds < 2:
            raise ValueError(
                "the prior 'tree' needs a kind that acts and one that does not: expected 2 kinds or more, got 1; "
                "have more kinds, or use 'none'"
            )
        return cls(layout, uniform(layout.num_edge_kinds**2))

    def log_probability(self, structures: Structures) -> Float[Tensor, "task"]:
        """All trees alike, over all kinds that may be the empty one."""
        matrix = to_matrix(structures, self.layout.num_entities)
        parts = []
        for empty, log_shares in enumerate(self._edge_shares()):
            acts = (structures != empty).to(log_shares)
            log_kinds = log_shares.masked_fill(log_shares == -math.inf, 0).to(structures.device)[structures]
            log_tree = (log_kinds * acts).sum(1) - (len(matrix[0]) - 1) * math.log(len(matrix[0]))
            parts.append(log_tree.masked_fill(~_are_trees((matrix != empty) & (matrix >= 0)), -math.inf))
        return torch.logsumexp(torch.stack(parts, 1) + self._table().logsumexp(1), 1)

    def posterior(self, factors: Factors, temperature: float, ladder: Ladder = THOROUGH) -> EmptyKindPosterior:
        """Over all trees, for each kind that may be the empty one."""
        del ladder
        tables = self.tables_in(factors)
        parts = [self._part(tables, temperature, empty) for empty in range(self.layout.num_edge_kinds)]
        return mix_posteriors(
            parts, self._table(), lambda found: self.log_probability(found) - tables(found) / temperature
        )

    def with_weights(self, log_weights: Float[Tensor, "choice"]) -> SpanningTree:
        """The same belief with other shares."""
        return replace(self, log_weights=log_weights)

    def _table(self) -> Float[Tensor, "empty kind"]:
        return self.log_weights.view(self.layout.num_edge_kinds, -1)

    def _edge_shares(self) -> Float[Tensor, "empty kind"]:
        """Log shares of the kinds on the edges of the tree; -inf for the empty one."""
        diagonal = torch.eye(self.layout.num_edge_kinds, dtype=torch.bool)
        return self._table().masked_fill(diagonal, -math.inf).log_softmax(1)

    def _part(self, tables: FactorTables, temperature: float, empty: int) -> SpanningTreePosterior:
        num_entities, num_kinds = self.layout.num_entities, self.layout.num_edge_kinds
        scores = -tables.energies.double() / temperature
        radix = tables.radix()
        nobody = int(empty * radix.sum())
        alone = nobody + (torch.arange(num_kinds, device=radix.device) - empty) * radix[:, None]
        log_kinds = scores[:, :, alone] + self._edge_shares()[empty].to(scores)
        log_kinds = log_kinds.clamp_min(IMPOSSIBLE)
        square = scores.new_full((len(scores), num_entities, num_entities, num_kinds), IMPOSSIBLE)
        senders = senders_of(num_entities).to(radix.device)[None, :, :, None].expand_as(log_kinds)
        return SpanningTreePosterior(square.scatter(2, senders, log_kinds), scores[:, :, nobody], empty)


def _are_trees(acts: Bool[Tensor, "task receiver sender"]) -> Bool[Tensor, "task"]:
    """Whether everybody but one root has one sender, and is reached from the root."""
    degrees = acts.sum(2)
    reached: Int[Tensor, "task receiver"] = (degrees == 0).long()
    one_root = reached.sum(1) == 1
    for _ in range(acts.shape[1] - 1):
        reached = ((acts.long() @ reached[:, :, None]).squeeze(2) + reached).clamp_max(1)
    return one_root & (degrees <= 1).all(1) & reached.all(1)
