"""What each verb of the command does: a stage of the pipeline, and what is printed of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from jsonargparse import Namespace

from bouncegrad.cli import seek, stages, tabulate
from bouncegrad.cli.progress import fit_progress, progress
from bouncegrad.cli.text import hidden_table, posterior_table, score_table
from bouncegrad.fit import RunConfig, fit_folder
from bouncegrad.models.checkpoint import load_model
from bouncegrad.plots import draw_meanings
from bouncegrad.recipes import recipe_named
from bouncegrad.reproduce import Places, Request, reproduce, rewrite_results
from bouncegrad.scenes import TableColumns
from bouncegrad.scenes.tables import Reading
from bouncegrad.simulate.dataset import SimulationRequest, simulate_folder
from bouncegrad.trust import examine_file


def _simulate(options: Namespace) -> None:
    request = SimulationRequest(
        system=options.system,
        num_entities=options.entities,
        counts={"train": options.train, "valid": options.valid, "test": options.test},
        canonical=options.canonical,
        strengths=tuple(options.strengths) if options.strengths else None,
        directed=options.directed,
        density=options.density,
        noise=options.noise,
        seed=options.seed,
    )
    print(simulate_folder(request, options.out, progress=sys.stderr.isatty()))


def _table(options: Namespace) -> None:
    columns = TableColumns(
        scene=options.scene,
        time=options.time,
        entity=options.entity,
        features=tuple(options.features or ()),
        entity_type=options.type,
        role=options.role,
        exogenous=tabulate.exogenous_rule(options.exogenous),
    )
    reading = Reading(options.time_step, options.resample, options.interpolate, options.velocities)
    request = tabulate.TableRequest(tuple(options.sources), columns, reading, options.relations)
    print(tabulate.tabulate_file(request, options.out))


def _fit(options: Namespace) -> None:
    recipe_named(options.recipe)
    config = RunConfig(options.data, options.recipe, options.settings, options.minutes, options.seed, options.kinds)
    with fit_progress(quiet=options.quiet) as watch:
        model = fit_folder(config, options.out, watch, options.device)
    if model.kinds is not None:
        print(model.kinds)
    print(f"the run is in {options.out}, its model in {Path(options.out) / 'model'}")


def _infer(options: Namespace) -> None:
    given = options.data, options.split, options.out, options.mode, options.picture, options.prior
    print(stages.infer_file(load_model(options.model, options.device), *given))


def _predict(options: Namespace) -> None:
    span = stages.Span(options.start, options.steps)
    given = options.data, options.split, span, options.out, options.prior
    print(stages.predict_file(load_model(options.model, options.device), *given))


def _evaluate(options: Namespace) -> None:
    model = load_model(options.model, options.device)
    found = stages.evaluate(model, options.data, options.split, options.prior, options.mode)
    print(json.dumps(found.to_dict()) if options.json else score_table(found))
    if options.picture:
        stages.draw(model, options.data, options.split, found, options.picture)
    if options.reliability:
        stages.draw_calibration(found, options.reliability)


def _reproduce(options: Namespace) -> None:
    if options.target == "results":
        print(f"{rewrite_results(options.out, options.document)}: all results in {options.out}")
        return
    request = Request(options.target, options.scale, tuple(options.system), tuple(options.rows or ()), options.again)
    places = Places(Path(options.out), Path(options.work), options.device)
    for line in reproduce(request, places, lambda: fit_progress(quiet=options.quiet)):
        print(line, flush=True)


def _hidden(options: Namespace) -> None:
    model, hide = load_model(options.model), tuple(options.hide or ())
    request = seek.HiddenRequest(options.data, options.split, hide, options.number, options.scenes, options.calibration)
    if hide:
        score = seek.score_covered(model, request)
        found, figures, text = score.posterior, score.to_dict(), hidden_table(score)
    else:
        found = seek.find_hidden_file(model, request)
        figures, text = seek.hidden_summary(model, request, found), posterior_table(found)
    print(json.dumps(figures) if options.json else text)
    if options.picture:
        seek.draw_hidden(model, request, found, options.picture)


def _trust(options: Namespace) -> None:
    model = load_model(options.model, options.device)
    with progress("reading", quiet=options.quiet) as told:
        found = examine_file(model, options.data, options.split, options.scenes, options.shuffles, told)
    print(json.dumps(found.to_dict()) if options.json else found)
    if options.picture:
        draw_meanings(found.meanings, options.picture)


VERBS: dict[str, Callable[[Namespace], None]] = {
    "simulate": _simulate,
    "table": _table,
    "fit": _fit,
    "infer": _infer,
    "predict": _predict,
    "evaluate": _evaluate,
    "reproduce": _reproduce,
    "hidden": _hidden,
    "trust": _trust,
}
