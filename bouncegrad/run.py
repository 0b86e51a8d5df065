"""A run: one folder that holds all that a fit was given, did and found, and from which it resumes.

``config.yaml`` (the effective configuration), ``versions.json``, ``log.jsonl`` and TensorBoard events (one entry per
pass), ``checkpoint.safetensors`` (to resume from), ``model/`` (the best modules), ``summary.json`` (the figures).
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
import yaml
from torch.utils.tensorboard.writer import SummaryWriter

from bouncegrad.checkpoint import load_tensors, save_model, save_tensors
from bouncegrad.model import Model
from bouncegrad.recipes import HELD_OUT, Recipe, hold_out
from bouncegrad.scenes import DataError, Scenes, read_scenes
from bouncegrad.scenes.writing import whole_files
from bouncegrad.score import Score
from bouncegrad.train import BounceGrad, PassReport
from bouncegrad.version import __version__

CHECKPOINT, LOG, SUMMARY, SETTINGS = "checkpoint.safetensors", "log.jsonl", "summary.json", "config.yaml"


@dataclass(frozen=True, slots=True)
class RunConfig:
    """What a run was asked to do.

    Attributes:
        data: where the scenes lie: a folder or a ``.npz``.
        recipe: the name of the method.
        settings: all that the method is made of.
        minutes: how long to learn; None: for ``settings.training.num_passes`` passes.
        seed: of all randomness.
    """

    data: str
    recipe: str
    settings: Recipe
    minutes: float | None = None
    seed: int = 0


def fit_folder(
    config: RunConfig, out: str | os.PathLike[str], watch: Callable[[PassReport], None] | None = None
) -> Model:
    """Learn from the scenes at ``config.data`` and leave everything in the run folder ``out``.

    A run that was interrupted goes on from its last pass when it is called again with the same configuration, and ends
    in the same bits as if it had not been interrupted (unless ``minutes`` bounds it: seconds are not repeatable).

    Args:
        config: what to do.
        out: the run folder; made where it does not exist.
        watch: called after each pass, for live progress.

    Raises:
        DataError: unusable scenes, an unwritable folder, or a folder that holds a run of another configuration.
    """
    scenes, held_out = training_scenes(config.data, config.seed)
    trainer = BounceGrad(scenes, held_out, config.settings.model, config.settings.training, config.seed)
    folder = Path(out)
    elapsed = _open(folder, config, trainer)
    with SummaryWriter(str(folder)) as board:
        for report in trainer.passes(config.minutes, elapsed):
            _log(folder, board, report)
            _save(folder, trainer, report.seconds)
            if watch:
                watch(report)
    model = trainer.best_model()
    save_model(folder / "model", model)
    return model


def training_scenes(data: str | os.PathLike[str], seed: int) -> tuple[Scenes, Scenes]:
    """The scenes to learn from and those, unlabelled as well, by which the best modules are chosen.

    A folder's ``train`` and ``valid`` splits (of the latter at most 200 scenes). Without ``valid``, and for a ``.npz``,
    a tenth is held out at random; fewer than ten scenes are both.
    """
    place = Path(data)
    train = read_scenes(place, "train" if place.is_dir() else None)
    if place.is_dir() and any(place.glob("loc_valid*.npy")):
        valid = read_scenes(place, "valid")
        return train, valid.at(range(min(HELD_OUT, valid.num_scenes)))
    return hold_out(train, seed)


def write_summary(folder: str | os.PathLike[str], found: Score) -> None:
    """Write ``summary.json``."""
    _write_text(Path(folder), SUMMARY, json.dumps(found.to_dict(), indent=2))


def _open(folder: Path, config: RunConfig, trainer: BounceGrad) -> float:
    """Start a run, or go on with the one that lies there; returns the seconds that it has already had."""
    settings = yaml.safe_dump(_plain(config), sort_keys=False)
    if not (folder / CHECKPOINT).exists():
        _write_text(folder, SETTINGS, settings)
        _write_text(folder, "versions.json", json.dumps(_versions(), indent=2))
        _write_text(folder, LOG, "")
        return 0.0
    if (folder / SETTINGS).read_text() != settings:
        raise DataError(
            f"{folder} holds a run of another configuration (see {SETTINGS} there): "
            "choose another --out, or delete that folder to start again"
        )
    tensors, meta = load_tensors(folder / CHECKPOINT)
    trainer.load_state(tensors, meta["trainer"])
    _cut_log(folder, trainer.num_passes_done)
    return float(meta["elapsed"])


def _save(folder: Path, trainer: BounceGrad, elapsed: float) -> None:
    tensors, meta = trainer.state()
    save_tensors(folder / CHECKPOINT, tensors, {"trainer": meta, "elapsed": elapsed})


def _log(folder: Path, board: SummaryWriter, report: PassReport) -> None:
    entry = asdict(report)
    with (folder / LOG).open("a") as file:
        file.write(json.dumps(entry) + "\n")
    for name, value in entry.items():
        if value is not None and name != "number":
            board.add_scalar(name, value, report.number)


def _cut_log(folder: Path, num_passes: int) -> None:
    """Forget passes that were logged but not checkpointed: they will be done again."""
    lines = (folder / LOG).read_text().splitlines()[:num_passes]
    _write_text(folder, LOG, "".join(line + "\n" for line in lines), end="")


def _write_text(folder: Path, name: str, text: str, end: str = "\n") -> None:
    with whole_files(folder) as temporary:
        (temporary / name).write_text(text.rstrip("\n") + end if end else text)


def _plain(config: RunConfig) -> dict[str, Any]:
    return {"bouncegrad": __version__, **asdict(config)}


def _versions() -> dict[str, str]:
    return {
        "bouncegrad": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
