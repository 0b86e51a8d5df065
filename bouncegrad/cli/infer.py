"""The verb ``infer``: infer the edge type of each ordered pair of entities, with probabilities."""

from __future__ import annotations

import os
from pathlib import Path

import numpy
from jsonargparse import ArgumentParser, Namespace

from bouncegrad.cli.options import (
    DRAWN,
    Verb,
    add_data,
    add_device,
    add_mode,
    add_model,
    add_picture,
    add_prior,
    add_split,
)
from bouncegrad.export import relation_table, write_table
from bouncegrad.inference import Mode, infer, weakest_kind
from bouncegrad.models.checkpoint import load_model
from bouncegrad.models.model import Model
from bouncegrad.plots import Answer, draw_graphs
from bouncegrad.plots.picture import check_format
from bouncegrad.scenes import DataError, read_part
from bouncegrad.scenes.writing import check_folder, whole_files

RELATION_FILES = (".csv", ".parquet", ".npz")


def _add_options(parser: ArgumentParser) -> None:
    add_model(parser)
    add_data(parser)
    add_split(parser)
    parser.add_argument(
        "--out",
        type=str,
        required=True,
        help="file of relations to write: .csv or .parquet (one row per ordered pair), or .npz",
    )
    add_picture(parser, f"the graphs of the first {DRAWN} scenes (.png, .pdf, .svg)")
    add_prior(parser)
    add_mode(parser)
    add_device(parser)


def _run(options: Namespace) -> None:
    given = options.data, options.split, options.out, options.mode, options.picture, options.prior
    print(infer_file(load_model(options.model, options.device), *given))


def infer_file(
    model: Model,
    data: str | os.PathLike[str],
    part: str,
    out: str | os.PathLike[str],
    mode: Mode = "search",
    picture: str | os.PathLike[str] | None = None,
    prior: str = "auto",
) -> str:
    """Infer the relations of all scenes in a mode, under a prior, and write them; returns a one-line summary.

    ``.csv``, ``.parquet``: one row per ordered pair with the columns ``scene``, ``receiver``, ``sender``, ``kind`` (the
    most probable edge type) and ``probability_0``, ``probability_1``, ... (of every edge type).
    ``.npz``: ``relations`` ``[scene, receiver, sender]`` (-1 on the diagonal and for absent entities),
    ``probabilities`` ``[scene, receiver, sender, kind]`` and ``losses`` ``[scene]`` (NaN in mode "proposal", which
    computes none).
    The picture, if requested, shows the graphs of the first :data:`DRAWN` scenes.

    Raises:
        DataError: another file type, or a path that cannot be written.
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
    remark = "every edge type has an effect" if weakest is None else f"edge type {weakest} has almost no effect"
    prior_text = f", under the prior {posterior.prior}" if mode == "search" else ""
    which = "all of them" if shown == scenes.num_scenes else f"the first {shown} of them"
    drawn = f"; {picture} shows {which}" if picture is not None else ""
    return f"{place}: relations of {scenes.num_scenes} scenes{prior_text}; {remark}{drawn}"


VERB = Verb(
    name="infer",
    summary="infer who acts on whom in scenes",
    description=(
        "Infer the edge type of each ordered pair, with probabilities. Labels in the data are not used.\n\n"
        "Example:\n"
        "  bouncegrad infer --model runs/springs5 --data data/springs5 --out relations.csv"
    ),
    add_options=_add_options,
    run=_run,
)
