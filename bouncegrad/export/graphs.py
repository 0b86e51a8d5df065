"""One scene as a graph of another package; arrows lead from who acts to who is acted on."""

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
    """One scene as a ``networkx.DiGraph``, with an edge from sender to receiver for each pair that is asked for.

    Nodes are the names of the entities that are present, with the attribute ``exogenous``. Edges have ``kind``, the
    most probable one, and ``probability``, how sure that is. The graph itself has ``scene``, ``prior`` and ``mode``.

    Args:
        posterior: what was inferred.
        scenes: from which.
        scene: which of them, from 0.
        none_kind: leave edges out whose most probable kind is this one (:func:`bouncegrad.inference.weakest_kind`).

    Raises:
        DataError: other scenes than those of the posterior, or a scene or kind that there is not.
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
    ``edge_kind`` ``[edge]``, the most probable one; ``exogenous`` ``[node]``; and the ``names`` of the nodes.

    Args:
        posterior: what was inferred.
        scenes: from which.
        scene: which of them, from 0.
        time: of the states; -1 = the last sample.
        none_kind: leave edges out whose most probable kind is this one (:func:`bouncegrad.inference.weakest_kind`).

    Raises:
        DataError: other scenes than those of the posterior, or a scene, time or kind that there is not.
        ImportError: torch_geometric is not installed.
    """
    check_answer(posterior, scenes, scene=scene, kind=none_kind)
    if not -scenes.num_times <= time < scenes.num_times:
        raise DataError(f"expected a time from 0 to {scenes.num_times - 1}, or -1 for the last, got {time}")
    data = package("torch_geometric.data", "torch-geometric")
    there, names = scenes.present[scene].nonzero().flatten(), scenes.names_in(scene)
    receivers, senders = _pairs(posterior, scenes, scene, none_kind)
    node_of = torch.zeros(scenes.num_entities, dtype=torch.long).scatter(0, there, torch.arange(len(there)))
    return data.Data(
        x=scenes.states[scene, time, there].float(),
        edge_index=torch.stack([node_of[senders], node_of[receivers]]),
        edge_attr=posterior.probabilities[scene, receivers, senders],
        edge_kind=posterior.relations[scene, receivers, senders],
        measured=scenes.mask[scene, time, there],
        exogenous=torch.tensor([_is_exogenous(scenes, scene, entity) for entity in there.tolist()]),
        names=[names[entity] for entity in there.tolist()],
    )


def _pairs(posterior: Posterior, scenes: Scenes, scene: int, none_kind: int | None) -> Int[Tensor, "2 edge"]:
    """Receivers and senders of the edges."""
    asked = scenes.pairs[scene]
    chosen = asked if none_kind is None else asked & (posterior.relations[scene] != none_kind)
    return chosen.nonzero().T


def _is_exogenous(scenes: Scenes, scene: int, entity: int) -> bool:
    return scenes.exogenous is not None and bool(scenes.exogenous[scene, entity])
