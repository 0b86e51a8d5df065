"""The search for hidden entities: many chains side by side, tracks and structures in turn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Generator, Tensor

from bouncegrad.hidden.augmented import AugmentedScenes, complete, tables_with
from bouncegrad.hidden.gauss_newton import Estimate, energies_of, gauss_newton_step
from bouncegrad.hidden.hypotheses import Belief, Explanations
from bouncegrad.hidden.initial_tracks import (
    draw_given_patterns,
    patterns_of,
    pin_hidden,
    random_states,
    roll_out_hidden,
)
from bouncegrad.inference import weakest_kind
from bouncegrad.models.model import Model
from bouncegrad.models.noise import NoiseModel, Normal
from bouncegrad.scenes import Scenes
from bouncegrad.settings import check_settings
from bouncegrad.structures.layout import to_matrix
from bouncegrad.types import Structures

STARTS_IF_GIVEN = 4
"""Times as many random first states where relations are given, and there is one pattern only."""

Held: TypeAlias = Literal["both", "incoming", "nothing"]
"""Which relations of the hidden entities a choice of structures leaves as they are."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to search.

    Attributes:
        num_patterns: ways in which the seen entities may act on the hidden ones, at the most; all where there are less.
        num_starts: random first states for each of them, and draws of what the hidden ones do to others: 2 are enough
            where that follows from the pattern, as in symmetric graphs; else take 4.
        first_rounds: rounds for all chains, each of which stands for its pattern; errors are taken as normal.
        num_kept: chains of a scene that go on, of as many patterns.
        last_rounds: rounds for these; errors have the tails that were learned, structures are free.
    """

    num_patterns: int = 128
    num_starts: int = 2
    first_rounds: int = 3
    num_kept: int = 4
    last_rounds: int = 6

    def __post_init__(self) -> None:
        check_settings(self, counts=("num_patterns", "num_starts", "first_rounds", "num_kept", "last_rounds"))


@torch.no_grad()
def search(
    model: Model, scenes: Scenes, num_hidden: int, belief: Belief, effort: Effort, generator: Generator
) -> Explanations:
    """The best chains of every scene, ``num_kept`` or as many as there are patterns.

    From random first states under every pattern the modules lead to tracks; under tracks the tables say which
    structures are best; under structures a Gauss-Newton step says which tracks are; and so on in turn.
    """
    begun = _initial_explanations(model, scenes, num_hidden, belief, effort, generator)
    stage = complete(model, scenes.at(begun.scene), num_hidden)
    found = _refine(model, stage, begun, belief, effort.first_rounds, Normal(), "incoming")
    energies = _silent_first(model, scenes, found, energies_of(model, stage, found.tracks, found.structures))
    best = _best(found, energies, 1 if belief.given is not None else effort.num_starts, effort.num_kept)
    return refine(model, scenes, best, belief, effort.last_rounds)


@torch.no_grad()
def refine(model: Model, scenes: Scenes, found: Explanations, belief: Belief, rounds: int) -> Explanations:
    """Some rounds under the errors that were learned, structures free."""
    stage = complete(model, scenes.at(found.scene), found.tracks.shape[1])
    return _refine(model, stage, found, belief, rounds, model.noise, "nothing")


def _initial_explanations(
    model: Model, scenes: Scenes, num_hidden: int, belief: Belief, effort: Effort, generator: Generator
) -> Explanations:
    """Every pattern from some random first states, the same in every scene."""
    layout = model.layout(scenes.num_entities + num_hidden)
    if belief.given is None:
        patterns = patterns_of(belief.prior, layout, num_hidden, effort.num_patterns, generator)
        chains = draw_given_patterns(belief.prior, layout, patterns.repeat_interleave(effort.num_starts, 0), generator)
        structures = chains.repeat(scenes.num_scenes, 1)
    else:
        structures = belief.given.repeat_interleave(STARTS_IF_GIVEN * effort.num_starts, 0)
    num_chains = len(structures) // scenes.num_scenes
    states = random_states(num_chains, num_hidden, scenes.num_features, generator).repeat(scenes.num_scenes, 1, 1)
    scene = torch.arange(scenes.num_scenes).repeat_interleave(num_chains)
    stage = complete(model, scenes.at(scene), num_hidden)
    begun = Explanations(scene, roll_out_hidden(model, stage, states, structures), structures)
    return replace(begun, structures=_chosen(model, stage, begun, belief, "both"))


def _refine(
    model: Model,
    stage: AugmentedScenes,
    found: Explanations,
    belief: Belief,
    rounds: int,
    noise: NoiseModel,
    held: Held,
) -> Explanations:
    """Tracks and structures in turn."""
    estimate = Estimate.at(found.tracks)
    for _ in range(rounds):
        estimate = gauss_newton_step(model, stage, estimate, found.structures, noise)
        found = replace(found, tracks=estimate.tracks)
        found = replace(found, structures=_chosen(model, stage, found, belief, held))
    return found


def _chosen(model: Model, stage: AugmentedScenes, found: Explanations, belief: Belief, held: Held) -> Structures:
    """The most probable structures under supposed tracks."""
    if belief.given is not None:
        return found.structures
    tables = tables_with(model, stage, found.tracks)
    if held != "nothing":
        tables = pin_hidden(tables, found.structures, found.tracks.shape[1], outgoing=held == "both")
    return belief.prior.posterior(tables, belief.temperature).best()


def _silent_first(model: Model, scenes: Scenes, found: Explanations, energies: Tensor) -> Tensor:
    """Energies ``[scene, chain]`` in which one chain of each scene that acts on nobody is before all others.

    Who touches nobody explains least, and needs no luck for it: it is weighed in the end, but has not the least energy.
    """
    energies = energies.nan_to_num(torch.inf, torch.inf, torch.inf).view(scenes.num_scenes, -1)
    nothing, num_hidden = weakest_kind(model, scenes), found.tracks.shape[1]
    if nothing is None:
        return energies
    relations = to_matrix(found.structures, scenes.num_entities + num_hidden)
    silent = (relations[:, :-num_hidden, -num_hidden:] == nothing).flatten(1).all(1).view(energies.shape)
    quietest = energies.masked_fill(~silent, torch.inf).argmin(1, keepdim=True)
    least = torch.where(silent.any(1, keepdim=True), -torch.inf, energies.gather(1, quietest))
    return energies.scatter(1, quietest, least)


def _best(found: Explanations, energies: Tensor, num_starts: int, num_kept: int) -> Explanations:
    """For each scene the chains of least energy, one of ``num_starts``; they stand scene by scene, then by pattern."""
    num_scenes, num_chains = energies.shape
    least = energies.view(num_scenes, -1, num_starts).min(2)
    patterns = least.values.argsort(1)[:, :num_kept]
    chains = patterns * num_starts + least.indices.gather(1, patterns)
    return found.at((chains + torch.arange(num_scenes)[:, None] * num_chains).flatten())
