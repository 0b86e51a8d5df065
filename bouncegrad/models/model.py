"""The model: decoder, error scale, normalisation and optional proposal network, as one ``torch.nn.Module``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from bouncegrad.models.decoder import GraphNetwork, NetworkConfig
from bouncegrad.models.edge_kinds import KindsReport
from bouncegrad.models.noise import NoiseConfig, NoiseModel, noise_model, scale_of
from bouncegrad.models.proposer import Proposer
from bouncegrad.models.super_graph import SuperGraph
from bouncegrad.scenes import Normalization
from bouncegrad.structures.calibration import Reading
from bouncegrad.structures.layout import Layout


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class ModelConfig:
    """The architecture of a model and its likelihood.

    Attributes:
        network: the graph network, the decoder.
        noise: the likelihood of prediction errors.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)


class Model(nn.Module):
    """A graph network, its noise model and the normalisation of the scenes it was trained on.

    Training may add two parts: a proposal network (``proposer``), and a ``forecaster``, a second model that predicts
    trajectories under the structures that this one infers (:mod:`bouncegrad.training.forecaster`).

    Attributes:
        reading: prior and temperature of inference (:class:`bouncegrad.structures.calibration.Reading`).
        kinds: which edge types were merged after training; None: no merging took place.
        proposer: the proposal network, if there is one.
        forecaster: the model for predictions, if there is one.

    Args:
        config: the architecture and the likelihood.
        normalization: fitted on the training scenes; the model takes scenes of exactly these features.
        feature_names: names of the features.
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
        """Device of the weights and of the computation; structures and posteriors stay on the CPU."""
        return self.network.unit.device

    @property
    def noise(self) -> NoiseModel:
        """The noise model: the likelihood of prediction errors, or their square."""
        return noise_model(self.config.noise, self.network.unit)

    def layout(self, num_entities: int) -> Layout:
        """The layout of structures of scenes with ``num_entities``: slots and numbers of edge types and node types."""
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


def select_edge_types(model: Model, kinds: Sequence[int]) -> Model:
    """A copy of a model with some of its edge types, renumbered in this order, on the same device.

    Its ``reading`` is the default: calibrate it again.
    """
    network = replace(model.config.network, num_edge_kinds=len(kinds))
    fewer = Model(replace(model.config, network=network), model.normalization, model.feature_names, Generator())
    weights = model.state_dict()
    edges = {name: value[list(kinds)] for name, value in weights.items() if name.startswith("network.edge_modules.")}
    fewer.load_state_dict({**weights, **edges})
    return fewer.to(model.device)
