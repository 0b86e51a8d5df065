"""Libraries of modules as safetensors files, without pickle."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import torch
from torch import Generator

from bouncegrad.functions.compositions import Composition
from bouncegrad.functions.model import AdaptationConfig, FunctionConfig, FunctionModel
from bouncegrad.functions.points import PointSets
from bouncegrad.functions.proposer import PointProposer
from bouncegrad.models.checkpoint import CheckpointError, load_tensors, save_tensors
from bouncegrad.models.proposer import ProposerConfig


def save_functions(path: str | os.PathLike[str], model: FunctionModel) -> None:
    """Write a library of modules, with its proposal network if it has one, as one safetensors file.

    The composition is code: only its name, slots and settings are stored.

    Args:
        path: path of the file, which is replaced atomically.
        model: the library of modules.
    """
    proposer = model.proposer if isinstance(model.proposer, PointProposer) else None
    meta = {
        "composition": described(model.composition),
        "config": asdict(model.config),
        "adaptation": asdict(model.adaptation),
        "sizes": [len(model.center_in), len(model.scale_out)],
        "proposer": asdict(proposer.config) if proposer else None,
    }
    save_tensors(path, {name: value.detach() for name, value in model.state_dict().items()}, meta)


def load_functions(path: str | os.PathLike[str], composition: Composition) -> FunctionModel:
    """Read a file of :func:`save_functions`.

    Args:
        path: path of the file.
        composition: the composition with which the library was saved.

    Raises:
        CheckpointError: there is no such file, it is damaged, or it is for another composition.
    """
    tensors, meta = load_tensors(path)
    try:
        if meta["composition"] != described(composition):
            raise CheckpointError(
                f"{path} is a library for {meta['composition']}, got the composition {described(composition)}: load "
                "it with the composition with which it was saved"
            )
        model = FunctionModel(composition, _config_of(meta["config"]), _blank(*meta["sizes"]), Generator())
        model.adaptation = AdaptationConfig(**meta["adaptation"])
        if meta["proposer"] is not None:
            model.proposer = PointProposer(ProposerConfig(**meta["proposer"]), model, Generator())
        model.load_state_dict(tensors)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{path} does not hold a library of functions ({error}): restore it or fit again"
        ) from error
    return model.eval()


def described(composition: Composition) -> str:
    """Text for a composition: its class, number of slots and settings."""
    settings = [f", {name}={value}" for name, value in sorted(vars(composition).items()) if name != "num_slots"]
    return f"{type(composition).__name__}({composition.num_slots} slots{''.join(settings)})"


def _config_of(saved: dict[str, Any]) -> FunctionConfig:
    return FunctionConfig(saved["num_modules"], tuple(saved["hidden"]), AdaptationConfig(**saved["adaptation"]))


def _blank(size_in: int, size_out: int) -> PointSets:
    """Placeholder points of the right sizes."""
    mask = torch.ones(1, 1, dtype=torch.bool)
    return PointSets(torch.zeros(1, 1, size_in), torch.zeros(1, 1, size_out), mask, mask, ("",))
