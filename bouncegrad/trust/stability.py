"""Stability: whether fits with different seeds infer the same relations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from bouncegrad.devices import Device
from bouncegrad.energies.windows import cut_windows, pack
from bouncegrad.evaluation.metrics import match_relations
from bouncegrad.fit import HELD_OUT, fit
from bouncegrad.inference import Posterior, infer
from bouncegrad.models.model import Model
from bouncegrad.recipes import Recipe
from bouncegrad.scenes import DataError, Scenes, split

ASKED = 0.2
"""Share of the scenes, at most :data:`bouncegrad.fit.HELD_OUT`, that is held out from all fits to compare their
inference."""

ALIKE = 0.95
"""Mean agreement from which posteriors are called alike; the default recipe was measured at 0.99 and more."""


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """Agreement between several posteriors for the same scenes.

    Attributes:
        pairwise: ``[answer, answer]``, share of the ordered pairs of entities on which two posteriors agree, after
            matching edge types one to one for maximal agreement.
        unanimous: share on which all agree, after matching edge types to those of the posterior closest to the others.
        by_chance: expected mean of :attr:`pairwise` off the diagonal if each posterior assigned its matched edge types
            at random with its own frequencies.
        kinds_used: for each posterior, the number of edge types that occur.
        num_pairs: number of ordered pairs that are compared.
    """

    pairwise: Float[Tensor, "answer answer"]
    unanimous: float
    by_chance: float
    kinds_used: tuple[int, ...]
    num_pairs: int

    @property
    def mean(self) -> float:
        """Mean agreement of two different posteriors."""
        num = len(self.pairwise)
        return float((self.pairwise.sum() - num) / (num * (num - 1)))

    @property
    def alike(self) -> bool:
        """Whether agreement is high (:data:`ALIKE`) and exceeds chance by at least half of what is possible."""
        beyond = self.mean - self.by_chance
        return self.mean >= ALIKE and beyond > 0 and beyond >= 0.5 * (1 - self.by_chance)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "pairwise": self.pairwise.tolist(),
            "mean": self.mean,
            "unanimous": self.unanimous,
            "by_chance": self.by_chance,
            "kinds_used": list(self.kinds_used),
            "num_pairs": self.num_pairs,
            "alike": self.alike,
        }

    def __str__(self) -> str:
        verdict = "The answers are alike" if self.alike else "The answers differ: do not rely on any of them"
        return (
            f"{verdict}: two of {len(self.pairwise)} agree on {100 * self.mean:.1f} % of {self.num_pairs:,} pairs on "
            f"average (by chance {100 * self.by_chance:.0f} %), all of them on {100 * self.unanimous:.1f} %"
        )


def agreement(posteriors: Sequence[Posterior], scenes: Scenes | None = None) -> Agreement:
    """Compare the most probable edge types of several posteriors for the same scenes.

    Numbers of edge types are arbitrary in each fit: those of two posteriors are matched by the linear assignment with
    maximal agreement (:func:`bouncegrad.evaluation.metrics.match_relations`; Kuhn 1955).

    Args:
        posteriors: two or more posteriors.
        scenes: the scenes, to leave out pairs of absent entities; None: all entities are present.

    Raises:
        ValueError: fewer than two posteriors, or posteriors of other scenes.
    """
    if len(posteriors) < 2:
        raise ValueError(f"expected two answers or more to compare, got {len(posteriors)}")
    relations = [posterior.relations for posterior in posteriors]
    shapes = {tuple(each.shape) for each in relations}
    if len(shapes) > 1:
        raise ValueError(f"expected answers about the same scenes, got relations of shapes {sorted(shapes)}")
    pairs = relations[0] >= 0 if scenes is None else scenes.pairs
    num = len(relations)
    pairwise, chance = torch.eye(num, dtype=torch.float64), torch.zeros(num, num, dtype=torch.float64)
    for one, other in combinations(range(num), 2):
        mapped = _renumber(relations[other], relations[one], pairs)
        pairwise[one, other] = pairwise[other, one] = float((mapped == relations[one])[pairs].double().mean())
        chance[one, other] = chance[other, one] = _by_chance(mapped[pairs], relations[one][pairs])
    middle = int(pairwise.sum(1).argmax())
    mapped = torch.stack([_renumber(each, relations[middle], pairs) for each in relations])
    return Agreement(
        pairwise=pairwise,
        unanimous=float((mapped == relations[middle]).all(0)[pairs].double().mean()),
        by_chance=float(chance.sum() / (num * (num - 1))),
        kinds_used=tuple(len(each[pairs].unique()) for each in relations),
        num_pairs=int(pairs.sum()),
    )


def _renumber(
    relations: Int[Tensor, "scene receiver sender"],
    reference: Int[Tensor, "scene receiver sender"],
    pairs: Bool[Tensor, "scene receiver sender"],
) -> Int[Tensor, "scene receiver sender"]:
    """Edge types in the numbering of reference relations; unmatched ones get numbers that the reference lacks."""
    match = match_relations(relations, reference.double().masked_fill(~pairs, math.nan))
    unmatched = int(reference.max()) + 1
    numbers = [
        int(match.labels[label]) if label >= 0 else unmatched + kind for kind, label in enumerate(match.relabelling)
    ]
    lookup = torch.tensor(
        [*numbers, *range(unmatched + len(numbers), unmatched + len(numbers) + int(relations.max()) + 2)]
    )
    return lookup[relations.clamp_min(0)]


def _by_chance(one: Int[Tensor, "pair"], other: Int[Tensor, "pair"]) -> float:
    """Expected agreement of independent random assignments with the same frequencies."""
    size = int(torch.maximum(one, other).max()) + 1
    shares = (torch.bincount(each, minlength=size).double() / len(each) for each in (one, other))
    first, second = shares
    return float(first @ second)


@dataclass(frozen=True, slots=True, eq=False)
class Stability:
    """Several fits of one method to the same scenes.

    Attributes:
        seeds: seeds of the fits.
        agreement: agreement of their posteriors on scenes that are held out from all fits.
        kinds_found: number of edge types of each model.
        losses: mean loss of the most probable structures (latent graphs) on these scenes, one step ahead: nats per
            scene in the units of the recording, so that models are comparable, up to a constant of the noise model;
            without a learned noise scale, mean squared errors in the unit of each model.
        models: the fitted models.
    """

    seeds: tuple[int, ...]
    agreement: Agreement
    kinds_found: tuple[int, ...]
    losses: tuple[float, ...]
    models: tuple[Model, ...]

    @property
    def best(self) -> Model:
        """The model with the lowest loss."""
        return self.models[min(range(len(self.losses)), key=lambda place: self.losses[place])]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "seeds": list(self.seeds),
            "kinds_found": list(self.kinds_found),
            "losses": list(self.losses),
            "agreement": self.agreement.to_dict(),
        }

    def __str__(self) -> str:
        rows = zip(self.seeds, self.kinds_found, self.losses, strict=True)
        fits = "; ".join(f"seed {seed}: {kinds} kinds, loss {loss:.5g}" for seed, kinds, loss in rows)
        return f"{self.agreement}. {fits}"


def stability(
    scenes: Scenes,
    recipe: str | Recipe = "fast",
    seeds: Sequence[int] = (0, 1, 2),
    *,
    kinds: int | Literal["auto"] | None = None,
    minutes: float | None = None,
    device: Device = "cpu",
) -> Stability:
    """Fit with several seeds and compare their inference on scenes that are held out from all fits.

    Args:
        scenes: scenes to fit; a fifth of them (at most 200) is held out from all fits.
        recipe: as in :func:`bouncegrad.fit.fit`, likewise ``kinds``, ``minutes`` (of each fit) and ``device``.
        seeds: two or more seeds.

    Raises:
        DataError: too few scenes to hold one out.
        ValueError: fewer than two seeds, or what :func:`bouncegrad.fit.fit` cannot use.
    """
    if len(seeds) < 2:
        raise ValueError(f"expected two seeds or more to compare, got {len(seeds)}")
    if scenes.num_scenes < 5:
        raise DataError(f"expected 5 scenes or more, of which a fifth is held out, got {scenes.num_scenes}")
    training, held_out = split(scenes, (1 - ASKED, ASKED), Generator().manual_seed(0))
    held_out = held_out.at(range(min(HELD_OUT, held_out.num_scenes)))
    models = tuple(fit(training, recipe, kinds=kinds, minutes=minutes, seed=seed, device=device) for seed in seeds)
    posteriors = [infer(model, held_out) for model in models]
    return Stability(
        seeds=tuple(seeds),
        agreement=agreement(posteriors, held_out),
        kinds_found=tuple(model.config.network.num_edge_kinds for model in models),
        losses=tuple(_loss(model, held_out, found) for model, found in zip(models, posteriors, strict=True)),
        models=models,
    )


def _loss(model: Model, scenes: Scenes, found: Posterior) -> float:
    """Mean loss in the units of the recording where the model has a noise scale."""
    loss = float(found.losses.mean())
    if not model.noise.in_nats:
        return loss
    low, high = torch.tensor([model.normalization.minimum, model.normalization.maximum], dtype=torch.float64)
    units = 0.5 * (high - low) * model.network.unit.cpu()
    count = float(cut_windows(pack(model, scenes)).weights.sum()) / scenes.num_scenes
    return loss + count * float(units[units > 0].log().sum())
