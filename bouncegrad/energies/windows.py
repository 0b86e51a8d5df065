"""Scenes as a model takes them: many as one super-graph, and the stretches of them that are predicted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Generator, Tensor

from bouncegrad.models.model import Model
from bouncegrad.models.super_graph import SuperGraph, super_graph
from bouncegrad.scenes import Scenes


@dataclass(frozen=True, slots=True)
class Batch:
    """Scenes as a model takes them: normalised, in single precision, packed into a super-graph.

    Attributes:
        states: ``[node, time, feature]``.
        valid: ``[node, time]``, which samples were observed.
        graph: of all scenes of the batch.
        exogenous: ``[node]``, whose motion is given; None: nobody's is.
        history: samples that the model sees of a node.
        unseen: what becomes of samples with senders that were not measured
            (:class:`bouncegrad.models.graph_network.NetworkConfig`).
    """

    states: Float[Tensor, "node time feature"]
    valid: Bool[Tensor, "node time"]
    graph: SuperGraph
    exogenous: Bool[Tensor, "node"] | None = None
    history: int = 1
    unseen: Literal["skip", "silent"] = "skip"

    @property
    def inputs(self) -> Float[Tensor, "node last input"]:
        """What the model sees at each time that has a whole history behind it; the newest sample last."""
        return side_by_side(self.states, self.history)

    @property
    def edge_mask(self) -> Bool[Tensor, "scene receiver neighbour"] | None:
        """Which edges are asked about: those that exist and whose receiver is not exogenous; None: all of them."""
        if self.exogenous is None:
            return self.graph.exist
        followers = self.graph.unpack_nodes(~self.exogenous)
        exist = self.graph.exist
        return followers[:, :, None].expand(-1, -1, followers.shape[1] - 1) & (True if exist is None else exist)

    @property
    def num_starts(self) -> int:
        """From how many times one step can be predicted."""
        return self.states.shape[1] - self.history

    @property
    def complete(self) -> Bool[Tensor, "node last"]:
        """Where all of these inputs were observed."""
        return side_by_side(self.valid[..., None], self.history).all(2)


def side_by_side(states: Shaped[Tensor, "*batch time feature"], history: int) -> Shaped[Tensor, "*batch last input"]:
    """Each run of ``history`` samples as one row of numbers, the newest last.

    >>> side_by_side(torch.tensor([[0.0], [1.0], [2.0]]), 2).tolist()
    [[0.0, 1.0], [1.0, 2.0]]
    """
    return states if history == 1 else states.unfold(-2, history, 1).transpose(-2, -1).flatten(-2)


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
    device = model.device
    graph = super_graph(scenes.present.to(device))
    states = model.normalization.apply(scenes.states).to(device)
    mask = scenes.mask.to(device)
    states = torch.where(mask[..., None], states, 0)
    network = model.config.network
    return Batch(
        states=graph.pack_nodes(states.transpose(1, 2)),
        valid=graph.pack_nodes(mask.transpose(1, 2)),
        graph=graph,
        exogenous=None if scenes.exogenous is None else graph.pack_nodes(scenes.exogenous.to(device)),
        history=network.history,
        unseen=network.unseen,
    )


Rollout: TypeAlias = Literal["scene", "receiver"]


@dataclass(frozen=True, slots=True)
class Windows:
    """Stretches to predict: from each start, the next ``step`` samples.

    Attributes:
        states: ``[node, start, input]``, the true states at the starts, with all of their history.
        targets: ``[node, start, step, feature]``, what really followed.
        weights: ``[node, start, step]``, 1 where the target and all that its prediction starts from were observed, else
            0. For a "scene" that is every entity at the start; for a "receiver" it is that entity at the start, and
            every other one at all steps before the target. 0 for entities whose motion is given.
        rollout: what moves on by itself: "scene", all entities together; or "receiver", each entity alone among others
            that are where they really were at every step, so that its errors depend on its own slots only. One step is
            the same for both.
        heard: ``[node, start]``, 0 for senders that say nothing because they were not measured, else 1; None: all are
            heard, and weights are 0 where they should not be.
        given: ``[node, start, step, feature]``, states that are given, NaN for all others; None: none is.
    """

    states: Float[Tensor, "node start input"]
    targets: Float[Tensor, "node start step feature"]
    weights: Float[Tensor, "node start step"]
    rollout: Rollout = "scene"
    sender_mask: Float[Tensor, "node start"] | None = None
    given: Float[Tensor, "node start step feature"] | None = None

    @property
    def horizon(self) -> int:
        """Steps of each stretch."""
        return self.targets.shape[2]

    @property
    def origins(self) -> Float[Tensor, "node start step input"]:
        """The true states from which each step leads on, with their history."""
        num_features = self.targets.shape[3]
        before = self.states.unflatten(2, (-1, num_features))
        return side_by_side(torch.cat([before, self.targets[:, :, :-1]], 2), before.shape[2])

    def at(self, nodes: slice | Tensor) -> Windows:
        """Those of some nodes: a slice, or which."""
        return self._each(lambda values: values[nodes])

    def of_starts(self, starts: slice | Tensor) -> Windows:
        """Those of some starts: a slice, or which."""
        return self._each(lambda values: values[:, starts])

    def _each(self, chosen: Callable[[Tensor], Tensor]) -> Windows:
        sender_mask, given = (None if values is None else chosen(values) for values in (self.sender_mask, self.given))
        return Windows(
            chosen(self.states), chosen(self.targets), chosen(self.weights), self.rollout, sender_mask, given
        )


def some_starts(whole: Windows, num_starts: int, generator: Generator) -> Windows:
    """``num_starts`` of the starts, drawn at random without replacement, in their order."""
    total = whole.states.shape[1]
    if num_starts >= total:
        return whole
    return whole.of_starts(torch.randperm(total, generator=generator)[:num_starts].sort().values)


def of_tasks(batch: Batch, whole: Windows, tasks: Int[Tensor, "task"]) -> tuple[Batch, Windows]:
    """Some tasks of a batch, in ascending order, as a super-graph of their own."""
    chosen = torch.zeros(len(batch.graph.present), dtype=torch.bool, device=batch.states.device)
    chosen[tasks] = True
    if chosen.all():
        return batch, whole
    nodes = batch.graph.pack_nodes(chosen[:, None].expand_as(batch.graph.present))
    part = replace(
        batch,
        states=batch.states[nodes],
        valid=batch.valid[nodes],
        graph=super_graph(batch.graph.present[chosen]),
        exogenous=None if batch.exogenous is None else batch.exogenous[nodes],
    )
    return part, whole.at(nodes)


def split_tasks(batch: Batch, whole: Windows, size: int) -> Iterator[tuple[Tensor, Batch, Windows]]:
    """A batch in parts of ``size`` tasks, each with the indices of its tasks."""
    if size >= len(batch.graph.present):
        yield torch.arange(len(batch.graph.present)), batch, whole
        return
    for tasks in torch.arange(len(batch.graph.present)).split(max(1, size)):
        yield tasks, *of_tasks(batch, whole, tasks)


def cut_windows(
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
        ValueError: the scenes are shorter than the history and ``horizon`` samples; or senders that were not measured
            are to be silent, over more than one step.
    """
    num_times, before = batch.states.shape[1], batch.history - 1
    if num_times <= before + horizon:
        raise ValueError(
            f"a rollout of {horizon} steps needs scenes of at least {before + horizon + 1} samples, these have "
            f"{num_times}: bring longer scenes or lower the horizon to {num_times - before - 1} or less"
            + (f", or the history of {batch.history}" if before else "")
        )
    if batch.unseen == "silent" and horizon > 1:
        raise ValueError(f'senders can be silent over one step only, got a horizon of {horizon}: set unseen to "skip"')
    starts = torch.arange(before, num_times - (1 if partial else horizon), stride, device=batch.states.device)
    targets = starts[:, None] + torch.arange(1, horizon + 1, device=starts.device)
    inside, targets = targets < num_times, targets.clamp_max(num_times - 1)
    complete = batch.complete
    weights = complete[:, starts - before, None] & batch.valid[:, targets] & inside
    if batch.unseen == "skip":
        weights = weights & _senders_measured(batch, complete, (starts, targets), rollout)
    given = None
    if batch.exogenous is not None:
        weights = weights & ~batch.exogenous[:, None, None]
        given = batch.states[:, targets].masked_fill(~batch.exogenous[:, None, None, None], math.nan)
    return Windows(
        states=batch.inputs[:, starts - before],
        targets=batch.states[:, targets],
        weights=weights.float(),
        rollout=rollout,
        sender_mask=None if batch.unseen == "skip" else complete[:, starts - before].float(),
        given=given if rollout == "scene" else None,
    )


def _senders_measured(
    batch: Batch, complete: Bool[Tensor, "node last"], when: tuple[Tensor, Tensor], rollout: Rollout
) -> Bool[Tensor, "node start step"]:
    """Whether all senders are known that a prediction starts from or is given on its way."""
    (starts, targets), before = when, batch.history - 1
    unknown = ~complete
    everyone = _none_of(batch.graph, unknown)
    if rollout == "receiver":
        return everyone[:, targets - 1 - before].cumprod(2).bool()
    known = everyone[:, starts - before, None]
    if batch.exogenous is None:
        return known
    guides = _none_of(batch.graph, unknown & batch.exogenous[:, None])
    return known & guides[:, targets - 1 - before].cumprod(2).bool()


def _none_of(graph: SuperGraph, which: Bool[Tensor, "node last"]) -> Bool[Tensor, "node last"]:
    """Where no sender of a node is one of those."""
    return graph.incoming(which.float()[graph.senders]) == 0


def early_half(batch: Batch) -> Windows:
    """One step from the starts of the first half of each scene; where lengths differ, from as many as can be judged."""
    return _half(batch, late=False)


def late_half(batch: Batch) -> Windows:
    """The rest of :func:`early_half`."""
    return _half(batch, late=True)


def _half(batch: Batch, *, late: bool) -> Windows:
    whole, middle = cut_windows(batch), batch.num_starts // 2
    if batch.graph.unpack_nodes(batch.valid[:, -1].float()).amax(1).min() > 0:
        return whole.of_starts(slice(middle, None) if late else slice(middle))
    judged = batch.graph.unpack_nodes(whole.weights[:, :, 0]).amax(1) > 0
    rank = judged.cumsum(1)
    is_late = 2 * rank > rank[:, -1:]
    chosen = is_late if late else ~is_late
    nodes = batch.graph.pack_nodes(chosen[:, None].expand(-1, batch.graph.present.shape[1], -1))
    return replace(whole, weights=whole.weights * nodes[:, :, None])
