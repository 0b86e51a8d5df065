"""The graph network: relations as modules on edges, kinds of entities as modules on nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from bouncegrad.models.module_bank import ModuleBank, Routing
from bouncegrad.models.super_graph import SuperGraph
from bouncegrad.settings import check_settings
from bouncegrad.types import RelaxedStructures, Structures


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class NetworkConfig:
    """The shape of a graph network.

    Attributes:
        num_edge_kinds: size of the library of edge modules, the kinds of relation.
        num_node_kinds: size of the library of node modules, the kinds of entity.
        hidden: width of all hidden layers.
        inputs: what an edge module sees: "absolute" (receiver's state, then sender's state; Alet et al. 2019) or
            "relative" (sender's state minus receiver's).
        update: how messages move a node: "general" (a node module reads the state and the summed messages; Alet et
            al. 2019) or "superposed" (the summed messages are added to the change of state; no network over the sum).
        skip: predict the change of state as a fixed linear map of the state, fitted once by least squares, plus what
            the modules say in units of that map's residuals. Without it the modules' output is added to the state.
        message_steps: rounds of message passing within one time step (T in section 3.1 of Alet et al. 2019).
        edge_layers: linear maps of an edge module: 3 (Alet et al. 2019) or 2 (Kipf et al. 2018), or any number.
        silent_first: edge kind 0 sends nothing, so it means "no relation" (``skip_first`` of Kipf et al. 2018).
        history: samples that the modules see of an entity, the newest last: 1, its state; more where a state does not
            say how it came about (speeds without positions, reactions that take their time). Wherever inputs are said
            to have features below, they have those of all these samples.
        unseen: what becomes of a sample for whose prediction some sender was not measured: "skip", it does not count
            (that sender acts, and nobody knows how); "silent", that sender says nothing (it is not there, or the gaps
            are too long to do without the rest). One step only.

    Raises:
        ValueError: a number or word that makes no network.
    """

    num_edge_kinds: int = 2
    num_node_kinds: int = 1
    hidden: int = 64
    inputs: Literal["absolute", "relative"] = "relative"
    update: Literal["general", "superposed"] = "superposed"
    skip: bool = True
    message_steps: int = 1
    edge_layers: int = 3
    silent_first: bool = False
    history: int = 1
    unseen: Literal["skip", "silent"] = "skip"

    def __post_init__(self) -> None:
        counts = ("num_edge_kinds", "num_node_kinds", "hidden", "message_steps", "edge_layers", "history")
        check_settings(self, counts=counts)


class GraphNetwork(nn.Module):
    """The graph network of Alet et al. 2019, section 3.1, with kinds on edges and on nodes.

    One step of the dynamics, repeated ``message_steps`` times::

        m_e  = edge_module[kind of e](x_receiver, x_sender)      for every edge e
        x_i <- x_i + A x_i + b + unit * node_update[kind of i](x_i, sum of m_e over edges e into i)

    where the general update is ``node_module(x_i, sum)`` and the superposed one ``node_module(x_i) + sum``; ``A``,
    ``b`` and ``unit`` are constants of the training data (:meth:`fit_skip`), or 0, 0, 1 without the skip. With a
    history the ``x`` that modules and ``A`` read are the last samples side by side; what moves on is the newest.

    Args:
        config: the shape.
        num_features: size of the state of an entity at one time.
        generator: draws the initial weights.
    """

    skip_weight: Tensor
    skip_bias: Tensor
    unit: Tensor

    def __init__(self, config: NetworkConfig, num_features: int, generator: Generator) -> None:
        super().__init__()
        self.config = config
        self.num_features, self.num_inputs = num_features, num_features * config.history
        hidden, superposed = config.hidden, config.update == "superposed"
        message_size = num_features if superposed else hidden
        seen = self.num_inputs * (1 if config.inputs == "relative" else 2)
        edge_sizes = (seen, *[hidden] * (config.edge_layers - 1), message_size)
        node_sizes = (self.num_inputs + (0 if superposed else message_size), hidden, hidden, num_features)
        gain, final_gain = (6**0.5, 0.1) if config.skip else (1.0, 1.0)
        self.edge_modules = ModuleBank(
            config.num_edge_kinds,
            edge_sizes,
            generator,
            final_relu=not superposed,
            random_biases=not config.skip,
            gain=gain,
            final_gain=final_gain if superposed else gain,
            silent_first=config.silent_first,
        )
        self.node_modules = ModuleBank(
            config.num_node_kinds,
            node_sizes,
            generator,
            gain=gain,
            random_biases=not config.skip,
            final_gain=final_gain,
        )
        self.register_buffer("skip_weight", torch.zeros(self.num_inputs, num_features))
        self.register_buffer("skip_bias", torch.zeros(num_features))
        self.register_buffer("unit", torch.ones(num_features))

    @torch.no_grad()
    def fit_skip(self, states: Float[Tensor, "item input"], targets: Float[Tensor, "item feature"]) -> None:
        """Fit the linear skip by least squares and take the spread of its residuals as the unit of the modules."""
        inputs = torch.cat([states, torch.ones_like(states[:, :1])], 1).double().cpu()
        changes = (targets - self.newest(states)).double().cpu()
        solution = torch.linalg.lstsq(inputs, changes, driver="gelsd").solution
        residuals = changes - inputs @ solution
        self.skip_weight.copy_(solution[:-1])
        self.skip_bias.copy_(solution[-1])
        self.unit.copy_(residuals.std(0).clamp_min(1e-6))

    @torch.no_grad()
    def fix_gauge(self, states: Float[Tensor, "node *batch input"], graph: SuperGraph) -> None:
        """Let messages be zero on average, over all pairs and kinds; the node modules take over what they lose.

        Under the superposed update a constant can hide in all messages and be undone by the state term. Nothing shows
        it while every node has the same number of senders, and nothing works at another number. Only superposed
        networks on graphs of one in-degree need this, and only they are changed; their predictions there are not. A
        silent kind leaves nothing to hide in, nor do senders that are silent where they were not measured.
        """
        silent = self.config.silent_first or self.config.unseen == "silent"
        if self.config.update != "superposed" or silent or not graph.in_degree or self.config.message_steps > 1:
            return
        inputs = self.inputs_on(graph, states)
        shift = self.edge_modules.every_kind(inputs).flatten(0, -2).mean(0)
        self.edge_modules.biases[-1].sub_(shift)
        self.node_modules.biases[-1].add_(graph.in_degree * shift)

    def newest(self, states: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch feature"]:
        """The last sample of a history."""
        return states if self.config.history == 1 else states[..., -self.num_features :]

    def shift_history(
        self, states: Float[Tensor, "*batch input"], newest: Float[Tensor, "*batch feature"]
    ) -> Float[Tensor, "*batch input"]:
        """The history one step later."""
        if self.config.history == 1:
            return newest
        return torch.cat([states[..., self.num_features :], newest], -1)

    def inputs_on(self, graph: SuperGraph, states: Float[Tensor, "node *batch input"]) -> Tensor:
        """What the edge module on each edge of a graph sees: ``[edge, ..., input]``."""
        return self.edge_inputs(states.index_select(0, graph.receivers), states.index_select(0, graph.senders))

    def edge_inputs(self, receivers: Tensor, senders: Tensor) -> Tensor:
        """What edge modules see of two histories ``[..., input]``."""
        return senders - receivers if self.config.inputs == "relative" else torch.cat([receivers, senders], -1)

    def update(
        self,
        states: Float[Tensor, "node *batch input"],
        incoming: Float[Tensor, "node *batch message"],
        node_kinds: Int[Tensor, "node"] | Routing,
    ) -> Float[Tensor, "node *batch feature"]:
        """Move nodes on, given the sum of their messages."""
        if self.config.update == "superposed":
            changes = self.node_modules(states, node_kinds) + incoming
        else:
            changes = self.node_modules(torch.cat([states, incoming], -1), node_kinds)
        return self.linear(states) + self.unit * changes

    def linear(self, states: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch feature"]:
        """The states moved on by the linear skip alone."""
        if not self.config.skip:
            return self.newest(states)
        return self.newest(states) + states @ self.skip_weight + self.skip_bias

    @property
    def transition(self) -> Float[Tensor, "input input"]:
        """State-transition matrix of the linear skip: small differences (rows) after one step, in the modules' unit."""
        size, kept = self.num_inputs, self.num_inputs - self.num_features
        later = torch.zeros(size, size, device=self.unit.device)
        later[self.num_features :, :kept] = torch.eye(kept, device=self.unit.device)
        moved = self.skip_weight.clone()
        moved[kept:] += torch.eye(self.num_features, device=self.unit.device)
        later[:, kept:] = self.unit.repeat(self.config.history)[:, None] * moved / self.unit
        return later

    def step(
        self,
        states: Float[Tensor, "node *batch input"],
        graph: SuperGraph,
        edge_kinds: Tensor | Routing,
        node_kinds: Tensor | Routing,
        sender_mask: Float[Tensor, "node *batch"] | None = None,
    ) -> Float[Tensor, "node *batch feature"]:
        """One time step of all nodes; what nodes that are not ``sender_mask`` say is 0."""
        newest = self.newest(states)
        for _ in range(self.config.message_steps):
            messages = self.edge_modules(self.inputs_on(graph, states), edge_kinds)
            newest = self.update(states, graph.incoming(mask_senders(messages, graph, sender_mask)), node_kinds)
            states = torch.cat([states[..., : -self.num_features], newest], -1)
        return newest

    def rollout(
        self,
        states: Float[Tensor, "node *batch input"],
        graph: SuperGraph,
        structures: Structures | RelaxedStructures,
        num_steps: int,
        *,
        sender_mask: Float[Tensor, "node *batch"] | None = None,
        given: Float[Tensor, "node *batch step feature"] | None = None,
    ) -> Float[Tensor, "node *batch step feature"]:
        """Roll all scenes out together; every step starts from the model's own last step.

        Args:
            states: where to start, ``[node, ..., input]``; any number of start times beside each other.
            graph: the super-graph of the scenes.
            structures: ``[task, slot]``, one row for each scene of the graph; or relaxed, ``[task, slot, kind]``.
            num_steps: how far to roll.
            heard: 0 for nodes whose messages are left out, else 1; None: all are heard.
            given: states that the model does not decide about, NaN for all others.

        Returns:
            The states after 1 to ``num_steps`` steps.
        """
        (edge_kinds, node_kinds), steps = self._routed(graph, structures), []
        for number in range(num_steps):
            newest = self.step(states, graph, edge_kinds, node_kinds, sender_mask)
            if given is not None:
                newest = torch.where(given[..., number, :].isnan(), newest, given[..., number, :])
            states = self.shift_history(states, newest)
            steps.append(newest)
        return torch.stack(steps, -2)

    def rollout_receivers(
        self, origins: Float[Tensor, "node *batch step input"], graph: SuperGraph, structures: Structures
    ) -> Float[Tensor, "node *batch step feature"]:
        """Roll every node out alone: at each step its senders are where they really were.

        So the path of a node depends on its own slots only. With one step this is :meth:`rollout`.

        Args:
            origins: the true states from which each step leads on, ``[node, ..., step, input]``; of the receiver only
                the first is used.
            graph: the super-graph of the scenes.
            structures: ``[task, slot]``, one row for each scene of the graph.

        Returns:
            The states after each step.

        Raises:
            ValueError: several rounds of messages, in which senders answer to receivers within a step.
        """
        if self.config.message_steps != 1:
            raise ValueError(
                f"receivers roll out alone with one round of messages, this network has {self.config.message_steps}: "
                "roll whole scenes out"
            )
        edge_kinds, node_kinds = self._routed(graph, structures)
        own, steps = origins.select(-2, 0), []
        for truth in origins.unbind(-2):
            inputs = self.edge_inputs(own.index_select(0, graph.receivers), truth.index_select(0, graph.senders))
            newest = self.update(own, graph.incoming(self.edge_modules(inputs, edge_kinds)), node_kinds)
            own = self.shift_history(own, newest)
            steps.append(newest)
        return torch.stack(steps, -2)

    def _routed(
        self, graph: SuperGraph, structures: Structures | RelaxedStructures
    ) -> tuple[Tensor | Routing, Tensor | Routing]:
        """The kinds of edges and of nodes, sorted once for all steps."""
        edges, nodes = graph.pack_edges(structures), graph.pack_node_kinds(structures)
        return self.edge_modules.route(edges), self.node_modules.route(nodes)


def mask_senders(
    messages: Float[Tensor, "edge *batch message"], graph: SuperGraph, sender_mask: Float[Tensor, "node *batch"] | None
) -> Float[Tensor, "edge *batch message"]:
    """Messages without those of senders that are not heard."""
    return messages if sender_mask is None else messages * sender_mask.index_select(0, graph.senders)[..., None]
