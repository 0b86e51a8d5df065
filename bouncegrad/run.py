"""A run: one folder that holds all that a fit was given, did and found, and from which it resumes.

``config.yaml`` (the effective configuration), ``versions.json``, ``log.jsonl`` and TensorBoard events (one entry per
pass), ``checkpoint.safetensors`` (to resume from), ``model/`` (the best modules), ``summary.json`` (the figures, on
scenes that nothing was learned from).
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
from typing import Any, ClassVar, Literal, Protocol

import numpy
import torch
import yaml
from torch.utils.tensorboard.writer import SummaryWriter

from bouncegrad.devices import Device, gpu_of
from bouncegrad.energies.windows import pack
from bouncegrad.evaluation.score import SHORTEST, Score, score
from bouncegrad.forecaster import add_forecaster
from bouncegrad.models.checkpoint import load_tensors, save_model, save_tensors
from bouncegrad.models.edge_kinds import KindsReport
from bouncegrad.models.model import Model
from bouncegrad.polish import polish
from bouncegrad.recipes import HELD_OUT, Recipe, hold_out, with_kinds
from bouncegrad.scenes import DataError, Normalization, Scenes, has_split, read_meta, read_part
from bouncegrad.scenes.writing import PREFIX, whole_files
from bouncegrad.settings import is_positive
from bouncegrad.train import BounceGrad, PassReport
from bouncegrad.train.loop import Trainer
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
        kinds: how many kinds of relation to begin with, as in :func:`bouncegrad.recipes.fit`; None: as many as
            ``settings`` have, all of which stay.

    Raises:
        ValueError: minutes, a seed or a number of kinds that cannot be.
    """

    data: str
    recipe: str
    settings: Recipe
    minutes: float | None = None
    seed: int = 0
    kinds: int | Literal["auto"] | None = None

    def __post_init__(self) -> None:
        with_kinds(self.settings, self.kinds, 2)
        if self.minutes is not None and not is_positive(self.minutes):
            raise ValueError(f"expected a positive, finite number of minutes, got {self.minutes}; or leave it out")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"expected a seed from 0 to 2^63 - 1, got {self.seed}")


class Asked(Protocol):
    """What a run folder needs to know of a run: a record of settings, where its scenes lie, and how long it takes."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def data(self) -> str:
        """Where the scenes lie."""
        ...

    @property
    def minutes(self) -> float | None:
        """How long to learn; None: for a number of passes."""
        ...


def fit_folder(
    config: RunConfig,
    out: str | os.PathLike[str],
    watch: Callable[[PassReport], None] | None = None,
    device: Device = "cpu",
) -> Model:
    """Learn from the scenes at ``config.data`` and leave everything in the run folder ``out``.

    A run that was interrupted goes on from its last pass when it is called again with the same configuration, and ends
    in the same bits as if it had not been interrupted (unless ``minutes`` bounds it: seconds are not repeatable). A
    setting that its ``config.yaml`` does not name, because there was none yet, had its default.

    At the end the model is scored on the ``test`` split, or without one on the held-out scenes. Where these are too
    short to predict from there is no ``summary.json``.

    Args:
        config: what to do.
        out: the run folder; made where it does not exist.
        watch: called after each pass, for live progress.
        device: where the model computes (:mod:`bouncegrad.devices`). A run may go on elsewhere than it began, but then
            not to the same bits.

    Raises:
        DataError: unusable scenes, an unwritable folder, or a folder that holds a run of another configuration.
        ValueError: a device that is not there.
    """
    scenes, held_out = training_scenes(config.data, config.seed)
    unseen = unseen_scenes(config.data, held_out)
    settings = with_kinds(config.settings, config.kinds, scenes.num_entities)
    trainer = BounceGrad(scenes, held_out, settings.model, settings.training, config.seed, device=device)
    pack(trainer.model, unseen.at(0))  # would fail at the end of the training, where the features are others
    folder = Path(out)
    train_folder(folder, config, trainer, fingerprint(scenes, held_out), watch)
    model = polish(trainer.best_model(), scenes, held_out, config.settings.polish, config.seed)

    def train(training: BounceGrad) -> None:
        whole = replace(config, minutes=None)
        train_folder(folder / "forecaster", whole, training, fingerprint(scenes, held_out), watch)

    model = add_forecaster(model, scenes, held_out, config.settings.forecaster, config.seed, train)
    save_model(folder / "model", model)
    if unseen.num_times >= SHORTEST + model.config.network.history:
        write_summary(folder, score(model, unseen, error_unit(config.data)), model.kinds)
    return model


def train_folder(
    folder: Path,
    config: Asked,
    trainer: Trainer[Any, Any],
    scenes: str,
    watch: Callable[[PassReport], None] | None = None,
) -> None:
    """Train to the end in a run folder, from where it was left.

    Args:
        folder: made where it does not exist.
        config: what is asked for; a folder that holds another run is refused.
        trainer: new; what was done already is loaded into it.
        scenes: the :func:`fingerprint` of what it learns from.
        watch: called after each pass.

    Raises:
        DataError: an unwritable folder, or one that holds another run.
    """
    elapsed = _open(folder, config, trainer, scenes)
    with SummaryWriter(str(folder), purge_step=trainer.num_passes_done + 1) as board:
        for report in trainer.passes(config.minutes, elapsed):
            _log(folder, board, report)
            _save(folder, trainer, {"elapsed": report.seconds, "scenes": scenes})
            if watch:
                watch(report)


def training_scenes(data: str | os.PathLike[str], seed: int) -> tuple[Scenes, Scenes]:
    """The scenes to learn from and those, unlabelled as well, by which the best modules are chosen.

    A folder's ``train`` and ``valid`` splits (of the latter at most 200 scenes). Without ``valid``, and for a ``.npz``,
    a tenth is held out at random; fewer than ten scenes are both.
    """
    train = read_part(data, "train")
    if has_split(data, "valid"):
        valid = read_part(data, "valid")
        return train, valid.at(range(min(HELD_OUT, valid.num_scenes)))
    return hold_out(train, seed)


def unseen_scenes(data: str, held_out: Scenes) -> Scenes:
    """What the summary is about; read before the training, so that a damaged file costs no time."""
    return read_part(data, "test") if has_split(data, "test") else held_out


def error_unit(data: str | os.PathLike[str]) -> tuple[str, Normalization] | None:
    """The name and the normalisation in which the data want errors to be given, where they say so.

    ``simulate --canonical`` writes that of the published training sets, so that errors can stand beside published ones.
    """
    constants = read_meta(data).get("normalization")
    return ("canonical training set", Normalization.from_dict(constants)) if constants else None


def write_summary(folder: str | os.PathLike[str], found: Score, kinds: KindsReport | None = None) -> None:
    """Write ``summary.json``: the figures and, where kinds were judged, how many were found."""
    told = {} if kinds is None else {"kinds": {**kinds.to_dict(), "said": str(kinds)}}
    _write_text(Path(folder), SUMMARY, json.dumps(found.to_dict() | told, indent=2) + "\n")


def _open(folder: Path, config: Asked, trainer: Trainer[Any, Any], scenes: str) -> float:
    """Start a run, or go on with the one that lies there; returns the seconds that it has already had."""
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


def _check_same(folder: Path, config: Asked) -> None:
    if not any((folder / name).exists() for name in (CHECKPOINT, SETTINGS)):
        return
    text = (folder / SETTINGS).read_text() if (folder / SETTINGS).exists() else ""
    there, asked = _as_of_now(text, config).splitlines(), _settings(asdict(config)).splitlines()
    if there != asked:
        first = next((line.strip() for line in there if line not in asked), "nothing")
        instead = next((line.strip() for line in asked if line not in there), "nothing")
        raise DataError(
            f"{folder} holds a run of another configuration (its {SETTINGS} says {first!r} where {instead!r} was asked "
            "for): choose another --out, or delete that folder to start again"
        )


def _as_of_now(text: str, config: Asked) -> str:
    """Settings as they were written, and those that there were not yet: what was done then is their default."""
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return _settings(_completed(values, config), text.split("\n", 1)[0]) if isinstance(values, dict) else text


def _completed(values: Any, record: Any) -> Any:
    """The values of a record of settings in the order of its fields, then those that it does not know."""
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
    """Remove what a killed process was writing."""
    for place in folder.glob(f"{PREFIX}*"):
        shutil.rmtree(place, ignore_errors=True)


def fingerprint(*sets: Scenes) -> str:
    """Of all that is learned from; labels are not."""
    digest = hashlib.sha256()
    for scenes in sets:
        for values in (scenes.states, scenes.mask):
            digest.update(values.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _save(folder: Path, trainer: Trainer[Any, Any], meta: dict[str, Any]) -> None:
    tensors, own = trainer.state()
    save_tensors(folder / CHECKPOINT, tensors, {"trainer": own, **meta})


def _log(folder: Path, board: SummaryWriter, report: PassReport) -> None:
    entry = asdict(report)
    with (folder / LOG).open("a") as file:
        file.write(json.dumps(entry) + "\n")
    for name, value in entry.items():
        if isinstance(value, int | float) and name != "number":
            board.add_scalar(name, value, report.number)


def _cut_log(folder: Path, num_passes: int) -> None:
    """Forget passes that were logged but not checkpointed: they will be done again."""
    lines = (folder / LOG).read_text().splitlines()[:num_passes]
    _write_text(folder, LOG, "".join(line + "\n" for line in lines))


def _write_text(folder: Path, name: str, text: str) -> None:
    with whole_files(folder) as temporary:
        (temporary / name).write_text(text)


def versions() -> dict[str, str]:
    """Of what a run or a row runs on."""
    return {
        "bouncegrad": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }
