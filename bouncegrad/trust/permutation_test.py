"""Are there relations at all? Real scenes beside scenes of strangers, between whom there can be none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator

from bouncegrad.energies.factors_of import halves
from bouncegrad.energies.windows import cut_windows, pack
from bouncegrad.inference import chunks
from bouncegrad.inference.search import nats_per_loss, trained_prior
from bouncegrad.models.model import Model
from bouncegrad.scenes import DataError, Scenes
from bouncegrad.structures.calibration import Halves
from bouncegrad.structures.layout import Layout
from bouncegrad.structures.priors import GraphPrior, Leader, least_losses
from bouncegrad.trust.surrogates import Shuffle

LEVEL = 0.05
"""Largest p-value at which relations are believed in."""

LEAST_SHUFFLES = 19
"""With fewer, no p-value can be as small as :data:`LEVEL`: the smallest is ``1 / (num_shuffles + 1)``."""

NEGLIGIBLE = 0.01
"""Nats per pair below which it makes no difference who is beside whom, however surely that little is there."""

TEMPERATURES = (1.0, 8.0, 64.0, 512.0)
"""Multiples of the reading temperature at which halves may foretell each other: strangers may suit a hotter one."""


@dataclass(frozen=True, slots=True)
class Foresight:
    """How well one half of the samples of scenes is known from the other.

    Attributes:
        predictive: mean of ``log p(late | early)`` and ``log p(early | late)``, nats per scene.
        foretold: ``log p(late | early) / p(late)``, what is due to the structure alone, nats per scene.
    """

    predictive: float
    foretold: float


@dataclass(frozen=True, slots=True)
class NullTest:
    """Whether it matters who is beside whom.

    Attributes:
        real: of the scenes as they are.
        null: of each set of scenes of strangers.
        num_scenes: how many scenes each set has.
        num_pairs: ordered pairs in a scene, on average.
        turned: whether tracks had to be turned in time, because there are few scenes.
    """

    real: Foresight
    null: tuple[Foresight, ...]
    num_scenes: int
    num_pairs: float
    turned: bool = False

    @property
    def p_value(self) -> float:
        """Chance that scenes without relations do as well as the real ones: ``(1 + #{null >= real}) / (1 + #null)``."""
        return _rank(self.real.predictive, [each.predictive for each in self.null])

    @property
    def effect(self) -> float:
        """How much likelier half of the samples is beside those who were really there than beside strangers, nats."""
        return self.real.predictive - sum(each.predictive for each in self.null) / len(self.null)

    @property
    def effect_per_pair(self) -> float:
        """The same for each ordered pair, nats."""
        return self.effect / self.num_pairs

    @property
    def structure_p_value(self) -> float:
        """The p-value of what one half foretells of the other's structure alone."""
        return _rank(self.real.foretold, [each.foretold for each in self.null])

    @property
    def structure_effect(self) -> float:
        """How much more one half foretells of the other's structure than between strangers, nats per scene."""
        return self.real.foretold - sum(each.foretold for each in self.null) / len(self.null)

    @property
    def has_relations(self) -> bool:
        """Whether there are relations, as far as this model can see them."""
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
        beside = f"than beside strangers (p = {self.p_value:.2g}, {len(self.null)} shuffles)"
        size = f"{abs(self.effect):.3g} nats a scene ({abs(self.effect_per_pair):.3g} a pair)"
        if not self.has_relations:
            much = f"{size} {'more' if self.effect > 0 else 'less'} likely"
            return f"No relations are seen: beside those who were there motion is {much} {beside}"
        varied = self.structure_p_value <= LEVEL
        which = (
            f"the relations of one half of a scene foretell {self.structure_effect:.3g} nats of those of the other"
            if varied
            else "but who has which relation is not seen: perhaps all pairs are alike"
        )
        said = f"There are relations: beside those who were there motion is {size} likelier {beside}; {which}"
        return f"{said}. (What acts on all of a scene alike looks the same.)"


def _rank(real: float, null: Sequence[float]) -> float:
    return (1 + sum(each >= real for each in null)) / (1 + len(null))


def null_test(
    model: Model,
    scenes: Scenes,
    num_shuffles: int = 19,
    seed: int = 0,
    watch: Callable[[int], None] | None = None,
) -> NullTest:
    """Test whether there are relations at all: real scenes beside scenes of strangers.

    If nobody acts on anybody, a scene is a bundle of tracks that know nothing of each other, and tracks that are
    exchanged between scenes (:class:`bouncegrad.trust.surrogates.Shuffle`) are distributed as before. So the real
    scenes are as likely to stand on any rank among ``num_shuffles`` shuffled ones, and ``(1 + #{null >= real}) / (1 +
    num_shuffles)`` is a p-value (Davison and Hinkley 1997, section 4.2; Phipson and Smyth 2010), whatever the model:
    a bad one sees less, but nothing that is not there. With fewer scenes than entities, where tracks are turned in
    time, this holds for long stationary recordings.

    What is compared is how likely one half of the samples is, given the other, over the graphs that the first half
    leaves possible (:attr:`bouncegrad.structures.calibration.Halves.predictive`), at the temperature of reading. That
    sees relations of which all pairs have the same kind as well as those that differ; what one half foretells of the
    structure alone, at the best of :data:`TEMPERATURES`, is reported beside it.

    The test tells that those in a scene belong together. A cause that all of them share (a wind of that day) does that
    as well.

    Args:
        model: whose relations are in doubt; one round of messages.
        scenes: that it was not trained on, or it has seen those who were there and no strangers.
        num_shuffles: sets of scenes of strangers, :data:`LEAST_SHUFFLES` or more.
        seed: of the shuffles.
        watch: called after each set of scenes of strangers, with how many are done.

    Raises:
        DataError: scenes too short to have two halves.
        ValueError: too few shuffles, or several rounds of messages.
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
    if num_shuffles < LEAST_SHUFFLES:
        raise ValueError(f"expected {LEAST_SHUFFLES} shuffles or more, got {num_shuffles}: fewer can prove nothing")
    fewest = model.config.network.history + 2
    if scenes.num_times < fewest:
        raise DataError(f"expected scenes of {fewest} samples or more, got {scenes.num_times}: bring longer ones")
    if model.config.network.message_steps != 1:
        raise ValueError(
            f"the null test needs a model with one round of messages, this one has {model.config.network.message_steps}"
        )


def _rows(model: Model, scenes: Scenes) -> int:
    layout = model.layout(scenes.num_entities)
    return layout.num_assignments if layout.fits_tables else 1


def _nats(model: Model, scenes: Scenes) -> float:
    """What turns losses into nats, as the real scenes say (:func:`bouncegrad.inference.search.nats_per_loss`)."""
    if model.noise.in_nats:
        return 1.0
    some = next(chunks(model, scenes, _rows(model, scenes)))
    batch = pack(model, some)
    early, late = halves(model, [batch])
    return nats_per_loss(model, cut_windows(batch), least_losses(early.plus(late), model.layout(scenes.num_entities)))


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums over all scenes.

    Attributes:
        predictive: nats.
        foretold: at each temperature, nats.
        count: how many next states were predicted.
        num_scenes: how many scenes.
    """

    predictive: float
    foretold: tuple[float, ...]
    count: float
    num_scenes: int

    @classmethod
    def of(cls, model: Model, scenes: Scenes, nats: float) -> _Sums:
        layout = model.layout(scenes.num_entities)
        prior, coolest = _belief(model, layout), model.reading.temperature / nats
        temperatures = [coolest * factor for factor in TEMPERATURES]
        predictive, foretold, count = 0.0, torch.zeros(len(temperatures)), 0.0
        for chunk in chunks(model, scenes, _rows(model, scenes)):
            found, seen = _halves(model, chunk, prior, temperatures)
            predictive, foretold, count = predictive + found[0], foretold + found[1], count + seen
        return cls(predictive, tuple(foretold.tolist()), count, scenes.num_scenes)

    def foresight(self, real: _Sums) -> Foresight:
        """Per scene; where samples are missing, as if as many had been predicted as in the ``real`` scenes."""
        alike = real.count / max(1.0, self.count)
        return Foresight(alike * self.predictive / self.num_scenes, max(self.foretold) / self.num_scenes)


def _belief(model: Model, layout: Layout) -> GraphPrior:
    """No belief; where the model reads leaders, that there is one at most: exact, whatever the number of entities."""
    if model.reading.prior not in ("leader", "file"):
        return trained_prior(model, layout, "none")
    return Leader(layout, torch.tensor(model.reading.weights[model.reading.prior]))


def _halves(model: Model, scenes: Scenes, prior: GraphPrior, temperatures: Sequence[float]) -> Any:
    batch = pack(model, scenes)
    found = Halves.of(prior, *halves(model, [batch]), temperatures)
    return (float(found.predictive[0].sum()), found.foretold.sum(1)), float(cut_windows(batch).weights.sum())
