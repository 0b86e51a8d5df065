"""The default E-step: draws of whole graphs (structures) from their posterior, by energy tables of all receivers.

Message sums take the place of tables that would be too large. The temperature follows the entropy of the posterior.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator

from bouncegrad.energies.factors_of import factors_of
from bouncegrad.structures.calibration import (
    READING_TEMPERATURES,
    predictive_evidence,
)
from bouncegrad.structures.factors import Factors
from bouncegrad.structures.layout import Layout
from bouncegrad.structures.population_annealing import QUICK
from bouncegrad.structures.priors import PRIORS, GraphPrior, fast_priors, fit_weights
from bouncegrad.training.bounce.config import BounceConfig, BounceResult
from bouncegrad.training.bounce.target import SceneTarget
from bouncegrad.training.bounce.temperature import posterior_temperature
from bouncegrad.types import Structures

MARGIN = 0.5
"""Nats per held-out scene by which another prior must be better before the E-step changes to it."""


class TableBounce:
    """Draws whole graphs from the posterior; the weights of the priors and their choice are updated after each epoch.

    Args:
        config: prior and rule of the temperature.
        layout: the slots.

    Raises:
        ValueError: a prior that is not defined for scenes of this size.
    """

    def __init__(self, config: BounceConfig, layout: Layout) -> None:
        self.config = config
        auto = config.prior == "auto"
        self.priors: dict[str, GraphPrior] = (
            fast_priors(layout) if auto else {config.prior: PRIORS[config.prior](layout)}
        )
        self.chosen = "symmetric" if "symmetric" in self.priors else next(iter(self.priors))
        self.temperature: float | None = None
        self._forget()

    def search(
        self, target: SceneTarget, structures: Structures, progress: float, generator: Generator
    ) -> BounceResult:
        """Draw a graph for each scene from the posterior under the chosen prior."""
        factors = factors_of(*target)
        prior = self.priors[self.chosen]
        self.temperature = temperature = posterior_temperature(self.config, prior, factors, progress, self.temperature)
        posteriors = {name: prior.posterior(factors, temperature, QUICK) for name, prior in self.priors.items()}
        drawn = posteriors[self.chosen].draw(generator)
        self.usage = {name: self.usage[name] + posterior.usage() for name, posterior in posteriors.items()}
        changed = (drawn != structures).any(1)
        return BounceResult(drawn, changed, torch.ones_like(changed), changed, temperature, self.chosen)

    def finish_epoch(self, held_out: tuple[Factors, Factors] | None) -> None:
        """Fit the weights of every prior; change to that with the most held-out evidence, if it is clearly better."""
        self.priors = {name: fit_weights(prior, self.usage[name]) for name, prior in self.priors.items()}
        if held_out is not None and len(self.priors) > 1:
            evidence = predictive_evidence(self.priors, *held_out, READING_TEMPERATURES[::4])
            best = max(evidence, key=lambda name: evidence[name])
            if evidence[best] > evidence[self.chosen] + MARGIN:
                self.chosen = best
        self._forget()

    def state(self) -> dict[str, Any]:
        """Chosen prior, temperature and weights."""
        weights = {name: prior.log_weights.tolist() for name, prior in self.priors.items()}
        return {"chosen": self.chosen, "temperature": self.temperature, "weights": weights}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state` returned."""
        self.chosen, self.temperature = state["chosen"], state["temperature"]
        weights = {name: torch.tensor(values) for name, values in state["weights"].items()}
        self.priors = {name: prior.with_weights(weights[name]) for name, prior in self.priors.items()}

    def _forget(self) -> None:
        self.usage = {name: torch.zeros_like(prior.log_weights) for name, prior in self.priors.items()}
