"""Everything that is learned, in one module: the network, the scale of its errors, and the units of its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from bouncegrad.compositions import GraphNetwork, NetworkConfig
from bouncegrad.models.super_graph import SuperGraph
from bouncegrad.noise import NoiseConfig, scale_of
from bouncegrad.proposer import Proposer
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


UNUSED = 0.01
"""Share of pairs below which a kind counts as unused in the report."""


@dataclass(frozen=True, slots=True)
class Merge:
    """A kind that was not needed.

    Attributes:
        kind: its number, among the kinds that were asked for.
        into: the kind that takes its place.
        share: of the pairs of the held-out scenes that had it.
        nats: what telling it from the others foretold, per scene.
    """

    kind: int
    into: int
    share: float
    nats: float

    def __str__(self) -> str:
        what = "was hardly used and is left out" if self.share < UNUSED else f"is merged into kind {self.into}"
        return f"kind {self.kind} {what} ({max(0.0, self.nats):.2g} nats per scene)"


@dataclass(frozen=True, slots=True)
class KindsReport:
    """How many kinds were asked for, and which of them are left.

    Attributes:
        asked: kinds to begin with.
        merges: what was merged, in order.
    """

    asked: int
    merges: tuple[Merge, ...] = ()

    @property
    def found(self) -> int:
        """How many kinds are left."""
        return self.asked - len(self.merges)

    @property
    def kept(self) -> tuple[int, ...]:
        """Their numbers among those asked for; the model's kind ``k`` is the ``k``-th of them."""
        gone = {merge.kind for merge in self.merges}
        return tuple(kind for kind in range(self.asked) if kind not in gone)

    def __str__(self) -> str:
        if not self.merges:
            return f"{self.asked} kinds asked for, and each of them is needed"
        return f"{self.asked} kinds asked for, {self.found} found: " + "; ".join(map(str, self.merges))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {"asked": self.asked, "found": self.found, "merges": [asdict(merge) for merge in self.merges]}

    def then(self, report: KindsReport) -> KindsReport:
        """With the merges of a report on the kinds that were left."""
        names = self.kept
        merges = (replace(merge, kind=names[merge.kind], into=names[merge.into]) for merge in report.merges)
        return KindsReport(self.asked, (*self.merges, *merges))

    @property
    def places(self) -> tuple[int, ...]:
        """For each kind that was asked for, which of those that are left takes its place (or is it), from 0."""
        instead = {merge.kind: merge.into for merge in reversed(self.merges)}
        ends = list(range(self.asked))
        for kind in ends:
            while ends[kind] in instead:
                ends[kind] = instead[ends[kind]]
        return tuple(self.kept.index(end) for end in ends)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> KindsReport:
        """The inverse of :meth:`to_dict`."""
        return cls(values["asked"], tuple(Merge(**merge) for merge in values["merges"]))


class Model(nn.Module):
    """A graph network, its noise model and the normalisation of the scenes it was trained on.

    Beside them, where a training left them: a proposal network, and a forecaster, which is a model whose modules say
    what happens next under the structures that this one reads (:mod:`bouncegrad.forecaster`).

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

    def layout(self, num_entities: int) -> Layout:
        """The slots of a scene of ``num_entities``."""
        network = self.config.network
        return Layout(num_entities, network.num_edge_kinds, network.num_node_kinds)

    def log_scales(
        self,
        states: Float[Tensor, "node *batch input"],
        graph: SuperGraph,
        heard: Float[Tensor, "node *batch"] | None = None,
    ) -> Float[Tensor, "node *batch feature"]:
        """Log standard deviations of one step's errors, in the network's unit; zeros without a scale."""
        if self.scale is None:
            return torch.zeros_like(self.network.newest(states))
        return self.scale(states, graph, heard)


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
