"""Temperature of the E-step by kernels and proposals: scheduled, steered by the acceptance, or from the residuals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from bouncegrad.structures.annealing import (
    AcceptedWorse,
    AnnealingState,
    acceptance_annealing,
    acceptance_target,
    step_temperature,
)
from bouncegrad.structures.kernel_interface import SearchInfo
from bouncegrad.training.bounce.config import HEAT_STEPS, BounceConfig, scheduled_temperature
from bouncegrad.training.bounce.target import Target
from bouncegrad.types import Structures


class SearchTemperature:
    """The temperature of a search, with a state that lasts from batch to batch.

    Args:
        config: the rule (``heat``) and its numbers.
    """

    def __init__(self, config: BounceConfig) -> None:
        self.config = config
        self.steering = AnnealingState(0, config.hottest, 1.0)
        self.worse = AcceptedWorse()
        self.begins_pass = True

    def temperature(self, target: Target, structures: Structures, progress: float) -> float:
        """Temperature for the next batch; "stepped" and "automatic" change it only at the first batch of an epoch."""
        if self.config.heat == "scheduled":
            return scheduled_temperature(self.config, progress)
        if self.begins_pass and self.config.heat == "stepped":
            self._set(step_temperature(self.steering.temperature, self.worse.share, self._share(progress)))
        if self.begins_pass and self.config.heat == "automatic":
            self._set(target.automatic_temperature(structures))
        self.begins_pass = False
        return self.steering.temperature

    def learn(self, info: SearchInfo, progress: float) -> None:
        """Update the temperature by the acceptance in a batch."""
        if self.config.heat == "steered":
            self.steering = acceptance_annealing(self._share(progress), self.config.hottest).next(self.steering, info)
        if self.config.heat == "stepped":
            self.worse = self.worse.after(info)

    def finish_epoch(self) -> None:
        """Note that the next batch begins an epoch."""
        self.begins_pass = True

    def state(self) -> dict[str, Any]:
        """The state, as JSON."""
        return {"heat": asdict(self.steering), "worse": asdict(self.worse), "begins_pass": self.begins_pass}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state` returned."""
        self.steering, self.worse = AnnealingState(**state["heat"]), AcceptedWorse(**state["worse"])
        self.begins_pass = state["begins_pass"]

    def _set(self, temperature: float) -> None:
        self.steering = replace(self.steering, temperature=temperature)

    def _share(self, progress: float) -> float:
        """Target for the share of worse moves that are accepted."""
        steps = max(1, round(HEAT_STEPS * self.config.cooling))
        return self.config.acceptance * acceptance_target(steps)(round(HEAT_STEPS * progress))
