"""The verb ``trust``: test without labels whether a model is reliable on scenes."""

from __future__ import annotations

import json

from jsonargparse import ArgumentParser, Namespace

from bouncegrad.cli.options import (
    Verb,
    add_data,
    add_device,
    add_json,
    add_model,
    add_picture,
    add_quiet,
    add_split,
    first_scenes,
)
from bouncegrad.cli.progress import progress
from bouncegrad.models.checkpoint import load_model
from bouncegrad.plots import draw_meanings
from bouncegrad.trust import examine


def _add_options(parser: ArgumentParser) -> None:
    add_model(parser)
    add_data(parser)
    add_split(parser)
    parser.add_argument("--scenes", type=int, default=200, help="use only the first so many scenes")
    parser.add_argument(
        "--shuffles",
        type=int,
        default=19,
        help="number N of sets of surrogate scenes of the permutation test; p is at least 1 / (N + 1)",
    )
    add_device(parser)
    add_json(parser)
    add_picture(parser, "the effect of each edge type against distance (.png, .pdf, .svg)")
    add_quiet(parser)


def _run(options: Namespace) -> None:
    model = load_model(options.model, options.device)
    with progress("reading", quiet=options.quiet) as report_fn:
        scenes = first_scenes(options.data, options.split, options.scenes)
        found = examine(model, scenes, options.shuffles, watch=report_fn)
    print(json.dumps(found.to_dict()) if options.json else found)
    if options.picture:
        draw_meanings(found.meanings, options.picture)


VERB = Verb(
    name="trust",
    summary="test whether a model is reliable on scenes",
    description=(
        "Test without labels whether a model is reliable on scenes: whether there are relations at all (a permutation\n"
        "test against surrogate scenes, whose trajectories come from different scenes), whether the model fits, and\n"
        "what effect each edge type has.\n\n"
        "Example:\n"
        "  bouncegrad trust --model runs/springs5 --data data/springs5 --picture kinds.png"
    ),
    add_options=_add_options,
    run=_run,
)
