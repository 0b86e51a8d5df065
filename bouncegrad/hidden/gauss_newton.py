"""Most probable tracks of hidden entities given structures, with their uncertainty: damped Gauss-Newton steps.

All states of a track are free variables (multiple shooting with soft constraints): one-step errors of hidden entities
are part of the energy as those of observed entities are. First states have the prior ``h_0 ~ N(0, spread^2)``, so the
energy, a negative log posterior up to constants, is::

    E(h) = |h_0 / spread|^2 / 2 + sum over times and receivers of the negative log likelihood of their errors

With linear modules and normal errors one step reaches the minimum and equals the Rauch-Tung-Striebel smoother; in
general the smoother is one step of a Gauss-Newton iteration (Bell 1994, *The iterated Kalman smoother as a Gauss-Newton
method*), here damped.
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
"""Prior standard deviation of first states: normalised states lie between -1 and 1."""

FASTEST, SLOWEST = 1e-9, 1e9
"""Limits of the damping."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """State of the Gauss-Newton iteration.

    Attributes:
        tracks: normalised tracks.
        damping: ``[task]``, Levenberg-Marquardt damping, as a share of the diagonal of the curvature.
        fallen: ``[task]``, decrease of the energy in the last step, nats.
    """

    tracks: Tracks
    damping: Float[Tensor, "task"]
    fallen: Float[Tensor, "task"]

    @classmethod
    def at(cls, tracks: Tracks) -> Estimate:
        """Start an iteration at given tracks."""
        return cls(tracks, tracks.new_full((len(tracks),), 1e-6), tracks.new_full((len(tracks),), torch.inf))


@dataclass(frozen=True, slots=True)
class Step:
    """One-step predictions of all nodes at given tracks: errors and Jacobian, in units of the network.

    Attributes:
        residuals: ``[node, start, feature]``, next state minus predicted next state.
        log_scales: ``[node, start, feature]``, log noise scales of the residuals.
        slopes: ``[size, node, start, feature]``, Jacobian: derivative of the prediction by each number of the hidden
            states.
    """

    residuals: Float[Tensor, "node start feature"]
    log_scales: Float[Tensor, "node start feature"]
    slopes: Float[Tensor, "size node start feature"]


def energies_of(model: Model, stage: AugmentedScenes, tracks: Tracks, structures: Structures) -> Float[Tensor, "task"]:
    """Energy ``E`` of tracks under structures, nats."""
    states = stage.with_tracks(tracks).states
    residuals = (states[:, 1:] - one_step_fn(model, stage, structures)(states[:, :-1])) / model.network.unit
    log_scales = model.log_scales(states[:, :-1], stage.graph)
    return _energies(stage, tracks, residuals, log_scales, model.noise)


def one_step_fn(model: Model, stage: AugmentedScenes, structures: Structures) -> Callable[[Tensor], Tensor]:
    """Return a function that predicts the next states of all nodes from their states.

    Only states of hidden nodes may vary: messages between observed nodes are computed beforehand.
    """
    kinds, node_kinds = stage.touching.pack_edges(structures), stage.graph.pack_node_kinds(structures)
    background = stage.messages_to(structures)

    def predict(states: Float[Tensor, "node start feature"]) -> Float[Tensor, "node start feature"]:
        messages = model.network.edge_modules(model.network.inputs_on(stage.touching, states), kinds)
        return model.network.update(states, background + stage.touching.incoming(messages), node_kinds)

    return predict


def _energies(
    stage: AugmentedScenes, tracks: Tracks, residuals: Tensor, log_scales: Tensor, noise: NoiseModel
) -> Float[Tensor, "task"]:
    """Energy from residuals and log scales: negative log likelihood plus the negative log prior of first states."""
    nats = noise.energy(residuals, log_scales).double().sum(1)
    first_energy = 0.5 * (tracks[:, :, 0].double() / FIRST_SPREAD).square().sum((1, 2))
    return stage.graph.unpack_nodes(nats).sum(1) + first_energy


def step_with_slopes(model: Model, stage: AugmentedScenes, tracks: Tracks, structures: Structures) -> Step:
    """Predict one step from all times, and differentiate the predictions by the hidden states."""
    states, predict = stage.with_tracks(tracks).states, one_step_fn(model, stage, structures)
    before = states[:, :-1]
    tangents = _unit_tangents(stage, before)
    slopes = torch.func.vmap(lambda tangent: torch.func.jvp(predict, (before,), (tangent,))[1])(tangents)
    residuals = (states[:, 1:] - predict(before)) / model.network.unit
    return Step(residuals, model.log_scales(before, stage.graph), slopes / model.network.unit)


def _unit_tangents(
    stage: AugmentedScenes, states: Float[Tensor, "node start feature"]
) -> Float[Tensor, "size node start feature"]:
    """Unit vectors in the space of hidden states, one for each hidden entity and feature: tangents of forward mode."""
    num_hidden, num_features = stage.nodes.shape[1], states.shape[2]
    tangents = states.new_zeros(num_hidden, num_features, *states.shape)
    for hidden in range(num_hidden):
        for feature in range(num_features):
            tangents[hidden, feature, stage.nodes[:, hidden], :, feature] = 1
    return tangents.flatten(0, 1)


@dataclass(frozen=True, slots=True)
class Parabola:
    """Second-order approximation of the energy at given tracks.

    Attributes:
        curvature: Gauss-Newton approximation of the Hessian, block-tridiagonal in time.
        gradient: ``[task, time, size]``, gradient of the energy.
    """

    curvature: BlockTridiagonal
    gradient: Float[Tensor, "task time size"]


def parabola(model: Model, stage: AugmentedScenes, tracks: Tracks, around: Step, noise: NoiseModel) -> Parabola:
    """Gauss-Newton approximation of the energy, in double precision; derivatives of the noise scales are left out."""
    slopes, residuals = around.slopes.double(), around.residuals.double()
    weights = noise.precisions(around.residuals, around.log_scales).double()
    weighted = slopes * weights
    leaving_curvature = stage.graph.unpack_nodes(torch.einsum("anif,bnif->niab", weighted, slopes)).sum(1)
    leaving_force = stage.graph.unpack_nodes(torch.einsum("anif,nif->nia", weighted, residuals)).sum(1)
    # Residuals contain the arriving state itself (slope 1 / unit) and the prediction from the leaving state.
    unit = model.network.unit.double().repeat(stage.nodes.shape[1])
    precision = stage.of_hidden(weights) / unit.square()
    arriving_gradient = precision * stage.of_hidden(residuals) * unit
    jacobian = torch.stack([stage.of_hidden(slope) for slope in slopes], 3) * unit[:, None]
    first_gradient = tracks[:, :, 0].double().flatten(1) / FIRST_SPREAD**2
    first_precision = torch.diag(torch.full_like(unit, FIRST_SPREAD**-2)).expand(len(tracks), 1, -1, -1)
    diagonal = _along_time(leaving_curvature, torch.diag_embed(precision), first_precision)
    gradient = _along_time(-leaving_force, arriving_gradient, first_gradient[:, None])
    return Parabola(BlockTridiagonal(diagonal, -precision[..., None] * jacobian), gradient)


def _along_time(leaving: Tensor, arriving: Tensor, first: Tensor) -> Tensor:
    """Sum of the terms at the states where steps leave and arrive, and of the prior term at the first state."""
    return torch.cat([leaving, torch.zeros_like(first)], 1) + torch.cat([first, arriving], 1)


@torch.no_grad()
def gauss_newton_step(
    model: Model, stage: AugmentedScenes, before: Estimate, structures: Structures, noise: NoiseModel
) -> Estimate:
    """One damped Gauss-Newton step (Levenberg and Marquardt) under a noise model, the model's own or a simpler one.

    Noise scales stay fixed at the tracks where the step begins: they weight errors but exert no force on the tracks. A
    step that raises the energy is rejected, and the damping grows.
    """
    tracks = before.tracks
    around = step_with_slopes(model, stage, tracks, structures)
    form = parabola(model, stage, tracks, around, noise)
    change = form.curvature.damped(before.damping.double()).cholesky().solve(-form.gradient)
    tried = tracks + stage.as_tracks(change).to(tracks.dtype)
    states = stage.with_tracks(tried).states
    residuals = (states[:, 1:] - one_step_fn(model, stage, structures)(states[:, :-1])) / model.network.unit
    # Accept the step where the energy falls, and adapt the damping.
    now = _energies(stage, tracks, around.residuals, around.log_scales, noise)
    fallen = now - _energies(stage, tried, residuals, around.log_scales, noise)
    better = fallen > 0
    damping = torch.where(better, before.damping / 10, (before.damping * 10).clamp_min(1e-4))
    kept = tried.where(better[:, None, None, None], tracks)
    return Estimate(kept, damping.clamp(FASTEST, SLOWEST), fallen.where(better, 0.0).float())
