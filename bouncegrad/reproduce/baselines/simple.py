"""Baselines without a model of motion: the last state repeated, and correlations as relations.

Source: Kipf, Fetaya, Wang, Welling and Zemel, 2018, "Neural relational inference for interacting systems", section 5.1:
"static", "Corr. (path)" and "Corr. (LSTM)". Correlations keep their sign: with it paths give a relation
accuracy of 52.4 % on canonical springs, as published, without it 51.6 %.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bouncegrad.evaluation.metrics import match_relations
from bouncegrad.evaluation.score import OBSERVED, STEPS, num_observed, prediction_errors
from bouncegrad.scenes import DataError, Normalization, Scenes, relation_kinds

Features = Callable[[Scenes], Float[Tensor, "scene entity feature"]]
"""Function of scenes that returns the vector of each entity that is correlated."""


def static_errors(scenes: Scenes, unit: Normalization) -> Float[Tensor, "step"]:
    """Mean squared errors at 1 to 20 steps of the prediction that the true state at sample 49 does not change.

    Shorter scenes start at the same sample as in :func:`bouncegrad.score`.

    Args:
        scenes: scenes to predict.
        unit: unit of errors; for a comparison with published ones, that of the canonical training set.

    Raises:
        DataError: scenes too short to predict.
    """
    start = num_observed(scenes)
    last = scenes.states[:, start : start + 1].expand(-1, max(STEPS), -1, -1)
    return prediction_errors(last, scenes, start, unit)


def path_features(scenes: Scenes, unit: Normalization) -> Float[Tensor, "scene entity feature"]:
    """The first 49 states of each entity, normalised and concatenated."""
    observed = last_measured(scenes, unit, torch.float64)[:, :OBSERVED]
    return observed.transpose(1, 2).flatten(2)


def last_measured(
    scenes: Scenes, unit: Normalization, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "scene time entity feature"]:
    """Normalised states; gaps repeat the last measured state, and are 0 before the first one."""
    states = unit.apply(scenes.states, dtype) * scenes.mask[..., None]
    times = torch.arange(scenes.num_times, device=states.device)[:, None]
    latest = torch.where(scenes.mask, times, 0).cummax(1).values
    return states.gather(1, latest[..., None].expand_as(states))


def correlations(features: Float[Tensor, "scene entity feature"]) -> Float[Tensor, "scene receiver sender"]:
    """Pearson correlation of the vectors of all pairs of entities of a scene.

    ``r_ij = <x_i - mean x_i, x_j - mean x_j> / (|x_i - mean x_i| |x_j - mean x_j|)``, means over features; 0 where a
    vector is constant.

    Example:
        >>> import torch
        >>> features = torch.tensor([[[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [3.0, 2.0, 1.0]]])
        >>> correlations(features)[0, 0].round(decimals=6).tolist()
        [1.0, 1.0, -1.0]
    """
    centred = features.double() - features.double().mean(-1, keepdim=True)
    unit = centred / centred.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return (unit @ unit.mT).clamp(-1, 1)


def correlation_kinds(
    features: Float[Tensor, "scene entity feature"], threshold: float
) -> Int[Tensor, "scene receiver sender"]:
    """Two kinds (edge types): 1 where the correlation is above ``threshold``, else 0."""
    return (correlations(features) > threshold).long()


def best_threshold(features: Float[Tensor, "scene entity feature"], scenes: Scenes) -> float:
    """The threshold with the highest relation accuracy on ``scenes``, under the better of the two relabellings.

    Raises:
        DataError: not exactly two labels, or none.
    """
    if scenes.relations is None or not scenes.labelled:
        raise DataError("a threshold is fitted to true relations, these scenes have none: bring labelled scenes")
    truth, labels = relation_kinds(scenes.relations.where(scenes.pairs, torch.nan))
    if len(labels) != 2:
        raise DataError(f"one threshold separates two edge types, but there are {len(labels)} labels: {labels}")
    values, order = correlations(features)[truth >= 0].sort()
    return _split(values, truth[truth >= 0][order])


def _split(values: Float[Tensor, "pair"], truth: Int[Tensor, "pair"]) -> float:
    """The midpoint of two successive values (in ascending order) that separates the true labels best."""
    right_if_below_is_0 = (1 - truth).cumsum(0) + truth.sum() - truth.cumsum(0)
    right = torch.maximum(right_if_below_is_0, len(truth) - right_if_below_is_0)[:-1]
    right = right.where(values[1:] > values[:-1], -1)
    best = int(right.argmax())
    return float(values[best] + values[best + 1]) / 2


def correlation_accuracy(train: Scenes, test: Scenes, features_fn: Features) -> float:
    """Relation accuracy of correlations on ``test``, with the best threshold on ``train``.

    Args:
        train: labelled scenes for the threshold.
        test: labelled scenes.
        features_fn: vector of each entity that is correlated.

    Raises:
        DataError: scenes without labels, or with more or fewer than two.
    """
    threshold = best_threshold(features_fn(train), train)
    kinds = correlation_kinds(features_fn(test), threshold)
    return match_relations(kinds, test.relations, test.present).accuracy
