"""The verb ``evaluate``: score a model on held-out scenes."""

from __future__ import annotations

import json
import os

from jsonargparse import ArgumentParser, Namespace

from bouncegrad.cli.options import (
    DRAWN,
    Verb,
    add_data,
    add_device,
    add_json,
    add_mode,
    add_model,
    add_picture,
    add_prior,
    add_split,
)
from bouncegrad.cli.text import score_table
from bouncegrad.evaluation.score import STEPS, Score, score
from bouncegrad.fit import error_unit
from bouncegrad.inference import Mode, predict, weakest_kind
from bouncegrad.models.checkpoint import load_model
from bouncegrad.models.model import Model
from bouncegrad.plots import Answer, draw_reliability, draw_scenes
from bouncegrad.scenes import DataError, read_part
from bouncegrad.structures.layout import to_matrix


def _add_options(parser: ArgumentParser) -> None:
    add_model(parser)
    add_data(parser)
    add_split(parser)
    add_prior(parser)
    add_mode(parser)
    add_device(parser)
    add_json(parser)
    add_picture(parser, f"trajectories and graphs of the first {DRAWN} scenes (.png, .pdf, .svg)")
    parser.add_argument("--reliability", type=str, help="also draw a reliability diagram: accuracy against probability")


def _run(options: Namespace) -> None:
    model = load_model(options.model, options.device)
    found = evaluate(model, options.data, options.split, options.prior, options.mode)
    print(json.dumps(found.to_dict()) if options.json else score_table(found))
    if options.picture:
        draw(model, options.data, options.split, found, options.picture)
    if options.reliability:
        draw_calibration(found, options.reliability)


def evaluate(
    model: Model,
    data: str | os.PathLike[str],
    part: str | None = None,
    prior: str = "auto",
    mode: Mode = "search",
) -> Score:
    """Score a model on one split of a folder or on a ``.npz``; latent graphs are inferred under a prior, in a mode.

    Errors are in the unit that the data specify (:func:`bouncegrad.fit.error_unit`), else in that of the model's
    training scenes.
    """
    scenes = read_part(data, part)
    return score(model, scenes, error_unit(data), prior=prior, mode=mode)


def draw(
    model: Model, data: str | os.PathLike[str], part: str | None, found: Score, picture: str | os.PathLike[str]
) -> None:
    """Draw up to :data:`DRAWN` scenes: observed trajectories, inferred graph, prediction and ground truth."""
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
    """Draw the reliability diagram of a score: accuracy against probability.

    Raises:
        DataError: the scenes have no labels.
    """
    if found.reliability is None:
        raise DataError("a reliability diagram compares probabilities with labels: bring scenes with relations")
    draw_reliability(found.reliability, picture)


VERB = Verb(
    name="evaluate",
    summary="score a model on held-out scenes",
    description=(
        "Score a model: relation accuracy under one relabelling of edge types for all scenes, prediction error at 1,\n"
        "10 and 20 steps, confusion matrix and calibration error. The latent graph is inferred from the first 49\n"
        "samples; the rollout starts at the next.\n\n"
        "Example:\n"
        "  bouncegrad evaluate --model runs/springs5 --data data/springs5 --json"
    ),
    add_options=_add_options,
    run=_run,
)
