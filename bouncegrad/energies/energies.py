"""Energies of structures: negative log likelihoods or squared errors of rollouts, and the loss of the M-step."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from bouncegrad.energies.windows import Batch, Windows, split_tasks
from bouncegrad.models.model import Model
from bouncegrad.models.super_graph import SuperGraph
from bouncegrad.types import LossFn, RelaxedStructures, Structures

CHUNK_CELLS = 1_000_000
"""Size of the largest array of one chunk of nodes on a CPU: 4 MB, about the cache of a core."""

GPU_FACTOR = 64
"""Factor on :data:`CHUNK_CELLS` for other devices: a GPU has no such cache, but each kernel launch takes time."""


def cells_at_once(device: torch.device) -> int:
    """Size limit of the largest array of one chunk on a device."""
    return CHUNK_CELLS if device.type == "cpu" else GPU_FACTOR * CHUNK_CELLS


def receiver_energies(
    model: Model, batch: Batch, windows: Windows, structures: Structures
) -> Float[Tensor, "task receiver"]:
    """Energy of each entity given the structures: of rollouts from the true states at the starts of the windows.

    With a scale: negative log likelihood in nats, summed over starts, steps and features (:func:`log_scales_of`), so a
    sample counts once for every start from which it is predicted. Without: squared errors, averaged so that the
    energies of a scene's receivers add up to its mean squared error.
    """
    residuals = _residuals(model, batch, windows, structures)
    energies = model.noise.energy(residuals, log_scales_of(model, batch.graph, windows)) * windows.weights
    return batch.graph.unpack_nodes(energies.sum((1, 2)) / normalizer(model, batch.graph, windows))


def _residuals(
    model: Model, batch: Batch, windows: Windows, structures: Structures | RelaxedStructures
) -> Float[Tensor, "node start step feature"]:
    """Prediction errors of the rollouts, targets minus predictions, in the network's unit."""
    if windows.rollout == "receiver" and windows.horizon > 1:
        predicted = model.network.rollout_receivers(windows.origins, batch.graph, structures)
    else:
        predicted = model.network.rollout(
            windows.states,
            batch.graph,
            structures,
            windows.horizon,
            sender_mask=windows.sender_mask,
            given=windows.given,
        )
    return (windows.targets - predicted) / model.network.unit


@torch.no_grad()
def step_errors(model: Model, batch: Batch, windows: Windows, structures: Structures) -> Float[Tensor, "step"]:
    """Mean squared error at each step of the rollouts, for normalised states."""
    squares = (_residuals(model, batch, windows, structures) * model.network.unit).square().mean(3) * windows.weights
    return squares.sum((0, 1)) / windows.weights.sum((0, 1)).clamp_min(1)


@torch.no_grad()
def residual_moments(model: Model, batch: Batch, windows: Windows, structures: Structures) -> tuple[float, float]:
    """Mean square of the errors of rollouts, and the correlation of errors at neighbouring steps of a rollout.

    In the unit of the normalised states. With a horizon of 1, the correlation is between neighbouring starts.
    """
    residuals = _residuals(model, batch, windows, structures) * model.network.unit
    residuals, weights = residuals * windows.weights[..., None], windows.weights[..., None].expand_as(residuals)
    mean_square = float(residuals.square().sum() / weights.sum().clamp_min(1))
    if windows.horizon == 1:
        residuals, weights = residuals.transpose(1, 2), weights.transpose(1, 2)
    both = weights[:, :, 1:] * weights[:, :, :-1]
    centred = residuals - residuals.sum() / weights.sum().clamp_min(1)
    before, after = centred[:, :, :-1] * both, centred[:, :, 1:] * both
    return mean_square, float((before * after).sum() / (before.norm() * after.norm()).clamp_min(1e-30))


def log_scales_of(model: Model, graph: SuperGraph, windows: Windows) -> Float[Tensor, "node start step feature"]:
    """Log standard deviations of the errors of rollouts, in the network's unit; zeros without a scale.

    Errors accumulate over steps. Each step adds independent errors to those of earlier steps, which the linear skip
    propagates: the prediction step of a Kalman filter with the state-transition matrix ``J`` of the linear skip.
    Modules do not enter, so the scales do not depend on edge types or node types::

        C_0 = 0,    C_s = J^T C_(s-1) J + diag(sigma_s^2),    J = U (1 + A) U^-1

    The variances are the diagonal of ``C_s``. ``sigma_s`` is the scale of one step: under teacher forcing (rollouts of
    receivers) at the true state before step s, for rollouts of scenes at the state at the start.
    """
    receiver = windows.rollout == "receiver"
    states, sender_mask = windows.origins if receiver else windows.states[:, :, None], windows.sender_mask
    each = model.log_scales(states, graph, None if sender_mask is None else sender_mask[:, :, None])
    each = each.expand(-1, -1, windows.horizon, -1)
    if windows.horizon == 1 or not model.noise.in_nats:
        return each
    transition, num_features = model.network.transition, each.shape[3]
    covariance, variances = torch.zeros_like(transition), []
    for log_scales in each.unbind(2):
        own = torch.nn.functional.pad(torch.exp(2 * log_scales), (len(transition) - num_features, 0))
        covariance = transition.T @ covariance @ transition + torch.diag_embed(own)
        variances.append(covariance.diagonal(dim1=-2, dim2=-1)[..., -num_features:])
    return 0.5 * torch.stack(variances, 2).log()


def loss_fn(model: Model, batch: Batch, windows: Windows) -> LossFn:
    """Build the loss of structures, the sum of their :func:`receiver_energies`; losses are on the CPU."""
    parts = list(split_tasks(batch, windows, tasks_at_once(model, batch, windows)))

    @torch.no_grad()
    def losses(structures: Structures) -> Float[Tensor, "task"]:
        return torch.cat(
            [receiver_energies(model, part, windows, structures[tasks]).sum(1) for tasks, part, windows in parts]
        ).cpu()

    return losses


def tasks_at_once(model: Model, batch: Batch, windows: Windows) -> int:
    """Number of tasks to roll out together so that a layer's activations stay in cache (:func:`cells_at_once`)."""
    num_tasks, num_edges = max(1, len(batch.graph.present)), len(batch.graph.senders)
    cells = num_edges / num_tasks * windows.states.shape[1] * model.config.network.hidden
    return max(1, round(cells_at_once(batch.states.device) / max(1.0, cells)))


def normalizer(model: Model, graph: SuperGraph, windows: Windows) -> Float[Tensor, "node"]:
    """Divisor of a node's energy: 1 for nats, the number of valid targets of its scene for mean squared errors."""
    if model.noise.in_nats:
        return windows.weights.new_ones(graph.num_nodes)
    counts = graph.unpack_nodes(windows.weights.sum((1, 2))).sum(1, keepdim=True).expand_as(graph.present)
    return graph.pack_nodes(counts).clamp_min(1)


def training_loss(
    model: Model, batch: Batch, windows: Windows, structures: Structures | RelaxedStructures
) -> Float[Tensor, ""]:
    """The loss of the M-step ("grad"): a scalar that gradient descent minimises, structures fixed.

    With a scale, it is the sum of two terms. The decoder is trained on ``r^2 / sigma`` with detached, normalised
    weights ``1 / sigma`` (half the exponent of the likelihood's ``1 / sigma^2``, under which samples with a scale that
    is still large would hardly count); the scale is trained on the negative log likelihood of detached residuals. Under
    Student-t tails large residuals weigh less, by ``(d + 1) / (d + (r / sigma)^2)`` (Lange, Little and Taylor 1989).
    Without a scale, it is the mean squared error.
    """
    noise, residuals = model.noise, _residuals(model, batch, windows, structures)
    weights = windows.weights[..., None]
    total = weights.sum().clamp_min(1) * residuals.shape[-1]
    if not noise.in_nats:
        return ((residuals * model.network.unit).square() * weights).sum() / total
    log_scales = log_scales_of(model, batch.graph, windows)
    precision = torch.exp(-log_scales.detach()) * weights * noise.weights(residuals.detach(), log_scales.detach())
    precision = precision / (precision.sum((0, 1, 2)) / weights.sum().clamp_min(1)).clamp_min(1e-12)
    nats = noise.energy(residuals.detach(), log_scales) * windows.weights
    return (residuals.square() * precision).sum() / total + nats.sum() / total


def add_gradients(
    model: Model, batch: Batch, windows: Windows, structures: Structures | RelaxedStructures, factor: float = 1.0
) -> float:
    """Backpropagate ``factor`` times :func:`training_loss` into the gradients of the parameters; return that loss.

    Mean squared errors are sums over tasks, so they are computed in chunks of tasks that fit into cache.
    """
    size = len(structures) if model.noise.in_nats else tasks_at_once(model, batch, windows)
    total, value = windows.weights.sum().clamp_min(1), 0.0
    for tasks, part, part_windows in split_tasks(batch, windows, size):
        share = 1.0 if size >= len(structures) else part_windows.weights.sum() / total
        loss = factor * share * training_loss(model, part, part_windows, structures[tasks])
        loss.backward()
        value += loss.item()
    return value
