"""Everything that is learned, in one module: the network, the scale of its errors, and the units of its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from bouncegrad.models.edge_kinds import KindsReport
from bouncegrad.models.graph_network import GraphNetwork, NetworkConfig
from bouncegrad.models.noise import NoiseConfig, NoiseModel, noise_model, scale_of
from bouncegrad.models.proposer import Proposer
from bouncegrad.models.super_graph import SuperGraph
from bouncegrad.scenes import Normalization
from bouncegrad.structures.calibration import Reading
from bouncegrad.structures.layout import Layout


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class ModelConfig:
    """What a model is made of.

    Attributes:
        network: the graph network of modules.
        noise: how errors are weighed.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)


class Model(nn.Module):
    """A graph network, its noise model and the normalisation of the scenes it was trained on.

    Beside them, where a training left them: a proposal network, and a forecaster, which is a model whose modules say
    what happens next under the structures that this one reads (:mod:`bouncegrad.training.forecaster`).

    Args:
        config: what it is made of.
        normalization: fitted on the training scenes; its features are the only ones that the model takes.
        feature_names: their names.
        generator: draws the initial weights.
    """

    def __init__(
        self,
        config: ModelConfig,
        normalization: Normalization,
        feature_names: tuple[str, ...],
        generator: Generator,
    ) -> None:
        super().__init__()
        self.config = config
        self.normalization = normalization
        self.feature_names = feature_names
        self.reading = Reading()
        self.kinds: KindsReport | None = None
        self.proposer: Proposer | None = None
        self.forecaster: Model | None = None
        self.network = GraphNetwork(config.network, len(feature_names), generator)
        self.scale = scale_of(config.noise, self.network.num_inputs, len(feature_names), generator)

    @property
    def device(self) -> torch.device:
        """Where its weights lie, and where it computes; structures and what is believed of them are on the CPU."""
        return self.network.unit.device

    @property
    def noise(self) -> NoiseModel:
        """What its errors cost."""
        return noise_model(self.config.noise, self.network.unit)

    def layout(self, num_entities: int) -> Layout:
        """The slots of a scene of ``num_entities``."""
        network = self.config.network
        return Layout(num_entities, network.num_edge_kinds, network.num_node_kinds)

    def log_scales(
        self,
        states: Float[Tensor, "node *batch input"],
        graph: SuperGraph,
        sender_mask: Float[Tensor, "node *batch"] | None = None,
    ) -> Float[Tensor, "node *batch feature"]:
        """Log standard deviations of one step's errors, in the network's unit; zeros without a scale."""
        if self.scale is None:
            return torch.zeros_like(self.network.newest(states))
        return self.scale(states, graph, sender_mask)


def only_kinds(model: Model, kinds: Sequence[int]) -> Model:
    """A model that has some of the edge kinds, numbered anew in this order; its reading is to be found anew as well.

    It lies on the device of the one that it is made of.
    """
    network = replace(model.config.network, num_edge_kinds=len(kinds))
    fewer = Model(replace(model.config, network=network), model.normalization, model.feature_names, Generator())
    weights = model.state_dict()
    edges = {name: value[list(kinds)] for name, value in weights.items() if name.startswith("network.edge_modules.")}
    fewer.load_state_dict({**weights, **edges})
    return fewer.to(model.device)
