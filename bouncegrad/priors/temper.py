"""Temperatures that need no labels: for learning (by entropy) and for reading (by what early samples foretell)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from bouncegrad.model import Reading
from bouncegrad.priors.posterior import GraphPosterior, GraphPrior, SampledPosterior
from bouncegrad.search.population import QUICK
from bouncegrad.types import Added, Factors, FactorTables

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


def temperature_of_entropy(prior: GraphPrior, factors: Factors, share: float, coolest: float = 1.0) -> float:
    """The temperature at which the posterior's :func:`mean_entropy` is ``share``, but at least ``coolest``.

    Entropy grows with temperature, so bisection of its logarithm finds it, to 2 %; where posteriors are sampled, one
    cooling meets it on its way.
    """
    cooling = prior.cooling(factors, coolest, QUICK)
    if cooling is not None:
        return _met(cooling, share, coolest)
    low, high = math.log(coolest), math.log(HOTTEST)
    if mean_entropy(prior.posterior(factors, coolest)) >= share:
        return coolest
    while high - low > 0.02:
        middle = 0.5 * (low + high)
        if mean_entropy(prior.posterior(factors, math.exp(middle))) < share:
            low = middle
        else:
            high = middle
    return math.exp(high)


def _met(cooling: Iterable[SampledPosterior], share: float, coolest: float) -> float:
    """Where the entropy first falls below ``share``, between two rungs; ``coolest`` where it never does."""
    above = None
    for posterior in cooling:
        below = (math.log(posterior.temperature), mean_entropy(posterior))
        if below[1] < share:
            if above is None:
                return posterior.temperature
            part = (above[1] - share) / (above[1] - below[1])
            return math.exp(above[0] + part * (below[0] - above[0]))
        above = below
    return coolest


def foretold(
    prior: GraphPrior, early: Factors, late: Factors, temperatures: Sequence[float]
) -> Float[Tensor, "temperature task"]:
    """How much likelier the early samples of a scene make its late ones, in nats, read at each of some temperatures.

    ``log p(late | early) / p(late) = log Z(early + late) - log Z(early) - log Z(late)`` with ``Z`` the evidence at the
    temperature. What normalises the likelihood of the samples cancels, so temperatures can be compared: too cold a
    reading is sure of an early graph that the late samples contradict, too hot a one foretells nothing.
    """
    whole = (together(early, late), early, late)
    both, first, second = (evidence_at(prior, factors, temperatures) for factors in whole)
    return both - first - second


def evidence_at(
    prior: GraphPrior, factors: Factors, temperatures: Sequence[float]
) -> Float[Tensor, "temperature task"]:
    """The log evidence at each of some temperatures; where posteriors are sampled, from one cooling.

    Between two rungs the log evidence is taken as linear in one over the temperature; at infinity it is 0.
    """
    cooling = prior.cooling(factors, min(temperatures), QUICK)
    if cooling is None:
        return torch.stack([prior.posterior(factors, temperature).log_evidence for temperature in temperatures])
    rungs = list(cooling)
    knots = torch.tensor([0.0, *(1 / rung.temperature for rung in rungs)])
    values = torch.stack([torch.zeros(factors.num_tasks), *(rung.log_evidence for rung in rungs)])
    wanted = torch.tensor([1 / temperature for temperature in temperatures])
    after = torch.searchsorted(knots, wanted).clamp(1, len(rungs))
    part = ((wanted - knots[after - 1]) / (knots[after] - knots[after - 1])).clamp(0, 1)[:, None]
    return values[after - 1] + part * (values[after] - values[after - 1])


def together(early: Factors, late: Factors) -> Factors:
    """The factors of two stretches of the same scenes as one."""
    if isinstance(early, FactorTables) and isinstance(late, FactorTables):
        return FactorTables(early.energies + late.energies, early.slots, early.num_kinds)
    return Added(early, late)


def reading_of(priors: Mapping[str, GraphPrior], early: Factors, late: Factors) -> Reading:
    """Choose prior and temperature on held-out scenes, without labels.

    The temperature is the one at which early samples foretell late ones best (:func:`foretold`), the hottest of all
    priors' choices; the prior is the one with the largest evidence there, the weaker belief where they tie.
    """
    temperature = max(_best_temperature(prior, early, late) for prior in priors.values())
    both = together(early, late)
    evidence = {n: float(p.posterior(both, temperature).log_evidence.mean()) for n, p in priors.items()}
    weights = {name: prior.log_weights.tolist() for name, prior in priors.items()}
    return Reading(max(evidence, key=lambda name: evidence[name]), temperature, evidence, weights)


def _best_temperature(prior: GraphPrior, early: Factors, late: Factors) -> float:
    """The coolest of those that foretell about as much as the best one."""
    nats = foretold(prior, early, late, READING_TEMPERATURES).mean(1).tolist()
    return next(t for t, found in zip(READING_TEMPERATURES, nats, strict=True) if found >= max(nats) - ABOUT)
