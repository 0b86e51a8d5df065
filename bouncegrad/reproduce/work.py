"""Computation of a row: simulate its scenes, train its model, compute its figures, write its result."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bouncegrad.devices import Device, device_named
from bouncegrad.fit import RunConfig, fit_folder
from bouncegrad.models.model import Model
from bouncegrad.reproduce.functions import FUNCTIONS, Order, Watch, unit_of
from bouncegrad.reproduce.readings import read
from bouncegrad.reproduce.result import Result, check_same, hardware, path_of, read_result, write_result
from bouncegrad.reproduce.rows import METHODS, SCALES, Row
from bouncegrad.scenes import read_meta, read_scenes, write_folder
from bouncegrad.scenes.writing import check_folder, whole_files
from bouncegrad.simulate.dataset import SimulationRequest, simulate_folder
from bouncegrad.training import EpochReport
from bouncegrad.training.run_folder import versions


@dataclass(frozen=True, slots=True)
class Places:
    """Folders and device of a reproduction.

    Attributes:
        results: folder to keep: a JSON file for each row, tables, figures.
        work: folder of scenes and run folders, which can be computed again.
        device: device of the networks (:mod:`bouncegrad.devices`).

    Raises:
        ValueError: a device that does not exist.
    """

    results: Path
    work: Path
    device: Device = "cpu"

    def __post_init__(self) -> None:
        device_named(self.device)

    def run_of(self, row: Row) -> Path:
        """The run folder of a row."""
        return self.work / row.scale / row.name


def there_already(row: Row, places: Places, again: bool = False) -> Result | None:
    """The existing result of a row, or None.

    Raises:
        DataError: a damaged file, or a result with other settings than the row has now.
        ValueError: a row with an unknown recipe.
    """
    path = path_of(places.results, row)
    row.settings()  # raises for unknown recipes, before any long computation
    if again or not path.exists():
        return None
    found = read_result(path)
    check_same(path, found, row)
    return found


def do_row(row: Row, places: Places, watch: Watch | None = None, again: bool = False) -> Result:
    """Compute a row, or resume it after an interrupt, and write its result.

    Args:
        row: the row.
        places: folders and device.
        watch: called after each epoch of a training.
        again: discard its run folder first.

    Raises:
        DataError: scenes or folders that cannot be used.
        ValueError: a method that this version does not have.
    """
    check_folder(places.results)
    run, recipe = places.run_of(row), row.recipe()
    if again:
        shutil.rmtree(run, ignore_errors=True)
    data = scenes_of(row, places.work)
    with _metered(run / "spent.json") as meter:
        if recipe is None:
            order = Order(row.seed, row.num_passes, meter.watching(watch), places.device)
            figures = FUNCTIONS[str(METHODS[row.method].function)](data, run / "run", order)
        else:
            config = RunConfig(str(data), METHODS[row.method].trainings[row.scale].recipe, recipe, None, row.seed)
            model = fit_folder(config, run / "run", meter.watching(watch), places.device)
            figures = _readings(row, model, data)
    result = Result(
        row=row.name,
        method=row.method,
        system=row.system,
        scale=row.scale,
        seed=row.seed,
        scenes=row.scenes,
        passes=row.num_passes,
        seconds=round(meter.seconds, 1),
        cpu_seconds=round(meter.cpu_seconds, 1),
        threads=torch.get_num_threads(),
        hardware=hardware(places.device),
        versions=versions(),
        settings=json.loads(json.dumps(row.settings())),
        figures={reading: dict(found) for reading, found in figures.items()},
    )
    write_result(path_of(places.results, row), result)
    return result


def _readings(row: Row, model: Model, data: Path) -> dict[str, dict[str, Any]]:
    """The figures of a model for every reading of the method."""
    scenes, unit = read_scenes(data, "test"), unit_of(data)
    return {reading: read(reading, model, scenes, unit) for reading in METHODS[row.method].readings}


def scenes_of(row: Row, work: Path) -> Path:
    """Folder of the scenes of a row: the first ones of the canonical set, simulated once for all rows."""
    scale = SCALES[row.scale]
    counts = scale.counts(scale.num_train)
    all_scenes = work / "scenes" / f"{row.system}_{row.scale}"
    if not _is_complete(all_scenes, counts):
        simulate_folder(SimulationRequest(row.system[:-1], int(row.system[-1]), counts, canonical=True), all_scenes)
    if row.num_scenes == scale.num_train:
        return all_scenes
    first = all_scenes.with_name(f"{all_scenes.name}_{row.num_scenes}")
    if not _is_complete(first, row.scenes):
        chosen = {split: range(count) for split, count in row.scenes.items() if count}
        splits = {split: read_scenes(all_scenes, split).at(which) for split, which in chosen.items()}
        write_folder(first, splits, row.system, read_meta(all_scenes))
    return first


def _is_complete(folder: Path, counts: Mapping[str, int]) -> bool:
    """Whether all splits have velocities, which are written last."""
    return all(any(folder.glob(f"vel_{split}_*.npy")) for split, count in counts.items() if count)


class Meter:
    """Wall-clock and CPU seconds of a row, stored after each epoch so that they survive an interrupt."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds, self.cpu_seconds = json.loads(path.read_text()) if path.exists() else (0.0, 0.0)
        self._last = time.monotonic(), time.process_time()

    def count(self) -> None:
        """Add the time since the last call, and write the sums to the file."""
        now = time.monotonic(), time.process_time()
        self.seconds += now[0] - self._last[0]
        self.cpu_seconds += now[1] - self._last[1]
        self._last = now
        with whole_files(self.path.parent) as temporary:
            (temporary / self.path.name).write_text(json.dumps([self.seconds, self.cpu_seconds]))

    def watching(self, watch: Watch | None) -> Watch:
        """A callback that counts after each epoch, then calls ``watch``."""

        def after(report: EpochReport) -> None:
            self.count()
            if watch:
                watch(report)

        return after


@contextmanager
def _metered(path: Path) -> Iterator[Meter]:
    meter = Meter(path)
    try:
        yield meter
    finally:
        meter.count()
