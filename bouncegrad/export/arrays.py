"""The posterior of all scenes as an xarray dataset: arrays with named axes."""

from __future__ import annotations

import math
from typing import Any

from bouncegrad.export.check import check_answer
from bouncegrad.export.packages import package
from bouncegrad.inference import Posterior
from bouncegrad.scenes import Scenes

PAIR = ("scene", "receiver", "sender")


def to_xarray(posterior: Posterior, scenes: Scenes) -> Any:
    """All scenes as an ``xarray.Dataset`` with the dimensions scene, receiver, sender and kind.

    Its variables are ``relation`` ``[scene, receiver, sender]``, the most probable kind (edge type), -1 where none is
    inferred (diagonal, absent entities, exogenous receivers); ``probability`` ``[scene, receiver, sender, kind]``, NaN
    there; ``loss`` and ``log_evidence`` ``[scene]``. Names are coordinates: where names of entities differ between
    scenes, receivers and senders are numbered and ``receiver_name`` and ``sender_name`` depend on the scene.

    Raises:
        DataError: other scenes than those of the posterior.
        ImportError: xarray is not installed.
    """
    check_answer(posterior, scenes)
    xarray = package("xarray", "xarray")
    relation = posterior.relations.masked_fill(~scenes.pairs, -1)
    probability = posterior.probabilities.double().masked_fill(~scenes.pairs[..., None], math.nan)
    return xarray.Dataset(
        {
            "relation": (PAIR, relation.numpy()),
            "probability": ((*PAIR, "kind"), probability.numpy()),
            "loss": (PAIR[:1], posterior.losses.double().numpy()),
            "log_evidence": (PAIR[:1], posterior.log_evidence.double().numpy()),
        },
        coords={
            "scene": [scenes.scene_name(scene) for scene in range(scenes.num_scenes)],
            "kind": list(range(posterior.layout.num_edge_kinds)),
            **_entity_coordinates(scenes),
        },
        attrs={"prior": posterior.prior, "mode": posterior.mode, "direction": "the receiver is acted on by the sender"},
    )


def _entity_coordinates(scenes: Scenes) -> dict[str, Any]:
    if scenes.names is None:
        return {role: list(scenes.entity_names) for role in PAIR[1:]}
    numbers, names = list(range(scenes.num_entities)), [list(some) for some in scenes.names]
    return dict.fromkeys(PAIR[1:], numbers) | {f"{role}_name": (("scene", role), names) for role in PAIR[1:]}
