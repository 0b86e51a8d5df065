"""The most probable tracks of hidden entities under given structures, and how sure they are.

All states of a track are unknown (multiple shooting, with soft joints): the one-step errors of the hidden entity cost
what those of the seen ones cost. Of first states little is believed, ``h_0 ~ N(0, spread^2)``, so the energy is::

    E(h) = |h_0 / spread|^2 / 2 + sum over times and receivers of the negative log likelihood of their errors

With linear modules and normal errors its minimum is the Rauch-Tung-Striebel smoother; in general that is one step of a
Gauss-Newton iteration (Bell 1994, *The iterated Kalman smoother as a Gauss-Newton method*), here damped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bouncegrad.hidden.augmented import AugmentedScenes, Tracks
from bouncegrad.hidden.block_tridiagonal import BlockTridiagonal
from bouncegrad.models.model import Model
from bouncegrad.models.noise import NoiseModel
from bouncegrad.types import Structures

FIRST_SPREAD = 0.5
"""Standard deviation of what is believed of a first state: normalised states lie between -1 and 1."""

FASTEST, SLOWEST = 1e-9, 1e9
"""Limits of the damping."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Supposed tracks on their way to the most probable ones.

    Attributes:
        tracks: normalised.
        damping: ``[task]``, by what share the curvature is exaggerated.
        fallen: ``[task]``, by how many nats the last step lowered the energy.
    """

    tracks: Tracks
    damping: Float[Tensor, "task"]
    fallen: Float[Tensor, "task"]

    @classmethod
    def at(cls, tracks: Tracks) -> Estimate:
        """Where an iteration begins."""
        return cls(tracks, tracks.new_full((len(tracks),), 1e-6), tracks.new_full((len(tracks),), torch.inf))


@dataclass(frozen=True, slots=True)
class Step:
    """One step of all nodes from where they are supposed to be, in units of the network.

    Attributes:
        residuals: ``[node, start, feature]``, where nodes went minus where they were foretold to go.
        log_scales: of them, the same shape.
        slopes: ``[size, node, start, feature]``, how the foretold moves with each number of the hidden states.
    """

    residuals: Float[Tensor, "node start feature"]
    log_scales: Float[Tensor, "node start feature"]
    slopes: Float[Tensor, "size node start feature"]


def energies_of(model: Model, stage: AugmentedScenes, tracks: Tracks, structures: Structures) -> Float[Tensor, "task"]:
    """``E`` of tracks and structures, in nats."""
    states = stage.with_tracks(tracks).states
    residuals = (states[:, 1:] - foretelling(model, stage, structures)(states[:, :-1])) / model.network.unit
    log_scales = model.log_scales(states[:, :-1], stage.graph)
    return _energies(stage, tracks, residuals, log_scales, model.noise)


def foretelling(model: Model, stage: AugmentedScenes, structures: Structures) -> Callable[[Tensor], Tensor]:
    """One step of all nodes as a function of their states, in which only the hidden ones may be elsewhere."""
    kinds, node_kinds = stage.touching.pack_edges(structures), stage.graph.pack_node_kinds(structures)
    background = stage.messages_to(structures)

    def foretell(states: Float[Tensor, "node start feature"]) -> Float[Tensor, "node start feature"]:
        messages = model.network.edge_modules(model.network.inputs_on(stage.touching, states), kinds)
        return model.network.update(states, background + stage.touching.incoming(messages), node_kinds)

    return foretell


def _energies(
    stage: AugmentedScenes, tracks: Tracks, residuals: Tensor, log_scales: Tensor, noise: NoiseModel
) -> Float[Tensor, "task"]:
    nats = noise.energy(residuals, log_scales).double().sum(1)
    first = 0.5 * (tracks[:, :, 0].double() / FIRST_SPREAD).square().sum((1, 2))
    return stage.graph.unpack_nodes(nats).sum(1) + first


def step_with_slopes(model: Model, stage: AugmentedScenes, tracks: Tracks, structures: Structures) -> Step:
    """Take one step from everywhere, with its slopes."""
    states, foretell = stage.with_tracks(tracks).states, foretelling(model, stage, structures)
    before = states[:, :-1]
    slopes = torch.func.vmap(lambda way: torch.func.jvp(foretell, (before,), (way,))[1])(_ways(stage, before))
    residuals = (states[:, 1:] - foretell(before)) / model.network.unit
    return Step(residuals, model.log_scales(before, stage.graph), slopes / model.network.unit)


def _ways(
    stage: AugmentedScenes, states: Float[Tensor, "node start feature"]
) -> Float[Tensor, "size node start feature"]:
    """The directions in which the hidden states can move."""
    num_hidden, num_features = stage.nodes.shape[1], states.shape[2]
    ways = states.new_zeros(num_hidden, num_features, *states.shape)
    for hidden in range(num_hidden):
        for feature in range(num_features):
            ways[hidden, feature, stage.nodes[:, hidden], :, feature] = 1
    return ways.flatten(0, 1)


@dataclass(frozen=True, slots=True)
class Parabola:
    """The energy around supposed tracks, to second order.

    Attributes:
        curvature: of the energy.
        gradient: ``[task, time, size]``.
    """

    curvature: BlockTridiagonal
    gradient: Float[Tensor, "task time size"]


def parabola(model: Model, stage: AugmentedScenes, tracks: Tracks, around: Step, noise: NoiseModel) -> Parabola:
    """Gauss and Newton's, in double precision; what the scales do as tracks move is left out."""
    slopes, residuals = around.slopes.double(), around.residuals.double()
    weights = noise.precisions(around.residuals, around.log_scales).double()
    weighted = slopes * weights
    pairs = stage.graph.unpack_nodes(torch.einsum("anif,bnif->niab", weighted, slopes)).sum(1)
    pulls = stage.graph.unpack_nodes(torch.einsum("anif,nif->nia", weighted, residuals)).sum(1)
    unit = model.network.unit.double().repeat(stage.nodes.shape[1])
    precision = stage.of_hidden(weights) / unit.square()
    push = precision * stage.of_hidden(residuals) * unit
    moved = torch.stack([stage.of_hidden(slope) for slope in slopes], 3) * unit[:, None]
    first = tracks[:, :, 0].double().flatten(1) / FIRST_SPREAD**2
    believed = torch.diag(torch.full_like(unit, FIRST_SPREAD**-2)).expand(len(tracks), 1, -1, -1)
    diagonal = _along_time(pairs, torch.diag_embed(precision), believed)
    return Parabola(
        BlockTridiagonal(diagonal, -precision[..., None] * moved), _along_time(-pulls, push, first[:, None])
    )


def _along_time(leaving: Tensor, arriving: Tensor, first: Tensor) -> Tensor:
    """What steps say of the states that they leave and of those that they arrive at, with what is said of the first."""
    return torch.cat([leaving, torch.zeros_like(first)], 1) + torch.cat([first, arriving], 1)


@torch.no_grad()
def gauss_newton_step(
    model: Model, stage: AugmentedScenes, before: Estimate, structures: Structures, noise: NoiseModel
) -> Estimate:
    """One damped Gauss-Newton step (Levenberg and Marquardt) under a noise model, the model's own or a simpler one.

    Scales are those at the tracks from which it starts: they weigh errors, and are no reason to be elsewhere.
    """
    tracks = before.tracks
    around = step_with_slopes(model, stage, tracks, structures)
    form = parabola(model, stage, tracks, around, noise)
    change = form.curvature.damped(before.damping.double()).cholesky().solve(-form.gradient)
    tried = tracks + stage.as_tracks(change).to(tracks.dtype)
    states = stage.with_tracks(tried).states
    residuals = (states[:, 1:] - foretelling(model, stage, structures)(states[:, :-1])) / model.network.unit
    now = _energies(stage, tracks, around.residuals, around.log_scales, noise)
    fallen = now - _energies(stage, tried, residuals, around.log_scales, noise)
    better = fallen > 0
    damping = torch.where(better, before.damping / 10, (before.damping * 10).clamp_min(1e-4))
    kept = tried.where(better[:, None, None, None], tracks)
    return Estimate(kept, damping.clamp(FASTEST, SLOWEST), fallen.where(better, 0.0).float())
