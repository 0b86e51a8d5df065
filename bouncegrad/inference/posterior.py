"""The record of what is inferred of scenes, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bouncegrad.models.model import Model
from bouncegrad.scenes import Scenes
from bouncegrad.structures.layout import Layout, to_matrix
from bouncegrad.types import Structures

Mode: TypeAlias = Literal["search", "proposal", "both"]
"""How structures are inferred (:func:`bouncegrad.inference.infer`)."""

MODES: tuple[Mode, ...] = get_args(Mode)

CELL_BUDGET = 40_000_000
"""Numbers that one chunk of scenes may hold in its largest array; 160 MB in single precision."""


@dataclass(frozen=True, slots=True)
class Posterior:
    """Relations as inferred for each scene.

    Attributes:
        structures: ``[scene, slot]``, the most probable structure.
        losses: ``[scene]``, what it costs; NaN where nobody computed it (mode "proposal").
        marginals: ``[scene, slot, kind]``, the probability of each kind on each slot.
        layout: which slots there are.
        prior: what was believed of graphs beforehand; "proposal" for what a network thinks.
        log_evidence: ``[scene]``, how well that prior foresaw the scene, nats at the reading temperature; NaN for
            rollouts of several steps, and in the modes "proposal" and "both", where nobody knows.
        mode: how all this was found.
    """

    structures: Structures
    losses: Float[Tensor, "scene"]
    marginals: Float[Tensor, "scene slot kind"]
    layout: Layout
    prior: str
    log_evidence: Float[Tensor, "scene"]
    mode: Mode = "search"

    @property
    def relations(self) -> Int[Tensor, "scene receiver sender"]:
        """The most probable kind of every ordered pair: row = who is acted on, column = who acts; diagonal -1."""
        return to_matrix(self.structures, self.layout.num_entities)

    @property
    def probabilities(self) -> Float[Tensor, "scene receiver sender kind"]:
        """The probability of each kind for every ordered pair; zeros on the diagonal."""
        marginals = self.marginals[:, : self.layout.num_edge_slots, : self.layout.num_edge_kinds]
        return to_matrix(marginals, self.layout.num_entities, diagonal=0)

    @property
    def node_kinds(self) -> Int[Tensor, "scene entity"]:
        """The most probable kind of every entity; zeros where the model knows one kind only."""
        if self.layout.num_node_kinds == 1:
            return self.structures.new_zeros(len(self.structures), self.layout.num_entities)
        return self.structures[:, self.layout.num_edge_slots :]


def chunks(model: Model, scenes: Scenes, num_combinations: int, more: int = 0) -> Iterator[Scenes]:
    """Parts of ``scenes`` whose largest arrays stay within :data:`CELL_BUDGET`.

    Args:
        model: that reads them.
        scenes: any.
        num_combinations: of the kinds on the slots of a receiver that are looked at side by side.
        more: numbers that something else holds of each scene.
    """
    pairs = max(num_combinations, (scenes.num_entities - 1) * model.config.network.num_edge_kinds)
    cells = max(more, scenes.num_entities * pairs * scenes.num_times * model.config.network.hidden)
    for indices in torch.arange(scenes.num_scenes).split(max(1, CELL_BUDGET // cells)):
        yield scenes.at(indices)


def beside_structures(model: Model, scenes: Scenes, posterior: Posterior) -> Iterator[tuple[Scenes, Structures]]:
    """Parts of ``scenes`` that are small enough to be looked at (:func:`chunks`), each beside its structures."""
    done = 0
    for chunk in chunks(model, scenes, 1):
        yield chunk, posterior.structures[done : done + chunk.num_scenes]
        done += chunk.num_scenes


def concatenate(parts: Sequence[Posterior]) -> Posterior:
    """The posteriors of all chunks as one."""
    return Posterior(
        torch.cat([part.structures for part in parts]),
        torch.cat([part.losses for part in parts]),
        torch.cat([part.marginals for part in parts]),
        parts[0].layout,
        parts[0].prior,
        torch.cat([part.log_evidence for part in parts]),
        parts[0].mode,
    )
