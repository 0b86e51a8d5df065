"""The decoder: a graph network with one edge module per edge type and one node module per node type.

It predicts trajectories given a structure (latent graph), by message passing: Alet et al. 2019, section 3.1; the
decoder of neural relational inference (Kipf et al. 2018). Rollouts run freely (:meth:`GraphNetwork.rollout`) or with
teacher forcing of the senders (:meth:`GraphNetwork.rollout_receivers`).
"""

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
    """The architecture of a graph network, the decoder.

    Attributes:
        num_edge_kinds: number of edge types, each with an edge module of its own.
        num_node_kinds: number of node types, each with a node module of its own.
        hidden: width of all hidden layers.
        inputs: input of an edge module: "absolute" (receiver's state, then sender's state; Alet et al. 2019) or
            "relative" (sender's state minus receiver's).
        update: how messages change a node's state: "general" (a node module reads the state and the summed messages;
            Alet et al. 2019) or "superposed" (the summed messages are added to the change of state, with no network).
        skip: predict the change of state as a fixed linear map of the state, fitted once by least squares, plus the
            modules' output in units of that map's residuals. Without it the modules' output is added to the state.
        message_steps: rounds of message passing within one time step (T in section 3.1 of Alet et al. 2019).
        edge_layers: linear maps of an edge module: 3 (Alet et al. 2019) or 2 (Kipf et al. 2018), or any number.
        silent_first: messages of edge type 0 are zero, so it means "no relation" (``skip_first`` of Kipf et al. 2018).
        history: number of samples of an entity that the modules read, up to the current one. 1: the current state only;
            more where that does not determine the next one (speeds without positions, delayed reactions).
        unseen: how to treat a sample with a sender that was not measured: "skip", the sample has weight 0 (that sender
            acts, in an unknown way); "silent", that sender's messages are zero (it is absent, or gaps are so long that
            too few samples would remain). "silent" needs a horizon of 1.

    Raises:
        ValueError: if a number or word is not a valid setting.
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
    """The graph network of Alet et al. 2019, section 3.1, with edge types and node types.

    One step of the dynamics, repeated ``message_steps`` times::

        m_e  = edge_module[kind of e](x_receiver, x_sender)      for every edge e
        x_i <- x_i + A x_i + b + unit * node_update[kind of i](x_i, sum of m_e over edges e into i)

    where the general update is ``node_module(x_i, sum)`` and the superposed one ``node_module(x_i) + sum``; ``A``,
    ``b`` and ``unit`` are constants of the training data (:meth:`fit_skip`), or 0, 0, 1 without the skip. With a
    history, modules and ``A`` read the last samples side by side as ``x``; the newest sample is the one updated.

    Args:
        config: the architecture.
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
        edge_input_size = self.num_inputs * (1 if config.inputs == "relative" else 2)
        edge_sizes = (edge_input_size, *[hidden] * (config.edge_layers - 1), message_size)
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
        """Fit the linear skip by least squares; the standard deviation of its residuals becomes the modules' unit."""
        inputs = torch.cat([states, torch.ones_like(states[:, :1])], 1).double().cpu()
        changes = (targets - self.newest(states)).double().cpu()
        solution = torch.linalg.lstsq(inputs, changes, driver="gelsd").solution
        residuals = changes - inputs @ solution
        self.skip_weight.copy_(solution[:-1])
        self.skip_bias.copy_(solution[-1])
        self.unit.copy_(residuals.std(0).clamp_min(1e-6))

    @torch.no_grad()
    def fix_gauge(self, states: Float[Tensor, "node *batch input"], graph: SuperGraph) -> None:
        """Shift messages to mean zero over all pairs and edge types; node modules take up the constant.

        Under the superposed update a constant in all messages can be cancelled by the node modules. While every node
        has the same number of senders, predictions do not depend on it; at another number of senders they are wrong.
        Only superposed networks on graphs of one in-degree are changed, and their predictions there stay the same.
        With a silent edge type, or with senders masked where they were not measured, no such constant is free.
        """
        silent = self.config.silent_first or self.config.unseen == "silent"
        if self.config.update != "superposed" or silent or not graph.in_degree or self.config.message_steps > 1:
            return
        inputs = self.inputs_on(graph, states)
        shift = self.edge_modules.every_kind(inputs).flatten(0, -2).mean(0)
        self.edge_modules.biases[-1].sub_(shift)
        self.node_modules.biases[-1].add_(graph.in_degree * shift)

    def newest(self, states: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch feature"]:
        """The newest sample of a history."""
        return states if self.config.history == 1 else states[..., -self.num_features :]

    def shift_history(
        self, states: Float[Tensor, "*batch input"], newest: Float[Tensor, "*batch feature"]
    ) -> Float[Tensor, "*batch input"]:
        """The history one step later: drop the oldest sample, append ``newest``."""
        if self.config.history == 1:
            return newest
        return torch.cat([states[..., self.num_features :], newest], -1)

    def inputs_on(self, graph: SuperGraph, states: Float[Tensor, "node *batch input"]) -> Tensor:
        """Inputs of the edge module on each edge of a graph, ``[edge, ..., size]``."""
        return self.edge_inputs(states.index_select(0, graph.receivers), states.index_select(0, graph.senders))

    def edge_inputs(self, receivers: Tensor, senders: Tensor) -> Tensor:
        """Inputs of edge modules ``[..., size]``, from the histories ``[..., input]`` of receivers and senders."""
        return senders - receivers if self.config.inputs == "relative" else torch.cat([receivers, senders], -1)

    def update(
        self,
        states: Float[Tensor, "node *batch input"],
        incoming: Float[Tensor, "node *batch message"],
        node_kinds: Int[Tensor, "node"] | Routing,
    ) -> Float[Tensor, "node *batch feature"]:
        """The states one step later, given the sum of incoming messages of each node."""
        if self.config.update == "superposed":
            changes = self.node_modules(states, node_kinds) + incoming
        else:
            changes = self.node_modules(torch.cat([states, incoming], -1), node_kinds)
        return self.linear(states) + self.unit * changes

    def linear(self, states: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch feature"]:
        """The states one step later by the linear skip alone, without modules."""
        if not self.config.skip:
            return self.newest(states)
        return self.newest(states) + states @ self.skip_weight + self.skip_bias

    @property
    def transition(self) -> Float[Tensor, "input input"]:
        """State-transition matrix of the linear skip, in :attr:`unit`; it acts on row vectors from the right."""
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
        """One time step of all nodes; messages of nodes that are 0 in ``sender_mask`` are zero."""
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
        """Roll all scenes out together; every step starts from the model's own prediction of the step before.

        Args:
            states: initial histories, ``[node, ..., input]``; any number of start times in parallel.
            graph: the super-graph of the scenes.
            structures: ``[task, slot]``, one row per scene of the graph; or relaxed, shares ``[task, slot, kind]``.
            num_steps: number of time steps.
            sender_mask: 0 for nodes whose messages are zero, else 1; None: all nodes send.
            given: known states that replace predictions (exogenous entities), NaN for all others.

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
        """Roll every node out with teacher forcing of its senders: they are at their true states at each step.

        The receiver itself continues from its own prediction. So its trajectory depends on its own slots only. With
        one step this equals :meth:`rollout`.

        Args:
            origins: the true histories at the beginning of each step, ``[node, ..., step, input]``; for the receiver
                only the first is used.
            graph: the super-graph of the scenes.
            structures: ``[task, slot]``, one row for each scene of the graph.

        Returns:
            The predicted states after each step.

        Raises:
            ValueError: if there are several rounds of message passing: senders then depend on receivers within a step.
        """
        if self.config.message_steps != 1:
            raise ValueError(
                "teacher forcing of senders needs one round of message passing, this network has "
                f"{self.config.message_steps}: roll whole scenes out"
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
        """Edge types and node types, routed to their modules once for all steps."""
        edges, nodes = graph.pack_edges(structures), graph.pack_node_kinds(structures)
        return self.edge_modules.route(edges), self.node_modules.route(nodes)


def mask_senders(
    messages: Float[Tensor, "edge *batch message"], graph: SuperGraph, sender_mask: Float[Tensor, "node *batch"] | None
) -> Float[Tensor, "edge *batch message"]:
    """Messages, set to zero where their sender is 0 in ``sender_mask``; None: all messages stay."""
    return messages if sender_mask is None else messages * sender_mask.index_select(0, graph.senders)[..., None]
