"""The command ``bouncegrad``: one verb, in one file, for each stage of the pipeline; the logic is in the library."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from jsonargparse import ArgumentError, ArgumentParser

from bouncegrad.cli import evaluate, fit, hidden, infer, predict, reproduce, simulate, table, trust
from bouncegrad.cli.options import Verb, new_parser
from bouncegrad.version import __version__

_FILES = simulate, table, fit, infer, predict, evaluate, reproduce, hidden, trust
VERBS: dict[str, Verb] = {file.VERB.name: file.VERB for file in _FILES}

DESCRIPTION = """\
Relational inference from trajectories: who acts on whom, with which edge type, and what happens next.

A complete session:
  bouncegrad simulate springs --train 500 --valid 100 --test 200 --out data/springs5
  bouncegrad fit --data data/springs5 --out runs/springs5
  bouncegrad evaluate --model runs/springs5 --data data/springs5
  bouncegrad infer --model runs/springs5 --data data/springs5 --out relations.csv
  bouncegrad predict --model runs/springs5 --data data/springs5 --steps 20 --out future.npz

Published tables, on small data:
  bouncegrad reproduce table2 --system springs5 --rows fast
"""

ERROR_STATUS, INTERRUPTED_STATUS = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, 130 when interrupted, 2 with a one-line error for bad input."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = " ".join(["bouncegrad", *(word for word in words[:1] if word in VERBS)])
    try:
        parser = _parser_for(words)
        options = parser.instantiate(parser.parse_args(words))
        VERBS[options.verb].run(options[options.verb])
    except ArgumentError as error:
        print(f"{name}: error: {_plain(_one_line(error))}; see {name} --help", file=sys.stderr)
        return ERROR_STATUS
    except (ValueError, OSError) as error:
        print(f"{name}: error: {_one_line(error)}", file=sys.stderr)
        return ERROR_STATUS
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        print(
            f"{name}: error: not enough memory ({_one_line(error)}): reduce the number or size of scenes or networks",
            file=sys.stderr,
        )
        return ERROR_STATUS
    except KeyboardInterrupt:
        print(f"{name}: stopped; what was finished is kept", file=sys.stderr)
        return INTERRUPTED_STATUS
    return 0


def _parser_for(words: Sequence[str]) -> ArgumentParser:
    """The parser of all verbs; some defaults depend on ``words``, the arguments of the command line."""
    parser = new_parser(DESCRIPTION, prog="bouncegrad", version=__version__)
    verbs = parser.add_subcommands(required=True, dest="verb")
    for verb in VERBS.values():
        verbs.add_subcommand(verb.name, verb.parser(words), help=verb.summary)
    return parser


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _plain(message: str) -> str:
    """An error message of the parser, with options and types as a user writes them."""
    message = re.sub(r'Parser key "([\w.]+)"', r"--\1", message)
    message = re.sub(rf"\b(?:{'|'.join(VERBS)})\.(\w+)", r"--\1", message)
    return re.sub(r"<class '(\w+)'>", r"\1", message).replace("a typing.Literal", "one of ")
