"""Temperatures that need no labels: for learning (by entropy) and for reading (by what early samples foretell)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from bouncegrad.model import Reading
from bouncegrad.priors.posterior import GraphPosterior, GraphPrior
from bouncegrad.types import FactorTables

READING_TEMPERATURES = tuple(2 ** (step / 2) for step in range(15))
"""From 1 to 128 in factors of the square root of 2."""

ABOUT = 0.02
"""Nats per scene that make no difference between two temperatures."""

HOTTEST = 1e6
"""Where energies of any sane model have lost their say."""


def mean_entropy(posterior: GraphPosterior) -> float:
    """Mean entropy of the marginals, as a share of its maximum: 1 = nothing known, 0 = all decided."""
    marginals = posterior.marginals().double()
    return float(-torch.xlogy(marginals, marginals).sum(-1).mean()) / math.log(max(2, marginals.shape[-1]))


def temperature_of_entropy(prior: GraphPrior, tables: FactorTables, share: float, coolest: float = 1.0) -> float:
    """The temperature at which the posterior's :func:`mean_entropy` is ``share``, but at least ``coolest``.

    Entropy grows with temperature, so bisection of its logarithm finds it, to 2 %.
    """
    low, high = math.log(coolest), math.log(HOTTEST)
    if mean_entropy(prior.posterior(tables, coolest)) >= share:
        return coolest
    while high - low > 0.02:
        middle = 0.5 * (low + high)
        if mean_entropy(prior.posterior(tables, math.exp(middle))) < share:
            low = middle
        else:
            high = middle
    return math.exp(high)


def foretold(prior: GraphPrior, early: FactorTables, late: FactorTables, temperature: float) -> Float[Tensor, "task"]:
    """How much likelier the early samples of a scene make its late ones, in nats.

    ``log p(late | early) / p(late) = log Z(early + late) - log Z(early) - log Z(late)`` with ``Z`` the evidence at the
    temperature. What normalises the likelihood of the samples cancels, so temperatures can be compared: too cold a
    reading is sure of an early graph that the late samples contradict, too hot a one foretells nothing.
    """
    both = together(early, late)
    whole, first, second = (prior.posterior(tables, temperature).log_evidence for tables in (both, early, late))
    return whole - first - second


def together(early: FactorTables, late: FactorTables) -> FactorTables:
    """The tables of all samples, from those of their halves."""
    return FactorTables(early.energies + late.energies, early.slots, early.num_kinds)


def reading_of(priors: Mapping[str, GraphPrior], early: FactorTables, late: FactorTables) -> Reading:
    """Choose prior and temperature on held-out scenes, without labels.

    The temperature is the one at which early samples foretell late ones best (:func:`foretold`), the hottest of all
    priors' choices; the prior is the one with the largest evidence there, the weaker belief where they tie.
    """
    temperature = max(_best_temperature(prior, early, late) for prior in priors.values())
    both = together(early, late)
    evidence = {n: float(p.posterior(both, temperature).log_evidence.mean()) for n, p in priors.items()}
    weights = {name: prior.log_weights.tolist() for name, prior in priors.items()}
    return Reading(max(evidence, key=lambda name: evidence[name]), temperature, evidence, weights)


def _best_temperature(prior: GraphPrior, early: FactorTables, late: FactorTables) -> float:
    """The coolest of those that foretell about as much as the best one."""
    nats = [float(foretold(prior, early, late, temperature).mean()) for temperature in READING_TEMPERATURES]
    return next(t for t, found in zip(READING_TEMPERATURES, nats, strict=True) if found >= max(nats) - ABOUT)
