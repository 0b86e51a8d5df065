"""What was found in a row, as a JSON file that stands for itself."""

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
    """Figures of one row, and where they come from.

    Attributes:
        row: its name.
        method: how it was done.
        system: ``springs5`` or ``charged5``.
        scale: ``small``, ``full`` or ``canonical``.
        seed: of all randomness.
        scenes: split -> number of scenes.
        passes: over the training scenes; None for what is not trained by passes.
        seconds: that all of it took, interruptions left out.
        cpu_seconds: of all threads.
        threads: that torch used.
        hardware: GPU, if there was one, processor and number of cores.
        versions: of what it ran on.
        settings: all that decided what it would be.
        figures: reading -> ``relation_accuracy``, ``mse``, ``calibration_error``, ..., as far as there are any.
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
        """Scenes to learn from."""
        return self.scenes["train"]


def path_of(folder: Path, row: Row) -> Path:
    """Where the result of a row lies."""
    return folder / row.scale / f"{row.name}.json"


def write_result(path: Path, result: Result) -> None:
    """Write a result, whole or not at all.

    Raises:
        DataError: a place that cannot be written.
    """
    with whole_files(path.parent) as temporary:
        (temporary / path.name).write_text(json.dumps(asdict(result), indent=1, allow_nan=False) + "\n")


def read_result(path: Path) -> Result:
    """The inverse of :func:`write_result`.

    Raises:
        DataError: the file cannot be read, or is no result.
    """
    remedy = "restore it, or delete it to have the row done again"
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): {remedy}") from error
    wanted = {field.name for field in fields(Result)}
    if not isinstance(found, dict) or found.keys() != wanted:
        there = set(found) if isinstance(found, dict) else set()
        strange = ", ".join(sorted(there ^ wanted)) if there else f"a {type(found).__name__}"
        raise DataError(f"{path} is no result of a row (missing or strange: {strange}): {remedy}")
    if not all(isinstance(found[name], dict) for name in ("scenes", "versions", "settings", "figures")):
        raise DataError(f"{path} is no result of a row (scenes, versions, settings or figures hold no words): {remedy}")
    return Result(**found)


def read_results(folder: Path) -> list[Result]:
    """All results below a folder, in the order of their names.

    Raises:
        DataError: one of them cannot be read.
    """
    return [read_result(path) for path in sorted(folder.glob("*/*.json"))]


def check_same(path: Path, found: Result, row: Row) -> None:
    """Refuse a result that was found with other settings than the row has now.

    Settings that did not exist when it was found must be at their default now: those that are added later change
    nothing unless they are set.

    Raises:
        DataError: naming the first setting that differs.
    """
    there = {"scenes": found.scenes, **found.settings}
    asked = json.loads(json.dumps({"scenes": row.scenes, **row.settings()}))
    default = json.loads(json.dumps({"recipe": asdict(Recipe())}))
    difference = _difference(there, asked, default)
    if difference:
        raise DataError(
            f"{path} was found with other settings ({difference}): put them back, or do the row again with --again"
        )


MISSING = "nothing"


def _difference(there: Any, asked: Any, default: Any, name: str = "") -> str:
    """The first setting that is not the same, in words; empty where all are."""
    if isinstance(there, Mapping) and isinstance(asked, Mapping):
        for word in [*there, *(word for word in asked if word not in there)]:
            usual = default.get(word, MISSING) if isinstance(default, Mapping) else MISSING
            before, now = there.get(word, usual), asked.get(word, MISSING)
            found = _difference(before, now, usual, f"{name}.{word}" if name else word)
            if found:
                return found
        return ""
    return "" if there == asked else f"{name}: {there!r} there, {asked!r} now"


def hardware(device: Device = "cpu") -> str:
    """The processor, as far as the system tells, its cores, and the GPU if one was used."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return "; ".join([*gpu_named(torch.device(device)), f"{model}, {os.cpu_count()} cores"])
