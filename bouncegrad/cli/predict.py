"""The verb ``predict``: predict the next states of scenes by a rollout."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from jaxtyping import Shaped
from jsonargparse import ArgumentParser, Namespace
from torch import Tensor

from bouncegrad.cli.options import Verb, add_data, add_device, add_model, add_prior, add_split
from bouncegrad.inference import infer, measured_at, place_start, predict
from bouncegrad.models.checkpoint import load_model
from bouncegrad.models.model import Model
from bouncegrad.scenes import DataError, read_part
from bouncegrad.scenes.layout import has_motion
from bouncegrad.scenes.writing import check_folder, whole_files


def _add_options(parser: ArgumentParser) -> None:
    add_model(parser)
    add_data(parser)
    add_split(parser)
    parser.add_argument(
        "--start", type=int, default=-1, help="sample from which the rollout starts, numbered from 0; -1 = the last"
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=20,
        help="number of samples to predict; a single one is padded with an empty sample",
    )
    parser.add_argument("--out", type=str, required=True, help="file of predicted states, .npz in the NRI layout")
    add_prior(parser)
    add_device(parser)


def _run(options: Namespace) -> None:
    given = options.data, options.split, Span(options.start, options.steps), options.out, options.prior
    print(predict_file(load_model(options.model, options.device), *given))


@dataclass(frozen=True, slots=True)
class Span:
    """The samples to predict: ``num_steps`` after sample ``start`` (-1 = the last)."""

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
    """Infer relations from the samples up to the start, predict by a rollout, and write scenes; returns a summary.

    The ``.npz`` has ``loc`` and ``vel``, or ``states`` of other features: the predicted states; ``edges``: the inferred
    edge types; ``mask``: False for entities that were not measured at the start, or in the model's history before it. A
    single step is followed by an empty sample (mask False), because scenes have at least two samples.

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
    scenes, start = place_start(model, scenes, span.start)
    seen, observed = measured_at(scenes, start, model.config.network.history), scenes.between(0, start + 1)
    posterior = infer(model, observed, prior=prior)
    predicted = predict(model, scenes, posterior.structures, start=start, num_steps=span.num_steps)
    mask = _two_or_more(seen[:, None].expand(-1, span.num_steps, -1))
    clean = _two_or_more(predicted).masked_fill(~mask[..., None], 0)
    loc, vel = clean.swapaxes(2, 3).chunk(2, 2) if scenes.num_features > 1 else (clean, clean)
    arrays = {"loc": loc, "vel": vel} if has_motion(scenes.feature_names) else {"states": clean}
    arrays |= {
        "edges": posterior.relations.double().masked_fill(~observed.pairs, math.nan),
        "mask": mask,
    } | ({} if scenes.exogenous is None else {"exogenous": scenes.exogenous})
    names = {word: getattr(scenes, word) for word in ("feature_names", "entity_names", "scene_names", "names")}
    meta = {"time_step": scenes.time_step, "meta": json.dumps({key: value for key, value in names.items() if value})}
    with whole_files(place.parent) as folder:
        numpy.savez(folder / place.name, **{name: array.numpy() for name, array in arrays.items()}, **meta)
    ahead = "1 sample (and an empty one: mask)" if span.num_steps == 1 else f"{span.num_steps} samples"
    return f"{place}: {ahead} after sample {start} of {scenes.num_scenes} scenes"


def _two_or_more(samples: Shaped[Tensor, "scene time *rest"]) -> Shaped[Tensor, "scene time *rest"]:
    """The samples; a single one is padded with an empty sample."""
    return samples if samples.shape[1] > 1 else torch.cat([samples, torch.zeros_like(samples)], 1)


VERB = Verb(
    name="predict",
    summary="predict what happens next in scenes",
    description=(
        "Infer relations from the samples up to the start, then predict by a rollout from there.\n\n"
        "Example: predict 20 samples after the last one of each scene\n"
        "  bouncegrad predict --model runs/springs5 --data data/springs5 --steps 20 --out future.npz"
    ),
    add_options=_add_options,
    run=_run,
)
