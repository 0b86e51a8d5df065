"""Score of a model on test scenes: relation accuracy, calibration error and mean squared errors of rollouts."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bouncegrad.evaluation.metrics import (
    RelationMatch,
    ReliabilityCurve,
    match_relations,
    reliability_curve,
    rollout_mse,
)
from bouncegrad.inference import Mode, Posterior, infer, measured_at, predict
from bouncegrad.models.model import Model
from bouncegrad.scenes import DataError, Normalization, Scenes

STEPS = (1, 10, 20)
"""Horizons at which prediction errors are published (Kipf et al. 2018, table 2)."""

SHORTEST = max(STEPS) + 2
"""Samples of a scene, beyond the model's history, that a score needs: one more to infer from, then a start and the
longest prediction."""

OBSERVED = 49
"""Samples from which the structure (latent graph) is inferred; the rest of a test scene is predicted."""


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """Figures of one model on one set of scenes, as in ``summary.json``.

    Attributes:
        match: inferred relations against the labels; None without labels.
        reliability: accuracy of the answers by confidence; None without labels.
        mse: step -> mean squared error of the rollout over scenes, entities and features, in ``unit``.
        unit: name of the normalisation of the errors.
        num_scenes: number of scenes.
        num_observed: number of samples from which the structures are inferred.
        seconds: duration of inference and prediction.
        posterior: the inferred posterior.
    """

    match: RelationMatch | None
    reliability: ReliabilityCurve | None
    mse: Mapping[int, float]
    unit: str
    num_scenes: int
    num_observed: int
    seconds: float
    posterior: Posterior

    @property
    def calibration_error(self) -> float | None:
        """Expected calibration error of the marginal probabilities; None without labels."""
        return None if self.reliability is None else self.reliability.expected_error

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain JSON; numbers that are not finite become null."""
        match = self.match
        return {
            "relation_accuracy": None if match is None else match.accuracy,
            "mse": {str(step): _finite(error) for step, error in self.mse.items()},
            "mse_unit": self.unit,
            "num_scenes": self.num_scenes,
            "num_observed": self.num_observed,
            "seconds": round(self.seconds, 3),
            "calibration_error": self.calibration_error,
            "reliability": None if self.reliability is None else self.reliability.to_rows(),
            "mode": self.posterior.mode,
            "prior": self.posterior.prior,
            "evidence": _finite(float(self.posterior.log_evidence.mean())),
            "confusion": None if match is None else match.confusion.tolist(),
            "labels": None if match is None else list(match.labels),
            "kind_of_label": None if match is None else [match.relabelling.index(i) for i in _matched(match)],
        }


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _matched(match: RelationMatch) -> list[int]:
    return [label for label in range(len(match.labels)) if label in match.relabelling]


def score(
    model: Model,
    scenes: Scenes,
    unit: tuple[str, Normalization] | None = None,
    *,
    prior: str = "auto",
    mode: Mode = "search",
) -> Score:
    """Infer structures from the first samples of each scene, predict the next ones, and compare with the truth.

    As in Kipf et al. 2018: structure from samples 0 to 48, then a rollout of 20 steps from the true sample 49. In
    shorter scenes the last 21 samples are for the prediction and the rest for the inference.

    Args:
        model: a trained model.
        scenes: test scenes; labels, where there are any, only enter the figures.
        unit: a name and the normalisation in which errors are given; by default the model's own.
        prior: prior over graphs (:func:`bouncegrad.inference.infer`).
        mode: mode of inference, likewise.

    Raises:
        DataError: scenes too short to infer from and predict.
        ValueError: an unknown prior or mode, or one that these scenes or this model do not allow.
    """
    started = time.perf_counter()
    history = model.config.network.history
    start = num_observed(scenes, history)
    observed = scenes.between(0, start)
    posterior = infer(model, observed, prior=prior, mode=mode)
    predicted = predict(model, scenes, posterior.structures, start=start, num_steps=max(STEPS))
    errors = prediction_errors(predicted, scenes, start, (unit or ("", model.normalization))[1], history)
    seconds = time.perf_counter() - started
    match = reliability = None
    known = observed.known_relations  # without entities that appear only after the observed samples
    if known is not None and observed.labelled:
        match = match_relations(posterior.relations, known, observed.present)
        reliability = reliability_curve(posterior.probabilities, match.true_kinds(known))
    return Score(
        match=match,
        reliability=reliability,
        mse={step: float(errors[step - 1]) for step in STEPS},
        unit=unit[0] if unit else "normalised by the model's training scenes",
        num_scenes=scenes.num_scenes,
        num_observed=start,
        seconds=seconds,
        posterior=posterior,
    )


def num_observed(scenes: Scenes, history: int = 1) -> int:
    """Number of samples from which structures are inferred; the prediction starts at the next one.

    Args:
        scenes: any scenes.
        history: samples of each entity in the model's input.

    Raises:
        DataError: scenes too short to infer from and predict.
    """
    longest, fewest = max(STEPS), history + 1
    number = min(OBSERVED, scenes.num_times - longest - 1)
    if number < fewest:
        raise DataError(
            f"expected scenes of at least {longest + 1 + fewest} samples ({fewest} to infer from, then a start and "
            f"{longest} steps "
            f"to predict), got {scenes.num_times}: bring longer scenes"
        )
    return number


def prediction_errors(
    predicted: Float[Tensor, "scene step entity feature"],
    scenes: Scenes,
    start: int,
    unit: Normalization,
    history: int = 1,
) -> Float[Tensor, "step"]:
    """Mean squared error of each step of rollouts from the true sample ``start``, in ``unit``.

    Scenes with a present entity that was not measured in the ``history`` that ends at the start are left out.
    """
    future = slice(start + 1, start + 1 + predicted.shape[1])
    complete = (measured_at(scenes, start, history) | ~scenes.present).all(1)
    counted = (complete[:, None] & scenes.predicted)[:, None]
    truth, mask = scenes.states[:, future], scenes.mask[:, future] & counted
    return rollout_mse(unit.apply(predicted, torch.float64), unit.apply(truth, torch.float64), mask)
