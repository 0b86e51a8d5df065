"""The record of a verb of the command, and the options that several verbs share.

A verb is one file with its options, its action and its output. Its ``VERB`` is a :class:`Verb`;
:data:`bouncegrad.cli.VERBS` lists all of them.
"""

from __future__ import annotations

from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from bouncegrad.inference import MODES
from bouncegrad.models.checkpoint import pretrained_names
from bouncegrad.scenes import DataError, Scenes, read_part
from bouncegrad.structures.priors import PRIORS

DRAWN = 3
"""Number of scenes in a picture: enough to show differences, few enough to read."""

DATA_HELP = """path of the scenes: a folder in the NRI layout (loc_train_*.npy, vel_train_*.npy, edges optional;
likewise valid and test); one .npz with the arrays loc and vel [scene, time, dimension, entity] and, optionally,
edges, or written by bouncegrad table; or a tidy table (.csv, .parquet) whose columns bouncegrad table can guess"""


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb of the command.

    Attributes:
        name: word on the command line.
        summary: line in the list of all verbs.
        description: text above the options in the help of the verb, with one or two examples.
        add_options: adds the options to a parser.
        run: executes the verb with parsed options, and prints its output.
        defaults: arguments of the command line -> defaults that depend on them, option -> value.
    """

    name: str
    summary: str
    description: str
    add_options: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], None]
    defaults: Callable[[Sequence[str]], Mapping[str, Any]] = lambda _: {}

    def parser(self, words: Sequence[str]) -> ArgumentParser:
        """The parser of the options, with the defaults that depend on ``words``, the arguments of the command line."""
        parser = new_parser(self.description)
        self.add_options(parser)
        parser.set_defaults(dict(self.defaults(words)))
        return parser


class _HelpFormatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Formatter of help texts that keeps the line breaks of descriptions."""


def new_parser(description: str, **options: Any) -> ArgumentParser:
    """A parser without options, which raises an exception on errors instead of exiting."""
    return ArgumentParser(
        description=description, formatter_class=_HelpFormatter, exit_on_error=False, allow_abbrev=False, **options
    )


def add_model(parser: ArgumentParser) -> None:
    """``--model``: a fitted model."""
    parser.add_argument(
        "--model",
        type=str,
        required=True,
        help=f"a run folder, the model folder in it, or a pretrained model: {', '.join(pretrained_names())}",
    )


def add_data(parser: ArgumentParser) -> None:
    """``--data``: path of the scenes."""
    parser.add_argument("--data", type=str, required=True, help=DATA_HELP)


def add_split(parser: ArgumentParser) -> None:
    """``--split``: split of a folder of scenes."""
    parser.add_argument("--split", type=str, default="test", help="split of a folder")


def add_prior(parser: ArgumentParser) -> None:
    """``--prior``: prior over latent graphs."""
    parser.add_argument(
        "--prior",
        choices=["auto", *PRIORS],
        default="auto",
        help="prior over latent graphs; auto: the prior with the most evidence on the held-out scenes of the training",
    )


def add_mode(parser: ArgumentParser) -> None:
    """``--mode``: inference of latent graphs."""
    parser.add_argument(
        "--mode",
        choices=list(MODES),
        default="search",
        help="search: search for the posterior of latent graphs under the model; proposal: output of the proposal "
        "network (amortised inference); both: a short search with proposals of the network (the last two need a "
        "recipe that trains one, such as alet2019)",
    )


def add_device(parser: ArgumentParser) -> None:
    """``--device``: device of the networks."""
    parser.add_argument("--device", type=str, default="cpu", help="device of the networks: cpu, cuda or cuda:N")


def add_json(parser: ArgumentParser) -> None:
    """``--json``: machine-readable output."""
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def add_picture(parser: ArgumentParser, what: str) -> None:
    """``--picture``: file of a picture of ``what``."""
    parser.add_argument("--picture", type=str, help=f"also draw {what}")


def add_quiet(parser: ArgumentParser, effect: str = "no progress") -> None:
    """``--quiet``: no progress on stderr."""
    parser.add_argument("--quiet", action="store_true", help=effect)


def first_scenes(data: str, part: str, number: int | None) -> Scenes:
    """The first ``number`` scenes of one split of a folder, or of a ``.npz``; None: all scenes.

    Raises:
        DataError: ``number`` is below 1.
    """
    scenes = read_part(data, part)
    if number is None:
        return scenes
    if number < 1:
        raise DataError(f"expected one scene or more, got {number}")
    return scenes.at(range(min(number, scenes.num_scenes)))
