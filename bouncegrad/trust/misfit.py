"""Whether the model fits these scenes: what one-step predictions leave over, beside what its noise model claims."""

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
"""Share of an entity's residuals beyond the 99 % interval from which it is unlike the others. Good models: up to 0.5,
in a collision; entities with a relation of a missing kind: 1."""

FEW = 0.2
"""Share of all entities above which it is no longer some that are strange, but the model."""


@dataclass(frozen=True, slots=True)
class Strange:
    """The entity that is least like the others.

    Attributes:
        scene: its scene.
        entity: which of its entities.
        outliers: share of its residuals beyond the 99 % interval.
        name: what both are called.
        num_strange: how many entities of all scenes are at least :data:`STRANGE`.
        num_entities: how many entities all scenes have.
    """

    scene: int
    entity: int
    outliers: float
    name: str
    num_strange: int
    num_entities: int


@dataclass(frozen=True, slots=True)
class Misfit:
    """How the residuals of a model fit what it claims.

    Attributes:
        features: one by one.
        worst: the entity that is least like the others.
        claimed: whether the model has a noise model; if not, residuals are compared with a normal distribution of their
            own size.
        num_scenes: how many scenes were looked at.
    """

    features: tuple[FeatureMisfit, ...]
    worst: Strange
    claimed: bool
    num_scenes: int

    @property
    def warnings(self) -> tuple[str, ...]:
        """What does not fit, in plain sentences; empty where all is well."""
        found = [_sentence(self._which(sign), text) for sign, text in SIGNS]
        if 0 < self.worst.num_strange <= FEW * self.worst.num_entities:
            who = f"{self.worst.name} does ({100 * self.worst.outliers:.0f} % of its samples are outliers)"
            more = f", and {self.worst.num_strange - 1} more do" if self.worst.num_strange > 1 else ""
            found.append(f"some move in a way that no kind of this model explains: {who}{more}")
        return tuple(text for text in found if text)

    def _which(self, sign: Callable[[FeatureMisfit], bool]) -> list[str]:
        return [each.feature for each in self.features if sign(each)]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self) | {"levels": list(LEVELS), "warnings": list(self.warnings)}

    def __str__(self) -> str:
        num = sum(each.num_samples for each in self.features)
        if not self.warnings:
            return f"The model fits: {num:,} residuals of {self.num_scenes} scenes are as it claims"
        lines = [f"The model does not fit these scenes ({num:,} residuals of {self.num_scenes} scenes):"]
        return "\n".join([*lines, *(f"  - {text}" for text in self.warnings)])


def _sentence(features: Sequence[str], text: str) -> str:
    return f"{', '.join(features)}: {text}" if features else ""


def misfit(model: Model, scenes: Scenes, posterior: Posterior | None = None) -> Misfit:
    """Compare residuals of one-step predictions with the noise model.

    If the model is right, the residual over its scale is Student-t (or normal) whatever the state, so its cumulative
    probability is uniform (Rosenblatt 1952; Dawid 1984) and does not depend on the one before. Counted are the distance
    from uniform, the coverage of central intervals, outliers, the balance of signs, the autocorrelation, and the share
    of motion that is left over. With thousands of samples any model fails a test of significance, so thresholds are
    sizes that matter; what they were set by is told beside each. They do not see a model that is wrong in a way that
    its scale has learned to cover and that leaves nothing predictable.

    Args:
        model: with its noise model; without one, tails alone are judged.
        scenes: best ones that it was not trained on.
        posterior: of these scenes; inferred if None.

    Raises:
        DataError: nothing can be predicted, or a posterior of other scenes.
    """
    found = infer(model, scenes) if posterior is None else posterior
    if len(found.structures) != scenes.num_scenes:
        raise DataError(f"expected the posterior of {scenes.num_scenes} scenes, got one of {len(found.structures)}")
    residuals = Residuals.of(on_cpu(model), scenes, found)
    if not residuals.valid.any():
        raise DataError("no sample can be predicted from the one before: bring scenes with fewer gaps")
    return misfit_of(residuals, scenes)


def misfit_of(residuals: Residuals, scenes: Scenes) -> Misfit:
    """All figures of some residuals of scenes."""
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


def _share(those: Tensor) -> float:
    return float(those.double().mean())


def _worst(residuals: Residuals, scenes: Scenes) -> Strange:
    beyond = (residuals.values.abs() > residuals.bound(LEVELS[2])).double().mean(3) * residuals.valid
    share = beyond.sum(1) / residuals.valid.sum(1).clamp_min(1)
    scene, entity = divmod(int(share.argmax()), scenes.num_entities)
    name = f"entity {scenes.names_in(scene)[entity]} of scene {scenes.scene_name(scene)}"
    num_strange = int((share >= STRANGE).sum())
    return Strange(scene, entity, float(share[scene, entity]), name, num_strange, int(residuals.valid.any(1).sum()))
