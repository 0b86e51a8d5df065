"""Choice of temperatures and of the graph prior without labels, on held-out scenes.

For training, the temperature is the one at which the posterior over structures (latent graphs) has a given entropy.
For inference after training, it is the one at which the first half of the samples of a scene best predicts the second
half, and the prior is the one with the largest evidence (marginal likelihood); :class:`Reading` records both.
"""

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
"""Candidate temperatures for inference: from 1 to 4096 in factors of the square root of 2."""


ABOUT = 0.02
"""Tolerance in nats per scene: temperatures whose scores differ by less count as equally good."""


ABOUT_SHARE = 0.02
"""Relative tolerance of the entropy in the search for a temperature."""


HOTTEST = 1e6
"""Temperature so high that the posterior equals the prior for the energies of any sensible model."""


def mean_entropy(posterior: GraphPosterior, factors: Factors) -> float:
    """Mean entropy of the posterior marginals over all slots to infer, divided by its maximum: 1 uniform, 0 certain.

    Args:
        posterior: the posterior of some tasks.
        factors: factors of the same tasks; :attr:`Factors.exist` masks the slots to infer.
    """
    marginals = posterior.marginals().double()
    entropies = -torch.xlogy(marginals, marginals).sum(-1)
    if factors.exist is not None:
        entropies = entropies[:, factors.slots.flatten()][factors.exist.flatten(1)]
        if not len(entropies):
            return 0.0
    return float(entropies.mean()) / math.log(max(2, marginals.shape[-1]))


def entropy_left(prior: GraphPrior, factors: Factors) -> float:
    """The :func:`mean_entropy` of a prior without data: below 1 for a prior that excludes many graphs."""
    if prior.cooling(factors, HOTTEST, QUICK) is not None:
        return 1.0
    return mean_entropy(prior.posterior(factors, HOTTEST), factors)


def temperature_of_entropy(
    prior: GraphPrior, factors: Factors, share: float, coolest: float = 1.0, guess: float | None = None
) -> float:
    """The temperature at which the :func:`mean_entropy` of the posterior is ``share``, but at least ``coolest``.

    Entropy grows with temperature. The search brackets the solution from ``guess`` outwards, then bisects the log
    temperature, to 2% of the entropy or of the temperature; a good guess saves evaluations. For sampled posteriors one
    annealing run passes through all temperatures, and the crossing is interpolated.
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
        # step outwards from the guess until the other end of the bracket is closer, then bisect
        beyond = middle + stride if found < share else middle - stride
        middle = beyond if low < beyond < high else 0.5 * (low + high)
        stride *= 2
    return math.exp(low)


def _crossing(cooling: Iterable[SampledPosterior], factors: Factors, share: float, coolest: float) -> float:
    """The temperature, between two rungs, at which the entropy first falls below ``share``; else ``coolest``."""
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
    """Log evidence of the first half of the samples of scenes, of the second half and of both, under one prior.

    The normaliser of the likelihood of the samples cancels in :attr:`foretold` and in all differences between priors.

    Attributes:
        early: ``[temperature, task]``, log evidence of the first half, nats.
        late: ``[temperature, task]``, log evidence of the second half, nats.
        both: ``[temperature, task]``, log evidence of all samples, nats.
    """

    early: Float[Tensor, "temperature task"]
    late: Float[Tensor, "temperature task"]
    both: Float[Tensor, "temperature task"]

    @classmethod
    def of(cls, prior: GraphPrior, early: Factors, late: Factors, temperatures: Sequence[float]) -> Halves:
        """Evaluate the three log evidences of each task at each temperature."""
        return cls(*(evidence_at(prior, factors, temperatures) for factors in (early, late, early.plus(late))))

    @property
    def foretold(self) -> Float[Tensor, "temperature task"]:
        """How well one half predicts the other: pointwise mutual information ``log p(late | early) / p(late)``, nats.

        At too low a temperature the posterior of the first half is overconfident in a graph that the second half
        contradicts; at too high a temperature the first half predicts nothing.
        """
        return self.both - self.early - self.late

    @property
    def predictive(self) -> Float[Tensor, "temperature task"]:
        """Predictive log likelihood of one half given the other, nats: mean of ``log p(late | early)`` and its reverse.

        Unlike the evidence of all samples it leaves out how well the prior predicts before any data, so that a narrow
        prior cannot win on scenes whose energies carry no information yet.
        """
        return self.both - 0.5 * (self.early + self.late)

    def best(self, temperatures: Sequence[float]) -> float:
        """The lowest temperature at which :attr:`foretold` is within :data:`ABOUT` nats of its maximum."""
        nats = self.foretold.mean(1).tolist()
        good = (t for t, found in zip(temperatures, nats, strict=True) if found >= max(nats) - ABOUT)
        return next(good, temperatures[0])  # no temperature qualifies if energies are NaN


def evidence_at(
    prior: GraphPrior, factors: Factors, temperatures: Sequence[float]
) -> Float[Tensor, "temperature task"]:
    """The log evidence at each temperature; for sampled posteriors from one annealing run.

    Between two rungs of the run the log evidence is interpolated linearly in the inverse temperature, from 0 at inverse
    temperature 0.
    """
    cooling = prior.cooling(factors, min(temperatures), QUICK)
    if cooling is None:
        return torch.stack([prior.posterior(factors, temperature).log_evidence for temperature in temperatures])
    rungs = list(cooling)
    knots = torch.tensor([0.0, *(1 / rung.temperature for rung in rungs)])
    values = torch.stack([torch.zeros(factors.num_tasks), *(rung.log_evidence for rung in rungs)])
    inverse = torch.tensor([1 / temperature for temperature in temperatures])
    after = torch.searchsorted(knots, inverse).clamp(1, len(rungs))
    part = ((inverse - knots[after - 1]) / (knots[after] - knots[after - 1])).clamp(0, 1)[:, None]
    return values[after - 1] + part * (values[after] - values[after - 1])


def predictive_evidence(
    priors: Mapping[str, GraphPrior], early: Factors, late: Factors, temperatures: Sequence[float]
) -> dict[str, float]:
    """Prior -> mean :attr:`Halves.predictive`, nats per scene: the criterion for the prior early in training.

    All priors are compared at one temperature, the highest of their best temperatures.
    """
    found = {name: Halves.of(prior, early, late, temperatures) for name, prior in priors.items()}
    hottest = temperatures.index(max(halves.best(temperatures) for halves in found.values()))
    return {name: float(halves.predictive[hottest].mean()) for name, halves in found.items()}


def reading_of(priors: Mapping[str, GraphPrior], early: Factors, late: Factors) -> Reading:
    """Choose the prior, and a temperature for inference under each prior, on held-out scenes without labels.

    Priors are compared by the evidence of all samples, at the best temperature of the weakest prior (the first one),
    which corrects overconfident energies rather than a wrong prior; on a tie the weaker prior wins. The temperature
    under the winner is the one at which one half of the samples best predicts the other. The temperature under every
    other prior brings its marginals closest to those of the winner (logarithmic score), so that they are calibrated
    too; sampled posteriors, for which this is slow, keep the temperature at which their own halves predict best.
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
    """The temperature at which the marginals under a prior have the best expected log score if ``answer`` is true."""

    def score(temperature: float) -> float:
        marginals = prior.posterior(factors, temperature).marginals()
        return float(torch.xlogy(answer, marginals.clamp_min(1e-9)).sum())

    return max(READING_TEMPERATURES, key=score)


@dataclass(frozen=True, slots=True)
class Reading:
    """Prior and temperatures for inference with a trained model, chosen on held-out scenes without labels.

    Attributes:
        prior: name of the prior with the largest evidence.
        temperature: temperature at which the priors are compared; above 1 if the noise model is overconfident.
        evidence: prior -> mean log evidence of the held-out scenes at that temperature, nats per scene, up to a
            constant that is the same for all priors.
        weights: prior -> its log weights, fitted during training.
        temperatures: prior -> the temperature of posteriors under this prior.
    """

    prior: str = "none"
    temperature: float = 1.0
    evidence: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, Sequence[float]] = field(default_factory=dict)
    temperatures: Mapping[str, float] = field(default_factory=dict)

    def temperature_under(self, prior: str) -> float:
        """The temperature of posteriors under a prior; :attr:`temperature` for a prior without its own."""
        return self.temperatures.get(prior, self.temperature)
