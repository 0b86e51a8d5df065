"""The proposal network (recognition model): probabilities of edge types, from trajectories or from a structure.

Its encoders are in :mod:`bouncegrad.models.encoders`; a linear map turns their embeddings into log probabilities.
"""

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
"""Bound on normalised states; the encoder's input is clamped to plus or minus this. Training scenes lie within [-1, 1].
Without a bound a single broken trajectory shifts the running statistics of batch normalisation for hundreds of
batches."""


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class ProposerConfig:
    """Inputs of the proposal network (an encoder), and how it learns from the structures found by the search.

    Attributes:
        sees: input of the network: "nothing": there is no network; "trajectories"; "structures": the current structure,
            which is to be changed; "both": two networks, each proposes for half of the tasks; "points": the given
            points of a function (:class:`bouncegrad.functions.PointProposer`).
        encoder: encoder of trajectories: "mlp" reads whole trajectories of one length, "cnn" any length.
        hidden: width of the encoder of trajectories.
        structure_hidden: width of the encoder of structures.
        dropout: probability of dropping a hidden unit of either encoder in training.
        blanked: share of the slots of a structure that is masked in the input of its encoder.
        blanking: input at masked slots: "uniform", equal probabilities of all kinds; or "flip", another kind.
        learn_from: training targets: "current", the structures of the batch after its search (Alet et al. 2019);
            "accepted", of those only where the search accepted the proposal (the released code); or "dreams", random
            structures with data simulated by the modules, without the search (Hinton et al. 1995; functions only).
        optimizer: "momentum", gradient descent with momentum (Alet et al. 2019); or "adam".
        learning_rate: learning rate of the optimizer.
        momentum: momentum coefficient of "momentum".
        label_smoothing: share of every label that is spread over all kinds, which bounds the confidence of the network.
        clip_norm: upper bound on the norm of the gradient; infinite for none.
        averaging: decay per batch of the exponential moving average of the weights; the averaged network proposes and
            is saved. 0: the network in training proposes, with its dropout, as in the released code.
        floor: least probability of every kind in a proposal, times the number of kinds, so that the search can reach
            every structure.

    Raises:
        ValueError: if a number or word is not a valid setting.
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
    """One or two encoders, each with a linear map to edge types and, if there are several, to node types.

    Args:
        config: inputs and encoders.
        num_kinds: numbers of edge types and of node types.
        num_times: number of samples of the training scenes.
        num_features: number of features of each sample.
        generator: draws the initial weights.

    Raises:
        ValueError: if ``sees`` is "nothing" or "points", ``learn_from`` is "dreams", or the scenes are too short for
            the convolutions.
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
                'a proposal network of scenes must see them: set sees to "trajectories", "structures" or "both", not '
                f"{config.sees!r}"
            )
        if config.learn_from == "dreams":
            raise ValueError('"dreams" are for functions only: for scenes set learn_from to "current" or "accepted"')
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
        """Check that scenes are long enough for the encoder of trajectories.

        Raises:
            ValueError: if there are fewer samples than it needs.
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
        """Log probabilities of the edge types (and node types) on every slot, given trajectories.

        Args:
            states: normalised states, 0 where nothing was measured; clamped to plus or minus :data:`FARTHEST`.
            graph: the super-graph of the scenes.
            learning: draws the dropout mask in training; None in evaluation.
        """
        self.check_length(states.shape[1])
        embeddings = self.encoders["trajectories"](states.clamp(-FARTHEST, FARTHEST), graph, learning)
        return self._log_probabilities("trajectories", embeddings, graph)

    def from_structures(
        self, seen: Float[Tensor, "task slot kind"], graph: SuperGraph, learning: Generator | None = None
    ) -> Float[Tensor, "task slot kind"]:
        """Log probabilities of the edge types (and node types) on every slot, given structures from :func:`blanked`."""
        num_entities, seen = graph.present.shape[1], seen.to(graph.present.device)
        num_edge_slots = num_entities * (num_entities - 1)
        edges = seen[graph.edge_scenes, graph.edge_slots][:, : self.num_kinds[0]]
        if self.num_kinds[1] > 1:
            nodes = graph.pack_nodes(seen[:, num_edge_slots:])[:, : self.num_kinds[1]]
        else:
            nodes = edges.new_ones(graph.num_nodes, 1)
        embeddings = self.encoders["structures"](edges, nodes, graph, learning)
        return self._log_probabilities("structures", embeddings, graph)

    def _log_probabilities(
        self, name: str, embeddings: tuple[Tensor, Tensor], graph: SuperGraph
    ) -> Float[Tensor, "task slot kind"]:
        heads = cast(nn.ModuleDict, self.heads[name])
        slots = [graph.unpack_edges(heads["edges"](embeddings[0]))]
        if self.num_kinds[1] > 1:
            slots.append(graph.unpack_nodes(heads["nodes"](embeddings[1])))
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
    """Input of the structure encoder: one-hot kinds, with a random share of each structure's slots masked.

    Which slots are masked, and the offset of a flipped kind, are drawn independently of the kinds.
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
