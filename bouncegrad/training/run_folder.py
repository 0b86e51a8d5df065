"""The run folder: configuration, log, checkpoint and result of a fit, from which an interrupted fit resumes.

``config.yaml`` (the effective configuration), ``versions.json``, ``log.jsonl`` and TensorBoard events (one entry per
epoch), ``checkpoint.safetensors`` (to resume from), ``model/`` (the best weights), ``summary.json`` (figures on scenes
that were not trained on).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import numpy
import torch
import yaml
from torch.utils.tensorboard.writer import SummaryWriter

from bouncegrad.devices import gpu_of
from bouncegrad.evaluation.score import Score
from bouncegrad.models.checkpoint import load_tensors, save_tensors
from bouncegrad.models.edge_kinds import KindsReport
from bouncegrad.scenes import DataError, Scenes
from bouncegrad.scenes.writing import PREFIX, whole_files
from bouncegrad.training import EpochReport
from bouncegrad.training.trainer import Trainer
from bouncegrad.version import __version__

CHECKPOINT, LOG, SUMMARY, SETTINGS = "checkpoint.safetensors", "log.jsonl", "summary.json", "config.yaml"


class RunRecord(Protocol):
    """The configuration of a run, as a run folder stores it: a dataclass of settings with at least these two fields."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def data(self) -> str:
        """Path of the data, or their fingerprint."""
        ...

    @property
    def minutes(self) -> float | None:
        """How long to train; None: for a number of epochs."""
        ...


Watch = Callable[[EpochReport], None]
"""Called with the report of each epoch."""


@dataclass(frozen=True, slots=True)
class InMemory:
    """Carries trainings out without writing anything.

    Attributes:
        minutes: how long to train; None: for the number of epochs in the settings of the training.
        watch: called after each epoch.
    """

    minutes: float | None = None
    watch: Watch | None = None

    def train(self, trainer: Trainer[Any, Any]) -> None:
        """Train to the end."""
        for report in trainer.passes(self.minutes):
            if self.watch:
                self.watch(report)

    def stage(self, name: str) -> InMemory:
        """A later stage of the same fit; its length is its number of epochs."""
        del name
        return replace(self, minutes=None)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Carries trainings out in a folder, from which they resume.

    Attributes:
        path: the folder; created where it does not exist.
        config: configuration of the run; a folder that holds another configuration is refused.
        data: the :func:`fingerprint` of the training and held-out scenes.
        watch: called after each epoch.
    """

    path: Path
    config: RunRecord
    data: str
    watch: Watch | None = None

    def train(self, trainer: Trainer[Any, Any]) -> None:
        """Train to the end, from the checkpoint in the folder if there is one.

        Args:
            trainer: a new trainer; the checkpoint is loaded into it.

        Raises:
            DataError: a folder that cannot be written, or that holds another run.
        """
        elapsed = _open(self.path, self.config, trainer, self.data)
        with SummaryWriter(str(self.path), purge_step=trainer.num_passes_done + 1) as board:
            for report in trainer.passes(self.config.minutes, elapsed):
                _log(self.path, board, report)
                _save(self.path, trainer, {"elapsed": report.seconds, "scenes": self.data})
                if self.watch:
                    self.watch(report)

    def stage(self, name: str) -> RunFolder:
        """A later stage of the same fit, in a subfolder; its length is its number of epochs."""
        return replace(self, path=self.path / name, config=replace(cast(Any, self.config), minutes=None))


Run = InMemory | RunFolder
"""Where trainings are carried out: in memory or in a run folder."""


def write_summary(folder: str | os.PathLike[str], found: Score, kinds: KindsReport | None = None) -> None:
    """Write ``summary.json``: the figures and, where edge types were tested, the report of those that were merged."""
    merged = {} if kinds is None else {"kinds": {**kinds.to_dict(), "said": str(kinds)}}
    _write_text(Path(folder), SUMMARY, json.dumps(found.to_dict() | merged, indent=2) + "\n")


def _open(folder: Path, config: RunRecord, trainer: Trainer[Any, Any], scenes: str) -> float:
    """Start a run, or resume the one in the folder; returns the seconds that it has already taken."""
    _check_same(folder, config)
    _clear_unfinished(folder)
    if not (folder / CHECKPOINT).exists():
        machine = ", ".join([platform.machine(), f"{os.cpu_count()} cores", *gpu_of(trainer.model)])
        _write_text(folder, SETTINGS, _settings(asdict(config)))
        _write_text(folder, "versions.json", json.dumps(versions() | {"machine": machine}, indent=2) + "\n")
        _write_text(folder, LOG, "")
        return 0.0
    tensors, meta = load_tensors(folder / CHECKPOINT)
    if meta.get("scenes") != scenes:
        raise DataError(
            f"{folder} holds a run on other scenes than those that are at {config.data} now: "
            "bring the old ones back, or choose another --out"
        )
    trainer.load_state(tensors, meta["trainer"])
    _cut_log(folder, trainer.num_passes_done)
    return float(meta["elapsed"])


def _settings(values: Any, version: str = f"# bouncegrad {__version__}") -> str:
    return f"{version}\n" + yaml.safe_dump(values, sort_keys=False)


def _check_same(folder: Path, config: RunRecord) -> None:
    """Refuse a folder that holds a run of another configuration."""
    if not any((folder / name).exists() for name in (CHECKPOINT, SETTINGS)):
        return
    text = (folder / SETTINGS).read_text() if (folder / SETTINGS).exists() else ""
    stored, asked = _as_of_now(text, config).splitlines(), _settings(asdict(config)).splitlines()
    if stored != asked:
        first = next((line.strip() for line in stored if line not in asked), "nothing")
        instead = next((line.strip() for line in asked if line not in stored), "nothing")
        raise DataError(
            f"{folder} holds a run of another configuration (its {SETTINGS} has {first!r} where {instead!r} was asked "
            "for): choose another --out, or delete that folder to start again"
        )


def _as_of_now(text: str, config: RunRecord) -> str:
    """Stored settings, completed by defaults (the old behaviour) for settings that are newer than the folder."""
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return _settings(_completed(values, config), text.split("\n", 1)[0]) if isinstance(values, dict) else text


def _completed(values: Any, record: Any) -> Any:
    """The values of a dataclass of settings in the order of its fields, then those that are no fields of it."""
    if not is_dataclass(record) or not isinstance(values, dict):
        return values
    found = {}
    for each in fields(record):
        default = each.default if each.default_factory is MISSING else each.default_factory()
        if each.name in values:
            found[each.name] = _completed(values[each.name], getattr(record, each.name))
        elif is_dataclass(default) and not isinstance(default, type):
            found[each.name] = asdict(default)
        elif default is not MISSING:
            found[each.name] = default
    return found | {name: value for name, value in values.items() if name not in found}


def _clear_unfinished(folder: Path) -> None:
    """Remove temporary files that a killed process left."""
    for place in folder.glob(f"{PREFIX}*"):
        shutil.rmtree(place, ignore_errors=True)


def fingerprint(*sets: Scenes) -> str:
    """SHA-256 checksum of the states and masks of scenes; labels are not part of it."""
    digest = hashlib.sha256()
    for scenes in sets:
        for values in (scenes.states, scenes.mask):
            digest.update(values.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _save(folder: Path, trainer: Trainer[Any, Any], meta: dict[str, Any]) -> None:
    tensors, own = trainer.state()
    save_tensors(folder / CHECKPOINT, tensors, {"trainer": own, **meta})


def _log(folder: Path, board: SummaryWriter, report: EpochReport) -> None:
    entry = asdict(report)
    with (folder / LOG).open("a") as file:
        file.write(json.dumps(entry) + "\n")
    for name, value in entry.items():
        if isinstance(value, int | float) and name != "number":
            board.add_scalar(name, value, report.number)


def _cut_log(folder: Path, num_passes: int) -> None:
    """Remove epochs from the log that came after the checkpoint: they will be done again."""
    lines = (folder / LOG).read_text().splitlines()[:num_passes]
    _write_text(folder, LOG, "".join(line + "\n" for line in lines))


def _write_text(folder: Path, name: str, text: str) -> None:
    with whole_files(folder) as temporary:
        (temporary / name).write_text(text)


def versions() -> dict[str, str]:
    """Versions of the package, Python, PyTorch and NumPy."""
    return {
        "bouncegrad": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }
