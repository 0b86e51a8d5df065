"""The prior "tree": rooted spanning trees; every receiver but the root has one sender, and there are no cycles."""

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
"""Log weight of impossible edges, nats: far below any score, yet it cancels to 1e-7 in double precision."""

Reduction = Callable[[Tensor, int], Tensor]
"""Log weights, dimension -> their logsumexp (a sum) or their maximum."""


def log_trees(
    log_edges: Float[Tensor, "task receiver sender"],
    log_roots: Float[Tensor, "task receiver"],
    reduce: Reduction = torch.logsumexp,
) -> Float[Tensor, "task"]:
    """Log of the sum over rooted spanning trees of ``root weight * product of edge weights``.

    The sum over the trees of one root is a cofactor of the Laplacian (directed matrix-tree theorem: Tutte 1948), and
    the sums of different roots are in the ratio of the stationary probabilities of the Markov chain that moves from
    receiver to sender. Eliminating one entity after the other yields both without a subtraction (Grassmann, Taksar and
    Heyman 1985), so that log weights may have any size, and with ``amax`` in place of ``logsumexp`` the result is the
    log weight of the maximum spanning tree.

    >>> log_trees(torch.zeros(1, 5, 5), torch.zeros(1, 5)).exp().round().item()  # 5^4 rooted trees
    625.0
    """
    edges, total, steps = log_edges, torch.zeros_like(log_roots[:, 0]), []
    for last in range(log_roots.shape[1] - 1, 0, -1):
        away, towards = edges[:, last, :last], edges[:, :last, last]
        # remove entity `last`: paths through it become edges among the remaining entities
        pivot = reduce(away, 1)
        through = towards[:, :, None] + (away - pivot[:, None])[:, None, :]
        edges = reduce(torch.stack([edges[:, :last, :last], through]), 0)
        total = total + pivot
        steps.append(towards - pivot[:, None])
    # back-substitution: unnormalised stationary probability of each entity as root
    visits = torch.zeros_like(log_roots[:, :1])
    for step in reversed(steps):
        visits = torch.cat([visits, reduce(visits + step, 1)[:, None]], 1)
    return total + reduce(log_roots + visits, 1)


@dataclass(frozen=True, slots=True, eq=False)
class SpanningTreePosterior:
    """Exact posterior over rooted spanning trees, given the empty edge type (of all edges outside the tree).

    Attributes:
        log_kinds: ``[task, receiver, sender, kind]``, log weight of a row with this one edge, IMPOSSIBLE for the empty
            kind and on the diagonal.
        log_roots: ``[task, receiver]``, log weight of the empty row.
        empty: the empty kind.
    """

    log_kinds: Float[Tensor, "task receiver sender kind"]
    log_roots: Float[Tensor, "task receiver"]
    empty: int

    @property
    def log_evidence(self) -> Float[Tensor, "task"]:
        """Log of the prior mean of ``exp(-loss / temperature)``: a mean over all ``N^(N - 1)`` rooted trees."""
        num_entities = self.log_roots.shape[1]
        trees = log_trees(self.log_kinds.logsumexp(3), self.log_roots)
        return (trees - (num_entities - 1) * math.log(num_entities)).float()

    def best(self) -> Structures:
        """The most probable structure of each task."""
        return self._decide(torch.amax, lambda scores: scores.argmax(1))

    def draw(self, generator: Generator) -> Structures:
        """One exact sample for each task, drawn receiver by receiver."""
        return self._decide(torch.logsumexp, lambda scores: categorical(scores.log_softmax(1), generator))

    def marginals(self) -> Float[Tensor, "task slot kind"]:
        """The probability of each kind on each slot: gradient of the log sum over trees by the log weights."""
        with torch.enable_grad():
            log_kinds = self.log_kinds.detach().requires_grad_()
            total = log_trees(log_kinds.logsumexp(3), self.log_roots).sum()
            (found,) = torch.autograd.grad(total, log_kinds)
        found[..., self.empty] = 0
        found[..., self.empty] = (1 - found.sum(3)).clamp_min(0)
        return torch.stack([to_slots(kind) for kind in found.float().unbind(3)], 2)

    def usage(self) -> Float[Tensor, "kind"]:
        """Expected number of edges of each type."""
        return self.marginals().sum((0, 1))

    def _decide(self, reduce: Reduction, choose: Callable[[Tensor], Tensor]) -> Structures:
        """Choose the sender of each receiver in turn (or that it is the root), and the edge type of the chosen edge."""
        num_tasks, num_entities = self.log_roots.shape
        edges, roots = reduce(self.log_kinds, 3), self.log_roots
        every = torch.arange(num_tasks, device=roots.device)
        kinds = torch.full((num_tasks, num_entities, num_entities), self.empty, device=roots.device)
        for receiver in range(num_entities):
            options = [_only_option(edges, roots, receiver, option) for option in range(num_entities)]
            chosen = choose(torch.stack([log_trees(*option, reduce) for option in options], 1))
            edges = torch.stack([option[0] for option in options])[chosen, every]
            roots = torch.stack([option[1] for option in options])[chosen, every]
            kind = choose(self.log_kinds[every, receiver, chosen])
            kinds[every, receiver, chosen] = kind.where(chosen != receiver, self.empty)
        return to_slots(kinds)


def _only_option(edges: Tensor, roots: Tensor, receiver: int, option: int) -> tuple[Tensor, Tensor]:
    """Log weights of the trees in which the sender is ``option``; the receiver is the root if that is itself."""
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
    """Uniform prior over rooted spanning trees; which edge type is empty (means no edge) is inferred.

    ``p(graph | empty kind) = N^-(N - 1) * product over the edges of the tree of p(kind | empty kind)``.

    Attributes:
        layout: the slots.
        log_weights: ``[empty * kind]``, log of the joint shares of the empty type and the edge types, row by row.
    """

    layout: Layout
    log_weights: Float[Tensor, "choice"]

    @classmethod
    def of(cls, layout: Layout) -> SpanningTree:
        """The prior with equal weights of all edge types.

        Raises:
            ValueError: node types, or fewer than two edge types.
        """
        check_edges_only("tree", layout)
        if layout.num_edge_kinds < 2:
            raise ValueError(
                "the prior 'tree' needs an edge type for edges and one for none: expected 2 kinds or more, got 1; "
                "have more kinds, or use 'none'"
            )
        return cls(layout, uniform(layout.num_edge_kinds**2))

    def log_probability(self, structures: Structures) -> Float[Tensor, "task"]:
        """The log probability of each structure, marginalised over the empty type; -inf if it is no tree."""
        matrix = to_matrix(structures, self.layout.num_entities)
        parts = []
        for empty, log_shares in enumerate(self._edge_shares()):
            acts = (structures != empty).to(log_shares)
            log_kinds = log_shares.masked_fill(log_shares == -math.inf, 0).to(structures.device)[structures]
            log_tree = (log_kinds * acts).sum(1) - (len(matrix[0]) - 1) * math.log(len(matrix[0]))
            parts.append(log_tree.masked_fill(~_are_trees((matrix != empty) & (matrix >= 0)), -math.inf))
        return torch.logsumexp(torch.stack(parts, 1) + self._table().logsumexp(1), 1)

    def posterior(self, factors: Factors, temperature: float, ladder: Ladder = THOROUGH) -> EmptyKindPosterior:
        """The exact posterior: a mixture over the empty type, with all trees in each part."""
        del ladder
        tables = self.tables_in(factors)
        parts = [self._part(tables, temperature, empty) for empty in range(self.layout.num_edge_kinds)]
        return mix_posteriors(
            parts, self._table(), lambda found: self.log_probability(found) - tables(found) / temperature
        )

    def with_weights(self, log_weights: Float[Tensor, "choice"]) -> SpanningTree:
        """The same prior with other weights."""
        return replace(self, log_weights=log_weights)

    def _table(self) -> Float[Tensor, "empty kind"]:
        return self.log_weights.view(self.layout.num_edge_kinds, -1)

    def _edge_shares(self) -> Float[Tensor, "empty kind"]:
        """Log shares of the edge types on the edges of the tree, given each empty type; -inf for the empty type."""
        diagonal = torch.eye(self.layout.num_edge_kinds, dtype=torch.bool)
        return self._table().masked_fill(diagonal, -math.inf).log_softmax(1)

    def _part(self, tables: FactorTables, temperature: float, empty: int) -> SpanningTreePosterior:
        num_entities, num_kinds = self.layout.num_entities, self.layout.num_edge_kinds
        scores = -tables.energies.double() / temperature
        radix = tables.radix()
        # combination numbers of the empty row, and of all rows with one edge: [sender, kind]
        empty_row = int(empty * radix.sum())
        alone = empty_row + (torch.arange(num_kinds, device=radix.device) - empty) * radix[:, None]
        log_kinds = scores[:, :, alone] + self._edge_shares()[empty].to(scores)
        log_kinds = log_kinds.clamp_min(IMPOSSIBLE)
        square = scores.new_full((len(scores), num_entities, num_entities, num_kinds), IMPOSSIBLE)
        senders = senders_of(num_entities).to(radix.device)[None, :, :, None].expand_as(log_kinds)
        return SpanningTreePosterior(square.scatter(2, senders, log_kinds), scores[:, :, empty_row], empty)


def _are_trees(acts: Bool[Tensor, "task receiver sender"]) -> Bool[Tensor, "task"]:
    """Whether every entity but one root has exactly one sender, and is reached from the root."""
    degrees = acts.sum(2)
    reached: Int[Tensor, "task receiver"] = (degrees == 0).long()
    one_root = reached.sum(1) == 1
    for _ in range(acts.shape[1] - 1):
        reached = ((acts.long() @ reached[:, :, None]).squeeze(2) + reached).clamp_max(1)
    return one_root & (degrees <= 1).all(1) & reached.all(1)
