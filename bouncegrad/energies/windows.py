"""Batches of scenes in the form that a model reads, and the windows of them that it predicts.

Rollouts of scenes run freely; rollouts of receivers are teacher-forced: their senders follow their true states.
"""

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
    """A batch of scenes: normalised, in single precision, packed into a super-graph.

    Attributes:
        states: ``[node, time, feature]``, normalised.
        valid: ``[node, time]``, which samples were observed.
        graph: the super-graph of all scenes of the batch.
        exogenous: ``[node]``, which nodes have given trajectories that are not predicted; None: none.
        history: number of samples of a node that the model reads.
        unseen: how to treat samples with senders that were not measured
            (:class:`bouncegrad.models.decoder.NetworkConfig`).
    """

    states: Float[Tensor, "node time feature"]
    valid: Bool[Tensor, "node time"]
    graph: SuperGraph
    exogenous: Bool[Tensor, "node"] | None = None
    history: int = 1
    unseen: Literal["skip", "silent"] = "skip"

    @property
    def inputs(self) -> Float[Tensor, "node last input"]:
        """The model's input at each time with a complete history, the newest sample last."""
        return stack_history(self.states, self.history)

    @property
    def edge_mask(self) -> Bool[Tensor, "scene receiver neighbour"] | None:
        """Which edges are inferred: those that exist and whose receiver is not exogenous; None: all of them."""
        if self.exogenous is None:
            return self.graph.exist
        followers = self.graph.unpack_nodes(~self.exogenous)
        exist = self.graph.exist
        return followers[:, :, None].expand(-1, -1, followers.shape[1] - 1) & (True if exist is None else exist)

    @property
    def num_starts(self) -> int:
        """Number of times from which one step can be predicted."""
        return self.states.shape[1] - self.history

    @property
    def complete(self) -> Bool[Tensor, "node last"]:
        """At which of these times all samples of the input were observed."""
        return stack_history(self.valid[..., None], self.history).all(2)


def stack_history(states: Shaped[Tensor, "*batch time feature"], history: int) -> Shaped[Tensor, "*batch last input"]:
    """Each ``history`` consecutive samples as one row, the newest last (a sliding window over time).

    >>> stack_history(torch.tensor([[0.0], [1.0], [2.0]]), 2).tolist()
    [[0.0, 1.0], [1.0, 2.0]]
    """
    return states if history == 1 else states.unfold(-2, history, 1).transpose(-2, -1).flatten(-2)


def pack(model: Model, scenes: Scenes) -> Batch:
    """Normalise scenes and pack them into one super-graph.

    Raises:
        ValueError: if the scenes have other features than the model was trained on.
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
    """Windows to predict: from each start, the samples after 1, 2, ... steps.

    Attributes:
        states: ``[node, start, input]``, the true states at the starts, with their histories.
        targets: ``[node, start, step, feature]``, the true states after each step.
        weights: ``[node, start, step]``, 1 where the target and all samples that its prediction starts from were
            observed, else 0. For a "scene" these are all entities at the start; for a "receiver" that entity at the
            start, and all others at all steps before the target. 0 for exogenous entities.
        rollout: "scene": all entities are predicted together, each step from the predictions of the step before;
            "receiver": teacher forcing of senders, each entity alone is predicted while all others follow their true
            states, so that its errors depend on its own slots only. For one step both are the same.
        sender_mask: ``[node, start]``, 0 for senders that were not measured, whose messages are zero, else 1; None: all
            nodes send, and unmeasured senders have an effect on ``weights`` instead.
        given: ``[node, start, step, feature]``, states of exogenous entities, NaN for all others; None: no such
            entities.
    """

    states: Float[Tensor, "node start input"]
    targets: Float[Tensor, "node start step feature"]
    weights: Float[Tensor, "node start step"]
    rollout: Rollout = "scene"
    sender_mask: Float[Tensor, "node start"] | None = None
    given: Float[Tensor, "node start step feature"] | None = None

    @property
    def horizon(self) -> int:
        """Number of steps of each window."""
        return self.targets.shape[2]

    @property
    def origins(self) -> Float[Tensor, "node start step input"]:
        """The true states before each step, with their histories."""
        num_features = self.targets.shape[3]
        before = self.states.unflatten(2, (-1, num_features))
        return stack_history(torch.cat([before, self.targets[:, :, :-1]], 2), before.shape[2])

    def at(self, nodes: slice | Tensor) -> Windows:
        """The windows of some nodes, given by a slice, indices or a mask."""
        return self._each(lambda values: values[nodes])

    def at_starts(self, starts: slice | Tensor) -> Windows:
        """The windows of some starts, given by a slice or indices."""
        return self._each(lambda values: values[:, starts])

    def _each(self, chosen: Callable[[Tensor], Tensor]) -> Windows:
        sender_mask, given = (None if values is None else chosen(values) for values in (self.sender_mask, self.given))
        return Windows(
            chosen(self.states), chosen(self.targets), chosen(self.weights), self.rollout, sender_mask, given
        )


def sample_starts(whole: Windows, num_starts: int, generator: Generator) -> Windows:
    """Windows of ``num_starts`` starts, drawn without replacement, in ascending order; all if there are no more."""
    total = whole.states.shape[1]
    if num_starts >= total:
        return whole
    return whole.at_starts(torch.randperm(total, generator=generator)[:num_starts].sort().values)


def select_tasks(batch: Batch, whole: Windows, tasks: Int[Tensor, "task"]) -> tuple[Batch, Windows]:
    """The batch and windows of some tasks, in ascending order, with a super-graph of their own."""
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
    """Split a batch into parts of ``size`` tasks; yields the indices of the tasks, their batch and their windows."""
    if size >= len(batch.graph.present):
        yield torch.arange(len(batch.graph.present)), batch, whole
        return
    for tasks in torch.arange(len(batch.graph.present)).split(max(1, size)):
        yield tasks, *select_tasks(batch, whole, tasks)


def cut_windows(
    batch: Batch, horizon: int = 1, stride: int = 1, rollout: Rollout = "scene", *, partial: bool = False
) -> Windows:
    """Cut a batch into windows of ``horizon`` steps that start every ``stride`` samples.

    Args:
        batch: the scenes.
        horizon: number of steps of each window.
        stride: number of samples from one start to the next.
        rollout: which entities are predicted together (:class:`Windows`).
        partial: include starts whose windows reach beyond the end of the scene; steps beyond it have weight 0.

    Raises:
        ValueError: if the scenes are shorter than the history and ``horizon`` samples together; or ``unseen`` is
            "silent" and the horizon is more than 1.
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
    """Whether all senders that a prediction depends on were observed: at the start and, if given, at later steps."""
    (starts, targets), before = when, batch.history - 1
    unknown = ~complete
    all_known = _no_sender_in(batch.graph, unknown)
    if rollout == "receiver":
        return all_known[:, targets - 1 - before].cumprod(2).bool()
    known = all_known[:, starts - before, None]
    if batch.exogenous is None:
        return known
    given_known = _no_sender_in(batch.graph, unknown & batch.exogenous[:, None])
    return known & given_known[:, targets - 1 - before].cumprod(2).bool()


def _no_sender_in(graph: SuperGraph, nodes: Bool[Tensor, "node last"]) -> Bool[Tensor, "node last"]:
    """Whether no sender of a node is in the set ``nodes``, at each time."""
    return graph.incoming(nodes.float()[graph.senders]) == 0


def early_half(batch: Batch) -> Windows:
    """One-step windows from the first half of each scene's starts.

    If scenes differ in length, the half of the starts with at least one weight above 0 in that scene.
    """
    return _half(batch, late=False)


def late_half(batch: Batch) -> Windows:
    """One-step windows from the second half of each scene's starts, the complement of :func:`early_half`."""
    return _half(batch, late=True)


def _half(batch: Batch, *, late: bool) -> Windows:
    whole, middle = cut_windows(batch), batch.num_starts // 2
    if batch.graph.unpack_nodes(batch.valid[:, -1].float()).amax(1).min() > 0:
        return whole.at_starts(slice(middle, None) if late else slice(middle))
    # scenes of several lengths: halve the starts that have a valid target, scene by scene
    valid_starts = batch.graph.unpack_nodes(whole.weights[:, :, 0]).amax(1) > 0
    rank = valid_starts.cumsum(1)
    is_late = 2 * rank > rank[:, -1:]
    chosen = is_late if late else ~is_late
    nodes = batch.graph.pack_nodes(chosen[:, None].expand(-1, batch.graph.present.shape[1], -1))
    return replace(whole, weights=whole.weights * nodes[:, :, None])
