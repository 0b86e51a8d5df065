"""Permutation test for relations: likelihood of the real scenes against surrogate scenes, which have no relations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator

from bouncegrad.energies.factors_of import halves
from bouncegrad.energies.windows import cut_windows, pack
from bouncegrad.inference import chunks
from bouncegrad.inference.search import loss_to_nats, trained_prior
from bouncegrad.models.model import Model
from bouncegrad.scenes import DataError, Scenes
from bouncegrad.structures.calibration import Halves
from bouncegrad.structures.layout import Layout
from bouncegrad.structures.priors import GraphPrior, Leader, least_losses
from bouncegrad.trust.surrogates import Shuffle

LEVEL = 0.05
"""Significance level: relations are reported up to this p-value."""

LEAST_SHUFFLES = 19
"""Least number of shuffles that can reach :data:`LEVEL`: the smallest p-value is ``1 / (num_shuffles + 1)``."""

NEGLIGIBLE = 0.01
"""Least effect in nats per pair: smaller effects are negligible even if significant."""

TEMPERATURES = (1.0, 8.0, 64.0, 512.0)
"""Candidate temperatures, as multiples of the model's, for predicting one half of the samples from the other: surrogate
scenes may need a higher one."""


@dataclass(frozen=True, slots=True)
class Foresight:
    """Predictive log likelihood of one half of the samples given the other half.

    Attributes:
        predictive: mean of ``log p(late | early)`` and ``log p(early | late)``, nats per scene.
        foretold: ``log p(late | early) / p(late)``, the part that is due to the structure alone, nats per scene.
    """

    predictive: float
    foretold: float


@dataclass(frozen=True, slots=True)
class NullTest:
    """Result of the permutation test: whether the likelihood depends on which tracks share a scene.

    Attributes:
        real: predictive log likelihood of the real scenes.
        null: predictive log likelihood of each set of surrogate scenes.
        num_scenes: number of scenes in each set.
        num_pairs: mean number of ordered pairs per scene.
        turned: whether tracks are rotated in time, which is necessary with few scenes.
    """

    real: Foresight
    null: tuple[Foresight, ...]
    num_scenes: int
    num_pairs: float
    turned: bool = False

    @property
    def p_value(self) -> float:
        """p-value of the hypothesis that there are no relations: ``(1 + #{null >= real}) / (1 + #null)``."""
        return _p_value(self.real.predictive, [each.predictive for each in self.null])

    @property
    def effect(self) -> float:
        """Predictive log likelihood of the real scenes minus the mean over surrogate scenes, nats per scene."""
        return self.real.predictive - sum(each.predictive for each in self.null) / len(self.null)

    @property
    def effect_per_pair(self) -> float:
        """The effect per ordered pair, nats."""
        return self.effect / self.num_pairs

    @property
    def structure_p_value(self) -> float:
        """p-value of the part of the predictive log likelihood that is due to the structure (latent graph) alone."""
        return _p_value(self.real.foretold, [each.foretold for each in self.null])

    @property
    def structure_effect(self) -> float:
        """The part due to the structure alone, real scenes minus mean over surrogate scenes, nats per scene."""
        return self.real.foretold - sum(each.foretold for each in self.null) / len(self.null)

    @property
    def has_relations(self) -> bool:
        """Whether relations are detected: a significant effect that is not negligible.

        This depends on the power of the model: a bad model can miss relations.
        """
        return self.p_value <= LEVEL and self.effect_per_pair >= NEGLIGIBLE

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "has_relations": self.has_relations,
            "p_value": self.p_value,
            "nats_per_scene": self.effect,
            "nats_per_pair": self.effect_per_pair,
            "structure_p_value": self.structure_p_value,
            "structure_nats_per_scene": self.structure_effect,
            "num_shuffles": len(self.null),
            "num_scenes": self.num_scenes,
            "turned": self.turned,
        }

    def __str__(self) -> str:
        null = f"than in surrogate scenes (p = {self.p_value:.2g}, {len(self.null)} shuffles)"
        size = f"{abs(self.effect):.3g} nats a scene ({abs(self.effect_per_pair):.3g} a pair)"
        if not self.has_relations:
            likelihood = f"{size} {'more' if self.effect > 0 else 'less'} likely"
            return f"No relations are detected: in the real scenes motion is {likelihood} {null}"
        varied = self.structure_p_value <= LEVEL
        which = (
            f"the relations in one half of a scene predict {self.structure_effect:.3g} nats of those in the other"
            if varied
            else "but the test detects no difference between pairs: perhaps all have the same kind"
        )
        verdict = f"There are relations: in the real scenes motion is {size} more likely {null}; {which}"
        return f"{verdict}. (A common cause that acts on all entities of a scene has the same effect.)"


def _p_value(real: float, null: Sequence[float]) -> float:
    """Rank of the real value among the values under the null hypothesis, as a p-value."""
    return (1 + sum(each >= real for each in null)) / (1 + len(null))


def null_test(
    model: Model,
    scenes: Scenes,
    num_shuffles: int = 19,
    seed: int = 0,
    watch: Callable[[int], None] | None = None,
) -> NullTest:
    """Test by permutation whether there are any relations: real scenes against surrogate scenes.

    Without relations the tracks of a scene are independent, and tracks that are exchanged between scenes
    (:class:`bouncegrad.trust.surrogates.Shuffle`) have the same distribution as before. So the real scenes take each
    rank among ``num_shuffles`` shuffled sets with the same probability, and ``(1 + #{null >= real}) / (1 +
    num_shuffles)`` is a p-value (Davison and Hinkley 1997, section 4.2; Phipson and Smyth 2010) for any model: a bad
    model lowers the power of the test, not its validity. With fewer scenes than entities, where tracks are rotated in
    time, this holds for long stationary recordings.

    The test statistic is the log likelihood of one half of the samples given the other half, averaged over the
    posterior over structures (latent graphs) given that half
    (:attr:`bouncegrad.structures.calibration.Halves.predictive`), at the model's temperature. It detects relations
    whether or not all pairs have the same edge type. The part that is due to the structure alone, at the best of
    :data:`TEMPERATURES`, is reported too.

    The test detects dependence between the entities of a scene. A common cause of all of them (the wind of a day) has
    the same effect as relations.

    Args:
        model: a model with one round of messages.
        scenes: held-out scenes; on its training scenes a model has fitted the real combinations of tracks and not the
            surrogate ones.
        num_shuffles: number of sets of surrogate scenes, :data:`LEAST_SHUFFLES` or more.
        seed: seed of the shuffles.
        watch: called after each set of surrogate scenes with the number of sets that are done.

    Raises:
        DataError: scenes too short for two halves.
        ValueError: too few shuffles, or a model with several rounds of messages.
    """
    _check(model, scenes, num_shuffles)
    generator = Generator().manual_seed(seed)
    shuffles = [Shuffle.draw(scenes, generator) for _ in range(num_shuffles)]
    turned = shuffles[0].turns
    whole = shuffles[0].as_gappy(scenes) if turned else scenes
    nats = _nats(model, scenes)
    real = _Sums.of(model, whole, nats)
    null = []
    for shuffle in shuffles:
        null.append(_Sums.of(model, shuffle.apply(scenes), nats))
        if watch:
            watch(len(null))
    return NullTest(
        real.foresight(real),
        tuple(each.foresight(real) for each in null),
        scenes.num_scenes,
        max(1.0, float(scenes.pairs.sum()) / scenes.num_scenes),
        turned,
    )


def _check(model: Model, scenes: Scenes, num_shuffles: int) -> None:
    """Raise an error for too few shuffles, too few samples, or a model with several rounds of messages."""
    if num_shuffles < LEAST_SHUFFLES:
        raise ValueError(
            f"expected {LEAST_SHUFFLES} shuffles or more, got {num_shuffles}: with fewer no p-value reaches {LEVEL}"
        )
    fewest = model.config.network.history + 2
    if scenes.num_times < fewest:
        raise DataError(f"expected scenes of {fewest} samples or more, got {scenes.num_times}: bring longer ones")
    if model.config.network.message_steps != 1:
        raise ValueError(
            "the permutation test needs a model with one round of messages, this one has "
            f"{model.config.network.message_steps}"
        )


def _rows(model: Model, scenes: Scenes) -> int:
    """Combinations of edge types that the tables hold per receiver; 1 without tables."""
    layout = model.layout(scenes.num_entities)
    return layout.num_assignments if layout.fits_tables else 1


def _nats(model: Model, scenes: Scenes) -> float:
    """Factor from losses to nats, estimated on the real scenes (:func:`bouncegrad.inference.search.loss_to_nats`)."""
    if model.noise.in_nats:
        return 1.0
    some = next(chunks(model, scenes, _rows(model, scenes)))
    batch = pack(model, some)
    early, late = halves(model, [batch])
    return loss_to_nats(model, cut_windows(batch), least_losses(early.plus(late), model.layout(scenes.num_entities)))


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums of predictive log likelihoods over all scenes.

    Attributes:
        predictive: nats.
        foretold: nats due to the structure alone, at each temperature.
        count: number of predicted next states.
        num_scenes: number of scenes.
    """

    predictive: float
    foretold: tuple[float, ...]
    count: float
    num_scenes: int

    @classmethod
    def of(cls, model: Model, scenes: Scenes, nats: float) -> _Sums:
        """Sum over chunks of scenes."""
        layout = model.layout(scenes.num_entities)
        prior, coolest = _prior_of_test(model, layout), model.reading.temperature / nats
        temperatures = [coolest * factor for factor in TEMPERATURES]
        predictive, foretold, count = 0.0, torch.zeros(len(temperatures)), 0.0
        for chunk in chunks(model, scenes, _rows(model, scenes)):
            found, seen = _halves(model, chunk, prior, temperatures)
            predictive, foretold, count = predictive + found[0], foretold + found[1], count + seen
        return cls(predictive, tuple(foretold.tolist()), count, scenes.num_scenes)

    def foresight(self, real: _Sums) -> Foresight:
        """Means per scene, rescaled to the number of predictions in the ``real`` scenes where samples are missing."""
        alike = real.count / max(1.0, self.count)
        return Foresight(alike * self.predictive / self.num_scenes, max(self.foretold) / self.num_scenes)


def _prior_of_test(model: Model, layout: Layout) -> GraphPrior:
    """The prior of the test: ``none``, or one leader at most where the model infers leaders or files.

    Both are exact for any number of entities.
    """
    if model.reading.prior not in ("leader", "file"):
        return trained_prior(model, layout, "none")
    return Leader(layout, torch.tensor(model.reading.weights[model.reading.prior]))


def _halves(model: Model, scenes: Scenes, prior: GraphPrior, temperatures: Sequence[float]) -> Any:
    """Log likelihoods of one chunk (predictive, structure alone), and its number of predicted states."""
    batch = pack(model, scenes)
    found = Halves.of(prior, *halves(model, [batch]), temperatures)
    return (float(found.predictive[0].sum()), found.foretold.sum(1)), float(cut_windows(batch).weights.sum())
