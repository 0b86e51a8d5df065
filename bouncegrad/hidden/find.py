"""Infer hidden entities: a posterior over their trajectories ("tracks") and the structure (latent graph) of all."""

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
"""Chains that a search runs in parallel: more do not fit the cache of a core and bring no speed-up."""

APART = 1.0
"""Standardised distance (root mean square over a track) below which two tracks count as equal."""


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
    """Infer entities that were never observed from their effect on the observed ones.

    The tracks of the hidden entities, their relations and the relations of all other entities are inferred jointly;
    none of them is given. A track is scored by the one-step errors of all entities, its own included, so no long
    rollout is needed.

    Args:
        model: a model with one round of messages and a learned or shared noise scale, accurate on scenes with as many
            entities.
        scenes: the observed entities, each measured at all times. Labels of relations are ignored.
        num_hidden: number of hidden entities to infer.
        relations: edge types (kinds) of all pairs, the hidden entities last, where they are known (Alet et al. 2019,
            section 5.2).
        prior: prior over structures (:func:`bouncegrad.inference.infer`).
        effort: size of the search.
        widening: factor on the standard deviations of tracks, as :func:`bouncegrad.hidden.widening_of` estimates it on
            other scenes: errors of the modules are correlated in time, so tracks are less certain than under
            independent errors.
        seed: seed of the random first states.

    Raises:
        DataError: entities with missing samples, scenes too large for tables, no hidden entity to infer, or relations
            of another shape.
        ValueError: a model without a noise scale or with several rounds of messages, other features, or a prior that
            the model cannot use.
    """
    check_search(model, scenes, num_hidden)
    model = on_cpu(model)
    effort, layout = effort or Effort(), model.layout(scenes.num_entities + num_hidden)
    belief = replace(belief_of(model, layout, prior), widening=widening)
    if relations is not None:
        belief = _with_given_relations(belief, layout, relations, scenes.num_scenes)
    num_patterns = 1 if relations is not None else num_patterns_of(layout, num_hidden, effort.num_patterns)
    parts = []
    for indices in scene_groups(scenes, num_patterns * effort.num_starts):
        some, part = scenes.at(indices), belief.at(indices)
        found = search(model, some, num_hidden, part, effort, Generator().manual_seed(seed))
        parts.append(_posterior_of(model, some, found, part))
    return _concatenate(parts)


def check_search(model: Model, scenes: Scenes, num_hidden: int) -> None:
    """Raise an error if hidden entities cannot be inferred with this model or in these scenes."""
    if not model.noise.in_nats or model.config.network.message_steps != 1:
        raise ValueError(
            "hidden entities are inferred with a model that has one round of messages and a noise scale; "
            f'this one has {model.config.network.message_steps} and noise.scale "{model.config.noise.scale}": '
            "fit one with the recipe fast"
        )
    if num_hidden < 1:
        raise DataError(f"expected at least one hidden entity to infer, got {num_hidden}")
    if not model.layout(scenes.num_entities + num_hidden).fits_tables:
        raise DataError(
            f"hidden entities are inferred with tables of energies, and {scenes.num_entities} observed and "
            f"{num_hidden} hidden entities are too many for them: use fewer entities"
        )
    check_complete(scenes)


def belief_of(model: Model, layout: Layout, prior: str) -> Belief:
    """The prior over structures of a layout with its temperature, from the name of the prior."""
    name, graphs = prior_for_reading(model, layout, prior, factored=True)
    return Belief(name, graphs, model.reading.temperature_under(name))


def _with_given_relations(belief: Belief, layout: Layout, relations: Tensor, num_scenes: int) -> Belief:
    """Replace the search over structures by given relations."""
    expected_shape = (num_scenes, layout.num_entities, layout.num_entities)
    if tuple(relations.shape) != expected_shape or layout.num_node_kinds > 1:
        raise DataError(
            f"expected edge types [scene, receiver, sender] = {expected_shape}, hidden entities last, of a model with "
            f"one node type, got {tuple(relations.shape)} and {layout.num_node_kinds} node types"
        )
    return replace(belief, name="given", given=to_slots(relations.long()))


def scene_groups(scenes: Scenes, num_chains: int) -> Iterator[Tensor]:
    """Indices of scenes that are searched together."""
    yield from torch.arange(scenes.num_scenes).split(max(1, CHAINS_AT_ONCE // num_chains))


def _posterior_of(model: Model, scenes: Scenes, found: Explanations, belief: Belief) -> HiddenPosterior:
    """The posterior as a weighted set of explanations; duplicates get weight 0."""
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
    """Reshape values of tasks to ``[scene, explanation, ...]``."""
    return values.unflatten(0, (scenes.num_scenes, -1))


def _is_duplicate(scenes: Scenes, found: Explanations, scales: Weights) -> Bool[Tensor, "scene explanation"]:
    """Which explanations share structure and track (up to :data:`APART`) with an earlier one."""
    structures, tracks = _by_scene(scenes, found.structures), _by_scene(scenes, found.tracks).double()
    variances = _by_scene(scenes, scales.variances).clamp_min(1e-12)
    same = (structures[:, :, None] == structures[:, None]).all(3)
    away = (tracks[:, :, None] - tracks[:, None]).square() / variances[:, None]
    return (same & (away.flatten(3).mean(3).sqrt() < APART)).tril(-1).any(2)


def _concatenate(parts: Sequence[HiddenPosterior]) -> HiddenPosterior:
    """Concatenate posteriors along the scenes."""
    names = [field.name for field in fields(HiddenPosterior) if isinstance(getattr(parts[0], field.name), Tensor)]
    return replace(parts[0], **{name: torch.cat([getattr(part, name) for part in parts]) for name in names})
