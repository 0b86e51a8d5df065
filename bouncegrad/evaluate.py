"""From modules to losses: what each structure of a batch costs, one by one or as tables of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from bouncegrad.graphs import SuperGraph
from bouncegrad.model import Batch, Model, Windows, part_of, split_tasks, windows
from bouncegrad.noise import negative_log_likelihood
from bouncegrad.types import FactorTables, LossFn, RelaxedStructures, Structures

CHUNK_CELLS = 1_000_000
"""Numbers in the largest array of one chunk of nodes: 4 MB, about what stays in a core's cache."""


def receiver_energies(
    model: Model, batch: Batch, windows: Windows, structures: Structures
) -> Float[Tensor, "task receiver"]:
    """What each entity's motion costs under the structures, rolled out from the true starts as the windows say.

    With a scale: nats, summed over starts, steps and features (:func:`log_scales_of`), so a sample counts once for
    every start from which it is predicted. Without: squared errors, averaged so that a scene's receivers add up to its
    mean squared error.
    """
    residuals = _residuals(model, batch, windows, structures)
    energies = _energies(model, residuals, log_scales_of(model, batch.graph, windows), windows.weights).sum((1, 2))
    return batch.graph.unpack_nodes(energies / _normalizer(model, batch.graph, windows))


def _residuals(
    model: Model, batch: Batch, windows: Windows, structures: Structures | RelaxedStructures
) -> Float[Tensor, "node start step feature"]:
    """Errors of the rollouts, in the network's unit."""
    if windows.rollout == "receiver" and windows.horizon > 1:
        predicted = model.network.rollout_receivers(windows.origins, batch.graph, structures)
    else:
        predicted = model.network.rollout(windows.states, batch.graph, structures, windows.horizon)
    return (windows.targets - predicted) / model.network.unit


@torch.no_grad()
def step_errors(model: Model, batch: Batch, windows: Windows, structures: Structures) -> Float[Tensor, "step"]:
    """Mean squared error of each step of the rollouts, in the unit of the normalised states."""
    squares = (_residuals(model, batch, windows, structures) * model.network.unit).square().mean(3) * windows.weights
    return squares.sum((0, 1)) / windows.weights.sum((0, 1)).clamp_min(1)


@torch.no_grad()
def residual_moments(model: Model, batch: Batch, windows: Windows, structures: Structures) -> tuple[float, float]:
    """Mean square of the errors of rollouts, and their correlation from one step of a rollout to the next.

    In the unit of the normalised states. Under a horizon of 1 there is no next step: from one start to the next.
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

    Errors accumulate. Each step adds errors of its own, independent of the earlier ones, which the linear skip carries
    on (a Kalman filter's prediction, for the part of the dynamics that needs no modules, so still blind to all kinds)::

        C_0 = 0,    C_s = J^T C_(s-1) J + diag(sigma_s^2),    J = U (1 + A) U^-1

    of which the diagonal is taken. ``sigma_s`` is the scale of one step at the true state from which step s leads on;
    for rollouts of scenes, which know no true state but the first, at the start.
    """
    receiver = windows.rollout == "receiver"
    each = model.log_scales(windows.origins if receiver else windows.states[:, :, None], graph)
    each = each.expand(-1, -1, windows.horizon, -1)
    if model.scale is None or windows.horizon == 1:
        return each
    carry = model.network.carry
    covariance, variances = torch.zeros_like(carry), []
    for log_scales in each.unbind(2):
        covariance = carry.T @ covariance @ carry + torch.diag_embed(torch.exp(2 * log_scales))
        variances.append(covariance.diagonal(dim1=-2, dim2=-1))
    return 0.5 * torch.stack(variances, 2).log()


def loss_fn(model: Model, batch: Batch, windows: Windows) -> LossFn:
    """The loss of a structure: the sum of its :func:`receiver_energies`."""

    @torch.no_grad()
    def losses(structures: Structures) -> Float[Tensor, "task"]:
        parts = split_tasks(batch, windows, tasks_at_once(model, batch, windows))
        return torch.cat(
            [receiver_energies(model, part, stretches, structures[tasks]).sum(1) for tasks, part, stretches in parts]
        )

    return losses


def tasks_at_once(model: Model, batch: Batch, windows: Windows) -> int:
    """How many tasks to roll out together so that what a layer hands on stays in cache: CHUNK_CELLS numbers."""
    num_tasks, num_edges = max(1, len(batch.graph.present)), len(batch.graph.senders)
    cells = num_edges / num_tasks * windows.states.shape[1] * model.config.network.hidden
    return max(1, round(CHUNK_CELLS / max(1.0, cells)))


@torch.no_grad()
def receiver_tables(model: Model, batch: Batch, windows: Windows) -> FactorTables:
    """The energy of every receiver under all joint assignments of kinds to its incoming edges (and its node slot).

    Each message is computed once per kind; what remains per combination is the node update and, for the superposed
    update under normal tails, not even that: the energy is a quadratic form in the one-hot kinds,
    ``E(z) = |r|^2 / 2 - z . M r + z . M M^T z / 2``, with ``M`` the messages and ``r`` the residuals without any,
    both divided by the scale. From the second step on every combination has been led elsewhere and needs messages of
    its own.

    Args:
        model: with one round of message passing.
        batch: the scenes.
        windows: of horizon 1, or rollouts of receivers.

    Returns:
        Tables whose look-ups equal :func:`loss_fn` for every structure. Absent entities cost nothing.

    Raises:
        ValueError: several rounds, or rollouts of scenes, where a receiver's energy depends on more than its own slots.
    """
    if model.config.network.message_steps != 1 or (windows.rollout == "scene" and windows.horizon != 1):
        raise ValueError(
            "tables need one round of message passing, and horizon 1 or rollouts of receivers; this has "
            f"{model.config.network.message_steps} rounds and horizon {windows.horizon} of a {windows.rollout}: "
            'take windows with rollout "receiver", or use loss_fn and a kernel that only needs losses'
        )
    layout = model.layout(batch.graph.present.shape[1])
    messages = _incoming_messages(model, batch.graph, windows.states)
    combinations = one_hot_combinations(layout.num_edge_kinds, layout.num_entities - 1).to(messages.device)
    quadratic = model.config.network.update == "superposed" and model.config.noise.degrees_of_freedom is None
    table = _rolled_tables if windows.horizon > 1 else _quadratic_tables if quadratic else _direct_tables
    energies = table(model, batch.graph, windows, messages, combinations)
    energies = energies / _normalizer(model, batch.graph, windows)[:, None]
    slots = layout.receiver_slots.to(messages.device)
    return FactorTables(batch.graph.unpack_nodes(energies), slots, layout.receiver_kinds)


def tables_of(model: Model, batches: Sequence[Batch], starts: slice = slice(None)) -> FactorTables:
    """The one-step tables of several batches as one, over some of their starts."""
    parts = [receiver_tables(model, batch, part_of(windows(batch), starts)) for batch in batches]
    return FactorTables(torch.cat([part.energies for part in parts]), parts[0].slots, parts[0].num_kinds)


def one_hot_combinations(num_kinds: int, width: int) -> Float[Tensor, "combination neighbour_kind"]:
    """All assignments of kinds to ``width`` edges, each as a flat one-hot row, first edge most significant.

    >>> one_hot_combinations(2, 2).int().tolist()
    [[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1]]
    """
    combinations = torch.tensor(list(product(range(num_kinds), repeat=width)), dtype=torch.long)
    return functional.one_hot(combinations, num_kinds).flatten(1).float()


def _incoming_messages(
    model: Model, graph: SuperGraph, states: Float[Tensor, "node start feature"]
) -> Float[Tensor, "node neighbour_kind start message"]:
    """Every message under every kind, arranged by receiver; zeros from absent senders."""
    inputs = model.network.inputs_on(graph, states)
    messages = model.network.edge_modules.every_kind(inputs).transpose(0, 1)
    return _by_receiver(graph, messages).flatten(1, 2)


def _by_receiver(graph: SuperGraph, values: Float[Tensor, "edge *rest"]) -> Float[Tensor, "node neighbour *rest"]:
    """Values of edges, arranged by receiver; zeros for absent senders."""
    width = graph.present.shape[1] - 1
    if graph.in_degree == width:
        return values.reshape(graph.num_nodes, width, *values.shape[1:])
    padded = values.new_zeros(graph.num_nodes, width, *values.shape[1:])
    return padded.index_put((graph.receivers, graph.edge_slots % width), values)


def _direct_tables(
    model: Model,
    graph: SuperGraph,
    windows: Windows,
    messages: Float[Tensor, "node neighbour_kind start message"],
    combinations: Float[Tensor, "combination neighbour_kind"],
) -> Float[Tensor, "node combination"]:
    """Run the node update on every summed message, some nodes at a time."""
    log_scales = model.log_scales(windows.states, graph)
    predict = _every_sum(model) if model.config.network.update == "general" else _every_superposition(model)
    cells = len(combinations) * windows.states.shape[1] * model.config.network.hidden
    columns = []
    for kind in range(model.config.network.num_node_kinds):
        parts = []
        for nodes in torch.arange(graph.num_nodes).split(max(1, CHUNK_CELLS // cells)):
            chosen = slice(int(nodes[0]), int(nodes[-1]) + 1)
            predicted = predict(windows.states[chosen], messages[chosen], combinations, kind)
            residuals = (windows.targets[chosen, None, :, 0] - predicted) / model.network.unit
            energies = _energies(model, residuals, log_scales[chosen, None], windows.weights[chosen, None, :, 0])
            parts.append(energies.sum(2))
        columns.append(torch.cat(parts))
    return torch.stack(columns, 2).flatten(1)


def _every_sum(model: Model) -> Callable[[Tensor, Tensor, Tensor, int], Tensor]:
    """The general update under every combination; its first layer is linear, so it goes before the sums."""
    network = model.network

    def predict(states: Tensor, messages: Tensor, combinations: Tensor, kind: int) -> Tensor:
        weight, bias = network.node_modules.weights[0][kind], network.node_modules.biases[0][kind]
        own = states @ weight[: network.num_features] + bias
        said = messages @ weight[network.num_features :]
        hidden = torch.matmul(combinations, said.flatten(2)).view(len(states), -1, *own.shape[1:])
        changes = network.node_modules.finish(hidden.add_(own[:, None]), kind)
        return network.linear(states)[:, None] + network.unit * changes

    return predict


def _every_superposition(model: Model) -> Callable[[Tensor, Tensor, Tensor, int], Tensor]:
    """The superposed update under every combination."""

    def predict(states: Tensor, messages: Tensor, combinations: Tensor, kind: int) -> Tensor:
        kinds = torch.full((len(states),), kind, device=states.device)
        silent = model.network.update(states, torch.zeros_like(states), kinds)
        sums = torch.matmul(combinations, messages.flatten(2)).view(len(states), -1, *states.shape[1:])
        return silent[:, None] + model.network.unit * sums

    return predict


@dataclass(frozen=True, slots=True)
class _Alone:
    """Some receivers and all that their rollouts see of the rest.

    Attributes:
        windows: their stretches.
        log_scales: ``[node, start, step, feature]``, of their errors.
        messages: ``[node, neighbour_kind, start, message]``, what the first step hears under every kind.
        senders: ``[node, neighbour, start, step, feature]``, where the others are when each step begins.
        exist: ``[node, neighbour]``, 1 for those that are there, else 0.
    """

    windows: Windows
    log_scales: Float[Tensor, "node start step feature"]
    messages: Float[Tensor, "node neighbour_kind start message"]
    senders: Float[Tensor, "node neighbour start step feature"]
    exist: Float[Tensor, "node neighbour"]

    def at(self, nodes: slice) -> _Alone:
        """Some of them."""
        part = self.windows.at(nodes)
        return _Alone(part, self.log_scales[nodes], self.messages[nodes], self.senders[nodes], self.exist[nodes])


def _rolled_tables(
    model: Model,
    graph: SuperGraph,
    windows: Windows,
    messages: Float[Tensor, "node neighbour_kind start message"],
    combinations: Float[Tensor, "combination neighbour_kind"],
) -> Float[Tensor, "node combination"]:
    """Roll every receiver out alone under every combination, some nodes and some combinations at a time."""
    senders = _by_receiver(graph, windows.origins.index_select(0, graph.senders))
    exist = _by_receiver(graph, torch.ones_like(senders.flatten()[: len(graph.senders)]))
    everyone = _Alone(windows, log_scales_of(model, graph, windows), messages, senders, exist)
    cells = senders.shape[1] * senders.shape[2] * model.config.network.hidden
    columns = []
    for kind in range(model.config.network.num_node_kinds):
        parts = []
        for nodes in _slices(graph.num_nodes, CHUNK_CELLS // (len(combinations) * cells)):
            some = everyone.at(nodes)
            pieces = [combinations[piece] for piece in _slices(len(combinations), CHUNK_CELLS // cells)]
            parts.append(torch.cat([_rolled_energies(model, some, piece, kind) for piece in pieces]).T)
        columns.append(torch.cat(parts))
    return torch.stack(columns, 2).flatten(1)


def _slices(total: int, size: int) -> Iterator[slice]:
    """Neighbouring parts of ``size``, at least 1."""
    return (slice(first, first + max(1, size)) for first in range(0, total, max(1, size)))


def _rolled_energies(
    model: Model, alone: _Alone, combinations: Float[Tensor, "combination neighbour_kind"], kind: int
) -> Float[Tensor, "combination node"]:
    """The energies of some receivers under some combinations."""
    predict = _every_sum(model) if model.config.network.update == "general" else _every_superposition(model)
    edge_kinds = combinations.view(len(combinations), alone.exist.shape[1], -1).argmax(2)
    stretches, energies = alone.windows, torch.zeros(())
    own = predict(stretches.states, alone.messages, combinations, kind).transpose(0, 1)
    for step in range(stretches.horizon):
        if step:
            own = _moved_on(model, own, alone.senders[:, :, :, step], alone.exist, edge_kinds, kind)
        residuals = (stretches.targets[:, :, step] - own) / model.network.unit
        surprise = _energies(model, residuals, alone.log_scales[:, :, step], stretches.weights[:, :, step])
        energies = energies + surprise.sum(2)
    return energies


def _moved_on(
    model: Model,
    own: Float[Tensor, "combination node start feature"],
    senders: Float[Tensor, "node neighbour start feature"],
    exist: Float[Tensor, "node neighbour"],
    edge_kinds: Int[Tensor, "combination neighbour"],
    kind: int,
) -> Float[Tensor, "combination node start feature"]:
    """One more step of receivers that each combination has led elsewhere."""
    shape = (len(own), senders.shape[1], *own.shape[1:])
    theirs = senders.transpose(0, 1).expand(shape)
    inputs = model.network.edge_inputs(own[:, None].expand(shape), theirs).flatten(0, 1)
    messages = model.network.edge_modules(inputs, edge_kinds.flatten()).view(*shape[:-1], -1)
    incoming = (messages * exist.T[:, :, None, None]).sum(1).flatten(0, 1)
    kinds = torch.full((len(incoming),), kind, device=own.device)
    return model.network.update(own.flatten(0, 1), incoming, kinds).view_as(own)


def _quadratic_tables(
    model: Model,
    graph: SuperGraph,
    windows: Windows,
    messages: Float[Tensor, "node neighbour_kind start message"],
    combinations: Float[Tensor, "combination neighbour_kind"],
) -> Float[Tensor, "node combination"]:
    """Read all energies off one Gram matrix per receiver, accumulated over time.

    In double precision: a good model's energies are small differences of large squares.
    """
    log_scales = model.log_scales(windows.states, graph)
    precision = torch.exp(-log_scales) if model.scale is not None else model.network.unit
    weights = windows.weights.sqrt() * precision
    scaled = (messages * weights[:, None]).flatten(2).double()
    combinations = combinations.double()
    gram = scaled @ scaled.mT
    columns = []
    for kind in range(model.config.network.num_node_kinds):
        kinds = torch.full((graph.num_nodes,), kind, device=messages.device)
        silent = model.network.update(windows.states, torch.zeros_like(messages[:, 0]), kinds)
        residuals = ((windows.targets[:, :, 0] - silent) / model.network.unit * weights).flatten(1).double()
        linear = (scaled @ residuals[:, :, None]).squeeze(2)
        pairs = torch.einsum("ci,nij,cj->nc", combinations, gram, combinations)
        columns.append(residuals.square().sum(1, keepdim=True) - 2 * linear @ combinations.T + pairs)
    squares = torch.stack(columns, 2).flatten(1).to(messages.dtype)
    if model.scale is None:
        return squares / model.network.num_features
    constants = (log_scales.sum(2) * windows.weights[:, :, 0]).sum(1, keepdim=True)
    return 0.5 * squares + constants


def _energies(model: Model, residuals: Tensor, log_scales: Tensor, weights: Tensor) -> Tensor:
    """Weighted energies of residuals ``[..., feature]`` in the network's unit."""
    if model.scale is None:
        return (residuals * model.network.unit).square().mean(-1) * weights
    return negative_log_likelihood(residuals, log_scales, model.config.noise.degrees_of_freedom) * weights


def _normalizer(model: Model, graph: SuperGraph, windows: Windows) -> Float[Tensor, "node"]:
    """What divides a node's energy: 1 for nats, the number of valid targets of its scene for mean squares."""
    if model.scale is not None:
        return windows.weights.new_ones(graph.num_nodes)
    counts = graph.unpack_nodes(windows.weights.sum((1, 2))).sum(1, keepdim=True).expand_as(graph.present)
    return graph.pack_nodes(counts).clamp_min(1)


def training_loss(
    model: Model, batch: Batch, windows: Windows, structures: Structures | RelaxedStructures
) -> Float[Tensor, ""]:
    """The scalar that gradient descent lowers, structures fixed.

    With a scale, the mean is trained on ``(r^2 / sigma)`` with detached, normalised weights (half the exponent of the
    likelihood, which would starve the mean wherever the scale is still large) and the scale on the likelihood of
    detached residuals. Under Student-t tails surprising residuals weigh less, by ``(d + 1) / (d + (r / sigma)^2)``
    (Lange, Little and Taylor 1989). Without a scale, on the mean squared error.
    """
    residuals = _residuals(model, batch, windows, structures)
    weights = windows.weights[..., None]
    total = weights.sum().clamp_min(1) * residuals.shape[-1]
    if model.scale is None:
        return ((residuals * model.network.unit).square() * weights).sum() / total
    log_scales = log_scales_of(model, batch.graph, windows)
    precision = torch.exp(-log_scales.detach()) * weights * _trust(model, residuals.detach(), log_scales.detach())
    precision = precision / (precision.sum((0, 1, 2)) / weights.sum().clamp_min(1)).clamp_min(1e-12)
    surprise = _energies(model, residuals.detach(), log_scales, windows.weights)
    return (residuals.square() * precision).sum() / total + surprise.sum() / total


def add_gradients(
    model: Model, batch: Batch, windows: Windows, structures: Structures | RelaxedStructures, factor: float = 1.0
) -> float:
    """Add the gradient of ``factor`` times :func:`training_loss` to what the parameters hold; returns that loss.

    Mean squares add up task by task, so they are taken some tasks at a time.
    """
    size = tasks_at_once(model, batch, windows) if model.scale is None else len(structures)
    total, value = windows.weights.sum().clamp_min(1), 0.0
    for tasks, part, stretches in split_tasks(batch, windows, size):
        share = 1.0 if size >= len(structures) else stretches.weights.sum() / total
        loss = factor * share * training_loss(model, part, stretches, structures[tasks])
        loss.backward()
        value += loss.item()
    return value


def _trust(model: Model, residuals: Tensor, log_scales: Tensor) -> Tensor:
    """How much each residual counts under the tails of the noise model."""
    degrees = model.config.noise.degrees_of_freedom
    if degrees is None:
        return torch.ones_like(residuals)
    return (degrees + 1) / (degrees + (residuals * torch.exp(-log_scales)).square())
