"""The verb ``trust``: test whether the relations that a model infers in scenes can be trusted."""

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
    parser.add_argument("--scenes", type=int, default=200, help="look at so many scenes, the first ones")
    parser.add_argument("--shuffles", type=int, default=19, help="sets of surrogate scenes; p is 1 / (N + 1) or more")
    add_device(parser)
    add_json(parser)
    add_picture(parser, "what each kind does against distance (.png, .pdf, .svg)")
    add_quiet(parser)


def _run(options: Namespace) -> None:
    model = load_model(options.model, options.device)
    with progress("reading", quiet=options.quiet) as told:
        scenes = first_scenes(options.data, options.split, options.scenes)
        found = examine(model, scenes, options.shuffles, watch=told)
    print(json.dumps(found.to_dict()) if options.json else found)
    if options.picture:
        draw_meanings(found.meanings, options.picture)


VERB = Verb(
    name="trust",
    summary="say whether the answers of a model on scenes can be trusted",
    description=(
        "Say whether the answers of a model on scenes can be trusted, without labels: whether there are relations\n"
        "at all (a permutation test against surrogate scenes, whose tracks come from different scenes), whether the\n"
        "model fits, and what each edge type does.\n\n"
        "Example:\n"
        "  bouncegrad trust --model runs/springs5 --data data/springs5 --picture kinds.png"
    ),
    add_options=_add_options,
    run=_run,
)
