"""The verb ``fit``: train edge modules on scenes without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentParser, Namespace

from bouncegrad.cli.options import Verb, add_data, add_device, add_quiet
from bouncegrad.cli.progress import fit_progress
from bouncegrad.fit import RunConfig, fit_folder
from bouncegrad.recipes import RECIPES, Recipe, recipe_named


def _add_options(parser: ArgumentParser) -> None:
    parser.usage = (
        "bouncegrad fit --data DATA --out OUT [--recipe NAME] [--kinds K] [--minutes M] [--seed S]\n"
        "                      [--device DEVICE] [--settings.PART VALUE]"
    )
    parser.add_argument("--config", action="config", help="a YAML file of these options, such as config.yaml of a run")
    add_data(parser)
    parser.add_argument("--out", type=str, required=True, help="the run folder")
    parser.add_argument("--recipe", type=str, default="fast", help=f"the training recipe: {', '.join(sorted(RECIPES))}")
    parser.add_argument(
        "--kinds",
        type=int | Literal["auto"] | None,
        help="number of edge types at the start; those that are not needed are merged; auto: a few "
        "(default: as many as the recipe has, none of which are merged)",
    )
    parser.add_argument("--minutes", type=float, help="training time (default: the recipe's number of epochs)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness")
    add_device(parser)
    add_quiet(parser)
    parser.add_argument("--settings", type=Recipe, help="settings of the recipe")


def _defaults(words: Sequence[str]) -> Mapping[str, Any]:
    """The settings of the chosen recipe, as defaults of the options ``--settings.*``."""
    return {"settings": asdict(RECIPES.get(_chosen_recipe(words), Recipe()))}


def _chosen_recipe(words: Sequence[str]) -> str:
    """The recipe named on the command line or in a --config file."""
    options = dict(pairwise(words)) | dict(word.split("=", 1) for word in words if "=" in word)
    try:
        file_recipe = str(yaml.safe_load(Path(options["--config"]).read_text())["recipe"])
    except UnicodeDecodeError as error:
        raise ValueError(f"--config {options['--config']} is no text: give a YAML file of options") from error
    except (KeyError, TypeError, OSError, yaml.YAMLError):  # the parser reports these errors itself
        return options.get("--recipe", "fast")
    if options.get("--recipe", file_recipe) != file_recipe:
        raise ValueError(
            f"--recipe {options['--recipe']} but the --config file has recipe {file_recipe}: leave one of them out"
        )
    return file_recipe


def _run(options: Namespace) -> None:
    recipe_named(options.recipe)
    config = RunConfig(options.data, options.recipe, options.settings, options.minutes, options.seed, options.kinds)
    with fit_progress(quiet=options.quiet) as watch:
        model = fit_folder(config, options.out, watch, options.device)
    if model.kinds is not None:
        print(model.kinds)
    print(f"the run is in {options.out}, its model in {Path(options.out) / 'model'}")


VERB = Verb(
    name="fit",
    summary="train edge modules on scenes without labels",
    description=(
        "Train a library of edge modules on scenes without labels. The run folder holds the configuration, logs,\n"
        "checkpoint, model and summary; the same command on the same folder resumes an interrupted run.\n\n"
        "Examples:\n"
        "  bouncegrad fit --data data/springs5 --out runs/springs5 --minutes 10\n"
        "  bouncegrad fit --config runs/springs5/config.yaml --seed 1 --out runs/springs5-again\n"
        "  bouncegrad fit --data data/charged5 --out runs/charged5 --settings.model.network.hidden 128"
    ),
    add_options=_add_options,
    run=_run,
    defaults=_defaults,
)
