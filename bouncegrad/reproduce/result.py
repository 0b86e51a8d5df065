"""The result of a row: figures, settings and versions, in one self-contained JSON file."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from bouncegrad.devices import Device, gpu_named
from bouncegrad.recipes import Recipe
from bouncegrad.reproduce.rows import Row
from bouncegrad.scenes import DataError
from bouncegrad.scenes.writing import whole_files


@dataclass(frozen=True, slots=True)
class Result:
    """Figures of one row, and their provenance.

    Attributes:
        row: name of the row.
        method: name of the method.
        system: ``springs5`` or ``charged5``.
        scale: ``small``, ``full`` or ``canonical``.
        seed: seed of all randomness.
        scenes: split -> number of scenes.
        passes: number of epochs; None for a method without epochs.
        seconds: wall-clock time, without interruptions.
        cpu_seconds: CPU time, summed over threads.
        threads: number of threads of torch.
        hardware: GPU, if one was used, processor and number of cores.
        versions: versions of Python and packages.
        settings: all settings that determine the result.
        figures: reading -> ``relation_accuracy``, ``mse``, ``calibration_error``, ..., as far as available.
    """

    row: str
    method: str
    system: str
    scale: str
    seed: int
    scenes: dict[str, int]
    passes: int | None
    seconds: float
    cpu_seconds: float
    threads: int
    hardware: str
    versions: dict[str, str]
    settings: dict[str, Any]
    figures: dict[str, dict[str, Any]]

    @property
    def num_scenes(self) -> int:
        """Number of training scenes."""
        return self.scenes["train"]


def path_of(folder: Path, row: Row) -> Path:
    """Path of the result of a row."""
    return folder / row.scale / f"{row.name}.json"


def write_result(path: Path, result: Result) -> None:
    """Write a result; the file is replaced atomically.

    Raises:
        DataError: a path that cannot be written.
    """
    with whole_files(path.parent) as temporary:
        (temporary / path.name).write_text(json.dumps(asdict(result), indent=1, allow_nan=False) + "\n")


def read_result(path: Path) -> Result:
    """The inverse of :func:`write_result`.

    Raises:
        DataError: the file cannot be read, or does not hold a result.
    """
    remedy = "restore it, or delete it to have the row done again"
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): {remedy}") from error
    expected = {field.name for field in fields(Result)}
    if not isinstance(found, dict) or found.keys() != expected:
        names = set(found) if isinstance(found, dict) else set()
        difference = ", ".join(sorted(names ^ expected)) if names else f"a {type(found).__name__}"
        raise DataError(f"{path} is no result of a row (missing or unknown: {difference}): {remedy}")
    if not all(isinstance(found[name], dict) for name in ("scenes", "versions", "settings", "figures")):
        raise DataError(f"{path} is no result of a row (scenes, versions, settings, figures must be objects): {remedy}")
    return Result(**found)


def read_results(folder: Path) -> list[Result]:
    """All results below a folder, in the order of their names.

    Raises:
        DataError: one of them cannot be read.
    """
    return [read_result(path) for path in sorted(folder.glob("*/*.json"))]


def check_same(path: Path, found: Result, row: Row) -> None:
    """Check that a result has the settings that the row has now.

    A setting that is missing in the result, because it was added later, must now have its default value.

    Raises:
        DataError: a setting differs; the message names the first one.
    """
    before = {"scenes": found.scenes, **found.settings}
    now = json.loads(json.dumps({"scenes": row.scenes, **row.settings()}))
    default = json.loads(json.dumps({"recipe": asdict(Recipe())}))
    difference = _difference(before, now, default)
    if difference:
        raise DataError(
            f"{path} was computed with other settings ({difference}): restore them, or compute it again with --again"
        )


MISSING = "nothing"


def _difference(before: Any, now: Any, default: Any, name: str = "") -> str:
    """Text for the first setting that differs; empty where none does."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for word in [*before, *(word for word in now if word not in before)]:
            usual = default.get(word, MISSING) if isinstance(default, Mapping) else MISSING
            parts = before.get(word, usual), now.get(word, MISSING)
            found = _difference(*parts, usual, f"{name}.{word}" if name else word)
            if found:
                return found
        return ""
    return "" if before == now else f"{name}: {before!r} then, {now!r} now"


def hardware(device: Device = "cpu") -> str:
    """Text for the GPU, if one is used, the processor, as far as the system reports it, and the number of cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return "; ".join([*gpu_named(torch.device(device)), f"{model}, {os.cpu_count()} cores"])
