"""Whether other random beginnings lead to the same answer."""

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
"""Share of the scenes, at most :data:`bouncegrad.fit.HELD_OUT`, that no fit learns from and all are asked about."""

ALIKE = 0.95
"""Mean agreement from which fits are called alike; the default recipe was measured at 0.99 and more."""


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """How far several answers about the same scenes agree.

    Attributes:
        pairwise: ``[answer, answer]``, share of the ordered pairs of entities on which two of them agree, kinds matched
            one to one so that most do.
        unanimous: share on which all agree, kinds matched to those of the answer that is closest to the others.
        by_chance: what :attr:`pairwise` would be, on average off the diagonal, if each drew its matched kinds at random
            in the shares that it has.
        kinds_used: for each answer, how many kinds it has on any pair.
        num_pairs: ordered pairs that were compared.
    """

    pairwise: Float[Tensor, "answer answer"]
    unanimous: float
    by_chance: float
    kinds_used: tuple[int, ...]
    num_pairs: int

    @property
    def mean(self) -> float:
        """The mean agreement of two different answers."""
        num = len(self.pairwise)
        return float((self.pairwise.sum() - num) / (num * (num - 1)))

    @property
    def alike(self) -> bool:
        """Whether all of them say about the same, and more than chance would."""
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
            f"{verdict}: two of {len(self.pairwise)} agree on {100 * self.mean:.1f} % of {self.num_pairs:,} pairs (by "
            f"chance {100 * self.by_chance:.0f} %), all of them on {100 * self.unanimous:.1f} %"
        )


def agreement(posteriors: Sequence[Posterior], scenes: Scenes | None = None) -> Agreement:
    """Compare several answers about the same scenes, most probable kinds with most probable kinds.

    Numbers of kinds mean nothing across fits: those of two answers are matched by the linear assignment that makes most
    pairs agree (:func:`bouncegrad.evaluation.metrics.match_relations`; Kuhn 1955).

    Args:
        posteriors: two or more.
        scenes: that they are about, so that pairs of absent entities are left out; None: all are present.

    Raises:
        ValueError: fewer than two, or answers about other scenes.
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
        mapped = _renumbered(relations[other], relations[one], pairs)
        pairwise[one, other] = pairwise[other, one] = float((mapped == relations[one])[pairs].double().mean())
        chance[one, other] = chance[other, one] = _by_chance(mapped[pairs], relations[one][pairs])
    middle = int(pairwise.sum(1).argmax())
    mapped = torch.stack([_renumbered(each, relations[middle], pairs) for each in relations])
    return Agreement(
        pairwise=pairwise,
        unanimous=float((mapped == relations[middle]).all(0)[pairs].double().mean()),
        by_chance=float(chance.sum() / (num * (num - 1))),
        kinds_used=tuple(len(each[pairs].unique()) for each in relations),
        num_pairs=int(pairs.sum()),
    )


def _renumbered(
    relations: Int[Tensor, "scene receiver sender"],
    reference: Int[Tensor, "scene receiver sender"],
    pairs: Bool[Tensor, "scene receiver sender"],
) -> Int[Tensor, "scene receiver sender"]:
    """Kinds in the numbering of other relations; those that match none get numbers that these do not have."""
    match = match_relations(relations, reference.double().masked_fill(~pairs, math.nan))
    strange = int(reference.max()) + 1
    numbers = [
        int(match.labels[label]) if label >= 0 else strange + kind for kind, label in enumerate(match.relabelling)
    ]
    lookup = torch.tensor([*numbers, *range(strange + len(numbers), strange + len(numbers) + int(relations.max()) + 2)])
    return lookup[relations.clamp_min(0)]


def _by_chance(one: Int[Tensor, "pair"], other: Int[Tensor, "pair"]) -> float:
    size = int(torch.maximum(one, other).max()) + 1
    shares = (torch.bincount(each, minlength=size).double() / len(each) for each in (one, other))
    first, second = shares
    return float(first @ second)


@dataclass(frozen=True, slots=True, eq=False)
class Stability:
    """Several fits of one method to the same scenes.

    Attributes:
        seeds: of the fits.
        agreement: of what they say of scenes that none of them learned from.
        kinds_found: how many kinds each model has.
        losses: mean loss of the best structures of these scenes, one step ahead: nats per scene with the units of the
            recording, so that they can be compared, up to a constant of the noise model; without a learned scale, mean
            squared errors in the unit of each model.
        models: the fits.
    """

    seeds: tuple[int, ...]
    agreement: Agreement
    kinds_found: tuple[int, ...]
    losses: tuple[float, ...]
    models: tuple[Model, ...]

    @property
    def best(self) -> Model:
        """The model that explains the scenes best."""
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
    """Fit with several seeds and see whether they say the same of scenes that none of them learned from.

    Args:
        scenes: a fifth of which (at most 200) is kept from all fits and asked about.
        recipe: as in :func:`bouncegrad.fit.fit`, likewise ``kinds``, ``minutes`` (of each fit) and ``device``.
        seeds: two or more.

    Raises:
        DataError: too few scenes to keep one.
        ValueError: fewer than two seeds, or what :func:`bouncegrad.fit.fit` cannot use.
    """
    if len(seeds) < 2:
        raise ValueError(f"expected two seeds or more to compare, got {len(seeds)}")
    if scenes.num_scenes < 5:
        raise DataError(f"expected 5 scenes or more, of which a fifth is kept to ask about, got {scenes.num_scenes}")
    learned, asked = split(scenes, (1 - ASKED, ASKED), Generator().manual_seed(0))
    asked = asked.at(range(min(HELD_OUT, asked.num_scenes)))
    models = tuple(fit(learned, recipe, kinds=kinds, minutes=minutes, seed=seed, device=device) for seed in seeds)
    answers = [infer(model, asked) for model in models]
    return Stability(
        seeds=tuple(seeds),
        agreement=agreement(answers, asked),
        kinds_found=tuple(model.config.network.num_edge_kinds for model in models),
        losses=tuple(_loss(model, asked, found) for model, found in zip(models, answers, strict=True)),
        models=models,
    )


def _loss(model: Model, scenes: Scenes, found: Posterior) -> float:
    loss = float(found.losses.mean())
    if not model.noise.in_nats:
        return loss
    low, high = torch.tensor([model.normalization.minimum, model.normalization.maximum], dtype=torch.float64)
    units = 0.5 * (high - low) * model.network.unit.cpu()
    count = float(cut_windows(pack(model, scenes)).weights.sum()) / scenes.num_scenes
    return loss + count * float(units[units > 0].log().sum())
