"""Readings: scores of a trained model on test scenes, by prior, by inference mode, or with given structures."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bouncegrad.evaluation.score import STEPS, num_observed, prediction_errors, score
from bouncegrad.inference import MODES, predict
from bouncegrad.models.model import Model
from bouncegrad.scenes import DataError, Normalization, Scenes, relation_kinds
from bouncegrad.structures.layout import to_slots
from bouncegrad.structures.priors import PRIORS
from bouncegrad.types import Structures

FIGURES = ("relation_accuracy", "mse", "mse_unit", "calibration_error", "seconds", "prior")
"""Figures of a score that a row keeps."""

GIVEN = ("truth", "full")
"""Readings with given structures: "truth", the true relations, with labels in ascending order as edge types; "full",
all pairs with edge type 0."""


def read(name: str, model: Model, scenes: Scenes, unit: tuple[str, Normalization]) -> dict[str, Any]:
    """The figures of one reading.

    Args:
        name: a prior or "auto" (mode "search"), a mode, "truth" or "full".
        model: the trained model.
        scenes: test scenes.
        unit: name and normalisation of the unit of errors.

    Raises:
        ValueError: no such reading, or a model without the network that it needs.
        DataError: "truth" without labels.
    """
    if name in GIVEN:
        return _read_given(name, model, scenes, unit)
    if name in MODES and name != "search":
        found = score(model, scenes, unit, mode=name)
    elif name in ("auto", *PRIORS):
        found = score(model, scenes, unit, prior=name)
    else:
        choices = ", ".join(("auto", *PRIORS, *MODES[1:], *GIVEN))
        raise ValueError(f"there is no reading {name!r}: choose one of {choices}")
    figures = found.to_dict()
    return {word: figures[word] for word in FIGURES}


def _read_given(name: str, model: Model, scenes: Scenes, unit: tuple[str, Normalization]) -> dict[str, Any]:
    began = time.perf_counter()
    structures = _true_structures(scenes) if name == "truth" else _one_kind(scenes)
    start, structures = num_observed(scenes), _with_node_slots(model, scenes, structures)
    predicted = predict(model, scenes, structures, start=start, num_steps=max(STEPS))
    errors = prediction_errors(predicted, scenes, start, unit[1])
    seconds = round(time.perf_counter() - began, 3)
    return {**error_figures(errors, unit[0]), "seconds": seconds}


def error_figures(errors: Float[Tensor, "step"], unit: str) -> dict[str, Any]:
    """Errors at the reported steps as plain JSON; those that are not finite are null."""
    reported = {step: float(errors[step - 1]) for step in STEPS}
    return {
        "mse": {str(step): error if math.isfinite(error) else None for step, error in reported.items()},
        "mse_unit": unit,
    }


def _true_structures(scenes: Scenes) -> Structures:
    if scenes.relations is None or not scenes.labelled:
        raise DataError("the reading truth needs true relations, but the scenes have none: bring labelled scenes")
    return to_slots(relation_kinds(scenes.relations)[0])


def _one_kind(scenes: Scenes) -> Structures:
    return torch.zeros(scenes.num_scenes, scenes.num_entities * (scenes.num_entities - 1), dtype=torch.int64)


def _with_node_slots(model: Model, scenes: Scenes, structures: Structures) -> Structures:
    """Structures with node type 0 for all entities, for models with slots for node types."""
    missing = model.layout(scenes.num_entities).num_slots - structures.shape[1]
    return torch.cat([structures, structures.new_zeros(len(structures), missing)], 1)
