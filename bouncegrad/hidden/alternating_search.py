"""Search for hidden entities: parallel chains that update tracks and structures (latent graphs) in turn.

Given structures, a damped Gauss-Newton step improves the tracks; given tracks, the tables of energies yield the most
probable structures. A chain stands for one pattern: one way in which the observed entities act on the hidden ones.
"""

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
"""Factor on the number of random first states where relations are given, since all chains then share one pattern."""

Held: TypeAlias = Literal["both", "incoming", "nothing"]
"""Which relations of the hidden entities stay fixed while structures are updated."""


@dataclass(frozen=True, slots=True)
class Effort:
    """Size of the search.

    Attributes:
        num_patterns: maximal number of ways in which the observed entities act on the hidden ones; all ways where there
            are fewer.
        num_starts: random first states per pattern, and draws of what the hidden entities do to others: 2 are enough
            where that follows from the pattern, as in symmetric graphs; else take 4.
        first_rounds: rounds of all chains, each with its pattern fixed and with normal errors.
        num_kept: chains per scene that continue, each of another pattern.
        last_rounds: rounds of these chains, with the learned error distribution and all relations free.
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
    """Return the best chains of every scene, ``num_kept`` or as many as there are patterns.

    1. Every pattern starts from random first states, rolled out by the modules to tracks.
    2. Rounds of Gauss-Newton steps on tracks and best structures under them, with patterns fixed and normal errors.
    3. The best chain per pattern is selected; the best patterns continue with the learned errors and free structures.
    """
    initial = _initial_explanations(model, scenes, num_hidden, belief, effort, generator)
    stage = complete(model, scenes.at(initial.scene), num_hidden)
    found = _refine(model, stage, initial, belief, effort.first_rounds, Normal(), "incoming")
    energies = _idle_chain_first(model, scenes, found, energies_of(model, stage, found.tracks, found.structures))
    best = _select_chains(found, energies, 1 if belief.given is not None else effort.num_starts, effort.num_kept)
    return refine(model, scenes, best, belief, effort.last_rounds)


@torch.no_grad()
def refine(model: Model, scenes: Scenes, found: Explanations, belief: Belief, rounds: int) -> Explanations:
    """Run rounds with the noise model of ``model`` and all relations free."""
    stage = complete(model, scenes.at(found.scene), found.tracks.shape[1])
    return _refine(model, stage, found, belief, rounds, model.noise, "nothing")


def _initial_explanations(
    model: Model, scenes: Scenes, num_hidden: int, belief: Belief, effort: Effort, generator: Generator
) -> Explanations:
    """Chains at random first states under every pattern, the same draws in every scene."""
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
    initial = Explanations(scene, roll_out_hidden(model, stage, states, structures), structures)
    return replace(initial, structures=_best_structures(model, stage, initial, belief, "both"))


def _refine(
    model: Model,
    stage: AugmentedScenes,
    found: Explanations,
    belief: Belief,
    rounds: int,
    noise: NoiseModel,
    held: Held,
) -> Explanations:
    """Update tracks (Gauss-Newton) and structures (posterior mode) in turn."""
    estimate = Estimate.at(found.tracks)
    for _ in range(rounds):
        estimate = gauss_newton_step(model, stage, estimate, found.structures, noise)
        found = replace(found, tracks=estimate.tracks)
        found = replace(found, structures=_best_structures(model, stage, found, belief, held))
    return found


def _best_structures(
    model: Model, stage: AugmentedScenes, found: Explanations, belief: Belief, held: Held
) -> Structures:
    """The most probable structures given the tracks, with the relations in ``held`` fixed; given relations stay."""
    if belief.given is not None:
        return found.structures
    tables = tables_with(model, stage, found.tracks)
    if held != "nothing":
        tables = pin_hidden(tables, found.structures, found.tracks.shape[1], outgoing=held == "both")
    return belief.prior.posterior(tables, belief.temperature).best()


def _idle_chain_first(model: Model, scenes: Scenes, found: Explanations, energies: Tensor) -> Tensor:
    """Energies ``[scene, chain]`` in which the best chain per scene without effect on observed entities comes first.

    A hidden entity without effect explains least, but its evidence depends on no lucky start. So one such chain always
    continues and is compared by evidence in the end, although its energy is not the lowest.
    """
    energies = energies.nan_to_num(torch.inf, torch.inf, torch.inf).view(scenes.num_scenes, -1)
    nothing, num_hidden = weakest_kind(model, scenes), found.tracks.shape[1]
    if nothing is None:
        return energies
    relations = to_matrix(found.structures, scenes.num_entities + num_hidden)
    idle = (relations[:, :-num_hidden, -num_hidden:] == nothing).flatten(1).all(1).view(energies.shape)
    best_idle = energies.masked_fill(~idle, torch.inf).argmin(1, keepdim=True)
    least = torch.where(idle.any(1, keepdim=True), -torch.inf, energies.gather(1, best_idle))
    return energies.scatter(1, best_idle, least)


def _select_chains(found: Explanations, energies: Tensor, num_starts: int, num_kept: int) -> Explanations:
    """For each scene the chains of lowest energy in ascending order, one per ``num_starts`` neighbours (a pattern)."""
    num_scenes, num_chains = energies.shape
    least = energies.view(num_scenes, -1, num_starts).min(2)
    patterns = least.values.argsort(1)[:, :num_kept]
    chains = patterns * num_starts + least.indices.gather(1, patterns)
    return found.at((chains + torch.arange(num_scenes)[:, None] * num_chains).flatten())
