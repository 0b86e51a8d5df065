"""The proposal network: what it thinks of every slot of a scene, from trajectories or from another structure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional

from bouncegrad.models.encoders import SHORTEST, CNNEncoder, MLPEncoder, StructureEncoder, linear
from bouncegrad.models.super_graph import SuperGraph
from bouncegrad.settings import check_settings
from bouncegrad.structures.layout import Layout
from bouncegrad.types import Structures

FARTHEST = 10.0
"""Where normalised states are cut. Those of the scenes that are learned from lie within [-1, 1]; without a cut a single
broken trajectory moves the statistics by which all others are normalised, for hundreds of batches."""


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class ProposerConfig:
    """What a proposal network sees, and how it learns from the structures that a search finds.

    Attributes:
        sees: "nothing": there is no network; "trajectories": what moved how; "structures": the structure that is to be
            changed; "both": two networks, each of which proposes for half of the tasks; "points": the given points of a
            function (:class:`bouncegrad.functions.PointProposer`).
        encoder: of trajectories: "mlp" reads whole trajectories of one length, "cnn" any length.
        hidden: width of the encoder of trajectories.
        structure_hidden: width of the encoder of structures.
        dropout: of both, while they learn.
        blanked: share of the slots of a structure that its encoder does not see as they are.
        blanking: what it sees there: "uniform", that nothing is known; or "flip", another kind.
        learn_from: "current", the structures of the batch that was just searched (Alet et al. 2019); "accepted", of
            those only where the search took the proposal (the released code); or "dreams", not from the search at all
            but from random structures and what the modules make of them (Hinton et al. 1995; functions only).
        optimizer: "momentum", gradient descent with momentum (Alet et al. 2019); or "adam".
        learning_rate: of it.
        momentum: of "momentum".
        label_smoothing: share of every label that is spread over all kinds, so that the network never learns to be sure
            without bounds.
        clip_norm: the gradient's norm is cut to this; infinite for none.
        averaging: per batch, how much of the averaged network stays, which is the one that proposes and is kept. 0: the
            network as it learns proposes, with its dropout, as in the released code.
        floor: least share of every kind in a proposal, times the number of kinds: no structure becomes unreachable.

    Raises:
        ValueError: a number or word that makes no network.
    """

    sees: Literal["nothing", "trajectories", "structures", "both", "points"] = "nothing"
    encoder: Literal["mlp", "cnn"] = "mlp"
    hidden: int = 512
    structure_hidden: int = 32
    dropout: float = 0.5
    blanked: float = 0.2
    blanking: Literal["uniform", "flip"] = "uniform"
    learn_from: Literal["current", "accepted", "dreams"] = "current"
    optimizer: Literal["momentum", "adam"] = "momentum"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    label_smoothing: float = 0.02
    clip_norm: float = 1.0
    averaging: float = 0.98
    floor: float = 0.02

    def __post_init__(self) -> None:
        check_settings(
            self,
            counts=("hidden", "structure_hidden"),
            positive=("learning_rate",),
            shares=("blanked", "label_smoothing", "floor"),
            below_one=("dropout", "momentum", "averaging"),
        )
        if not self.clip_norm > 0:
            raise ValueError(f"clip_norm must be a number above 0, or infinite; got {self.clip_norm}")


class Proposer(nn.Module):
    """One or two encoders, each with a linear map to the kinds of edges and, where there are several, of nodes.

    Args:
        config: what it sees.
        num_kinds: of edges and of nodes.
        num_times: samples of the scenes it learns from.
        num_features: numbers in each sample.
        generator: draws the initial weights.

    Raises:
        ValueError: it is to see nothing, or scenes too short for convolutions.
    """

    def __init__(
        self,
        config: ProposerConfig,
        num_kinds: tuple[int, int],
        num_times: int,
        num_features: int,
        generator: Generator,
    ) -> None:
        super().__init__()
        if config.sees in ("nothing", "points"):
            raise ValueError(
                'a proposal network of scenes must see them: choose "trajectories", "structures" or "both", not '
                f"{config.sees!r}"
            )
        if config.learn_from == "dreams":
            raise ValueError('only functions are dreamt of: learn_from must be "current" or "accepted" for scenes')
        if config.encoder == "cnn" and num_times < SHORTEST:
            raise ValueError(
                f"the convolutions need scenes of at least {SHORTEST} samples, these have {num_times}: "
                'bring longer scenes or choose encoder "mlp"'
            )
        self.config = config
        self.num_kinds, self.num_times, self.num_features = num_kinds, num_times, num_features
        self.encoders, self.heads = nn.ModuleDict(), nn.ModuleDict()
        if config.sees in ("trajectories", "both"):
            sizes = (num_features, config.hidden, config.dropout, generator)
            mlp = config.encoder == "mlp"
            self.encoders["trajectories"] = MLPEncoder(num_times, *sizes) if mlp else CNNEncoder(*sizes)
            self.heads["trajectories"] = _heads(config.hidden, num_kinds, generator)
        if config.sees in ("structures", "both"):
            width = config.structure_hidden
            self.encoders["structures"] = StructureEncoder(*num_kinds, width, config.dropout, generator)
            self.heads["structures"] = _heads(width, num_kinds, generator)

    def check_length(self, num_times: int) -> None:
        """Refuse scenes that are too short to be read.

        Raises:
            ValueError: fewer samples than the encoder of trajectories needs.
        """
        least = self.num_times if self.config.encoder == "mlp" else SHORTEST
        if "trajectories" in self.encoders and num_times < least:
            raise ValueError(
                f"the proposal network reads at least {least} samples of a scene, these have {num_times}: bring longer "
                'scenes, or fit with the encoder "cnn", which reads any length from 14 on'
            )

    def from_trajectories(
        self, states: Float[Tensor, "node time feature"], graph: SuperGraph, learning: Generator | None = None
    ) -> Float[Tensor, "task slot kind"]:
        """Log probabilities of the kinds on every slot, given how the entities moved.

        Args:
            states: as the model takes them; 0 where nothing was measured. They are cut at :data:`FARTHEST`.
            graph: of the scenes.
            learning: draws what is dropped out while learning.
        """
        self.check_length(states.shape[1])
        said = self.encoders["trajectories"](states.clamp(-FARTHEST, FARTHEST), graph, learning)
        return self._log_probabilities("trajectories", said, graph)

    def from_structures(
        self, seen: Float[Tensor, "task slot kind"], graph: SuperGraph, learning: Generator | None = None
    ) -> Float[Tensor, "task slot kind"]:
        """Log probabilities of the kinds on every slot, given what is known of each (:func:`blanked`)."""
        num_entities, seen = graph.present.shape[1], seen.to(graph.present.device)
        num_edge_slots = num_entities * (num_entities - 1)
        edges = seen[graph.edge_scenes, graph.edge_slots][:, : self.num_kinds[0]]
        if self.num_kinds[1] > 1:
            nodes = graph.pack_nodes(seen[:, num_edge_slots:])[:, : self.num_kinds[1]]
        else:
            nodes = edges.new_ones(graph.num_nodes, 1)
        said = self.encoders["structures"](edges, nodes, graph, learning)
        return self._log_probabilities("structures", said, graph)

    def _log_probabilities(
        self, name: str, said: tuple[Tensor, Tensor], graph: SuperGraph
    ) -> Float[Tensor, "task slot kind"]:
        heads = cast(nn.ModuleDict, self.heads[name])
        slots = [graph.unpack_edges(heads["edges"](said[0]))]
        if self.num_kinds[1] > 1:
            slots.append(graph.unpack_nodes(heads["nodes"](said[1])))
        most = max(part.shape[2] for part in slots)
        padded = [functional.pad(part, (0, most - part.shape[2]), value=-math.inf) for part in slots]
        return torch.cat(padded, 1).log_softmax(2)


def _heads(hidden: int, num_kinds: tuple[int, int], generator: Generator) -> nn.ModuleDict:
    heads = nn.ModuleDict({"edges": linear(hidden, num_kinds[0], generator)})
    if num_kinds[1] > 1:
        heads["nodes"] = linear(hidden, num_kinds[1], generator)
    return heads


def blanked(
    structures: Structures, layout: Layout, config: ProposerConfig, generator: Generator
) -> Float[Tensor, "task slot kind"]:
    """What an encoder of structures sees: one-hot kinds, of which a share of each structure's slots is covered.

    Which slots, and by how much a flipped kind is off, is drawn without regard to the kinds.
    """
    counts = torch.tensor(layout.num_kinds, device=structures.device)
    num_covered = round(config.blanked * layout.num_slots)
    ranks = torch.rand(structures.shape, generator=generator, device=structures.device).argsort(1)
    covered = ranks.argsort(1) < num_covered
    shifts = torch.rand(structures.shape, generator=generator, device=structures.device)
    if config.blanking == "flip":
        others = (structures + 1 + (shifts * (counts - 1)).long()) % counts
        structures = torch.where(covered & (counts > 1), others, structures)
    seen = functional.one_hot(structures, int(counts.max())).float()
    if config.blanking == "uniform":
        exists = torch.arange(seen.shape[2], device=seen.device) < counts[:, None]
        seen = torch.where(covered[:, :, None], exists / counts[:, None], seen)
    return seen
