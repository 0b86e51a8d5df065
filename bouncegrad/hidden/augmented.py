"""Scenes augmented by hidden entities, whose tracks are variables: one set of tracks per task."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bouncegrad.energies import receiver_tables
from bouncegrad.energies.windows import Batch, cut_windows, pack
from bouncegrad.models.model import Model
from bouncegrad.models.super_graph import SuperGraph
from bouncegrad.scenes import DataError, Scenes
from bouncegrad.structures.factors import FactorTables
from bouncegrad.types import Structures

Tracks: TypeAlias = Float[Tensor, "task hidden time feature"]
"""Normalised states of hidden entities over time, latent variables of the search."""


@dataclass(frozen=True, slots=True)
class AugmentedScenes:
    """Tasks with extra nodes for the hidden entities, which are the last nodes of each scene.

    Attributes:
        batch: the observed entities and the hidden ones, whose states are zeros.
        nodes: ``[task, hidden]``, node numbers of the hidden entities.
        touching: the graph of the edges that begin or end at a hidden entity.
        background: ``[edge, kind, start, message]``, messages between observed entities under every edge type, which do
            not depend on the tracks; zeros on the edges of ``touching``.
    """

    batch: Batch
    nodes: Int[Tensor, "task hidden"]
    touching: SuperGraph
    background: Float[Tensor, "edge kind start message"]

    @property
    def graph(self) -> SuperGraph:
        """The super-graph of all tasks, with edges between all entities."""
        return self.batch.graph

    @property
    def num_tasks(self) -> int:
        """Number of tasks."""
        return len(self.nodes)

    def with_tracks(self, tracks: Tracks) -> Batch:
        """The batch with the states of the hidden entities set to the tracks."""
        states = self.batch.states.index_copy(0, self.nodes.flatten(), tracks.flatten(0, 1))
        return replace(self.batch, states=states)

    def of_hidden(self, values: Float[Tensor, "node time feature"]) -> Float[Tensor, "task time size"]:
        """The values of the hidden nodes, all numbers of one task and time concatenated."""
        own = values[self.nodes.flatten()].view(*self.nodes.shape, *values.shape[1:])
        return own.transpose(1, 2).flatten(2)

    def as_tracks(self, numbers: Float[Tensor, "task time size"]) -> Tracks:
        """The inverse of :meth:`of_hidden`, in the shape of tracks."""
        return numbers.unflatten(2, (self.nodes.shape[1], -1)).transpose(1, 2)

    def messages_to(self, structures: Structures) -> Float[Tensor, "node start message"]:
        """Sum of the messages from observed to observed entities under structures, per receiving node."""
        kinds = self.graph.pack_edges(structures)
        return self.graph.incoming(self.background[torch.arange(len(kinds)), kinds])


def with_placeholders(scenes: Scenes, num_hidden: int) -> Scenes:
    """Append hidden entities to scenes, marked as measured at all times, with states zero.

    >>> scenes = Scenes(torch.zeros(1, 9, 2, 1), torch.ones(1, 9, 2) > 0, 0.1, ("x",), ("a", "b"))
    >>> with_placeholders(scenes, 1).entity_names
    ('a', 'b', 'hidden')
    """
    names = ["hidden"] if num_hidden == 1 else [f"hidden {number}" for number in range(1, num_hidden + 1)]
    shape = (scenes.num_scenes, scenes.num_times, num_hidden)
    states = torch.cat([scenes.states, scenes.states.new_zeros(*shape, scenes.num_features)], 2)
    mask = torch.cat([scenes.mask, scenes.mask.new_ones(shape)], 2)
    return Scenes(states, mask, scenes.time_step, scenes.feature_names, (*scenes.entity_names, *names))


@torch.no_grad()
def complete(model: Model, scenes: Scenes, num_hidden: int) -> AugmentedScenes:
    """Augment scenes by hidden entities; each scene becomes a task.

    Raises:
        DataError: an observed entity with missing samples in a scene that it is part of, or an exogenous one.
        ValueError: a model with a history of several samples.
    """
    check_complete(scenes)
    if model.config.network.history > 1:
        raise ValueError(
            "hidden entities are inferred by a model that predicts from one sample, but this model has history "
            f"{model.config.network.history}: fit one with history 1"
        )
    batch = pack(model, with_placeholders(scenes, num_hidden))
    graph, num_seen = batch.graph, scenes.num_entities
    numbers = graph.unpack_nodes(torch.arange(graph.num_nodes))
    nodes = numbers[:, num_seen:]
    is_hidden = torch.zeros(graph.num_nodes, dtype=torch.bool)
    is_hidden[nodes.flatten()] = True
    ends = is_hidden[graph.senders] | is_hidden[graph.receivers]
    inputs = model.network.inputs_on(graph, batch.states[:, :-1])
    background = model.network.edge_modules.every_kind(inputs).transpose(0, 1) * ~ends[:, None, None, None]
    return AugmentedScenes(batch, nodes, _edges_of(graph, ends), background)


def _edges_of(graph: SuperGraph, chosen: Bool[Tensor, "edge"]) -> SuperGraph:
    """The super-graph restricted to the chosen edges."""
    return SuperGraph(
        graph.present,
        graph.senders[chosen],
        graph.receivers[chosen],
        graph.edge_scenes[chosen],
        graph.edge_slots[chosen],
        in_degree=0,
    )


def check_complete(scenes: Scenes) -> None:
    """Raise an error for scenes with missing samples or exogenous entities."""
    if scenes.exogenous is not None and scenes.exogenous.any():
        raise DataError(
            "hidden entities are inferred from their effect on observed ones, but these scenes have exogenous entities "
            "(on which nothing acts): leave them out"
        )
    gaps = scenes.present[:, None] & ~scenes.mask
    if gaps.any():
        scene, time, entity = gaps.nonzero()[0].tolist()
        raise DataError(
            f"entity {scenes.entity_names[entity]!r} of scene {scene} was not measured at time {time}: hidden entities "
            "need observed entities without missing samples; cut the scene or leave the entity out"
        )


def tables_with(model: Model, stage: AugmentedScenes, tracks: Tracks) -> FactorTables:
    """One-step tables of energies (a table per receiver) with the hidden entities on the given tracks."""
    batch = stage.with_tracks(tracks)
    return receiver_tables(model, batch, cut_windows(batch))
