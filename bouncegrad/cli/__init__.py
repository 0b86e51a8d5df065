"""The command ``bouncegrad``: one verb for each stage of the pipeline, and no logic of its own."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from jsonargparse import ArgumentError

from bouncegrad.cli.arguments import parser_for
from bouncegrad.cli.verbs import VERBS

ERROR_STATUS, INTERRUPTED_STATUS = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, or 2 with one clear line where the input cannot be used."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = " ".join(["bouncegrad", *(word for word in words[:1] if word in VERBS)])
    try:
        parser = parser_for(words)
        options = parser.instantiate(parser.parse_args(words))
        VERBS[options.verb](options[options.verb])
    except ArgumentError as error:
        print(f"{name}: error: {_plain(_one_line(error))}; see {name} --help", file=sys.stderr)
        return ERROR_STATUS
    except (ValueError, OSError) as error:
        print(f"{name}: error: {_one_line(error)}", file=sys.stderr)
        return ERROR_STATUS
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        print(f"{name}: error: not enough memory ({_one_line(error)}): ask for less at once", file=sys.stderr)
        return ERROR_STATUS
    except KeyboardInterrupt:
        print(f"{name}: stopped; what was finished is kept", file=sys.stderr)
        return INTERRUPTED_STATUS
    return 0


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _plain(message: str) -> str:
    """The parser's words for options and types, as a user knows them."""
    message = re.sub(r'Parser key "([\w.]+)"', r"--\1", message)
    message = re.sub(rf"\b(?:{'|'.join(VERBS)})\.(\w+)", r"--\1", message)
    return re.sub(r"<class '(\w+)'>", r"\1", message).replace("a typing.Literal", "one of ")
