"""Temperatures that need no labels: for learning (by entropy) and for reading (by what early samples foretell)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from bouncegrad.structures.factors import Factors
from bouncegrad.structures.population_annealing import QUICK
from bouncegrad.structures.priors.posterior import GraphPosterior, GraphPrior, SampledPosterior

READING_TEMPERATURES = tuple(2 ** (step / 2) for step in range(25))
"""From 1 to 4096 in factors of the square root of 2."""


ABOUT = 0.02
"""Nats per scene that make no difference between two temperatures."""


ABOUT_SHARE = 0.02
"""Part of a share of the entropy that makes no difference."""


HOTTEST = 1e6
"""Where energies of any sane model have lost their say."""


def mean_entropy(posterior: GraphPosterior, factors: Factors) -> float:
    """Mean entropy of the marginals of all slots asked about, as a share of its maximum: 1 = unknown, 0 = all decided.

    Args:
        posterior: of some tasks.
        factors: of the same tasks; they say which slots these are.
    """
    marginals = posterior.marginals().double()
    entropies = -torch.xlogy(marginals, marginals).sum(-1)
    if factors.exist is not None:
        entropies = entropies[:, factors.slots.flatten()][factors.exist.flatten(1)]
        if not len(entropies):
            return 0.0
    return float(entropies.mean()) / math.log(max(2, marginals.shape[-1]))


def entropy_left(prior: GraphPrior, factors: Factors) -> float:
    """The :func:`mean_entropy` of a prior before anything is seen: below 1 where it rules much out."""
    if prior.cooling(factors, HOTTEST, QUICK) is not None:
        return 1.0
    return mean_entropy(prior.posterior(factors, HOTTEST), factors)


def temperature_of_entropy(
    prior: GraphPrior, factors: Factors, share: float, coolest: float = 1.0, guess: float | None = None
) -> float:
    """The temperature at which the posterior's :func:`mean_entropy` is ``share``, but at least ``coolest``.

    Entropy grows with temperature: from the guess outwards until it is enclosed, then bisection of the logarithm, to
    two hundredths of the entropy or of the temperature. A good guess costs few evaluations. Where posteriors are
    sampled, one cooling meets the temperature on its way.
    """
    if factors.exist is not None and not factors.exist.any():
        return coolest
    cooling = prior.cooling(factors, coolest, QUICK)
    if cooling is not None:
        return _crossing(cooling, factors, share, coolest)
    low, high = math.log(coolest), math.log(HOTTEST)
    if share <= 0:
        return coolest
    middle, stride = (0.5 * (low + high), high) if guess is None else (min(max(math.log(guess), low), high), 0.1)
    while high - low > 0.02:
        found = mean_entropy(prior.posterior(factors, math.exp(middle)), factors)
        if abs(found - share) < ABOUT_SHARE * share:
            return math.exp(middle)
        low, high = (middle, high) if found < share else (low, middle)
        beyond = middle + stride if found < share else middle - stride
        middle = beyond if low < beyond < high else 0.5 * (low + high)
        stride *= 2
    return math.exp(low)


def _crossing(cooling: Iterable[SampledPosterior], factors: Factors, share: float, coolest: float) -> float:
    """Where the entropy first falls below ``share``, between two rungs; ``coolest`` where it never does."""
    above = None
    for posterior in cooling:
        below = (math.log(posterior.temperature), mean_entropy(posterior, factors))
        if below[1] < share:
            if above is None:
                return posterior.temperature
            part = (above[1] - share) / (above[1] - below[1])
            return math.exp(above[0] + part * (below[0] - above[0]))
        above = below
    return coolest


@dataclass(frozen=True, slots=True)
class Halves:
    """Log evidence of the early samples of scenes, of the late ones, and of both, under one prior, at temperatures.

    What normalises the likelihood of the samples cancels in :attr:`foretold` and in all differences between priors.

    Attributes:
        early: ``[temperature, task]``, nats.
        late: ``[temperature, task]``.
        both: ``[temperature, task]``.
    """

    early: Float[Tensor, "temperature task"]
    late: Float[Tensor, "temperature task"]
    both: Float[Tensor, "temperature task"]

    @classmethod
    def of(cls, prior: GraphPrior, early: Factors, late: Factors, temperatures: Sequence[float]) -> Halves:
        """Three posteriors of each task for each temperature."""
        return cls(*(evidence_at(prior, factors, temperatures) for factors in (early, late, early.plus(late))))

    @property
    def foretold(self) -> Float[Tensor, "temperature task"]:
        """How much likelier one half makes the other: ``log p(late | early) / p(late)``, nats.

        Too cold a reading is sure of an early graph that the late samples contradict, too hot a one foretells nothing.
        """
        return self.both - self.early - self.late

    @property
    def predictive(self) -> Float[Tensor, "temperature task"]:
        """How likely one half is, given the other: the mean of ``log p(late | early)`` and ``log p(early | late)``.

        Unlike the evidence of all samples at once it leaves out what a belief costs before anything is seen: narrow
        beliefs cannot win on scenes of which nothing is known yet.
        """
        return self.both - 0.5 * (self.early + self.late)

    def best(self, temperatures: Sequence[float]) -> float:
        """Of the temperatures, the coolest at which one half foretells the other about as well as it ever does."""
        nats = self.foretold.mean(1).tolist()
        good = (t for t, found in zip(temperatures, nats, strict=True) if found >= max(nats) - ABOUT)
        return next(good, temperatures[0])  # none is good where the energies are no numbers


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


def predictive_evidence(
    priors: Mapping[str, GraphPrior], early: Factors, late: Factors, temperatures: Sequence[float]
) -> dict[str, float]:
    """Prior -> :attr:`Halves.predictive`, nats per scene: which belief a search that has just begun should follow.

    All at one temperature, the hottest of those that suit one of them.
    """
    found = {name: Halves.of(prior, early, late, temperatures) for name, prior in priors.items()}
    hottest = temperatures.index(max(halves.best(temperatures) for halves in found.values()))
    return {name: float(halves.predictive[hottest].mean()) for name, halves in found.items()}


def reading_of(priors: Mapping[str, GraphPrior], early: Factors, late: Factors) -> Reading:
    """Choose prior and temperatures on held-out scenes, without labels.

    Priors are compared by the evidence of all samples, at the temperature that suits the weakest belief: that which is
    needed because the energies are too sure, not because the belief is wrong; the weaker one wins where they tie. Under
    the winner, scenes are read at the temperature at which one half of the samples foretells the other best; under the
    others, at the one that brings their marginals closest to the winner's (by the logarithmic score), so that they too
    are as sure as they are right (where posteriors are sampled this would take long, and each prior judges itself).
    """
    halves = {name: Halves.of(prior, early, late, READING_TEMPERATURES) for name, prior in priors.items()}
    found = {name: each.best(READING_TEMPERATURES) for name, each in halves.items()}
    common = next(iter(found.values()))
    place = READING_TEMPERATURES.index(common)
    evidence = {name: float(each.both[place].mean()) for name, each in halves.items()}
    winner = max(evidence, key=lambda name: evidence[name])
    both = early.plus(late)
    exact = {name for name, prior in priors.items() if prior.cooling(both, found[name], QUICK) is None}
    if winner in exact:
        answer = priors[winner].posterior(both, found[winner]).marginals()
        found |= {name: _closest(priors[name], both, answer) for name in exact - {winner}}
    weights = {name: prior.log_weights.tolist() for name, prior in priors.items()}
    return Reading(winner, common, evidence, weights, found)


def _closest(prior: GraphPrior, factors: Factors, answer: Float[Tensor, "task slot kind"]) -> float:
    """The temperature at which the marginals under a prior score best, if slots were drawn from ``answer``."""

    def score(temperature: float) -> float:
        marginals = prior.posterior(factors, temperature).marginals()
        return float(torch.xlogy(answer, marginals.clamp_min(1e-9)).sum())

    return max(READING_TEMPERATURES, key=score)


@dataclass(frozen=True, slots=True)
class Reading:
    """How graphs are read off a model, as found on held-out scenes without labels.

    Attributes:
        prior: the name of the prior with the largest evidence.
        temperature: at which the priors are compared; above 1 where the noise model is too sure.
        evidence: prior -> mean log evidence of the held-out scenes at that temperature, nats per scene, up to a number
            that is the same for all priors.
        temperatures: prior -> the temperature at which posteriors under it are read.
        weights: prior -> the log weights that it learned.
    """

    prior: str = "none"
    temperature: float = 1.0
    evidence: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, Sequence[float]] = field(default_factory=dict)
    temperatures: Mapping[str, float] = field(default_factory=dict)

    def temperature_under(self, prior: str) -> float:
        """The temperature at which posteriors under a prior are read."""
        return self.temperatures.get(prior, self.temperature)
