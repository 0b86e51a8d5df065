"""Everything that is learned, in one module: the network, the scale of its errors, and the units of its inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from bouncegrad.compositions import GraphNetwork, NetworkConfig
from bouncegrad.graphs import Layout, SuperGraph, super_graph
from bouncegrad.noise import NoiseConfig, scale_of
from bouncegrad.proposer import Proposer
from bouncegrad.scenes import Normalization, Scenes


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class ModelConfig:
    """What a model is made of.

    Attributes:
        network: the graph network of modules.
        noise: how errors are weighed.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)


@dataclass(frozen=True, slots=True)
class Reading:
    """How graphs are read off a model, as found on held-out scenes without labels.

    Attributes:
        prior: the name of the prior with the largest evidence.
        temperature: at which the priors are compared; above 1 where the noise model is too sure.
        evidence: prior -> mean log evidence of the held-out scenes at that temperature, nats per scene, up to a number
            that is the same for all priors.
        temperatures: prior -> the temperature at which posteriors under it are read.
        weights: prior -> the log weights that it learned.
    """

    prior: str = "none"
    temperature: float = 1.0
    evidence: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, Sequence[float]] = field(default_factory=dict)
    temperatures: Mapping[str, float] = field(default_factory=dict)

    def temperature_under(self, prior: str) -> float:
        """The temperature at which posteriors under a prior are read."""
        return self.temperatures.get(prior, self.temperature)


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
        self.network = GraphNetwork(config.network, len(feature_names), generator)
        self.scale = scale_of(config.noise, len(feature_names), generator)

    def layout(self, num_entities: int) -> Layout:
        """The slots of a scene of ``num_entities``."""
        network = self.config.network
        return Layout(num_entities, network.num_edge_kinds, network.num_node_kinds)

    def log_scales(self, states: Tensor, graph: SuperGraph) -> Tensor:
        """Log standard deviations of one step's errors, in the network's unit; zeros without a scale."""
        return self.scale(states, graph) if self.scale is not None else torch.zeros_like(states)


def only_kinds(model: Model, kinds: Sequence[int]) -> Model:
    """A model that has some of the edge kinds, numbered anew in this order; its reading is to be found anew as well."""
    network = replace(model.config.network, num_edge_kinds=len(kinds))
    fewer = Model(replace(model.config, network=network), model.normalization, model.feature_names, Generator())
    weights = model.state_dict()
    edges = {name: value[list(kinds)] for name, value in weights.items() if name.startswith("network.edge_modules.")}
    fewer.load_state_dict({**weights, **edges})
    return fewer


@dataclass(frozen=True, slots=True)
class Batch:
    """Scenes as a model takes them: normalised, in single precision, packed into a super-graph.

    Attributes:
        states: ``[node, time, feature]``.
        valid: ``[node, time]``, which samples were observed.
        graph: of all scenes of the batch.
    """

    states: Float[Tensor, "node time feature"]
    valid: Bool[Tensor, "node time"]
    graph: SuperGraph


def pack(model: Model, scenes: Scenes) -> Batch:
    """Normalise scenes and pack them into one super-graph.

    Raises:
        ValueError: the scenes have other features than the model was trained on.
    """
    if scenes.feature_names != model.feature_names:
        raise ValueError(
            f"the model was trained on the features {', '.join(model.feature_names)}, but the scenes have "
            f"{', '.join(scenes.feature_names)}: bring scenes with the same features, or fit a model on these"
        )
    device = model.network.unit.device
    graph = super_graph(scenes.present.to(device))
    states = model.normalization.apply(scenes.states).to(device)
    mask = scenes.mask.to(device)
    states = torch.where(mask[..., None], states, 0)
    return Batch(graph.pack_nodes(states.transpose(1, 2)), graph.pack_nodes(mask.transpose(1, 2)), graph)


Rollout: TypeAlias = Literal["scene", "receiver"]


@dataclass(frozen=True, slots=True)
class Windows:
    """Stretches to predict: from each start, the next ``step`` samples.

    Attributes:
        states: ``[node, start, feature]``, the true states at the starts.
        targets: ``[node, start, step, feature]``, what really followed.
        weights: ``[node, start, step]``, 1 where the target and all that its prediction starts from were observed, else
            0. For a "scene" that is every entity at the start; for a "receiver" it is that entity at the start, and
            every other one at all steps before the target.
        rollout: what moves on by itself: "scene", all entities together; or "receiver", each entity alone among others
            that are where they really were at every step, so that its errors depend on its own slots only. One step is
            the same for both.
    """

    states: Float[Tensor, "node start feature"]
    targets: Float[Tensor, "node start step feature"]
    weights: Float[Tensor, "node start step"]
    rollout: Rollout = "scene"

    @property
    def horizon(self) -> int:
        """Steps of each stretch."""
        return self.targets.shape[2]

    @property
    def origins(self) -> Float[Tensor, "node start step feature"]:
        """The true states from which each step leads on."""
        return torch.cat([self.states[:, :, None], self.targets[:, :, :-1]], 2)

    def at(self, nodes: slice | Tensor) -> Windows:
        """Those of some nodes: a slice, or which."""
        return Windows(self.states[nodes], self.targets[nodes], self.weights[nodes], self.rollout)


def some_starts(whole: Windows, num_starts: int, generator: Generator) -> Windows:
    """``num_starts`` of the starts, drawn at random without replacement, in their order."""
    total = whole.states.shape[1]
    if num_starts >= total:
        return whole
    return part_of(whole, torch.randperm(total, generator=generator)[:num_starts].sort().values)


def part_of(whole: Windows, starts: slice | Tensor) -> Windows:
    """Some of the starts: a slice, or their indices."""
    return Windows(whole.states[:, starts], whole.targets[:, starts], whole.weights[:, starts], whole.rollout)


def of_tasks(batch: Batch, whole: Windows, tasks: Int[Tensor, "task"]) -> tuple[Batch, Windows]:
    """Some tasks of a batch, in ascending order, as a super-graph of their own."""
    chosen = torch.zeros(len(batch.graph.present), dtype=torch.bool, device=batch.states.device)
    chosen[tasks] = True
    if chosen.all():
        return batch, whole
    nodes = batch.graph.pack_nodes(chosen[:, None].expand_as(batch.graph.present))
    part = Batch(batch.states[nodes], batch.valid[nodes], super_graph(batch.graph.present[chosen]))
    return part, whole.at(nodes)


def split_tasks(batch: Batch, whole: Windows, size: int) -> Iterator[tuple[Tensor, Batch, Windows]]:
    """A batch in parts of ``size`` tasks, each with the indices of its tasks."""
    for tasks in torch.arange(len(batch.graph.present), device=batch.states.device).split(max(1, size)):
        yield tasks, *of_tasks(batch, whole, tasks)


def windows(
    batch: Batch, horizon: int = 1, stride: int = 1, rollout: Rollout = "scene", *, partial: bool = False
) -> Windows:
    """Cut a batch into stretches of ``horizon`` steps that start every ``stride`` samples.

    Args:
        batch: the scenes.
        horizon: steps.
        stride: samples between starts.
        rollout: what moves on by itself (:class:`Windows`).
        partial: also take starts from which the scene ends before the horizon; what lies beyond its end has weight 0.

    Raises:
        ValueError: the scenes are shorter than ``horizon + 1`` samples.
    """
    num_times = batch.states.shape[1]
    if num_times <= horizon:
        raise ValueError(
            f"a rollout of {horizon} steps needs scenes of at least {horizon + 1} samples, these have {num_times}: "
            f"bring longer scenes or lower the horizon to {num_times - 1} or less"
        )
    starts = torch.arange(0, num_times - (1 if partial else horizon), stride, device=batch.states.device)
    targets = starts[:, None] + torch.arange(1, horizon + 1, device=starts.device)
    inside, targets = targets < num_times, targets.clamp_max(num_times - 1)
    others = batch.graph.incoming((~batch.valid).float()[batch.graph.senders]) == 0
    sources = others[:, targets - 1].cumprod(2).bool() if rollout == "receiver" else others[:, starts, None]
    complete = batch.valid[:, starts, None] & sources
    weights = (complete & batch.valid[:, targets] & inside).float()
    return Windows(batch.states[:, starts], batch.states[:, targets], weights, rollout)
