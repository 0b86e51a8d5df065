"""What held-out scenes say of a training: whether its structures mean anything, and how graphs are read in the end."""

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
"""Rounds in which the shares of kinds are learned where the search has not learned them."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Scenes that only choose between passes, as the model of a training takes them.

    What they say is read off their factors under a model, those of the first and of the second half of their samples.

    Attributes:
        batches: the scenes.
        has_halves: whether they have such factors: they are searched exactly, and long enough.
    """

    batches: Sequence[Batch]
    has_halves: bool

    @classmethod
    def of(cls, scenes: Scenes, model: Model, batch_size: int, search: str) -> HeldOut:
        """Pack scenes, ``batch_size`` at a time, for a training with a ``search``."""
        batches = [pack(model, scenes.at(part)) for part in torch.arange(scenes.num_scenes).split(batch_size)]
        return cls(batches, search == "exact" and batches[0].num_starts >= 2)

    def check_size(self, layout: Layout, prior: str) -> None:
        """Refuse to choose between priors over graphs of another size.

        Args:
            layout: of the scenes that are learned from.
            prior: its name, or "auto" for those that the search compares.

        Raises:
            ValueError: there are several to choose between, and these scenes have other graphs.
        """
        there, several = self.batches[0].graph.present.shape[1], len(fast_priors(layout)) > 1
        if self.has_halves and prior == "auto" and several and there != layout.num_entities:
            raise ValueError(
                f'with prior "auto" held-out scenes choose between priors over graphs of {layout.num_entities} '
                f"entities, but they have {there}: hold scenes of the same size out (entities that are masked at all "
                "times fill smaller ones up), or name a prior"
            )

    def layout(self, model: Model) -> Layout:
        """The slots of the scenes."""
        return model.layout(self.batches[0].graph.present.shape[1])

    def factors(self, model: Model) -> tuple[Factors, Factors] | None:
        """Of the first and the second half of the samples; None where these cannot be halved or searched."""
        return halves(model, self.batches) if self.has_halves else None

    def least_loss(self, factors: tuple[Factors, Factors], model: Model) -> float:
        """Mean loss under the best structures of all samples."""
        return float(least_losses(factors[0].plus(factors[1]), self.layout(model)).mean())

    def in_nats(
        self, factors: tuple[Factors, Factors] | None, model: Model, layout: Layout
    ) -> tuple[Factors, Factors] | None:
        """What priors can be compared by: mean squares count as if their variance were that of the best structures.

        Args:
            factors: of both halves.
            model: whose factors they are.
            layout: of the scenes that it learns from.
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
        """The share of a structure's nats that one half of the samples foretells of the other.

        Under the one prior that the search was told to believe in, else under that which believes least.

        Args:
            factors: of both halves.
            model: whose factors they are.
            layout: of the scenes that it learns from.
            search_state: the state of the bounce.
        """
        factors = self.in_nats(factors, model, layout)
        if factors is None or layout.num_edge_kinds == 1:
            return 1.0
        told = search_state["weights"]
        weakest = priors_for(self.layout(model), told)[next(iter(told)) if len(told) == 1 else "none"]
        for _ in range(0 if told else LEARNINGS):
            found = weakest.posterior(factors[0].plus(factors[1]), search_state["temperature"] or 1.0, QUICK)
            weakest = fit_weights(weakest, found.usage())  # or a seldom kind would be foretold by being seldom
        nats = Halves.of(weakest, *factors, READING_TEMPERATURES[::2]).foretold.mean(1).max()
        left = entropy_left(weakest, factors[0]) if len(told) == 1 else 1.0
        if not left:  # nobody is asked about
            return 1.0
        return float(nats) / (left * _num_edges(factors[0], layout) * math.log(layout.num_edge_kinds))

    def reading(
        self, factors: tuple[Factors, Factors] | None, model: Model, search_state: Mapping[str, Any]
    ) -> Reading:
        """Prior and temperature: the first half of the samples against the second; ``search_state`` as above."""
        if factors is None or not model.noise.in_nats:
            return Reading()
        return reading_of(priors_for(self.layout(model), search_state["weights"]), *factors)


def _num_edges(factors: Factors, layout: Layout) -> float:
    """Of a scene with all of its entities, or on average where some are absent; at least 1."""
    if factors.exist is None:
        return layout.num_edge_slots
    edges = factors.exist[..., : layout.num_entities - 1]
    return max(1.0, float(edges.sum()) / len(edges))
