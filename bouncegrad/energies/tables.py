"""From modules to tables: what every combination of kinds on a receiver's slots costs."""

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
from bouncegrad.models.graph_network import mask_senders
from bouncegrad.models.model import Model
from bouncegrad.models.super_graph import SuperGraph
from bouncegrad.structures.factors import FactorTables


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
        Tables whose look-ups equal :func:`loss_fn` for every structure, on the CPU. Absent entities cost nothing.

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
    """The one-step tables of several batches as one, over the stretches that ``cut`` makes of each."""
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
    """Every message under every kind, arranged by receiver; zeros from senders that are absent or not heard."""
    inputs = model.network.inputs_on(graph, windows.states)
    messages = model.network.edge_modules.every_kind(inputs).transpose(0, 1)
    sender_mask = None if windows.sender_mask is None else windows.sender_mask[:, None]
    messages = mask_senders(messages, graph, sender_mask)
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
    noise, log_scales = model.noise, model.log_scales(windows.states, graph, windows.sender_mask)
    predict = _every_sum(model) if model.config.network.update == "general" else _every_superposition(model)
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


def _every_sum(model: Model) -> Callable[[Tensor, Tensor, Tensor, int], Tensor]:
    """The general update under every combination; its first layer is linear, so it goes before the sums."""
    network = model.network

    def predict(states: Tensor, messages: Tensor, combinations: Tensor, kind: int) -> Tensor:
        weight, bias = network.node_modules.weights[0][kind], network.node_modules.biases[0][kind]
        own = states @ weight[: network.num_inputs] + bias
        said = messages @ weight[network.num_inputs :]
        hidden = torch.matmul(combinations, said.flatten(2)).view(len(states), -1, *own.shape[1:])
        changes = network.node_modules.finish(hidden.add_(own[:, None]), kind)
        return network.linear(states)[:, None] + network.unit * changes

    return predict


def _every_superposition(model: Model) -> Callable[[Tensor, Tensor, Tensor, int], Tensor]:
    """The superposed update under every combination."""

    def predict(states: Tensor, messages: Tensor, combinations: Tensor, kind: int) -> Tensor:
        kinds = torch.full((len(states),), kind, device=states.device)
        silent = model.network.update(states, torch.zeros_like(model.network.newest(states)), kinds)
        sums = torch.matmul(combinations, messages.flatten(2)).view(len(states), -1, *silent.shape[1:])
        return silent[:, None] + model.network.unit * sums

    return predict


@dataclass(frozen=True, slots=True)
class _Alone:
    """Some receivers and all that their rollouts see of the rest.

    Attributes:
        windows: their stretches.
        log_scales: ``[node, start, step, feature]``, of their errors.
        messages: ``[node, neighbour_kind, start, message]``, what the first step hears under every kind.
        senders: ``[node, neighbour, start, step, input]``, where the others are when each step begins.
        exist: ``[node, neighbour]``, 1 for those that are there, else 0.
    """

    windows: Windows
    log_scales: Float[Tensor, "node start step feature"]
    messages: Float[Tensor, "node neighbour_kind start message"]
    senders: Float[Tensor, "node neighbour start step input"]
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
    everyone = _Alone(windows, of.log_scales_of(model, graph, windows), messages, senders, exist)
    cells, limit = senders.shape[1] * senders.shape[2] * model.config.network.hidden, of.cells_at_once(messages.device)
    columns = []
    for kind in range(model.config.network.num_node_kinds):
        parts = []
        for nodes in _slices(graph.num_nodes, limit // (len(combinations) * cells)):
            some = everyone.at(nodes)
            pieces = [combinations[piece] for piece in _slices(len(combinations), limit // cells)]
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
    windows, energies = alone.windows, torch.zeros(())
    own = predict(windows.states, alone.messages, combinations, kind).transpose(0, 1)
    history = windows.states.expand(len(own), -1, -1, -1)
    for step in range(windows.horizon):
        if step:
            history = model.network.shift_history(history, own)
            own = _moved_on(model, history, alone.senders[:, :, :, step], alone.exist, edge_kinds, kind)
        residuals = (windows.targets[:, :, step] - own) / model.network.unit
        surprise = model.noise.energy(residuals, alone.log_scales[:, :, step]) * windows.weights[:, :, step]
        energies = energies + surprise.sum(2)
    return energies


def _moved_on(
    model: Model,
    own: Float[Tensor, "combination node start input"],
    senders: Float[Tensor, "node neighbour start input"],
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
    return model.network.update(own.flatten(0, 1), incoming, kinds).unflatten(0, own.shape[:2])


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
