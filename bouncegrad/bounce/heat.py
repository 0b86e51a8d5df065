"""How hot a search that proposes is: one temperature for a batch, or for a pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from bouncegrad.bounce.config import HEAT_STEPS, BounceConfig, scheduled_temperature
from bouncegrad.evaluate import residual_moments
from bouncegrad.model import Batch, Model, Windows
from bouncegrad.search.annealing import (
    AcceptedWorse,
    AnnealingState,
    acceptance_steered,
    acceptance_target,
    stepped,
)
from bouncegrad.types import SearchInfo, Structures


class Heat:
    """The temperature of a search, with memory from batch to batch.

    Args:
        config: by which rule.
    """

    def __init__(self, config: BounceConfig) -> None:
        self.config = config
        self.steering = AnnealingState(0, config.hottest, 1.0)
        self.worse = AcceptedWorse()
        self.begins_pass = True

    def temperature(self, target: tuple[Model, Batch, Windows], structures: Structures, progress: float) -> float:
        """For the next batch; by the rules that the released code has, the same for all batches of a pass."""
        if self.config.heat == "scheduled":
            return scheduled_temperature(self.config, progress)
        if self.begins_pass and self.config.heat == "stepped":
            self._set(stepped(self.steering.temperature, self.worse.share, self._share(progress)))
        if self.begins_pass and self.config.heat == "automatic":
            self._set(automatic_temperature(*target, structures))
        self.begins_pass = False
        return self.steering.temperature

    def learn(self, info: SearchInfo, progress: float) -> None:
        """Take note of what a batch accepted."""
        if self.config.heat == "steered":
            self.steering = acceptance_steered(self._share(progress), self.config.hottest).next(self.steering, info)
        if self.config.heat == "stepped":
            self.worse = self.worse.after(info)

    def finish_pass(self) -> None:
        """The next batch begins a pass."""
        self.begins_pass = True

    def state(self) -> dict[str, Any]:
        """The memory, as JSON."""
        return {"heat": asdict(self.steering), "worse": asdict(self.worse), "begins_pass": self.begins_pass}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""
        self.steering, self.worse = AnnealingState(**state["heat"]), AcceptedWorse(**state["worse"])
        self.begins_pass = state["begins_pass"]

    def _set(self, temperature: float) -> None:
        self.steering = replace(self.steering, temperature=temperature)

    def _share(self, progress: float) -> float:
        steps = max(1, round(HEAT_STEPS * self.config.cooling))
        return self.config.acceptance * acceptance_target(steps)(round(HEAT_STEPS * progress))


def automatic_temperature(model: Model, batch: Batch, windows: Windows, structures: Structures) -> float:
    """``T = 2 L / (n (1 - r^2))`` for mean squares L of n numbers a scene whose residuals have autocorrelation r.

    Were the residuals normal and independent, with variance L, ``exp(-loss / T)`` would be their likelihood; what is
    left over from one sample to the next counts once. For energies in nats it is ``1 / (1 - r^2)``.
    Source: released code of Alet et al. 2019 (there the residuals of the last batch of the pass before).
    """
    mean_square, correlation = residual_moments(model, batch, windows, structures)
    independent = max(1e-6, 1 - correlation**2)
    if model.scale is not None:
        return 1 / independent
    count = float(windows.weights.sum()) * model.network.num_features / max(1, len(structures))
    return 2 * mean_square / (max(1.0, count) * independent)
