"""What can be said to each verb of the command."""

from __future__ import annotations

from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter

from bouncegrad.cli.stages import DRAWN
from bouncegrad.inference import MODES
from bouncegrad.models.checkpoint import pretrained_names
from bouncegrad.recipes import RECIPES, Recipe
from bouncegrad.reproduce import TARGETS
from bouncegrad.reproduce.rows import SYSTEMS
from bouncegrad.structures.priors import PRIORS
from bouncegrad.version import __version__

DESCRIPTION = """\
Who acts on whom, in which way, and what happens next: from trajectories alone.

A whole session:
  bouncegrad simulate springs --train 500 --valid 100 --test 200 --out data/springs5
  bouncegrad fit --data data/springs5 --out runs/springs5
  bouncegrad evaluate --model runs/springs5 --data data/springs5
  bouncegrad infer --model runs/springs5 --data data/springs5 --out relations.csv
  bouncegrad predict --model runs/springs5 --data data/springs5 --steps 20 --out future.npz

The tables of the literature, on small data:
  bouncegrad reproduce table2 --system springs5 --rows fast
"""

DATA_HELP = """where the scenes lie: a folder in the NRI layout (loc_train_*.npy, vel_train_*.npy, edges optional;
likewise valid and test), one .npz with the arrays loc and vel [scene, time, dimension, entity] and, optionally,
edges, or what bouncegrad table writes; or a tidy table (.csv, .parquet) whose columns bouncegrad table would guess"""


class _HelpFormatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keep the line breaks of descriptions."""


def _new_parser(description: str, **options: Any) -> ArgumentParser:
    return ArgumentParser(
        description=description, formatter_class=_HelpFormatter, exit_on_error=False, allow_abbrev=False, **options
    )


def parser_for(words: Sequence[str]) -> ArgumentParser:
    """The parser of the whole command; of ``words`` it needs to know beforehand which recipe is to be changed."""
    parser = _new_parser(DESCRIPTION, prog="bouncegrad", version=__version__)
    verbs = parser.add_subcommands(required=True, dest="verb")
    verbs.add_subcommand("simulate", _simulate_parser(), help="make scenes whose relations are known")
    verbs.add_subcommand("table", _table_parser(), help="make scenes of tables of trajectories")
    verbs.add_subcommand("fit", _fit_parser(words), help="learn modules and relations from scenes")
    verbs.add_subcommand("infer", _infer_parser(), help="say who acts on whom in scenes")
    verbs.add_subcommand("predict", _predict_parser(), help="say what happens next in scenes")
    verbs.add_subcommand("evaluate", _evaluate_parser(), help="score a model on scenes it has not seen")
    verbs.add_subcommand("reproduce", _reproduce_parser(), help="do the rows of the tables of the literature")
    verbs.add_subcommand("hidden", _hidden_parser(), help="find entities that nobody saw")
    verbs.add_subcommand("trust", _trust_parser(), help="say whether a model can be believed on scenes")
    return parser


def _simulate_parser() -> ArgumentParser:
    parser = _new_parser(
        "Simulate particles in a box and write them in the NRI folder layout, relations beside them.\n\n"
        "Example: scenes whose relations are one-sided, to see that directions are told apart\n"
        "  bouncegrad simulate springs --directed --entities 4 --train 500 --valid 100 --test 200 --out data/directed4"
    )
    parser.add_argument("system", choices=["springs", "charged"], help="what acts between the particles")
    parser.add_argument("--entities", type=int, default=5, help="particles in a scene")
    parser.add_argument("--train", type=int, default=1000, help="scenes to learn from (49 samples)")
    parser.add_argument("--valid", type=int, default=200, help="scenes to choose by (49 samples)")
    parser.add_argument("--test", type=int, default=300, help="scenes to score on (99 samples)")
    parser.add_argument("--out", type=str, required=True, help="folder to write")
    parser.add_argument(
        "--canonical",
        action="store_true",
        help="the first scenes of each split of the published data sets (Kipf et al. 2018), draw for draw",
    )
    parser.add_argument("--strengths", type=float, nargs="+", help="springs: the strength of each kind (default: 0 1)")
    parser.add_argument("--directed", action="store_true", help="springs: draw each direction of a pair on its own")
    parser.add_argument("--density", type=float, help="springs: share of pairs that act (default: all strengths alike)")
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation of the observation noise")
    parser.add_argument("--seed", type=int, default=0, help="of all randomness (canonical scenes have their own)")
    return parser


def _table_parser() -> ArgumentParser:
    parser = _new_parser(
        "Make scenes of tables in which a row is one entity of one scene at one time. Columns that are not named are\n"
        "guessed; what is guessed, derived and dropped is said.\n\n"
        "Examples:\n"
        "  bouncegrad table walks.csv --out walks.npz\n"
        "  bouncegrad table cars.parquet --out cars.npz --features speed --exogenous position=min --time-step 1 "
        "--resample mean"
    )
    parser.add_argument("sources", type=str, nargs="+", help="files or patterns of files: .csv, .tsv or .parquet")
    parser.add_argument("--out", type=str, required=True, help="scenes to write, as .npz")
    parser.add_argument("--scene", type=str, help="column of the recording (default: guessed; none: a file is one)")
    parser.add_argument("--time", type=str, help="column of the time, numbers or dates (default: guessed)")
    parser.add_argument("--entity", type=str, help="column of who was measured (default: guessed)")
    parser.add_argument("--features", type=str, nargs="+", help="columns of what was measured (default: guessed)")
    parser.add_argument("--type", type=str, help="column of what sort of entity it is")
    parser.add_argument("--role", type=str, help="column that is exogenous, true or 1 for those who follow nobody")
    parser.add_argument(
        "--exogenous",
        type=str,
        help="COLUMN=VALUE of those who follow nobody: position=1, or position=min for the least of each scene",
    )
    parser.add_argument("--relations", type=str, help="a table with the columns scene, receiver, sender, relation")
    parser.add_argument("--time-step", type=float, help="from one time to the next (default: that of the table)")
    parser.add_argument("--resample", choices=["mean", "linear", "nearest"], help="how samples come to these times")
    parser.add_argument("--interpolate", type=int, default=0, help="fill gaps of at most so many samples")
    parser.add_argument(
        "--velocities",
        choices=["auto", "derive", "none"],
        default="auto",
        help="auto: derive those that the positions lack; derive: derive all; none: only what the table has",
    )
    return parser


def _fit_parser(words: Sequence[str]) -> ArgumentParser:
    parser = _new_parser(
        "Learn a library of modules from scenes, relations unknown. The run folder holds the configuration, logs,\n"
        "checkpoint, model and summary; the same command on the same folder resumes an interrupted run.\n\n"
        "Examples:\n"
        "  bouncegrad fit --data data/springs5 --out runs/springs5 --minutes 10\n"
        "  bouncegrad fit --config runs/springs5/config.yaml --seed 1 --out runs/springs5-again\n"
        "  bouncegrad fit --data data/charged5 --out runs/charged5 --settings.model.network.hidden 128",
        usage="bouncegrad fit --data DATA --out OUT [--recipe NAME] [--kinds K] [--minutes M] [--seed S]\n"
        "                      [--device DEVICE] [--settings.PART VALUE]",
    )
    parser.add_argument("--config", action="config", help="a YAML file of these options, such as a run's config.yaml")
    parser.add_argument("--data", type=str, required=True, help=DATA_HELP)
    parser.add_argument("--out", type=str, required=True, help="the run folder")
    parser.add_argument("--recipe", type=str, default="fast", help=f"the method: {', '.join(sorted(RECIPES))}")
    parser.add_argument(
        "--kinds",
        type=int | Literal["auto"] | None,
        help="kinds of relation to begin with, of which those that are not needed are merged; auto: a few "
        "(default: as many as the recipe has, all of which stay)",
    )
    parser.add_argument("--minutes", type=float, help="learn for so long (default: the recipe's number of passes)")
    parser.add_argument("--seed", type=int, default=0, help="of all randomness")
    _add_device(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress")
    name = _chosen_recipe(words)
    parser.add_argument("--settings", type=Recipe, default=RECIPES.get(name, Recipe()), help="parts of the recipe")
    return parser


def _chosen_recipe(words: Sequence[str]) -> str:
    """The recipe named on the command line or in a --config file: its settings are the defaults to show and change."""
    options = dict(pairwise(words)) | dict(word.split("=", 1) for word in words if "=" in word)
    try:
        filed = str(yaml.safe_load(Path(options["--config"]).read_text())["recipe"])
    except UnicodeDecodeError as error:
        raise ValueError(f"--config {options['--config']} is no text: give a YAML file of options") from error
    except (KeyError, TypeError, OSError, yaml.YAMLError):  # the parser itself says what is wrong with it
        return options.get("--recipe", "fast")
    if options.get("--recipe", filed) != filed:
        raise ValueError(f"--recipe {options['--recipe']} but the --config file has recipe {filed}: drop one of them")
    return filed


def _infer_parser() -> ArgumentParser:
    parser = _reading_parser(
        "Infer who acts on whom, with probabilities. Relations in the data are not looked at.\n\n"
        "Example:\n"
        "  bouncegrad infer --model runs/springs5 --data data/springs5 --out relations.csv"
    )
    parser.add_argument(
        "--out", type=str, required=True, help="relations to write: .csv or .parquet (a row a pair), or .npz"
    )
    parser.add_argument(
        "--picture", type=str, help=f"also draw the graphs of the first {DRAWN} scenes (.png, .pdf, .svg)"
    )
    _add_prior(parser)
    _add_mode(parser)
    _add_device(parser)
    return parser


def _predict_parser() -> ArgumentParser:
    parser = _reading_parser(
        "Infer relations from the samples up to the start, then roll on from there.\n\n"
        "Example: what comes after the last sample of each scene\n"
        "  bouncegrad predict --model runs/springs5 --data data/springs5 --steps 20 --out future.npz"
    )
    parser.add_argument("--start", type=int, default=-1, help="sample to start from, counted from 0; -1 = the last")
    parser.add_argument("--steps", type=int, default=20, help="samples to predict; an empty one follows one alone")
    parser.add_argument("--out", type=str, required=True, help="the predicted states, as .npz in the NRI layout")
    _add_prior(parser)
    _add_device(parser)
    return parser


def _evaluate_parser() -> ArgumentParser:
    parser = _reading_parser(
        "Score a model: relation accuracy under one relabelling of all scenes, error at 1, 10 and 20 steps,\n"
        "confusion and calibration. Structure is inferred from the first 49 samples, prediction starts at the next.\n\n"
        "Example:\n"
        "  bouncegrad evaluate --model runs/springs5 --data data/springs5 --json"
    )
    _add_prior(parser)
    _add_mode(parser)
    _add_device(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument(
        "--picture", type=str, help=f"also draw tracks and graphs of the first {DRAWN} scenes (.png, .pdf, .svg)"
    )
    parser.add_argument("--reliability", type=str, help="also draw how often answers are right, by how sure they are")
    return parser


def _reproduce_parser() -> ArgumentParser:
    parser = _new_parser(
        "Do the missing rows of a table of the literature and write it with the published values beside ours.\n"
        "A row that is done is kept, one that was interrupted goes on. Scenes are those of the published data sets.\n"
        "The target results only writes RESULTS.md again, from all rows that are done.\n\n"
        "Examples:\n"
        "  bouncegrad reproduce table1 --system springs5 --rows static fast\n"
        "  bouncegrad reproduce figure3\n"
        "  bouncegrad reproduce results"
    )
    parser.add_argument("target", choices=[*TARGETS, "results"], help="table 1: predictions, 2: relations; figure 3")
    parser.add_argument(
        "--scale",
        choices=["small", "full"],
        default="small",
        help="small: 1,000 scenes, up to 30 minutes a row; full: the published 50,000, which want a GPU",
    )
    parser.add_argument(
        "--system", choices=SYSTEMS, nargs="+", default=list(SYSTEMS), help="which scenes to learn from"
    )
    parser.add_argument("--rows", type=str, nargs="+", help="which methods, by name (default: all of the table)")
    parser.add_argument("--out", type=str, default="experiments/results/reproduce", help="folder of results to write")
    parser.add_argument("--work", type=str, default="runs/reproduce", help="folder of scenes and runs, to resume from")
    parser.add_argument("--document", type=str, default="RESULTS.md", help="what the target results writes")
    _add_device(parser)
    parser.add_argument("--again", action="store_true", help="forget what was done of these rows and do them again")
    parser.add_argument("--quiet", action="store_true", help="no progress of single trainings")
    return parser


def _hidden_parser() -> ArgumentParser:
    parser = _reading_parser(
        "Find entities that were never seen by what they do to those that were: their tracks, with bands, and their\n"
        "relations. With --hide an entity of the data is covered, found, and compared with what it really did.\n\n"
        "Examples:\n"
        "  bouncegrad hidden --model runs/springs5 --data data/springs5 --hide 0 --scenes 20 --picture hidden.png\n"
        "  bouncegrad hidden --model runs/springs5 --data data/four.npz --json > hidden.json"
    )
    parser.add_argument("--hide", type=int, nargs="+", help="entities to cover, counted from 0 (default: none)")
    parser.add_argument("--number", type=int, default=1, help="how many to look for where none are covered")
    parser.add_argument("--scenes", type=int, help="look at so many scenes, the first ones (default: all)")
    parser.add_argument(
        "--calibration",
        type=int,
        help="cover an entity in so many scenes of the split valid and widen the bands until they hold there; 0: as "
        "wide as the modules say, which is too narrow (default: 20 where a folder has them)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--picture", type=str, help="also draw what is foretold without and with them")
    return parser


def _trust_parser() -> ArgumentParser:
    parser = _reading_parser(
        "Say whether a model can be believed on scenes, without labels: whether there are relations at all (beside\n"
        "scenes of strangers, whose tracks come from different scenes), whether the model fits, and what each kind of\n"
        "relation does.\n\n"
        "Example:\n"
        "  bouncegrad trust --model runs/springs5 --data data/springs5 --picture kinds.png"
    )
    parser.add_argument("--scenes", type=int, default=200, help="look at so many scenes, the first ones")
    parser.add_argument(
        "--shuffles", type=int, default=19, help="sets of scenes of strangers; p is 1 / (N + 1) or more"
    )
    _add_device(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--picture", type=str, help="also draw what each kind does against distance (.png, .pdf, .svg)")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    return parser


def _add_prior(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--prior",
        choices=["auto", *PRIORS],
        default="auto",
        help="what to believe of graphs beforehand; auto: what held-out scenes of the training gave most evidence for",
    )


def _add_mode(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--mode",
        choices=list(MODES),
        default="search",
        help="search: the posterior of graphs under the model; proposal: what its proposal network thinks, at once; "
        "both: a short search that the network leads (the last two need a fit that trained one, such as alet2019)",
    )


def _add_device(parser: ArgumentParser) -> None:
    parser.add_argument("--device", type=str, default="cpu", help="where networks compute: cpu, cuda or cuda:N")


def _reading_parser(description: str) -> ArgumentParser:
    parser = _new_parser(description)
    parser.add_argument(
        "--model",
        type=str,
        required=True,
        help=f"a run folder, the model folder in it, or a ready model: {', '.join(pretrained_names())}",
    )
    parser.add_argument("--data", type=str, required=True, help=DATA_HELP)
    parser.add_argument("--split", type=str, default="test", help="which set of a folder")
    return parser
