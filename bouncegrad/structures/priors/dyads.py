"""The prior "dyads": the edge types of the two directions of a pair are dependent (reciprocity)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from bouncegrad.structures.factors import Factors
from bouncegrad.structures.layout import Layout, to_matrix, to_slots
from bouncegrad.structures.population_annealing import THOROUGH, Ladder
from bouncegrad.structures.priors.pair_elimination import PairElimination, Reduction, digits_of, number_of
from bouncegrad.structures.priors.posterior import OnTables, categorical, uniform
from bouncegrad.structures.priors.symmetric import check_elimination
from bouncegrad.types import Structures


@dataclass(frozen=True, slots=True, eq=False)
class DyadPosterior:
    """Exact posterior over directed graphs with dependent reciprocal edges.

    The elimination runs over the edges that earlier entities receive from later ones. The replies, the edges that
    entity m receives from earlier entities, are in m's own table only, so they are summed out of that table first.

    Attributes:
        scores: ``[task, entity, combination]``, ``-energy / temperature``.
        table: ``[kind, kind]``, log probability of the edge types of both directions of a pair; symmetric.
        elimination: the elimination after the replies are summed out.
    """

    scores: Float[Tensor, "task entity combination"]
    table: Float[Tensor, "kind kind"]
    elimination: PairElimination

    @classmethod
    def of(cls, scores: Tensor, table: Tensor) -> DyadPosterior:
        """The posterior of these scores under a table of pairs of edge types."""
        return cls(scores, table, PairElimination.of(_without_replies(scores, table, torch.logsumexp), len(table)))

    @property
    def log_evidence(self) -> Float[Tensor, "task"]:
        """Log of the prior mean of ``exp(-loss / temperature)``."""
        return self.elimination.log_total.float()

    def best(self) -> Structures:
        """The most probable structure of each task."""
        elimination = PairElimination.of(_without_replies(self.scores, self.table, torch.amax), len(self.table))
        return self._with_replies(elimination.best(), lambda scores: scores.argmax(1))

    def draw(self, generator: Generator) -> Structures:
        """One exact sample for each task."""
        kinds = self.elimination.draw(generator)
        return self._with_replies(kinds, lambda scores: categorical(scores.log_softmax(1), generator))

    def marginals(self) -> Float[Tensor, "task slot kind"]:
        """The probability of each kind on each slot."""
        found = torch.stack([pairs.sum(4) for pairs in self._dyads()]).sum(0)
        return torch.stack([to_slots(kind) for kind in found.float().unbind(3)], 2)

    def usage(self) -> Float[Tensor, "choice"]:
        """Expected number of pairs with each pair of edge types, row by row; each order counts one half."""
        return (torch.stack([pairs.sum((0, 1, 2)) for pairs in self._dyads()]).sum(0) / 2).flatten().float()

    def _with_replies(self, kinds: Int[Tensor, "task entity entity"], choose: Callable[[Tensor], Tensor]) -> Structures:
        """Choose the replies (edges from earlier entities) of each entity, given the kinds of all other edges."""
        every = torch.arange(len(kinds), device=kinds.device)
        num_kinds, directed = len(self.table), kinds.clone()
        for entity in range(1, kinds.shape[1]):
            sent = number_of(kinds[:, :entity, entity], num_kinds)
            later = number_of(kinds[:, entity, entity + 1 :], num_kinds)
            own = self.scores[:, entity].reshape(len(kinds), num_kinds**entity, -1)
            scores = own[every, :, later] + _reply_table(self.table, entity)[sent].to(own)
            directed[:, entity, :entity] = digits_of(choose(scores), num_kinds, entity)
        return to_slots(directed)

    def _dyads(self) -> list[Float[Tensor, "task receiver sender kind reply"]]:
        """For each entity, the joint probabilities of both edge types of its pairs with earlier entities."""
        num_tasks, num_entities = self.scores.shape[:2]
        num_kinds = len(self.table)
        shape = (num_entities, num_tasks, num_entities, num_entities, num_kinds, num_kinds)
        found = self.scores.new_zeros(shape)
        for entity, tasks, probabilities in self.elimination.joints():
            own = self.scores[tasks, entity].reshape(len(probabilities), num_kinds**entity, -1)
            replies = own[:, None] + _reply_table(self.table, entity).to(own)[None, :, :, None]
            joint = torch.einsum("tsl,tsrl->tsr", probabilities.sum(2), replies.softmax(2))
            digits = digits_of(torch.arange(joint.shape[1], device=joint.device), num_kinds, entity)
            chosen = torch.nn.functional.one_hot(digits, num_kinds).to(joint)
            dyads = torch.einsum("tsr,sea,reb->teab", joint, chosen, chosen)
            found[entity, tasks, :entity, entity] = dyads
            found[entity, tasks, entity, :entity] = dyads.mT
        return list(found.unbind(0))


def _reply_table(table: Float[Tensor, "kind kind"], num_pairs: int) -> Float[Tensor, "sent reply"]:
    """Log probability of every assignment of edge types to one direction of some pairs and to the other direction."""
    digits = digits_of(torch.arange(len(table) ** num_pairs, device=table.device), len(table), num_pairs)
    return table[digits[:, None], digits[None, :]].sum(2)


def _without_replies(scores: Tensor, table: Tensor, reduce: Reduction) -> Float[Tensor, "task entity combination"]:
    """Scores with the replies reduced, indexed by the edges from each entity to earlier ones in their place."""
    found = [scores[:, 0]]
    for entity in range(1, scores.shape[1]):
        own = scores[:, entity].reshape(len(scores), len(table) ** entity, -1)
        replies = own[:, None] + _reply_table(table, entity).to(own)[None, :, :, None]
        found.append(reduce(replies, 2).flatten(1))
    return torch.stack(found, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Dyads(OnTables):
    """Independent pairs with dependent directions: ``log p(graph) = sum over pairs of table[z_ij, z_ji]``.

    Independent edges (a table of rank one) and symmetric graphs (a diagonal table) are limiting cases.
    Source: the p1 model without effects of single entities (Holland and Leinhardt 1981).

    Attributes:
        layout: the slots.
        log_weights: ``[kind * kind]``, the log table, row by row.
    """

    layout: Layout
    log_weights: Float[Tensor, "choice"]

    @classmethod
    def of(cls, layout: Layout) -> Dyads:
        """The prior with equal weights of all pairs of edge types.

        Raises:
            ValueError: node types, or more graphs than can be summed over.
        """
        check_elimination("dyads", layout)
        return cls(layout, uniform(layout.num_edge_kinds**2))

    def log_probability(self, structures: Structures) -> Float[Tensor, "task"]:
        """The sum of the log weights of all pairs."""
        matrix = to_matrix(structures, self.layout.num_entities, diagonal=0)
        one, other = torch.triu_indices(self.layout.num_entities, self.layout.num_entities, 1)
        return self._table().to(structures.device)[matrix[:, one, other], matrix[:, other, one]].sum(1)

    def posterior(self, factors: Factors, temperature: float, ladder: Ladder = THOROUGH) -> DyadPosterior:
        """The exact posterior over all directed graphs."""
        del ladder
        tables = self.tables_in(factors)
        return DyadPosterior.of(-tables.energies.double() / temperature, self._table().double())

    def with_weights(self, log_weights: Float[Tensor, "choice"]) -> Dyads:
        """The same prior with another table."""
        return replace(self, log_weights=log_weights)

    def _table(self) -> Float[Tensor, "kind kind"]:
        """The log table, symmetrised because the two ends of a pair are exchangeable."""
        table = self.log_weights.view(self.layout.num_edge_kinds, -1).exp()
        return (0.5 * (table + table.T)).log()
