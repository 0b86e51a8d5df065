"""Temperatures that need no labels: for learning (by entropy) and for reading (by what early samples foretell)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bouncegrad.model import Reading
from bouncegrad.priors.posterior import GraphPosterior, GraphPrior
from bouncegrad.types import FactorTables

READING_TEMPERATURES = tuple(2 ** (step / 2) for step in range(25))
"""From 1 to 4096 in factors of the square root of 2."""

ABOUT = 0.02
"""Nats per scene that make no difference between two temperatures."""

ABOUT_SHARE = 0.02
"""Part of a share of the entropy that makes no difference."""

HOTTEST = 1e6
"""Where energies of any sane model have lost their say."""


def mean_entropy(posterior: GraphPosterior) -> float:
    """Mean entropy of the marginals, as a share of its maximum: 1 = nothing known, 0 = all decided."""
    marginals = posterior.marginals().double()
    return float(-torch.xlogy(marginals, marginals).sum(-1).mean()) / math.log(max(2, marginals.shape[-1]))


def temperature_of_entropy(
    prior: GraphPrior, tables: FactorTables, share: float, coolest: float = 1.0, guess: float | None = None
) -> float:
    """The temperature at which the posterior's :func:`mean_entropy` is ``share``, but at least ``coolest``.

    Entropy grows with temperature: from the guess outwards until it is enclosed, then bisection of the logarithm, to
    two hundredths of the entropy or of the temperature. A good guess costs few evaluations.
    """

    low, high = math.log(coolest), math.log(HOTTEST)
    if share <= 0:
        return coolest
    middle, stride = (0.5 * (low + high), high) if guess is None else (min(max(math.log(guess), low), high), 0.1)
    while high - low > 0.02:
        found = mean_entropy(prior.posterior(tables, math.exp(middle)))
        if abs(found - share) < ABOUT_SHARE * share:
            return math.exp(middle)
        low, high = (middle, high) if found < share else (low, middle)
        beyond = middle + stride if found < share else middle - stride
        middle = beyond if low < beyond < high else 0.5 * (low + high)
        stride *= 2
    return math.exp(low)


@dataclass(frozen=True, slots=True)
class Halves:
    """Log evidence of the early samples of scenes, of the late ones, and of both, under one prior and temperature.

    What normalises the likelihood of the samples cancels in all differences between priors or temperatures.

    Attributes:
        early: ``[task]``, nats.
        late: ``[task]``.
        both: ``[task]``.
    """

    early: Float[Tensor, "task"]
    late: Float[Tensor, "task"]
    both: Float[Tensor, "task"]

    @classmethod
    def of(cls, prior: GraphPrior, early: FactorTables, late: FactorTables, temperature: float) -> Halves:
        """Three posteriors of each task."""
        all_three = (early, late, together(early, late))
        return cls(*(prior.posterior(tables, temperature).log_evidence for tables in all_three))

    @property
    def foretold(self) -> float:
        """How much likelier one half makes the other: ``log p(late | early) / p(late)``, nats per scene.

        Too cold a reading is sure of an early graph that the late samples contradict, too hot a one foretells nothing.
        """
        return float((self.both - self.early - self.late).mean())

    @property
    def predictive(self) -> float:
        """How likely one half is, given the other: the mean of ``log p(late | early)`` and ``log p(early | late)``.

        Unlike the evidence of all samples at once it leaves out what a belief costs before anything is seen: narrow
        beliefs cannot win on scenes of which nothing is known yet.
        """
        return float((self.both - 0.5 * (self.early + self.late)).mean())


def together(early: FactorTables, late: FactorTables) -> FactorTables:
    """The tables of all samples, from those of their halves."""
    return FactorTables(early.energies + late.energies, early.slots, early.num_kinds)


def reading_of(
    priors: Mapping[str, GraphPrior],
    early: FactorTables,
    late: FactorTables,
    temperatures: Sequence[float] = READING_TEMPERATURES,
) -> Reading:
    """Choose prior and temperature on held-out scenes, without labels.

    Under each prior it is read at the temperature at which one half of the samples foretells the other best; the prior
    is the one with the largest predictive evidence at the hottest of these, the weaker belief where they tie.
    """
    found = {name: _best_temperature(prior, early, late, temperatures) for name, prior in priors.items()}
    hottest = max(found.values())
    evidence = {name: Halves.of(prior, early, late, hottest).predictive for name, prior in priors.items()}
    weights = {name: prior.log_weights.tolist() for name, prior in priors.items()}
    return Reading(max(evidence, key=lambda name: evidence[name]), hottest, evidence, weights, found)


def _best_temperature(
    prior: GraphPrior, early: FactorTables, late: FactorTables, temperatures: Sequence[float]
) -> float:
    """The coolest of those that foretell about as much as the best one."""
    nats = [Halves.of(prior, early, late, temperature).foretold for temperature in temperatures]
    return next(t for t, found in zip(temperatures, nats, strict=True) if found >= max(nats) - ABOUT)
