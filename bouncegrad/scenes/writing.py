"""Atomic writing of files: a file is replaced as a whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bouncegrad.scenes.record import DataError

PREFIX = ".writing-"
"""Prefix of the names of temporary folders; a killed process leaves one behind."""


def check_folder(folder: str | os.PathLike[str]) -> None:
    """Check that files can be written in ``folder``, without creating it, before a long computation.

    Raises:
        DataError: it, or the nearest folder above it that exists, is a file or may not be written.
    """
    target = Path(folder)
    nearest = next(place for place in (target, *target.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise DataError(f"cannot write in {target}: {nearest} is a file; choose a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise DataError(f"cannot write in {target}: {nearest} is not writable; choose a folder that is")


@contextmanager
def whole_files(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary folder whose files move to ``folder`` when the block ends, and vanish when it fails.

    Each file is replaced by one ``os.replace``: a reader sees the old one or the new one, never half of one.
    ``folder`` is created where it does not exist.

    Raises:
        DataError: ``folder`` cannot be created or written, or the disk is full.
    """
    target = Path(folder)
    check_folder(target)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=PREFIX, dir=target) as temporary:
            yield Path(temporary)
            for path in sorted(Path(temporary).iterdir()):
                os.replace(path, target / path.name)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"cannot write in {target}: {reason}; choose a folder that is writable and has room") from error
