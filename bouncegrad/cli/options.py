"""What a verb of the command is, and the options that several verbs share.

A verb is one file: its options, what it does with them, and what it prints. Its ``VERB`` is a :class:`Verb`, which
:data:`bouncegrad.cli.VERBS` lists.
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
"""Scenes on a picture: enough to see that they differ, few enough to read."""

DATA_HELP = """where the scenes lie: a folder in the NRI layout (loc_train_*.npy, vel_train_*.npy, edges optional;
likewise valid and test), one .npz with the arrays loc and vel [scene, time, dimension, entity] and, optionally,
edges, or what bouncegrad table writes; or a tidy table (.csv, .parquet) whose columns bouncegrad table would guess"""


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb of the command.

    Attributes:
        name: the word that asks for it.
        summary: what it does, in the list of all verbs.
        description: what it does, above its options, with an example or two.
        add_options: gives its options to a parser.
        run: does it with the options given, and prints what came of it.
        defaults: the defaults that depend on the words of the command line, option -> value.
    """

    name: str
    summary: str
    description: str
    add_options: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], None]
    defaults: Callable[[Sequence[str]], Mapping[str, Any]] = lambda _: {}

    def parser(self, words: Sequence[str]) -> ArgumentParser:
        """The parser of its options, with the defaults that belong to the words of the command line."""
        parser = new_parser(self.description)
        self.add_options(parser)
        parser.set_defaults(dict(self.defaults(words)))
        return parser


class _HelpFormatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keep the line breaks of descriptions."""


def new_parser(description: str, **options: Any) -> ArgumentParser:
    """A parser without options, which raises where the words cannot be parsed."""
    return ArgumentParser(
        description=description, formatter_class=_HelpFormatter, exit_on_error=False, allow_abbrev=False, **options
    )


def add_model(parser: ArgumentParser) -> None:
    """``--model``: a model that was fitted before."""
    parser.add_argument(
        "--model",
        type=str,
        required=True,
        help=f"a run folder, the model folder in it, or a ready model: {', '.join(pretrained_names())}",
    )


def add_data(parser: ArgumentParser) -> None:
    """``--data``: where the scenes are."""
    parser.add_argument("--data", type=str, required=True, help=DATA_HELP)


def add_split(parser: ArgumentParser) -> None:
    """``--split``: which of the scenes of a folder."""
    parser.add_argument("--split", type=str, default="test", help="which set of a folder")


def add_prior(parser: ArgumentParser) -> None:
    """``--prior``: of latent graphs."""
    parser.add_argument(
        "--prior",
        choices=["auto", *PRIORS],
        default="auto",
        help="prior over latent graphs; auto: the one with the most evidence on held-out scenes of the training",
    )


def add_mode(parser: ArgumentParser) -> None:
    """``--mode``: how latent graphs are inferred."""
    parser.add_argument(
        "--mode",
        choices=list(MODES),
        default="search",
        help="search: the posterior of graphs under the model; proposal: the output of its proposal network, at once; "
        "both: a short search that the network leads (the last two need a fit that trained one, such as alet2019)",
    )


def add_device(parser: ArgumentParser) -> None:
    """``--device``: where networks compute."""
    parser.add_argument("--device", type=str, default="cpu", help="where networks compute: cpu, cuda or cuda:N")


def add_json(parser: ArgumentParser) -> None:
    """``--json``: figures for programs."""
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def add_picture(parser: ArgumentParser, what: str) -> None:
    """``--picture``: a file to draw something to."""
    parser.add_argument("--picture", type=str, help=f"also draw {what}")


def add_quiet(parser: ArgumentParser, effect: str = "no progress") -> None:
    """``--quiet``: no progress on stderr."""
    parser.add_argument("--quiet", action="store_true", help=effect)


def first_scenes(data: str, part: str, number: int | None) -> Scenes:
    """The first scenes of one split of a folder, or of a ``.npz``; all of them if None.

    Raises:
        DataError: no scene asked for.
    """
    scenes = read_part(data, part)
    if number is None:
        return scenes
    if number < 1:
        raise DataError(f"expected one scene or more, got {number}")
    return scenes.at(range(min(number, scenes.num_scenes)))
