"""Optimizer of the M-step: Adam with decoupled weight decay (AdamW), a learning-rate schedule, gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from bouncegrad.training.config import TrainingConfig
from bouncegrad.training.proposal_learner import load_moments, moments_of

STEP = 200
"""Epochs between two halvings of the learning rate with schedule "steps"."""


class ScheduledOptimizer:
    """AdamW with warm-up, gradient clipping and one of three learning-rate schedules.

    ``cosine`` follows the progress of the training. ``plateau`` halves the rate where the loss of an epoch has not
    fallen for a hundredth of the epochs, then waits a twentieth of them, down to 1e-5 (released code of Alet et al.
    2019). ``steps`` halves it every 200 epochs (released code of Kipf et al. 2018).

    Args:
        model: the network whose parameters are trained.
        config: peak learning rate, schedule, warm-up, weight decay and clipping.
    """

    def __init__(self, model: nn.Module, config: TrainingConfig) -> None:
        self.model, self.config = model, config
        self.optimizer = torch.optim.AdamW(
            model.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        # a schedule of a parameter that is never trained: its rate is read, and multiplied by the warm-up
        self.plateau = ReduceLROnPlateau(
            torch.optim.SGD([torch.zeros(1)], config.learning_rate),
            factor=0.5,
            patience=max(1, config.num_passes // 100),
            threshold=0,
            cooldown=config.num_passes // 20,
            min_lr=1e-5,
        )
        self.num_steps = self.num_passes = 0

    def step(self, progress: float) -> None:
        """One step along the gradient in the parameters' ``grad``, which is then zeroed."""
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(progress) * min(1.0, (self.num_steps + 1) / self.config.warm_up)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.num_steps += 1

    def finish_epoch(self, loss: float) -> None:
        """Update the schedule with the mean loss of an epoch."""
        self.num_passes += 1
        if self.config.schedule == "plateau":
            self.plateau.step(loss)

    def _rate(self, progress: float) -> float:
        if self.config.schedule == "plateau":
            return float(self.plateau.get_last_lr()[0])
        if self.config.schedule == "steps":
            return self.config.learning_rate * 0.5 ** (self.num_passes // STEP)
        return self.config.learning_rate * cosine(progress)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that resuming needs, as tensors and JSON."""
        counts = {"num_steps": self.num_steps, "num_passes": self.num_passes}
        return moments_of(self.optimizer), counts | {"plateau": self.plateau.state_dict(), "rate": self._rate(0)}

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state` returned."""
        load_moments(self.optimizer, tensors)
        self.num_steps, self.num_passes = meta["num_steps"], meta["num_passes"]
        self.plateau.load_state_dict(meta["plateau"])
        if self.config.schedule == "plateau":
            self.plateau.optimizer.param_groups[0]["lr"] = meta["rate"]


def cosine(progress: float) -> float:
    """Cosine schedule of a learning rate, from 1 down to 0.02: ``0.02 + 0.49 (1 + cos(pi progress))``.

    >>> [round(cosine(progress), 2) for progress in (0.0, 0.5, 1.0)]
    [1.0, 0.51, 0.02]
    """
    return 0.02 + 0.49 * (1 + math.cos(math.pi * progress))
