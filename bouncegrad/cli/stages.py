"""The stages of the pipeline on files: what each verb of the command does."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from jaxtyping import Shaped
from torch import Tensor

from bouncegrad.evaluation.score import STEPS, Score, score
from bouncegrad.export import relation_table, write_table
from bouncegrad.fit import error_unit
from bouncegrad.inference import Mode, infer, measured_at, placed, predict, weakest_kind
from bouncegrad.models.model import Model
from bouncegrad.plots import Answer, draw_graphs, draw_reliability, draw_scenes
from bouncegrad.plots.picture import check_format
from bouncegrad.scenes import DataError, read_part
from bouncegrad.scenes.layout import has_motion
from bouncegrad.scenes.writing import check_folder, whole_files
from bouncegrad.structures.layout import to_matrix

DRAWN = 3
"""Scenes on a picture: enough to see that they differ, few enough to read."""


def evaluate(
    model: Model,
    data: str | os.PathLike[str],
    part: str | None = None,
    prior: str = "auto",
    mode: Mode = "search",
) -> Score:
    """Score a model on one split of a folder or on a ``.npz``, graphs read under a prior and in a mode.

    Errors are in the unit that the data name (:func:`bouncegrad.fit.error_unit`), else in that of the model's training
    scenes.
    """
    scenes = read_part(data, part)
    return score(model, scenes, error_unit(data), prior=prior, mode=mode)


RELATION_FILES = (".csv", ".parquet", ".npz")


def infer_file(
    model: Model,
    data: str | os.PathLike[str],
    part: str,
    out: str | os.PathLike[str],
    mode: Mode = "search",
    picture: str | os.PathLike[str] | None = None,
    prior: str = "auto",
) -> str:
    """Infer the relations of all scenes in a mode, under a prior, and write them; returns a line that says so.

    ``.csv``, ``.parquet``: a row for each ordered pair with the most probable kind and the probability of every kind.
    ``.npz``: ``relations`` ``[scene, receiver, sender]`` (-1 on the diagonal and beside absent entities),
    ``probabilities`` ``[scene, receiver, sender, kind]`` and ``losses`` ``[scene]`` (NaN in mode "proposal", which
    computes none).
    The picture, if there is to be one, shows the graphs of the first :data:`DRAWN` scenes.

    Raises:
        DataError: another file type, or a place that cannot be written.
        ValueError: a mode for which the model has no network.
    """
    place = Path(out)
    if place.suffix not in RELATION_FILES:
        raise DataError(
            f"relations are written as .csv, .parquet or .npz, got {place.name!r}: choose one of these endings"
        )
    check_folder(place.parent)
    if picture is not None:
        check_format(Path(picture))
    scenes = read_part(data, part)
    posterior = infer(model, scenes, prior=prior, mode=mode)
    with whole_files(place.parent) as folder:
        if place.suffix != ".npz":
            write_table(relation_table(posterior, scenes), folder / place.name)
        else:
            numpy.savez(
                folder / place.name,
                relations=posterior.relations.masked_fill(~scenes.pairs, -1).numpy(),
                probabilities=posterior.probabilities.numpy(),
                losses=posterior.losses.numpy(),
            )
    weakest = weakest_kind(model, scenes)
    shown = min(DRAWN, scenes.num_scenes)
    if picture is not None:
        draw_graphs(scenes, range(shown), Answer(posterior.relations, weakest), picture)
    remark = "every kind acts" if weakest is None else f"kind {weakest} does next to nothing"
    belief = f", read under the prior {posterior.prior}" if mode == "search" else ""
    which = "all of them" if shown == scenes.num_scenes else f"the first {shown} of them"
    drawn = f"; {picture} shows {which}" if picture is not None else ""
    return f"{place}: relations of {scenes.num_scenes} scenes{belief}; {remark}{drawn}"


@dataclass(frozen=True, slots=True)
class Span:
    """What to predict: ``num_steps`` samples after sample ``start`` (-1 = the last)."""

    start: int
    num_steps: int


def predict_file(
    model: Model,
    data: str | os.PathLike[str],
    part: str,
    span: Span,
    out: str | os.PathLike[str],
    prior: str = "auto",
) -> str:
    """Infer relations from the samples up to the start, roll on, and write a ``.npz`` of scenes; returns a line.

    ``loc`` and ``vel``, or ``states`` of other features, are what is predicted; ``edges`` are the inferred kinds;
    ``mask`` is False for entities that were not measured at the start, or in the model's history before it. A single
    step is followed by a sample that nobody measured, because there are no scenes of one sample.

    Raises:
        DataError: another file type, a start outside the scenes, or too few samples up to it.
    """
    place = Path(out)
    if place.suffix != ".npz":
        raise DataError(f"predictions are written as .npz, got {place.name!r}: choose that ending")
    if span.num_steps < 1:
        raise DataError(f"expected at least one step to predict, got {span.num_steps}")
    check_folder(place.parent)
    scenes = read_part(data, part)
    scenes, start = placed(model, scenes, span.start)
    seen, observed = measured_at(scenes, start, model.config.network.history), scenes.between(0, start + 1)
    posterior = infer(model, observed, prior=prior)
    predicted = predict(model, scenes, posterior.structures, start=start, num_steps=span.num_steps)
    there = _two_or_more(seen[:, None].expand(-1, span.num_steps, -1))
    clean = _two_or_more(predicted).masked_fill(~there[..., None], 0)
    loc, vel = clean.swapaxes(2, 3).chunk(2, 2) if scenes.num_features > 1 else (clean, clean)
    arrays = {"loc": loc, "vel": vel} if has_motion(scenes.feature_names) else {"states": clean}
    arrays |= {
        "edges": posterior.relations.double().masked_fill(~observed.pairs, math.nan),
        "mask": there,
    } | ({} if scenes.exogenous is None else {"exogenous": scenes.exogenous})
    names = {word: getattr(scenes, word) for word in ("feature_names", "entity_names", "scene_names", "names")}
    meta = {"time_step": scenes.time_step, "meta": json.dumps({key: value for key, value in names.items() if value})}
    with whole_files(place.parent) as folder:
        numpy.savez(folder / place.name, **{name: array.numpy() for name, array in arrays.items()}, **meta)
    ahead = "1 sample (and an empty one: mask)" if span.num_steps == 1 else f"{span.num_steps} samples"
    return f"{place}: {ahead} after sample {start} of {scenes.num_scenes} scenes"


def _two_or_more(samples: Shaped[Tensor, "scene time *rest"]) -> Shaped[Tensor, "scene time *rest"]:
    """With an empty sample behind a single one."""
    return samples if samples.shape[1] > 1 else torch.cat([samples, torch.zeros_like(samples)], 1)


def draw(
    model: Model, data: str | os.PathLike[str], part: str | None, found: Score, picture: str | os.PathLike[str]
) -> None:
    """Draw three scenes: what was seen, what was inferred, what was predicted and what happened."""
    scenes = read_part(data, part)
    chosen = scenes.at(range(min(DRAWN, scenes.num_scenes)))
    structures = found.posterior.structures[: chosen.num_scenes]
    predicted = predict(model, chosen, structures, start=found.num_observed, num_steps=max(STEPS))
    answer = Answer(
        kinds=to_matrix(structures, scenes.num_entities),
        none_kind=weakest_kind(model, scenes),
        predicted=predicted,
        num_observed=found.num_observed + 1,
    )
    draw_scenes(chosen, range(chosen.num_scenes), answer, picture)


def draw_calibration(found: Score, picture: str | os.PathLike[str]) -> None:
    """Draw how far the probabilities of a score can be believed.

    Raises:
        DataError: the scenes had no labels.
    """
    if found.reliability is None:
        raise DataError("whether probabilities can be believed is seen beside labels: bring scenes with relations")
    draw_reliability(found.reliability, picture)
