"""Save and load models and checkpoints as safetensors and JSON files; no pickle is involved."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from bouncegrad.devices import Device, device_named
from bouncegrad.models.decoder import NetworkConfig
from bouncegrad.models.edge_kinds import KindsReport
from bouncegrad.models.model import Model, ModelConfig
from bouncegrad.models.noise import NoiseConfig
from bouncegrad.models.proposer import Proposer, ProposerConfig
from bouncegrad.scenes import Normalization
from bouncegrad.scenes.writing import whole_files
from bouncegrad.structures.calibration import Reading
from bouncegrad.version import __version__

FORMAT = 1
WEIGHTS, CONFIG = "model.safetensors", "config.json"
PRETRAINED = Path(__file__).parents[1] / "pretrained"
"""Folder of the pretrained models that ship with the package, each in a folder of its name."""


class CheckpointError(ValueError):
    """A model or checkpoint file is missing, damaged or of an unknown format; the message names file and remedy."""


def save_tensors(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write tensors and JSON-compatible ``meta`` as one safetensors file, atomically."""
    target = Path(path)
    with whole_files(target.parent) as folder:
        metadata = {"meta": json.dumps(meta), "sha256": _checksum(_serialized(tensors), meta)}
        (folder / target.name).write_bytes(_serialized(tensors, metadata))


def load_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and ``meta`` from a file of :func:`save_tensors`.

    Raises:
        CheckpointError: if the file is missing, truncated, changed, or of another format.
    """
    try:
        tensors = load_file(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        meta = json.loads(metadata["meta"])
        if _checksum(_serialized(tensors), meta) != metadata["sha256"]:
            raise ValueError("checksums differ")
        return tensors, meta
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is no file of tensors written by bouncegrad ({error}): it may be damaged; fit again or restore it"
        ) from error


def pretrained_names() -> tuple[str, ...]:
    """Names of the pretrained models that ship with the package, for :func:`load_model`.

    Example:
        >>> pretrained_names()
        ('charged5', 'springs5')
    """
    return tuple(sorted(place.parent.name for place in PRETRAINED.glob(f"*/{CONFIG}")))


def model_folder(place: str | os.PathLike[str]) -> Path:
    """The folder of a model: ``place`` itself, or ``model/`` inside it, or the pretrained model of that name.

    An existing folder with a model takes precedence over a name; if there is neither, ``place`` is returned.
    """
    folder = Path(place)
    for candidate in (folder, folder / "model"):
        if (candidate / CONFIG).exists():
            return candidate
    return PRETRAINED / folder if str(place) in pretrained_names() else folder


def save_model(folder: str | os.PathLike[str], model: Model, about: Mapping[str, Any] | None = None) -> None:
    """Write ``model.safetensors`` and ``config.json`` (with the checksum of both) into ``folder``.

    Args:
        folder: created if it does not exist.
        model: any model, with its proposal network and forecaster if there are any.
        about: further information as plain JSON; :func:`read_about` reads it back.
    """
    with whole_files(folder) as temporary:
        write_model(temporary, model, about)


def write_model(temporary: Path, model: Model, about: Mapping[str, Any] | None = None) -> None:
    """Write the files of :func:`save_model` into a temporary folder that the caller opened for further files."""
    weights = _serialized(model.state_dict())
    (temporary / WEIGHTS).write_bytes(weights)
    description = {
        "format": FORMAT,
        "bouncegrad": __version__,
        "model": asdict(model.config),
        "feature_names": list(model.feature_names),
        "normalization": model.normalization.to_dict(),
        "reading": asdict(model.reading),
        "kinds": None if model.kinds is None else model.kinds.to_dict(),
        "proposer": None if model.proposer is None else _proposer_description(model.proposer),
        "forecaster": None if model.forecaster is None else _forecaster_description(model.forecaster),
    } | ({} if about is None else {"about": dict(about)})
    checked = {**description, "sha256": _checksum(weights, description)}
    (temporary / CONFIG).write_text(json.dumps(checked, indent=2) + "\n")


def read_about(place: str | os.PathLike[str]) -> dict[str, Any]:
    """The ``about`` of :func:`save_model`; empty if none was saved.

    Raises:
        CheckpointError: under the conditions of :func:`load_model`.
    """
    folder = model_folder(place)
    description = _read_description(folder)
    _check_weights(folder / WEIGHTS, description)
    about = description.get("about", {})
    if not isinstance(about, dict):
        raise CheckpointError(f"{folder / CONFIG} has an 'about' that is no JSON object: restore it or fit again")
    return about


def load_model(folder: str | os.PathLike[str], device: Device = "cpu") -> Model:
    """Read a model from its own folder, from the run folder around it, or by one of :func:`pretrained_names`.

    Args:
        folder: folder of a model, or name of a pretrained model.
        device: device to compute on (:mod:`bouncegrad.devices`), independent of where the model was trained.

    Raises:
        CheckpointError: if there is no model, a newer version wrote it, or its files were changed.
        ValueError: if the device is not available.
    """
    place, target = model_folder(folder), device_named(device)
    description = _read_description(place)
    _check_weights(place / WEIGHTS, description)
    try:
        config = _config_of(description["model"])
        normalization = Normalization.from_dict(description["normalization"])
        names = tuple(description["feature_names"])
        if len(normalization.minimum) != len(names):
            raise ValueError(f"{len(names)} features but normalization constants for {len(normalization.minimum)}")
        model = Model(config, normalization, names, torch.Generator().manual_seed(0))
        model.reading = Reading(**description["reading"])
        kinds = description.get("kinds")
        model.kinds = None if kinds is None else KindsReport.from_dict(kinds)
        proposer = description.get("proposer")
        model.proposer = None if proposer is None else _proposer_of(proposer)
        forecaster = description.get("forecaster")
        model.forecaster = None if forecaster is None else _forecaster_of(forecaster, names)
        model.load_state_dict(load_file(place / WEIGHTS))
    except (AttributeError, KeyError, TypeError, RuntimeError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"{place / CONFIG} does not describe its weights ({error}): restore both files"
        ) from error
    return model.eval().to(target)


def _config_of(parts: Mapping[str, Any]) -> ModelConfig:
    return ModelConfig(NetworkConfig(**parts["network"]), NoiseConfig(**parts["noise"]))


def _forecaster_description(forecaster: Model) -> dict[str, Any]:
    return {"model": asdict(forecaster.config), "normalization": forecaster.normalization.to_dict()}


def _forecaster_of(description: Mapping[str, Any], feature_names: tuple[str, ...]) -> Model:
    normalization = Normalization.from_dict(description["normalization"])
    return Model(_config_of(description["model"]), normalization, feature_names, torch.Generator().manual_seed(0))


def _proposer_description(proposer: Proposer) -> dict[str, Any]:
    shape = {"num_times": proposer.num_times, "num_features": proposer.num_features}
    return {"config": asdict(proposer.config), "num_kinds": list(proposer.num_kinds), **shape}


def _proposer_of(description: Mapping[str, Any]) -> Proposer:
    config, num_kinds = ProposerConfig(**description["config"]), description["num_kinds"]
    shape = (num_kinds[0], num_kinds[1]), description["num_times"], description["num_features"]
    return Proposer(config, *shape, torch.Generator().manual_seed(0))


def _read_description(place: Path) -> dict[str, Any]:
    if not (place / CONFIG).exists() or not (place / WEIGHTS).exists():
        raise CheckpointError(
            f"{place} holds no model: expected {CONFIG} and {WEIGHTS}, or a run folder with model/ inside, "
            f"as `bouncegrad fit --out` writes it; pretrained models are {', '.join(pretrained_names())}"
        )
    try:
        description = json.loads((place / CONFIG).read_text())
        known = isinstance(description, dict) and int(description["format"]) <= FORMAT
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{place / CONFIG} cannot be read ({error}): restore it or fit again") from error
    if not known:
        raise CheckpointError(f"{place / CONFIG} has a format newer than {FORMAT}: update bouncegrad")
    return description


def _check_weights(path: Path, description: Mapping[str, Any]) -> None:
    rest = {name: value for name, value in description.items() if name != "sha256"}
    try:
        weights = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error}): restore it or fit again") from error
    if _checksum(weights, rest) != description.get("sha256"):
        raise CheckpointError(
            f"{path} and {CONFIG} beside it are not as they were written (checksums differ): "
            "one was changed or copied in part; restore both files or fit again"
        )


def _checksum(weights: bytes, description: Mapping[str, Any]) -> str:
    return hashlib.sha256(weights + json.dumps(description, sort_keys=True).encode()).hexdigest()


def _serialized(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """Tensors as safetensors bytes; an ordinary write then has usual permissions, and a full disk is an OSError."""
    return save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, metadata)
