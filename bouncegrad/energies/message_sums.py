"""Energies of large graphs, without tables: every message is computed once, and sums are updated slot by slot.

A change of one slot exchanges one message in its receiver's sum. So samplers can handle graphs whose tables, of length
``kinds ** neighbours``, would be too large.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bouncegrad.devices import on_cpu
from bouncegrad.energies import CHUNK_CELLS, cells_at_once
from bouncegrad.energies.windows import Batch, Windows
from bouncegrad.models.decoder_protocol import Decoder
from bouncegrad.models.model import Model
from bouncegrad.models.noise import NoiseModel
from bouncegrad.models.super_graph import SuperGraph
from bouncegrad.structures.factors import ChainState, Factors, SummedFactors, block_kinds
from bouncegrad.structures.layout import Layout
from bouncegrad.types import Losses, Structures


@dataclass(frozen=True, slots=True, eq=False)
class Superposition:
    """Errors of the superposed update: targets minus summed messages, over the scale of the errors.

    Attributes:
        goals: ``[task, receiver, node_kind, sum]``, the sum of messages at which the error is 0, over the scale of the
            errors, for each node type.
    """

    goals: Float[Tensor, "task receiver node_kind sum"]

    def away(self, tasks: slice, sums: Float[Tensor, "task chain receiver option sum"], node_kinds: Tensor) -> Tensor:
        """Errors over their scale, ``[task, chain, receiver, option, error]``."""
        goals = self.goals[tasks]
        if goals.shape[2] == 1:
            return goals[:, None] - sums
        rows, columns = torch.arange(len(goals)).view(-1, 1, 1, 1), torch.arange(goals.shape[1])[:, None]
        return goals[rows, columns, node_kinds] - sums


@dataclass(frozen=True, slots=True, eq=False)
class NodeUpdate:
    """Errors of the general update, in which a node module reads the sum of messages.

    Attributes:
        network: the decoder that has the node modules.
        states: ``[task, receiver, start, input]``, true states at the starts.
        targets: ``[task, receiver, start, feature]``, true states one step later.
        precision: ``[task, receiver, start, feature]``, 1 over the scale of the errors; 0 where not observed.
    """

    network: Decoder
    states: Float[Tensor, "task receiver start input"]
    targets: Float[Tensor, "task receiver start feature"]
    precision: Float[Tensor, "task receiver start feature"]

    def away(self, tasks: slice, sums: Float[Tensor, "task chain receiver option sum"], node_kinds: Tensor) -> Tensor:
        """Errors over their scale, ``[task, chain, receiver, option, error]``."""
        states, targets, precision = (
            values[tasks][:, None, :, None] for values in (self.states, self.targets, self.precision)
        )
        incoming = sums.unflatten(4, (states.shape[4], -1))
        before = states.expand(*sums.shape[:4], -1, -1).flatten(0, 3)
        kinds = node_kinds.expand(sums.shape[:4]).flatten()
        predicted = self.network.update(before, incoming.flatten(0, 3), kinds).view(*sums.shape[:4], *targets.shape[4:])
        return ((targets - predicted) / self.network.unit * precision).flatten(4)


@dataclass(frozen=True, slots=True, eq=False)
class Surprise:
    """Energies of errors over their scale: ``factor * sum over errors of rho(error) + constant``.

    Attributes:
        noise: the noise model, which defines ``rho``.
        factors: ``[task, receiver]``, as in :meth:`bouncegrad.models.noise.NoiseModel.factors`.
        constants: ``[task, receiver]``, sums of the log scales.
    """

    noise: NoiseModel
    factors: Float[Tensor, "task receiver"]
    constants: Float[Tensor, "task receiver"]

    def of(self, tasks: slice, away: Float[Tensor, "task chain receiver option error"]) -> Tensor:
        """Energies ``[task, chain, receiver, option]``; ``away``, the errors over their scale, is overwritten."""
        rho = self.noise.rho(away.square_())
        return rho * self.factors[tasks, None, :, None] + self.constants[tasks, None, :, None]


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class MessageSums:
    """The loss of every task as a sum of receivers' energies, each a function of a sum of messages.

    The axis ``sum`` of sums and messages is flat: starts times size of a message.

    Attributes:
        layout: the layout of structures.
        messages: ``[task, receiver, neighbour, kind, sum]``, zeros from absent senders.
        update: from sums of messages to errors.
        surprise: from errors to energies.
        exist: ``[task, receiver, neighbour]``, which edges are inferred; None: all of them.
    """

    layout: Layout
    messages: Float[Tensor, "task receiver neighbour kind sum"]
    update: Superposition | NodeUpdate
    surprise: Surprise
    exist: Bool[Tensor, "task receiver neighbour"] | None = None

    @property
    def slots(self) -> Int[Tensor, "receiver width"]:
        """The slots on which each receiver's energy depends."""
        return self.layout.receiver_slots

    @property
    def num_kinds(self) -> tuple[int, ...]:
        """Number of kinds (edge types, node types) of each slot of a receiver."""
        return self.layout.receiver_kinds

    @property
    def num_tasks(self) -> int:
        """Number of tasks."""
        return len(self.messages)

    def __call__(self, structures: Structures) -> Losses:
        """Losses of structures, one for each task."""
        return self.chain_state(structures[:, self.slots][:, None]).energies[:, 0].sum(1)

    @torch.no_grad()
    def chain_state(self, kinds: Int[Tensor, "task chain receiver width"]) -> ChainState:
        """Initial state of parallel chains: sums of messages (the cache) and energies for the given kinds."""
        num_edges, num_kinds = self.messages.shape[2:4]
        one_hot = torch.nn.functional.one_hot(kinds[..., :num_edges], num_kinds).flatten(3).to(self.messages.dtype)
        sums = (one_hot.transpose(1, 2) @ self.messages.flatten(2, 3)).transpose(1, 2)
        energies = self._energies(sums[:, :, :, None], self._node_kinds(kinds)[..., None])
        return ChainState(kinds, energies.squeeze(3), sums)

    @torch.no_grad()
    def alternatives(
        self, state: ChainState, positions: Int[Tensor, "receiver block"]
    ) -> Float[Tensor, "task chain receiver code"]:
        """Energy of every receiver for each code of its block, all other slots fixed."""
        if self._is_node_slot(positions):
            options = torch.arange(self.layout.num_node_kinds).expand(*state.energies.shape, -1)
            return self._energies(state.cache[:, :, :, None].expand(*options.shape, -1), options)
        messages, codes = self._block_messages(positions), state.codes_at(positions, self.layout.num_edge_kinds)
        node_kinds = self._node_kinds(state.kinds)[..., None]
        parts = []
        for tasks in self._task_chunks(state.cache[0].numel() * messages.shape[2]):
            now = _at_codes(messages[tasks], codes[tasks])
            options = (state.cache[tasks] - now)[:, :, :, None] + messages[tasks, None]
            parts.append(self.surprise.of(tasks, self.update.away(tasks, options, node_kinds[tasks])))
        return torch.cat(parts)

    def move(
        self, state: ChainState, positions: Int[Tensor, "receiver block"], codes: Int[Tensor, "task chain receiver"]
    ) -> ChainState:
        """Set each receiver's block to a code; sums change by the difference of messages, energies are kept."""
        kinds = block_kinds(self.num_kinds[int(positions[0, 0])], positions.shape[1])[codes]
        changed = state.with_kinds(positions, kinds)
        if self._is_node_slot(positions):
            return replace(state, kinds=changed)
        messages = self._block_messages(positions)
        before = state.codes_at(positions, self.layout.num_edge_kinds)
        change = _at_codes(messages, codes).sub_(_at_codes(messages, before))
        return ChainState(changed, state.energies, state.cache + change)

    def tabulated(self) -> None:
        """None: there are no tables, which would be too large."""

    def plus(self, other: Factors) -> SummedFactors:
        """Sum of this loss and another one over the same slots of the same tasks."""
        return SummedFactors(self, other)

    def _energies(self, sums: Tensor, node_kinds: Tensor) -> Tensor:
        chunks = self._task_chunks(sums[0].numel())
        errors = ((tasks, self.update.away(tasks, sums[tasks], node_kinds[tasks])) for tasks in chunks)
        return torch.cat([self.surprise.of(tasks, part) for tasks, part in errors])

    def _task_chunks(self, cells: int) -> list[slice]:
        size = max(1, CHUNK_CELLS // max(1, cells))
        return [slice(first, first + size) for first in range(0, self.num_tasks, size)]

    def _block_messages(self, positions: Tensor) -> Float[Tensor, "task receiver code sum"]:
        """Sum of the messages on the edges of each receiver's block, for each code."""
        receivers = torch.arange(len(positions))
        kinds = block_kinds(self.layout.num_edge_kinds, positions.shape[1])
        columns = [
            self.messages[:, receivers, positions[:, place]][:, :, kinds[:, place]] for place in range(kinds.shape[1])
        ]
        return columns[0] if len(columns) == 1 else torch.stack(columns).sum(0)

    def _is_node_slot(self, positions: Tensor) -> bool:
        return int(positions[0, 0]) == self.layout.num_entities - 1

    def _node_kinds(self, kinds: Tensor) -> Int[Tensor, "task chain receiver"]:
        return kinds[..., -1] if self.layout.num_node_kinds > 1 else torch.zeros_like(kinds[..., 0])


def _at_codes(
    messages: Float[Tensor, "task receiver code sum"], codes: Int[Tensor, "task chain receiver"]
) -> Float[Tensor, "task chain receiver sum"]:
    """Messages of blocks at the code of each chain."""
    num_tasks, num_receivers, num_codes, size = messages.shape
    offsets = torch.arange(num_tasks * num_receivers).view(num_tasks, 1, num_receivers) * num_codes
    return messages.reshape(-1, size).index_select(0, (codes + offsets).flatten()).view(*codes.shape, size)


@torch.no_grad()
def message_sums(model: Model, batch: Batch, windows: Windows) -> MessageSums:
    """Compute every message of a batch once, as factors for large graphs.

    Args:
        model: with one round of message passing.
        batch: the scenes.
        windows: of horizon 1.

    Returns:
        Factors whose energies equal :func:`bouncegrad.energies.receiver_energies` for every structure; on the CPU.
    """
    graph, log_scales = batch.graph, model.log_scales(windows.states, batch.graph, windows.sender_mask)
    precision = model.noise.inverse_scales(log_scales)
    precision = precision * windows.weights  # weights are 0 or 1: errors of unobserved targets are 0
    if model.config.network.update == "superposed":
        messages = _messages(model, graph, windows, precision)
        update = Superposition(_goals(model, graph, windows, precision))
    else:
        messages = _messages(model, graph, windows, None)
        nodes = (windows.states, windows.targets[:, :, 0], precision)
        update = NodeUpdate(on_cpu(model.network), *(graph.unpack_nodes(values).cpu() for values in nodes))
    layout, edge_mask = model.layout(graph.present.shape[1]), batch.edge_mask
    surprise = _surprise(model, graph, windows, log_scales)
    return MessageSums(layout, messages, update, surprise, None if edge_mask is None else edge_mask.cpu())


def _goals(
    model: Model, graph: SuperGraph, windows: Windows, precision: Float[Tensor, "node start feature"]
) -> Float[Tensor, "task receiver node_kind sum"]:
    goals = []
    for kind in range(model.config.network.num_node_kinds):
        kinds = torch.full((graph.num_nodes,), kind, device=windows.states.device)
        silent = model.network.update(windows.states, torch.zeros_like(windows.targets[:, :, 0]), kinds)
        goals.append((windows.targets[:, :, 0] - silent) / model.network.unit * precision)
    return graph.unpack_nodes(torch.stack(goals, 1).flatten(2)).cpu()


def _surprise(model: Model, graph: SuperGraph, windows: Windows, log_scales: Tensor) -> Surprise:
    weights = windows.weights[:, :, 0]
    counts = graph.unpack_nodes(weights.sum(1)).cpu().sum(1, keepdim=True).clamp_min(1)
    constants = graph.unpack_nodes((log_scales.sum(2) * weights).sum(1)).cpu()
    return Surprise(model.noise, model.noise.factors(counts).expand_as(constants), constants)


def _messages(
    model: Model, graph: SuperGraph, windows: Windows, precision: Float[Tensor, "node start message"] | None
) -> Float[Tensor, "task receiver neighbour kind sum"]:
    """Messages under all edge types, in chunks of edges so that hidden activations stay small."""
    num_scenes, num_entities = graph.present.shape
    num_kinds, hidden = model.config.network.num_edge_kinds, model.config.network.hidden
    num_starts = windows.states.shape[1]
    size = num_starts * (model.network.num_features if precision is not None else hidden)
    messages = windows.states.new_zeros(num_scenes, num_entities * (num_entities - 1), num_kinds, size)
    limit = cells_at_once(messages.device) // (num_starts * num_kinds * hidden)
    for edges in torch.arange(len(graph.senders)).split(max(1, limit)):
        receivers, senders = graph.receivers[edges], graph.senders[edges]
        inputs = model.network.edge_inputs(windows.states[receivers], windows.states[senders])
        part = model.network.edge_modules.every_kind(inputs).transpose(0, 1)
        if windows.sender_mask is not None:
            part = part * windows.sender_mask[senders][:, None, :, None]
        if precision is not None:
            part = part * precision[receivers][:, None]
        messages[graph.edge_scenes[edges], graph.edge_slots[edges]] = part.flatten(2)
    return messages.view(num_scenes, num_entities, num_entities - 1, num_kinds, size).cpu()
