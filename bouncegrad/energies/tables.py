"""Tables of energies: each receiver's under all assignments of edge types to its incoming edges.

Exact posteriors and block updates look energies up in them; they need small graphs (``kinds ** neighbours`` entries).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from bouncegrad.energies import energies as of
from bouncegrad.energies.windows import Batch, Windows, cut_windows
from bouncegrad.models.decoder import mask_senders
from bouncegrad.models.model import Model
from bouncegrad.models.super_graph import SuperGraph
from bouncegrad.structures.factors import FactorTables


@torch.no_grad()
def receiver_tables(model: Model, batch: Batch, windows: Windows) -> FactorTables:
    """Energies of receivers under all joint assignments of edge types to their incoming edges (and of their node type).

    Each message is computed once per edge type. Then each combination takes one node update, except for the superposed
    update under a normal likelihood, where the energy is a quadratic form in the one-hot edge types,
    ``E(z) = |r|^2 / 2 - z . M r + z . M M^T z / 2``, with ``M`` the messages and ``r`` the residuals without any
    message, both divided by the scale. From the second step of a rollout on, receivers are at different states under
    different combinations, so each combination needs its own messages.

    Args:
        model: with one round of message passing.
        batch: the scenes.
        windows: of horizon 1, or teacher-forced rollouts of receivers.

    Returns:
        Tables whose look-ups equal :func:`bouncegrad.energies.loss_fn` for every structure, on the CPU. The energy of
        absent entities is 0.

    Raises:
        ValueError: if there are several rounds of message passing, or rollouts of scenes over several steps: a
            receiver's energy then depends on more than its own slots.
    """
    if model.config.network.message_steps != 1 or (windows.rollout == "scene" and windows.horizon != 1):
        raise ValueError(
            "tables need one round of message passing, and horizon 1 or rollouts of receivers; this has "
            f"{model.config.network.message_steps} rounds and horizon {windows.horizon} of a {windows.rollout}: "
            'take windows with rollout "receiver", or use loss_fn and a kernel that only needs losses'
        )
    layout = model.layout(batch.graph.present.shape[1])
    messages = _incoming_messages(model, batch.graph, windows)
    combinations = one_hot_combinations(layout.num_edge_kinds, layout.num_entities - 1).to(messages.device)
    quadratic = model.config.network.update == "superposed" and model.config.noise.degrees_of_freedom is None
    table = _rolled_tables if windows.horizon > 1 else _quadratic_tables if quadratic else _direct_tables
    energies = table(model, batch.graph, windows, messages, combinations)
    energies = energies / of.normalizer(model, batch.graph, windows)[:, None]
    exist = batch.edge_mask
    if exist is not None and layout.num_node_kinds > 1:
        present = batch.graph.present if batch.exogenous is None else batch.graph.unpack_nodes(~batch.exogenous)
        exist = torch.cat([exist, present[:, :, None]], 2)
    exist = None if exist is None else exist.cpu()
    return FactorTables(batch.graph.unpack_nodes(energies).cpu(), layout.receiver_slots, layout.receiver_kinds, exist)


def tables_of(model: Model, batches: Sequence[Batch], cut: Callable[[Batch], Windows] = cut_windows) -> FactorTables:
    """Tables of several batches, concatenated over tasks, for the windows that ``cut`` makes of each batch."""
    parts = [receiver_tables(model, batch, cut(batch)) for batch in batches]
    exist = None
    if any(part.exist is not None for part in parts):
        exist = torch.cat([_all_exist(part) if part.exist is None else part.exist for part in parts])
    return FactorTables(torch.cat([part.energies for part in parts]), parts[0].slots, parts[0].num_kinds, exist)


def _all_exist(tables: FactorTables) -> Bool[Tensor, "task factor width"]:
    return torch.ones(tables.num_tasks, *tables.slots.shape, dtype=torch.bool)


def one_hot_combinations(num_kinds: int, width: int) -> Float[Tensor, "combination neighbour_kind"]:
    """All assignments of kinds to ``width`` edges, each as a flat one-hot row, first edge most significant.

    >>> one_hot_combinations(2, 2).int().tolist()
    [[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1]]
    """
    combinations = torch.tensor(list(product(range(num_kinds), repeat=width)), dtype=torch.long)
    return functional.one_hot(combinations, num_kinds).flatten(1).float()


def _incoming_messages(
    model: Model, graph: SuperGraph, windows: Windows
) -> Float[Tensor, "node neighbour_kind start message"]:
    """Messages under every edge type, arranged by receiver; zeros from absent or masked senders."""
    inputs = model.network.inputs_on(graph, windows.states)
    messages = model.network.edge_modules.every_kind(inputs).transpose(0, 1)
    sender_mask = None if windows.sender_mask is None else windows.sender_mask[:, None]
    messages = mask_senders(messages, graph, sender_mask)
    return _by_receiver(graph, messages).flatten(1, 2)


def _by_receiver(graph: SuperGraph, values: Float[Tensor, "edge *rest"]) -> Float[Tensor, "node neighbour *rest"]:
    """Values of edges, arranged by receiver and neighbour; zeros for absent senders."""
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
    """Tables of one step by a node update of every summed message, in chunks of nodes."""
    noise, log_scales = model.noise, model.log_scales(windows.states, graph, windows.sender_mask)
    predict = _prediction_of_combinations(model)
    cells = len(combinations) * windows.states.shape[1] * model.config.network.hidden
    columns = []
    for kind in range(model.config.network.num_node_kinds):
        parts = []
        for chosen in _slices(graph.num_nodes, of.cells_at_once(messages.device) // cells):
            predicted = predict(windows.states[chosen], messages[chosen], combinations, kind)
            residuals = (windows.targets[chosen, None, :, 0] - predicted) / model.network.unit
            energies = noise.energy(residuals, log_scales[chosen, None]) * windows.weights[chosen, None, :, 0]
            parts.append(energies.sum(2))
        columns.append(torch.cat(parts))
    return torch.stack(columns, 2).flatten(1)


def _prediction_of_combinations(model: Model) -> Callable[[Tensor, Tensor, Tensor, int], Tensor]:
    """States one step later ``[node, combination, start, feature]``, as a function of states, messages and types."""
    return _general_prediction(model) if model.config.network.update == "general" else _superposed_prediction(model)


def _general_prediction(model: Model) -> Callable[[Tensor, Tensor, Tensor, int], Tensor]:
    """The general update of all combinations; the first linear map of the node module is applied before the sums."""
    network = model.network

    def predict(states: Tensor, messages: Tensor, combinations: Tensor, kind: int) -> Tensor:
        weight, bias = network.node_modules.weights[0][kind], network.node_modules.biases[0][kind]
        own = states @ weight[: network.num_inputs] + bias
        projected = messages @ weight[network.num_inputs :]
        hidden = torch.matmul(combinations, projected.flatten(2)).view(len(states), -1, *own.shape[1:])
        changes = network.node_modules.finish(hidden.add_(own[:, None]), kind)
        return network.linear(states)[:, None] + network.unit * changes

    return predict


def _superposed_prediction(model: Model) -> Callable[[Tensor, Tensor, Tensor, int], Tensor]:
    """The superposed update of all combinations."""

    def predict(states: Tensor, messages: Tensor, combinations: Tensor, kind: int) -> Tensor:
        kinds = torch.full((len(states),), kind, device=states.device)
        silent = model.network.update(states, torch.zeros_like(model.network.newest(states)), kinds)
        sums = torch.matmul(combinations, messages.flatten(2)).view(len(states), -1, *silent.shape[1:])
        return silent[:, None] + model.network.unit * sums

    return predict


@dataclass(frozen=True, slots=True)
class _Receivers:
    """Some receivers, with all inputs of their teacher-forced rollouts.

    Attributes:
        windows: the windows to predict.
        log_scales: ``[node, start, step, feature]``, log standard deviations of the errors.
        messages: ``[node, neighbour_kind, start, message]``, messages of the first step under every edge type.
        senders: ``[node, neighbour, start, step, input]``, true states of the senders before each step.
        exist: ``[node, neighbour]``, 1 for senders that are present, else 0.
    """

    windows: Windows
    log_scales: Float[Tensor, "node start step feature"]
    messages: Float[Tensor, "node neighbour_kind start message"]
    senders: Float[Tensor, "node neighbour start step input"]
    exist: Float[Tensor, "node neighbour"]

    def at(self, nodes: slice) -> _Receivers:
        """The receivers in a slice."""
        part = self.windows.at(nodes)
        return _Receivers(part, self.log_scales[nodes], self.messages[nodes], self.senders[nodes], self.exist[nodes])


def _rolled_tables(
    model: Model,
    graph: SuperGraph,
    windows: Windows,
    messages: Float[Tensor, "node neighbour_kind start message"],
    combinations: Float[Tensor, "combination neighbour_kind"],
) -> Float[Tensor, "node combination"]:
    """Tables of several steps: roll receivers out under every combination, in chunks of nodes and combinations."""
    senders = _by_receiver(graph, windows.origins.index_select(0, graph.senders))
    exist = _by_receiver(graph, torch.ones_like(senders.flatten()[: len(graph.senders)]))
    receivers = _Receivers(windows, of.log_scales_of(model, graph, windows), messages, senders, exist)
    cells, limit = senders.shape[1] * senders.shape[2] * model.config.network.hidden, of.cells_at_once(messages.device)
    columns = []
    for kind in range(model.config.network.num_node_kinds):
        parts = []
        for nodes in _slices(graph.num_nodes, limit // (len(combinations) * cells)):
            some = receivers.at(nodes)
            pieces = [combinations[piece] for piece in _slices(len(combinations), limit // cells)]
            parts.append(torch.cat([_rolled_energies(model, some, piece, kind) for piece in pieces]).T)
        columns.append(torch.cat(parts))
    return torch.stack(columns, 2).flatten(1)


def _slices(total: int, size: int) -> Iterator[slice]:
    """Consecutive slices of ``size``, at least 1, up to ``total``."""
    return (slice(first, first + max(1, size)) for first in range(0, total, max(1, size)))


def _rolled_energies(
    model: Model, receivers: _Receivers, combinations: Float[Tensor, "combination neighbour_kind"], kind: int
) -> Float[Tensor, "combination node"]:
    """Energies of teacher-forced rollouts of some receivers under some combinations, with one node type."""
    predict = _prediction_of_combinations(model)
    edge_kinds = combinations.view(len(combinations), receivers.exist.shape[1], -1).argmax(2)
    windows, energies = receivers.windows, torch.zeros(())
    # the first step starts from the true states: its messages are the same for all combinations
    own = predict(windows.states, receivers.messages, combinations, kind).transpose(0, 1)
    history = windows.states.expand(len(own), -1, -1, -1)
    for step in range(windows.horizon):
        if step:
            history = model.network.shift_history(history, own)
            own = _next_states(model, history, receivers.senders[:, :, :, step], receivers.exist, edge_kinds, kind)
        residuals = (windows.targets[:, :, step] - own) / model.network.unit
        costs = model.noise.energy(residuals, receivers.log_scales[:, :, step]) * windows.weights[:, :, step]
        energies = energies + costs.sum(2)
    return energies


def _next_states(
    model: Model,
    own: Float[Tensor, "combination node start input"],
    senders: Float[Tensor, "node neighbour start input"],
    exist: Float[Tensor, "node neighbour"],
    edge_kinds: Int[Tensor, "combination neighbour"],
    kind: int,
) -> Float[Tensor, "combination node start feature"]:
    """One step of receivers whose states differ between combinations, with messages of their own."""
    shape = (len(own), senders.shape[1], *own.shape[1:])
    sender_states = senders.transpose(0, 1).expand(shape)
    inputs = model.network.edge_inputs(own[:, None].expand(shape), sender_states).flatten(0, 1)
    messages = model.network.edge_modules(inputs, edge_kinds.flatten()).view(*shape[:-1], -1)
    incoming = (messages * exist.T[:, :, None, None]).sum(1).flatten(0, 1)
    kinds = torch.full((len(incoming),), kind, device=own.device)
    return model.network.update(own.flatten(0, 1), incoming, kinds).unflatten(0, own.shape[:2])


def _quadratic_tables(
    model: Model,
    graph: SuperGraph,
    windows: Windows,
    messages: Float[Tensor, "node neighbour_kind start message"],
    combinations: Float[Tensor, "combination neighbour_kind"],
) -> Float[Tensor, "node combination"]:
    """Tables of one step by a quadratic form: from the Gram matrix of each receiver's messages, summed over time.

    In double precision: energies of an accurate model are small differences of large squares.
    """
    log_scales = model.log_scales(windows.states, graph, windows.sender_mask)
    weights = windows.weights.sqrt() * model.noise.inverse_scales(log_scales)
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
    if not model.noise.in_nats:
        return squares / model.network.num_features
    constants = (log_scales.sum(2) * windows.weights[:, :, 0]).sum(1, keepdim=True)
    return 0.5 * squares + constants
