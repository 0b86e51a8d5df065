"""Held-out scenes: held-out loss, information in the structures (against collapse and overfitting), prior and
temperature of inference.

All is computed without labels from the factors (energies of receivers) of the first and the second half of the samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from bouncegrad.energies.factors_of import halves
from bouncegrad.energies.windows import Batch, pack
from bouncegrad.models.model import Model
from bouncegrad.scenes import Scenes
from bouncegrad.structures.calibration import READING_TEMPERATURES, Halves, Reading, entropy_left, reading_of
from bouncegrad.structures.factors import Factors
from bouncegrad.structures.layout import Layout
from bouncegrad.structures.population_annealing import QUICK
from bouncegrad.structures.priors import fast_priors, fit_weights, least_losses, priors_for

LEARNINGS = 20
"""Rounds in which the frequencies of edge types are fitted where the search has not learned them."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Held-out scenes, packed for the model of a training.

    Attributes:
        batches: the scenes.
        has_halves: whether factors of both halves of the samples exist: the search is exact, and the scenes are long
            enough.
    """

    batches: Sequence[Batch]
    has_halves: bool

    @classmethod
    def of(cls, scenes: Scenes, model: Model, batch_size: int, search: str) -> HeldOut:
        """Pack scenes, ``batch_size`` at a time; ``search`` is the word of the E-step."""
        batches = [pack(model, scenes.at(part)) for part in torch.arange(scenes.num_scenes).split(batch_size)]
        return cls(batches, search == "exact" and batches[0].num_starts >= 2)

    def check_size(self, layout: Layout, prior: str) -> None:
        """Refuse held-out scenes of another size where they choose between priors.

        Args:
            layout: slots of the training scenes.
            prior: name of the prior, or "auto" for all that the search compares.

        Raises:
            ValueError: there are several priors to choose between, and these scenes have another number of entities.
        """
        size, several = self.batches[0].graph.present.shape[1], len(fast_priors(layout)) > 1
        if self.has_halves and prior == "auto" and several and size != layout.num_entities:
            raise ValueError(
                f'with prior "auto" held-out scenes choose between priors over graphs of {layout.num_entities} '
                f"entities, but they have {size}: hold out scenes of the same size (entities that are masked at all "
                "times fill smaller ones up), or name a prior"
            )

    def layout(self, model: Model) -> Layout:
        """Slots of the held-out scenes."""
        return model.layout(self.batches[0].graph.present.shape[1])

    def factors(self, model: Model) -> tuple[Factors, Factors] | None:
        """Factors of the first and of the second half of the samples; None without halves (:attr:`has_halves`)."""
        return halves(model, self.batches) if self.has_halves else None

    def least_loss(self, factors: tuple[Factors, Factors], model: Model) -> float:
        """Mean loss of a scene under its best structure, over all samples."""
        return float(least_losses(factors[0].plus(factors[1]), self.layout(model)).mean())

    def in_nats(
        self, factors: tuple[Factors, Factors] | None, model: Model, layout: Layout
    ) -> tuple[Factors, Factors] | None:
        """Factors in nats, by which priors are compared; None where mean squares are not in tables.

        Mean squares become nats of a Gaussian whose variance is the mean square of the best structures.

        Args:
            factors: factors of both halves.
            model: the model of the factors.
            layout: slots of the training scenes.
        """
        if factors is None or model.noise.in_nats:
            return factors
        early, late = (half.tabulated() for half in factors)
        if early is None or late is None:
            return None
        count = layout.num_entities * model.network.num_features * self.batches[0].states.shape[1] / 2
        nats = 0.5 * count / max(0.5 * self.least_loss(factors, model), 1e-12)
        early, late = (replace(half, energies=nats * half.energies) for half in (early, late))
        return early, late

    def meaning(
        self, factors: tuple[Factors, Factors] | None, model: Model, layout: Layout, search_state: Mapping[str, Any]
    ) -> float:
        """Share of a structure's information that one half of the samples predicts of the other: 1 = all, 0 = none.

        ``log p(late | early) / p(late)`` over the prior entropy of the edges, both in nats: low after collapse and
        where the training overfits. Under the prior of the search where it has a single one, else under the weakest
        prior, whose slots are independent.

        Args:
            factors: factors of both halves.
            model: the model of the factors.
            layout: slots of the training scenes.
            search_state: state of the E-step.
        """
        factors = self.in_nats(factors, model, layout)
        if factors is None or layout.num_edge_kinds == 1:
            return 1.0
        weights = search_state["weights"]
        weakest = priors_for(self.layout(model), weights)[next(iter(weights)) if len(weights) == 1 else "none"]
        # with even frequencies one half would predict a rare edge type in the other merely by its being rare
        for _ in range(0 if weights else LEARNINGS):
            found = weakest.posterior(factors[0].plus(factors[1]), search_state["temperature"] or 1.0, QUICK)
            weakest = fit_weights(weakest, found.usage())
        nats = Halves.of(weakest, *factors, READING_TEMPERATURES[::2]).foretold.mean(1).max()
        left = entropy_left(weakest, factors[0]) if len(weights) == 1 else 1.0
        if not left:  # the prior or the scenes leave no slot undecided
            return 1.0
        return float(nats) / (left * _num_edges(factors[0], layout) * math.log(layout.num_edge_kinds))

    def reading(
        self, factors: tuple[Factors, Factors] | None, model: Model, search_state: Mapping[str, Any]
    ) -> Reading:
        """Prior and temperature of later inference: those under which one half of the samples best predicts the other.

        Args:
            factors: factors of both halves.
            model: the model of the factors.
            search_state: state of the E-step.
        """
        if factors is None or not model.noise.in_nats:
            return Reading()
        return reading_of(priors_for(self.layout(model), search_state["weights"]), *factors)


def _num_edges(factors: Factors, layout: Layout) -> float:
    """Number of existing edges of a scene, on average where entities are absent; at least 1."""
    if factors.exist is None:
        return layout.num_edge_slots
    edges = factors.exist[..., : layout.num_entities - 1]
    return max(1.0, float(edges.sum()) / len(edges))
