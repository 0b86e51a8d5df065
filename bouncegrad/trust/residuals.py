"""Residuals of one-step predictions, in units of the noise scale that the model predicts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bouncegrad.energies import log_scales_of
from bouncegrad.energies.windows import cut_windows, pack
from bouncegrad.inference import Posterior, chunks_with_structures
from bouncegrad.models.model import Model
from bouncegrad.models.noise import NoiseModel
from bouncegrad.scenes import Scenes


@dataclass(frozen=True, slots=True, eq=False)
class Residuals:
    """Standardised residuals of one-step predictions, ``(x_(t+1) - prediction) / sigma``.

    Attributes:
        values: ``[scene, start, entity, feature]``, standardised residuals; 0 where nothing is predicted.
        moved: the same shape, residuals of the linear skip alone, in units of their standard deviation: the motion that
            the modules have to explain.
        left: the same shape, residuals of the prediction in the same unit.
        valid: ``[scene, start, entity]``, where there is a prediction and a measurement to compare it with.
        noise: noise model; ``values`` of a model without a noise scale are divided by their root mean square.
    """

    values: Float[Tensor, "scene start entity feature"]
    moved: Float[Tensor, "scene start entity feature"]
    left: Float[Tensor, "scene start entity feature"]
    valid: Bool[Tensor, "scene start entity"]
    noise: NoiseModel

    @classmethod
    def of(cls, model: Model, scenes: Scenes, posterior: Posterior) -> Residuals:
        """Predict every sample of scenes from the one before, under the most probable structures (latent graphs)."""
        parts = [_residuals(model, *chunk) for chunk in chunks_with_structures(model, scenes, posterior)]
        values, moved, left, valid = (torch.cat(each) for each in zip(*parts, strict=True))
        if not model.noise.in_nats:
            values = left / left[valid].square().mean(0).sqrt().clamp_min(1e-12)
        return cls(values, moved, left, valid, model.noise)

    def of_feature(self, feature: int) -> Float[Tensor, "item"]:
        """All valid standardised residuals of a feature."""
        return self.values[..., feature][self.valid]

    def uniform(self, feature: int) -> Float[Tensor, "item"]:
        """Probability integral transform of the residuals: uniform on [0, 1] if the noise model is right."""
        return self.noise.cdf(self.of_feature(feature))

    def bound(self, level: float) -> float:
        """Half the width of the central interval with probability ``level``, in noise scales."""
        return self.noise.ppf(0.5 + 0.5 * level)

    def autocorrelation(self, feature: int) -> float:
        """Correlation between residuals of an entity at consecutive starts; 0 where no two are consecutive.

        It is computed from the probability integral transforms minus one half, so that heavy tails do not dominate.
        """
        ranks = self.noise.cdf(self.values[..., feature]) - 0.5
        both = self.valid[:, 1:] & self.valid[:, :-1]
        before, after = ranks[:, :-1][both], ranks[:, 1:][both]
        return float((before * after).sum() / (before.norm() * after.norm()).clamp_min(1e-12))


@torch.no_grad()
def _residuals(model: Model, scenes: Scenes, structures: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Standardised residuals, residuals of the linear skip, residuals, and validity of one chunk of scenes."""
    batch = pack(model, scenes)
    windows, graph, network = cut_windows(batch), batch.graph, model.network
    targets = windows.targets[:, :, 0]
    predicted = network.rollout(windows.states, graph, structures, 1, sender_mask=windows.sender_mask)
    left = (targets - predicted[:, :, 0]) / network.unit
    moved = (targets - network.linear(windows.states)) / network.unit
    values = left * torch.exp(-log_scales_of(model, graph, windows)[:, :, 0])
    valid = (windows.weights[:, :, 0] > 0) & graph.pack_nodes(scenes.predicted)[:, None]
    is_valid = valid[..., None].to(left.dtype)
    values, moved, left = (graph.unpack_nodes(each * is_valid).transpose(1, 2) for each in (values, moved, left))
    return values, moved, left, graph.unpack_nodes(valid.float()).transpose(1, 2) > 0
