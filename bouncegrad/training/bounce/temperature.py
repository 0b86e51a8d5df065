"""Temperature of the E-step: every rule (``heat``) by which a search is hot at first and cools while modules learn.

================  ===================================================================================================
``entropy``       the entropy of the posterior is a falling share of that of the prior (:func:`posterior_temperature`)
``scheduled``     a geometric fall (:func:`scheduled_temperature`)
``steered``       the share of worse moves that are accepted follows a falling target (:class:`SearchTemperature`)
``stepped``       the same by the rule of the released code of Alet et al. 2019
``automatic``     from the size of the residuals and their autocorrelation
================  ===================================================================================================

Draws of whole graphs (:mod:`bouncegrad.training.bounce.e_step`) know the first two rules, kernels and proposals
all but the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from bouncegrad.structures.annealing import (
    AcceptedWorse,
    AnnealingState,
    acceptance_annealing,
    acceptance_target,
    exponential,
    step_temperature,
)
from bouncegrad.structures.calibration import entropy_left, temperature_of_entropy
from bouncegrad.structures.factors import Factors
from bouncegrad.structures.kernel_interface import SearchInfo
from bouncegrad.structures.priors import GraphPrior
from bouncegrad.training.bounce.config import BounceConfig
from bouncegrad.training.bounce.target import Target
from bouncegrad.types import Structures

HEAT_STEPS = 10_000
"""Number of steps into which temperature schedules divide a training."""


def scheduled_temperature(config: BounceConfig, progress: float) -> float:
    """The temperature of heat "scheduled": a geometric fall from hottest to coolest."""
    cooling = exponential(config.hottest, config.coolest, max(1, round(HEAT_STEPS * config.cooling)))
    return cooling(round(HEAT_STEPS * progress))


def posterior_temperature(
    config: BounceConfig, prior: GraphPrior, factors: Factors, progress: float, previous: float | None
) -> float:
    """The temperature at which whole graphs are drawn from the posterior.

    Args:
        config: the rule, "entropy" or "scheduled", and its numbers.
        prior: the chosen prior over graphs.
        factors: of the batch.
        progress: share of the training that is done.
        previous: the temperature of the last batch, from which a search for the entropy starts.
    """
    if config.heat != "entropy":
        return scheduled_temperature(config, progress)
    share = config.entropy * max(0.0, 1 - progress / max(config.cooling, 1e-9))
    if config.prior != "auto":  # for "auto" one measure for all priors, so that they can be compared
        share *= entropy_left(prior, factors)
    return temperature_of_entropy(prior, factors, share, config.coolest, guess=previous)


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
