"""Goodness of fit of a model on scenes: residuals of one-step predictions against the model's noise distribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from bouncegrad.devices import on_cpu
from bouncegrad.inference import Posterior, infer
from bouncegrad.models.model import Model
from bouncegrad.scenes import DataError, Scenes
from bouncegrad.trust.residual_checks import LEVELS, SIGNS, FeatureMisfit
from bouncegrad.trust.residuals import Residuals

STRANGE = 0.75
"""Share of an entity's residuals beyond the 99 % interval from which it counts as strange. Good models: up to 0.5, in a
collision; entities with a relation of a missing edge type: 1."""

FEW = 0.2
"""Share of strange entities up to which they are reported one by one; above, the whole model does not fit."""


@dataclass(frozen=True, slots=True)
class Strange:
    """The entity with the largest share of outliers.

    Attributes:
        scene: index of its scene.
        entity: index of the entity in the scene.
        outliers: share of its residuals beyond the 99 % interval.
        name: name of the entity and its scene.
        num_strange: number of entities in all scenes with a share of :data:`STRANGE` or more.
        num_entities: number of entities in all scenes.
    """

    scene: int
    entity: int
    outliers: float
    name: str
    num_strange: int
    num_entities: int


@dataclass(frozen=True, slots=True)
class Misfit:
    """Comparison of residuals with the noise distribution of the model.

    Attributes:
        features: statistics of each feature.
        worst: the entity with the largest share of outliers.
        claimed: whether the model has a noise scale; if not, residuals are compared with a normal distribution of their
            own standard deviation.
        num_scenes: number of scenes.
    """

    features: tuple[FeatureMisfit, ...]
    worst: Strange
    claimed: bool
    num_scenes: int

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences that describe each misfit; empty if the model fits."""
        found = [_sentence(self._which(sign), text) for sign, text in SIGNS]
        if 0 < self.worst.num_strange <= FEW * self.worst.num_entities:
            who = f"{self.worst.name} does ({100 * self.worst.outliers:.0f} % of its samples are outliers)"
            more = f", and {self.worst.num_strange - 1} more do" if self.worst.num_strange > 1 else ""
            found.append(f"some entities move in a way that no kind of this model explains: {who}{more}")
        return tuple(text for text in found if text)

    def _which(self, sign: Callable[[FeatureMisfit], bool]) -> list[str]:
        return [each.feature for each in self.features if sign(each)]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self) | {"levels": list(LEVELS), "warnings": list(self.warnings)}

    def __str__(self) -> str:
        num = sum(each.num_samples for each in self.features)
        if not self.warnings:
            return f"The model fits: {num:,} residuals of {self.num_scenes} scenes are distributed as it claims"
        lines = [f"The model does not fit these scenes ({num:,} residuals of {self.num_scenes} scenes):"]
        return "\n".join([*lines, *(f"  - {text}" for text in self.warnings)])


def _sentence(features: Sequence[str], text: str) -> str:
    return f"{', '.join(features)}: {text}" if features else ""


def misfit(model: Model, scenes: Scenes, posterior: Posterior | None = None) -> Misfit:
    """Compare residuals of one-step predictions with the noise model.

    If the model is right, the residual divided by its scale is Student-t (or normal) distributed in any state, so its
    cumulative probability is uniform (Rosenblatt 1952; Dawid 1984) and independent of the one before. The statistics
    are the distance from uniform, the coverage of central intervals, outliers, the balance of signs, the
    autocorrelation, and the share of unexplained motion. With thousands of samples any model fails a test of
    significance, so thresholds are effect sizes; each states the measurements behind it. One misfit goes undetected:
    errors that the noise scale has learned to cover and that leave nothing predictable.

    Args:
        model: a model with its noise model; without a noise scale only the tails are tested.
        scenes: scenes, preferably held out from training.
        posterior: posterior of these scenes; inferred if None.

    Raises:
        DataError: no sample has a prediction, or a posterior of other scenes.
    """
    found = infer(model, scenes) if posterior is None else posterior
    if len(found.structures) != scenes.num_scenes:
        raise DataError(f"expected the posterior of {scenes.num_scenes} scenes, got one of {len(found.structures)}")
    residuals = Residuals.of(on_cpu(model), scenes, found)
    if not residuals.valid.any():
        raise DataError("no sample can be predicted from the one before: use scenes with fewer gaps")
    return misfit_of(residuals, scenes)


def misfit_of(residuals: Residuals, scenes: Scenes) -> Misfit:
    """Compute all statistics from residuals of scenes."""
    features = tuple(_feature(residuals, number, name) for number, name in enumerate(scenes.feature_names))
    return Misfit(features, _worst(residuals, scenes), residuals.noise.in_nats, scenes.num_scenes)


def _feature(residuals: Residuals, number: int, name: str) -> FeatureMisfit:
    values, valid = residuals.of_feature(number), residuals.valid
    num, again = len(values), residuals.autocorrelation(number)
    coverage = tuple(_share(values.abs() <= residuals.bound(level)) for level in LEVELS)
    ranks = torch.arange(num, dtype=torch.float64)
    ordered = residuals.uniform(number).sort().values
    steps = torch.maximum((ranks + 1) / num - ordered, ordered - ranks / num)
    moved = float(residuals.moved[..., number][valid].abs().median())
    return FeatureMisfit(
        feature=name,
        distance=float(steps.max()),
        coverage=coverage,
        outliers=1 - coverage[2],
        above=_share(values > 0),
        autocorrelation=again,
        left=float(residuals.left[..., number][valid].abs().median()) / max(moved, 1e-9),
        num_samples=num,
        num_effective=max(float(valid.any(1).sum()), num * (1 - max(0.0, again)) / (1 + max(0.0, again))),
    )


def _share(mask: Tensor) -> float:
    return float(mask.double().mean())


def _worst(residuals: Residuals, scenes: Scenes) -> Strange:
    beyond = (residuals.values.abs() > residuals.bound(LEVELS[2])).double().mean(3) * residuals.valid
    share = beyond.sum(1) / residuals.valid.sum(1).clamp_min(1)
    scene, entity = divmod(int(share.argmax()), scenes.num_entities)
    name = f"entity {scenes.names_in(scene)[entity]} of scene {scenes.scene_name(scene)}"
    num_strange = int((share >= STRANGE).sum())
    return Strange(scene, entity, float(share[scene, entity]), name, num_strange, int(residuals.valid.any(1).sum()))
