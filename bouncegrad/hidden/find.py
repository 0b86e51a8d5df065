"""The question and its answer: who is there that nobody sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace

import torch
from jaxtyping import Bool, Int
from torch import Generator, Tensor

from bouncegrad.devices import on_cpu
from bouncegrad.hidden.alternating_search import Effort, search
from bouncegrad.hidden.augmented import check_complete, complete
from bouncegrad.hidden.hypotheses import Belief, Explanations, Weights, weigh
from bouncegrad.hidden.initial_tracks import num_patterns_of
from bouncegrad.hidden.posterior import HiddenPosterior
from bouncegrad.inference.search import prior_for_reading
from bouncegrad.models.model import Model
from bouncegrad.scenes import DataError, Scenes
from bouncegrad.structures.layout import Layout, to_slots

CHAINS_AT_ONCE = 256
"""Chains of a search side by side: more would not fit a core's cache, and gain nothing."""

APART = 1.0
"""Standard deviations, root mean square over a track, below which two tracks are one."""


def find_hidden(
    model: Model,
    scenes: Scenes,
    num_hidden: int = 1,
    *,
    relations: Int[Tensor, "scene receiver sender"] | None = None,
    prior: str = "auto",
    effort: Effort | None = None,
    widening: float = 1.0,
    seed: int = 0,
) -> HiddenPosterior:
    """Find entities that were never seen by what they do to those that were.

    Their tracks, their relations and the relations of all others are sought together; nothing is known of any.
    A track is judged by the one-step errors of all entities, its own included, so nothing has to be rolled out far.

    Args:
        model: with one round of messages and a learned or shared scale, good at scenes with as many entities.
        scenes: what was seen, every entity at all times. Relations that they may carry are not looked at.
        num_hidden: how many entities to look for.
        relations: kinds of all pairs, the hidden entities last, where they are known (Alet et al. 2019, section 5.2).
        prior: under which graphs are read (:func:`bouncegrad.inference.infer`).
        effort: how long to search.
        widening: factor on the spreads, as :func:`bouncegrad.hidden.widening_of` finds it on other scenes: modules are
            a little wrong in the same way at all times, which makes tracks less sure than independent errors would.
        seed: of the first states.

    Raises:
        DataError: entities that were not seen at some time, scenes too large for tables, no hidden entity to find, or
            relations of another shape.
        ValueError: a model without a scale or with several rounds of messages, other features, or a prior that cannot
            be.
    """
    check_search(model, scenes, num_hidden)
    model = on_cpu(model)
    effort, layout = effort or Effort(), model.layout(scenes.num_entities + num_hidden)
    belief = replace(belief_of(model, layout, prior), widening=widening)
    if relations is not None:
        belief = _knowing(belief, layout, relations, scenes.num_scenes)
    num_patterns = 1 if relations is not None else num_patterns_of(layout, num_hidden, effort.num_patterns)
    parts = []
    for indices in scene_groups(scenes, num_patterns * effort.num_starts):
        some, part = scenes.at(indices), belief.at(indices)
        found = search(model, some, num_hidden, part, effort, Generator().manual_seed(seed))
        parts.append(_posterior_of(model, some, found, part))
    return _joined(parts)


def check_search(model: Model, scenes: Scenes, num_hidden: int) -> None:
    """Refuse what hidden entities cannot be sought with or in."""
    if not model.noise.in_nats or model.config.network.message_steps != 1:
        raise ValueError(
            "hidden entities are sought with a model of one round of messages that knows how large its errors are; "
            f'this one has {model.config.network.message_steps} and noise.scale "{model.config.noise.scale}": '
            "fit one with the recipe fast"
        )
    if num_hidden < 1:
        raise DataError(f"expected at least one hidden entity to look for, got {num_hidden}")
    if not model.layout(scenes.num_entities + num_hidden).fits_tables:
        raise DataError(
            f"hidden entities are sought with tables, and {scenes.num_entities} seen and {num_hidden} hidden entities "
            "are too many for them: look at fewer entities"
        )
    check_complete(scenes)


def belief_of(model: Model, layout: Layout, prior: str) -> Belief:
    """How graphs of a layout are read under a prior."""
    name, graphs = prior_for_reading(model, layout, prior, factored=True)
    return Belief(name, graphs, model.reading.temperature_under(name))


def _knowing(belief: Belief, layout: Layout, relations: Tensor, num_scenes: int) -> Belief:
    """A belief about scenes whose relations are known."""
    wanted = (num_scenes, layout.num_entities, layout.num_entities)
    if tuple(relations.shape) != wanted or layout.num_node_kinds > 1:
        raise DataError(
            f"expected kinds [scene, receiver, sender] = {wanted}, hidden entities last, of a model with one kind of "
            f"entity, got {tuple(relations.shape)} and {layout.num_node_kinds} kinds of entity"
        )
    return replace(belief, name="given", given=to_slots(relations.long()))


def scene_groups(scenes: Scenes, num_chains: int) -> Iterator[Tensor]:
    """The indices of scenes that are searched together."""
    yield from torch.arange(scenes.num_scenes).split(max(1, CHAINS_AT_ONCE // num_chains))


def _posterior_of(model: Model, scenes: Scenes, found: Explanations, belief: Belief) -> HiddenPosterior:
    """Explanations as a posterior; those that say the same are counted once."""
    num_hidden = found.tracks.shape[1]
    scales = weigh(model, complete(model, scenes.at(found.scene), num_hidden), found, belief)
    log_evidence = _by_scene(scenes, scales.log_evidence).nan_to_num(-torch.inf, torch.inf, -torch.inf)
    log_evidence = log_evidence.masked_fill(_is_duplicate(scenes, found, scales), -torch.inf)
    log_evidence, order = log_evidence.sort(1, descending=True)
    chosen = (order + torch.arange(scenes.num_scenes)[:, None] * order.shape[1]).flatten()
    found, weights = found.at(chosen), torch.softmax(log_evidence, 1)
    half = torch.tensor(model.normalization.maximum).double() - torch.tensor(model.normalization.minimum).double()
    return HiddenPosterior(
        tracks=_by_scene(scenes, model.normalization.undo(found.tracks)),
        spreads=_by_scene(scenes, scales.variances[chosen]).sqrt() * half / 2,
        weights=weights,
        structures=_by_scene(scenes, found.structures),
        marginals=(weights[:, :, None, None] * _by_scene(scenes, scales.marginals[chosen])).sum(1).float(),
        layout=model.layout(scenes.num_entities + num_hidden),
        prior=belief.name,
        log_evidence=log_evidence.logsumexp(1),
    )


def _by_scene(scenes: Scenes, values: Tensor) -> Tensor:
    """The values of tasks ``[scene, explanation, ...]``."""
    return values.unflatten(0, (scenes.num_scenes, -1))


def _is_duplicate(scenes: Scenes, found: Explanations, scales: Weights) -> Bool[Tensor, "scene explanation"]:
    """Which explanations have the structure of one before them, and a track that is not told apart from its."""
    structures, tracks = _by_scene(scenes, found.structures), _by_scene(scenes, found.tracks).double()
    variances = _by_scene(scenes, scales.variances).clamp_min(1e-12)
    same = (structures[:, :, None] == structures[:, None]).all(3)
    away = (tracks[:, :, None] - tracks[:, None]).square() / variances[:, None]
    return (same & (away.flatten(3).mean(3).sqrt() < APART)).tril(-1).any(2)


def _joined(parts: Sequence[HiddenPosterior]) -> HiddenPosterior:
    """The posteriors of all parts as one."""
    names = [field.name for field in fields(HiddenPosterior) if isinstance(getattr(parts[0], field.name), Tensor)]
    return replace(parts[0], **{name: torch.cat([getattr(part, name) for part in parts]) for name in names})
