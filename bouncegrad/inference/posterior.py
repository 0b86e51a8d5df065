"""The posterior over structures (latent graphs) of scenes, and chunks of scenes that fit into memory."""

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
"""Greatest size of the largest array of a chunk of scenes; 160 MB in single precision."""


@dataclass(frozen=True, slots=True)
class Posterior:
    """Posterior over the structure of each scene.

    Attributes:
        structures: ``[scene, slot]``, the most probable structure.
        losses: ``[scene]``, its loss; NaN in mode "proposal", where it is not computed.
        marginals: ``[scene, slot, kind]``, posterior probability of each kind (edge type) on each slot.
        layout: the slots.
        prior: name of the prior over graphs; "proposal" in mode "proposal".
        log_evidence: ``[scene]``, log marginal likelihood under that prior, in nats at the temperature of inference;
            NaN where it is not computed: with Gibbs sampling (:mod:`bouncegrad.inference.search`), and in the modes
            "proposal" and "both".
        mode: mode of the inference.
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
        """The most probable edge type of every ordered pair; row = receiver, column = sender, diagonal -1."""
        return to_matrix(self.structures, self.layout.num_entities)

    @property
    def probabilities(self) -> Float[Tensor, "scene receiver sender kind"]:
        """Posterior probability of each edge type for every ordered pair; zeros on the diagonal."""
        marginals = self.marginals[:, : self.layout.num_edge_slots, : self.layout.num_edge_kinds]
        return to_matrix(marginals, self.layout.num_entities, diagonal=0)

    @property
    def node_kinds(self) -> Int[Tensor, "scene entity"]:
        """The most probable node type of every entity; zeros where the model has a single node type."""
        if self.layout.num_node_kinds == 1:
            return self.structures.new_zeros(len(self.structures), self.layout.num_entities)
        return self.structures[:, self.layout.num_edge_slots :]


def chunks(model: Model, scenes: Scenes, num_combinations: int, more: int = 0) -> Iterator[Scenes]:
    """Parts of ``scenes`` whose largest arrays stay within :data:`CELL_BUDGET`.

    Args:
        model: the model that infers.
        scenes: any scenes.
        num_combinations: joint assignments of kinds to the slots of a receiver that are evaluated at once.
        more: size of another array for each scene, if it is larger.
    """
    pairs = max(num_combinations, (scenes.num_entities - 1) * model.config.network.num_edge_kinds)
    cells = max(more, scenes.num_entities * pairs * scenes.num_times * model.config.network.hidden)
    for indices in torch.arange(scenes.num_scenes).split(max(1, CELL_BUDGET // cells)):
        yield scenes.at(indices)


def chunks_with_structures(model: Model, scenes: Scenes, posterior: Posterior) -> Iterator[tuple[Scenes, Structures]]:
    """The :func:`chunks` of ``scenes``, each with its most probable structures."""
    done = 0
    for chunk in chunks(model, scenes, 1):
        yield chunk, posterior.structures[done : done + chunk.num_scenes]
        done += chunk.num_scenes


def concatenate(parts: Sequence[Posterior]) -> Posterior:
    """Join the posteriors of all chunks."""
    return Posterior(
        torch.cat([part.structures for part in parts]),
        torch.cat([part.losses for part in parts]),
        torch.cat([part.marginals for part in parts]),
        parts[0].layout,
        parts[0].prior,
        torch.cat([part.log_evidence for part in parts]),
        parts[0].mode,
    )
