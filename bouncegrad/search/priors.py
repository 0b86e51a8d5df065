"""Priors over structures: what is believed before any data are seen."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from bouncegrad.types import LogPrior, Structures


def uniform() -> LogPrior:
    """All structures alike: ``log p = 0`` up to a constant."""

    def log_prior(structures: Structures) -> Float[Tensor, "task"]:
        return torch.zeros(len(structures), device=structures.device)

    return log_prior


def independent(log_probabilities: Float[Tensor, "slot kind"] | Float[Tensor, "kind"]) -> LogPrior:
    """Slots do not know of each other: ``log p = sum_s log p_s(kind of s)``.

    Args:
        log_probabilities: ``[kind]`` for all slots alike, or ``[slot, kind]``.
    """

    def log_prior(structures: Structures) -> Float[Tensor, "task"]:
        table = log_probabilities.expand(structures.shape[1], -1)
        return table.expand(len(structures), -1, -1).gather(2, structures[:, :, None]).sum((1, 2))

    return log_prior
