"""Evaluation of hidden-entity inference: hold observed entities back ("covered"), infer them, and compare."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bouncegrad.evaluation.metrics import RelationMatch, match_relations
from bouncegrad.hidden.alternating_search import Effort
from bouncegrad.hidden.find import find_hidden
from bouncegrad.hidden.posterior import HiddenPosterior
from bouncegrad.inference import weakest_kind
from bouncegrad.models.model import Model
from bouncegrad.scenes import DataError, Normalization, Scenes

OBSERVED = 50
"""Samples per scene that are used, as in section 5.2 of Alet et al. 2019."""

LEVEL = 0.9
"""Probability of the credible bands whose coverage is measured."""


@dataclass(frozen=True, slots=True, eq=False)
class HiddenScore:
    """Errors and accuracies of one model on scenes with covered entities.

    Attributes:
        mse: ``[scene]``, mean squared error of the covered entities over features and all times.
        touching: ``[scene]``, whether a covered entity has any relation; True everywhere without labels.
        right: ``[scene]``, accuracy of the relations from or to covered entities; None without labels.
        right_seen: ``[scene]``, accuracy of all other relations; None without labels.
        covered: ``[scene]``, share of the true numbers inside the bands of probability :data:`LEVEL`.
        unit: name of the unit of the errors.
        seconds: duration of the search.
        posterior: the inferred posterior, hidden entities in the order of the covered ones.
    """

    mse: Float[Tensor, "scene"]
    touching: Bool[Tensor, "scene"]
    right: Float[Tensor, "scene"] | None
    right_seen: Float[Tensor, "scene"] | None
    covered: Float[Tensor, "scene"]
    unit: str
    seconds: float
    posterior: HiddenPosterior

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain JSON; null for means over no scenes and for accuracies without labels."""
        touching = self.touching
        return {
            "num_scenes": len(self.mse),
            "num_touching": int(touching.sum()),
            "hidden_mse": _mean(self.mse),
            "hidden_mse_touching": _mean(self.mse[touching]),
            "hidden_mse_touching_quartiles": _quartiles(self.mse[touching]),
            "hidden_mse_touching_worst": self.mse[touching].sort(descending=True).values[:5].tolist(),
            "hidden_mse_touching_nobody": _mean(self.mse[~touching]),
            "hidden_relation_accuracy": None if self.right is None else _mean(self.right),
            "hidden_relation_accuracy_touching": None if self.right is None else _mean(self.right[touching]),
            "seen_relation_accuracy": None if self.right_seen is None else _mean(self.right_seen),
            "band_level": LEVEL,
            "band_coverage_touching": _mean(self.covered[touching]),
            "band_coverage_touching_nobody": _mean(self.covered[~touching]),
            "mse_unit": self.unit,
            "prior": self.posterior.prior,
            "seconds": round(self.seconds, 3),
        }


def _mean(values: Tensor) -> float | None:
    return float(values.double().mean()) if len(values) else None


def _quartiles(values: Tensor) -> list[float] | None:
    shares = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    return values.double().quantile(shares).tolist() if len(values) else None


def reorder(scenes: Scenes, order: Sequence[int]) -> Scenes:
    """Select entities of scenes, in the given order."""
    chosen = list(order)
    relations = None if scenes.relations is None else scenes.relations[:, chosen][:, :, chosen]
    names = tuple(scenes.entity_names[place] for place in chosen)
    return replace(
        scenes,
        states=scenes.states[:, :, chosen],
        mask=scenes.mask[:, :, chosen],
        entity_names=names,
        relations=relations,
    )


def move_covered_last(scenes: Scenes, hide: Sequence[int]) -> Scenes:
    """Reorder entities so that the covered ones come last.

    Raises:
        DataError: an entity number that does not exist or is listed twice, or fewer than two observed entities left.
    """
    seen = [place for place in range(scenes.num_entities) if place not in hide]
    if not hide or len(seen) + len(hide) != scenes.num_entities or len(seen) < 2:
        raise DataError(
            f"expected different numbers of entities to cover, from 0 to {scenes.num_entities - 1}, that leave two or "
            f"more observed, got {list(hide)}"
        )
    return reorder(scenes, [*seen, *hide])


def score_hidden(
    model: Model,
    scenes: Scenes,
    hide: Sequence[int] = (0,),
    unit: tuple[str, Normalization] | None = None,
    *,
    known: bool = False,
    prior: str = "auto",
    effort: Effort | None = None,
    match: RelationMatch | None = None,
    widening: float = 1.0,
) -> HiddenScore:
    """Cover entities, infer them from the first 50 samples of the others, and compare with the truth.

    Args:
        model: as for :func:`bouncegrad.hidden.find_hidden`.
        scenes: complete scenes, with the entities to be covered; labels are used only for accuracies and for ``known``.
        hide: numbers of the entities to cover.
        unit: name and normalisation of the unit of errors; None: the model's own.
        known: give the true relations to the search, as in the paper; ``match`` then maps labels to edge types.
        prior: prior over structures.
        effort: size of the search.
        match: map from labels to edge types, made on other scenes; None: made from the structures inferred here.
        widening: factor on the standard deviations of tracks (:func:`widening_of`).

    Raises:
        DataError: entities that cannot be covered, or ``known`` without labels or ``match``.
    """
    whole = move_covered_last(scenes.between(0, min(OBSERVED, scenes.num_times)), hide)
    num_seen, started = scenes.num_entities - len(hide), time.perf_counter()
    seen, relations = reorder(whole, range(num_seen)), None
    if known:
        relations = _true_kinds(whole, match)
    found = find_hidden(model, seen, len(hide), relations=relations, prior=prior, effort=effort, widening=widening)
    seconds = time.perf_counter() - started
    name, scale = unit or ("normalised by the model's training scenes", model.normalization)
    truth = whole.states[:, :, num_seen:].transpose(1, 2)
    found = _match_entities(found, truth)
    mse = (scale.apply(found.best_tracks, torch.float64) - scale.apply(truth, torch.float64)).square().mean((1, 2, 3))
    covered = found.band(LEVEL).covers(truth).double().mean((1, 2, 3))
    touching, right, right_seen = _relation_accuracy(model, whole, found, match)
    return HiddenScore(mse, touching, right, right_seen, covered, name, seconds, found)


def widening_of(
    model: Model, scenes: Scenes, hide: Sequence[int] = (0,), *, prior: str = "auto", effort: Effort | None = None
) -> float:
    """Calibrate bands: the factor on standard deviations at which they have nominal coverage on calibration scenes.

    The quantile of ``|error| / spread`` at :data:`LEVEL`, divided by that of a normal distribution (split conformal
    prediction), at least 1. It is taken over all scenes in which the covered entities are inferred to act on others;
    labels are ignored.

    Args:
        model: as for :func:`bouncegrad.hidden.find_hidden`.
        scenes: complete calibration scenes, other than those in which hidden entities are inferred afterwards.
        hide: numbers of the entities to cover.
        prior: prior over structures.
        effort: size of the search.

    Raises:
        DataError: the covered entities are not inferred to act in any of the scenes.
    """
    unlabelled = replace(scenes, relations=None)
    whole = move_covered_last(unlabelled.between(0, min(OBSERVED, scenes.num_times)), hide)
    num_seen = scenes.num_entities - len(hide)
    found = find_hidden(model, reorder(whole, range(num_seen)), len(hide), prior=prior, effort=effort)
    truth = whole.states[:, :, num_seen:].transpose(1, 2)
    found = _match_entities(found, truth)
    nothing = weakest_kind(model, whole)
    active = (found.relations[:, :num_seen, num_seen:] != (-1 if nothing is None else nothing)).flatten(1).any(1)
    if not active.any():
        raise DataError("in none of these scenes the covered entities are found to act: use more scenes")
    ratios = ((found.best_tracks - truth).abs() / found.spreads[:, 0])[active].flatten()
    return max(1.0, float(ratios.quantile(LEVEL) / torch.special.ndtri(torch.tensor((1 + LEVEL) / 2).double())))


def _true_kinds(whole: Scenes, match: RelationMatch | None) -> Tensor:
    """True relations as edge types."""
    if match is None or whole.relations is None:
        raise DataError(
            "true relations can be given to the search where scenes have labels and a match maps labels to edge types: "
            "score the model without hidden entities first, and pass its match"
        )
    return match.true_kinds(whole.relations).clamp_min(0)


def _match_entities(found: HiddenPosterior, truth: Float[Tensor, "scene hidden time feature"]) -> HiddenPosterior:
    """Reorder the hidden entities of each scene, which are exchangeable, by least squared error to the true tracks."""
    if found.num_hidden == 1:
        return found
    orders = list(permutations(range(found.num_hidden)))
    errors = [(found.best_tracks[:, list(order)] - truth).square().mean((1, 2, 3)) for order in orders]
    chosen = torch.tensor(orders)[torch.stack(errors, 1).argmin(1)]
    return found.reorder_hidden(chosen)


def _relation_accuracy(
    model: Model, whole: Scenes, found: HiddenPosterior, match: RelationMatch | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Which scenes have relations of covered entities, and the accuracies of relations with and without these."""
    if not whole.labelled or whole.relations is None:
        return torch.ones(whole.num_scenes, dtype=torch.bool), None, None
    match = match or match_relations(found.relations, whole.relations, whole.present)
    truth = match.true_kinds(whole.relations)
    is_hidden = torch.arange(whole.num_entities) >= whole.num_entities - found.num_hidden
    ends = (is_hidden[:, None] | is_hidden) & whole.pairs
    touching = (ends & (truth != weakest_kind(model, whole))).flatten(1).any(1)
    right = (found.relations == truth).double()
    shares = [(right * pairs).sum((1, 2)) / pairs.sum((1, 2)).clamp_min(1) for pairs in (ends, whole.pairs & ~ends)]
    return touching, shares[0], shares[1]
