"""Run a command again and again, killing it each time, until one run may end: ``python killed.py JSON``.

A process of its own, because it forks: every attempt is a fresh copy that starts with all libraries loaded.
The JSON holds ``words`` (of the command), ``deaths`` (what ends each attempt: seconds to live, or the name of a file
that is half written when the process dies), ``log`` (a file whose lines are counted at each death). Prints what
happened.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from bouncegrad.cli import main


def die_while_writing(name: str) -> None:
    whole = Path.write_bytes

    def half(path: Path, content: bytes) -> int:
        if path.name != name or not (path.parent.parent / name).exists():
            return whole(path, content)
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    Path.write_bytes = half


def attempt(words: list[str], death: float | str | None) -> int:
    """Returns the exit status, negative for a signal."""
    process = os.fork()
    if process == 0:
        if isinstance(death, str):
            die_while_writing(death)
        os._exit(main(words))
    if isinstance(death, float):
        time.sleep(death)
        os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def num_lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def run(words: list[str], deaths: list[float | str], log: str) -> dict[str, object]:
    statuses, lines = [], []
    for death in deaths:
        statuses.append(attempt(words, death))
        lines.append(num_lines(Path(log)))
    begin = time.monotonic()
    end = attempt(words, None)
    return {"statuses": statuses, "lines": lines, "end": end, "seconds": time.monotonic() - begin}


if __name__ == "__main__":
    print(json.dumps(run(**json.loads(sys.argv[1]))))
