"""One scene as a graph of networkx or PyTorch Geometric; edges lead from sender to receiver."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from bouncegrad.export.check import check_answer
from bouncegrad.export.packages import package
from bouncegrad.inference import Posterior
from bouncegrad.scenes import DataError, Scenes


def to_networkx(posterior: Posterior, scenes: Scenes, scene: int, *, none_kind: int | None = None) -> Any:
    """One scene as a ``networkx.DiGraph``, with an edge from sender to receiver for each inferred pair.

    Nodes are the names of the entities that are present, with the attribute ``exogenous``. Edges have ``kind``, the
    most probable edge type, and ``probability``, its probability. The graph has ``scene``, ``prior`` and ``mode``.

    Args:
        posterior: the posterior of :func:`bouncegrad.infer`.
        scenes: the scenes from which it was inferred.
        scene: number of the scene, from 0.
        none_kind: leave out edges whose most probable kind is this one (:func:`bouncegrad.inference.weakest_kind`).

    Raises:
        DataError: other scenes than those of the posterior, or a scene or kind out of range.
        ImportError: networkx is not installed.
    """
    check_answer(posterior, scenes, scene=scene, kind=none_kind)
    networkx, names = package("networkx", "networkx"), scenes.names_in(scene)
    graph = networkx.DiGraph(scene=scenes.scene_name(scene), prior=posterior.prior, mode=posterior.mode)
    for entity in scenes.present[scene].nonzero().flatten().tolist():
        graph.add_node(names[entity], exogenous=_is_exogenous(scenes, scene, entity))
    for receiver, sender in _pairs(posterior, scenes, scene, none_kind).T.tolist():
        kind = int(posterior.relations[scene, receiver, sender])
        probability = float(posterior.probabilities[scene, receiver, sender, kind])
        graph.add_edge(names[sender], names[receiver], kind=kind, probability=probability)
    return graph


def to_torch_geometric(
    posterior: Posterior, scenes: Scenes, scene: int, *, time: int = -1, none_kind: int | None = None
) -> Any:
    """One scene as a ``torch_geometric.data.Data``; nodes are the entities that are present, in their order.

    It has ``x`` ``[node, feature]``, the states at one time in the units of the scenes, 0 where ``measured`` ``[node]``
    is False; ``edge_index`` ``[2, edge]``, senders above receivers; ``edge_attr`` ``[edge, kind]``, probabilities;
    ``edge_kind`` ``[edge]``, the most probable edge type; ``exogenous`` ``[node]``; and the ``names`` of the nodes.

    Args:
        posterior: the posterior of :func:`bouncegrad.infer`.
        scenes: the scenes from which it was inferred.
        scene: number of the scene, from 0.
        time: sample of the states, from 0; -1 = the last.
        none_kind: leave out edges whose most probable kind is this one (:func:`bouncegrad.inference.weakest_kind`).

    Raises:
        DataError: other scenes than those of the posterior, or a scene, time or kind out of range.
        ImportError: torch_geometric is not installed.
    """
    check_answer(posterior, scenes, scene=scene, kind=none_kind)
    if not -scenes.num_times <= time < scenes.num_times:
        raise DataError(f"expected a time from 0 to {scenes.num_times - 1}, or -1 for the last, got {time}")
    data = package("torch_geometric.data", "torch-geometric")
    present, names = scenes.present[scene].nonzero().flatten(), scenes.names_in(scene)
    receivers, senders = _pairs(posterior, scenes, scene, none_kind)
    node_of = torch.zeros(scenes.num_entities, dtype=torch.long).scatter(0, present, torch.arange(len(present)))
    return data.Data(
        x=scenes.states[scene, time, present].float(),
        edge_index=torch.stack([node_of[senders], node_of[receivers]]),
        edge_attr=posterior.probabilities[scene, receivers, senders],
        edge_kind=posterior.relations[scene, receivers, senders],
        measured=scenes.mask[scene, time, present],
        exogenous=torch.tensor([_is_exogenous(scenes, scene, entity) for entity in present.tolist()]),
        names=[names[entity] for entity in present.tolist()],
    )


def _pairs(posterior: Posterior, scenes: Scenes, scene: int, none_kind: int | None) -> Int[Tensor, "2 edge"]:
    """Receivers and senders of the edges."""
    pairs = scenes.pairs[scene]
    chosen = pairs if none_kind is None else pairs & (posterior.relations[scene] != none_kind)
    return chosen.nonzero().T


def _is_exogenous(scenes: Scenes, scene: int, entity: int) -> bool:
    return scenes.exogenous is not None and bool(scenes.exogenous[scene, entity])
