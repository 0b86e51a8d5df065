"""The posterior of all scenes as one tidy table: a row for each ordered pair."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bouncegrad.export.check import check_answer
from bouncegrad.inference import Posterior
from bouncegrad.scenes import Scenes

if TYPE_CHECKING:
    import polars  # takes half a second

DIGITS = 6
"""Digits of a probability after the decimal point in a text file."""


def relation_table(posterior: Posterior, scenes: Scenes, none_kind: int | None = None) -> polars.DataFrame:
    """A row for each ordered pair, with the columns scene, receiver, sender, kind, ``probability_0``, ...

    ``kind`` is the most probable edge type, ``probability_k`` the posterior probability of edge type k. Scenes and
    entities have their names; the receiver is acted on, the sender acts. The diagonal, absent entities and exogenous
    receivers have no rows.

    Args:
        posterior: the posterior of :func:`bouncegrad.infer`.
        scenes: the scenes from which it was inferred.
        none_kind: leave out pairs whose most probable kind is this one (:func:`bouncegrad.inference.weakest_kind`).

    Raises:
        DataError: other scenes than those of the posterior.
    """
    import polars

    check_answer(posterior, scenes, kind=none_kind)
    pairs_kept = scenes.pairs if none_kind is None else scenes.pairs & (posterior.relations != none_kind)
    chosen = pairs_kept.nonzero()
    pairs, names = chosen.tolist(), [scenes.names_in(scene) for scene in range(scenes.num_scenes)]
    probabilities = posterior.probabilities[tuple(chosen.T)].double()
    columns = {f"probability_{kind}": probabilities[:, kind].numpy() for kind in range(probabilities.shape[1])}
    return polars.DataFrame(
        {
            "scene": polars.Series([scenes.scene_name(scene) for scene, _, _ in pairs], dtype=polars.String),
            "receiver": polars.Series([names[scene][receiver] for scene, receiver, _ in pairs], dtype=polars.String),
            "sender": polars.Series([names[scene][sender] for scene, _, sender in pairs], dtype=polars.String),
            "kind": posterior.relations[tuple(chosen.T)].numpy(),
            **columns,
        }
    )


def write_table(table: polars.DataFrame, place: Path) -> None:
    """Write a table as ``.parquet``, or as CSV for any other suffix."""
    if place.suffix == ".parquet":
        table.write_parquet(place)
    else:
        table.write_csv(place, float_precision=DIGITS)
