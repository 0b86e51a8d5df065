"""What one-step predictions leave over, in units of the scale that the model claims for it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bouncegrad.energies import log_scales_of
from bouncegrad.energies.windows import cut_windows, pack
from bouncegrad.inference import Posterior, beside_structures
from bouncegrad.models.model import Model
from bouncegrad.models.noise import NoiseModel
from bouncegrad.scenes import Scenes


@dataclass(frozen=True, slots=True, eq=False)
class Residuals:
    """Standardised residuals of one-step predictions, ``(x_(t+1) - prediction) / sigma``.

    Attributes:
        values: ``[scene, start, entity, feature]``, 0 where nothing was predicted.
        moved: likewise, how far the linear skip was off, in the unit of its spread; what modules have to explain.
        left: likewise, how far the prediction was off, in the same unit.
        valid: ``[scene, start, entity]``, where there was something to predict from and to compare with.
        noise: the model's; where it has no scale, the root mean square of these residuals stands in for it.
    """

    values: Float[Tensor, "scene start entity feature"]
    moved: Float[Tensor, "scene start entity feature"]
    left: Float[Tensor, "scene start entity feature"]
    valid: Bool[Tensor, "scene start entity"]
    noise: NoiseModel

    @classmethod
    def of(cls, model: Model, scenes: Scenes, posterior: Posterior) -> Residuals:
        """Predict every sample of scenes from the one before, under the most probable structures."""
        parts = [_residuals(model, *chunk) for chunk in beside_structures(model, scenes, posterior)]
        values, moved, left, valid = (torch.cat(each) for each in zip(*parts, strict=True))
        if not model.noise.in_nats:
            values = left / left[valid].square().mean(0).sqrt().clamp_min(1e-12)
        return cls(values, moved, left, valid, model.noise)

    def of_feature(self, feature: int) -> Float[Tensor, "item"]:
        """All valid ones of a feature."""
        return self.values[..., feature][self.valid]

    def uniform(self, feature: int) -> Float[Tensor, "item"]:
        """Their probability integral transform: uniform on [0, 1] where the noise model is right."""
        return self.noise.cdf(self.of_feature(feature))

    def bound(self, level: float) -> float:
        """How far from 0 the central interval of a level reaches."""
        return self.noise.ppf(0.5 + 0.5 * level)

    def autocorrelation(self, feature: int) -> float:
        """Correlation of the residuals of an entity with those of its next start; 0 where there are no two in a row.

        Of their ranks about the middle (the probability integral transform less a half), so that tails do not decide.
        """
        ranks = self.noise.cdf(self.values[..., feature]) - 0.5
        both = self.valid[:, 1:] & self.valid[:, :-1]
        before, after = ranks[:, :-1][both], ranks[:, 1:][both]
        return float((before * after).sum() / (before.norm() * after.norm()).clamp_min(1e-12))


@torch.no_grad()
def _residuals(model: Model, scenes: Scenes, structures: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch = pack(model, scenes)
    windows, graph, network = cut_windows(batch), batch.graph, model.network
    targets = windows.targets[:, :, 0]
    predicted = network.rollout(windows.states, graph, structures, 1, sender_mask=windows.sender_mask)
    left = (targets - predicted[:, :, 0]) / network.unit
    moved = (targets - network.linear(windows.states)) / network.unit
    values = left * torch.exp(-log_scales_of(model, graph, windows)[:, :, 0])
    valid = (windows.weights[:, :, 0] > 0) & graph.pack_nodes(scenes.predicted)[:, None]
    seen = valid[..., None].to(left.dtype)
    values, moved, left = (graph.unpack_nodes(each * seen).transpose(1, 2) for each in (values, moved, left))
    return values, moved, left, graph.unpack_nodes(valid.float()).transpose(1, 2) > 0
