"""What the package asks of a decoder: the network that predicts trajectories under a structure.

The decoder of neural relational inference (Kipf et al. 2018) is the graph network of Alet et al. 2019, here
:class:`bouncegrad.models.graph_network.GraphNetwork`: it predicts where entities go next, given the type of every edge.
"""

from __future__ import annotations

from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor

from bouncegrad.models.graph_network import NetworkConfig
from bouncegrad.models.module_bank import ModuleBank, Routing
from bouncegrad.models.super_graph import SuperGraph
from bouncegrad.types import RelaxedStructures, Structures


class Decoder(Protocol):
    """What a ``torch.nn.Module`` that rolls scenes out under structures has beside the members of all modules.

    ``input`` is what modules read of an entity, its last samples side by side; ``feature`` is its state at one time.
    Losses of structures and predictions need the members down to :meth:`shift_history`. Those from
    :meth:`rollout_receivers` on, and both banks of modules, serve tables and sums of messages: there the next state of
    an entity depends on its own incoming edges only.

    Attributes:
        config: its shape.
        num_features: size of ``feature``.
        num_inputs: size of ``input``.
        unit: ``[feature]``, a buffer: the spread of what :meth:`linear` leaves over. Messages, changes by modules,
            residuals and log scales are in this unit, states are not.
        edge_modules: the message of an edge under its edge type.
        node_modules: the change of a node's state under its node type.
    """

    config: NetworkConfig
    num_features: int
    num_inputs: int
    unit: Tensor
    edge_modules: ModuleBank
    node_modules: ModuleBank

    @property
    def transition(self) -> Float[Tensor, "input input"]:
        """State-transition matrix of the linear part: small differences (rows) after one step, in :attr:`unit`."""
        ...

    def fit_skip(self, states: Float[Tensor, "item input"], targets: Float[Tensor, "item feature"]) -> None:
        """Set the constants of the training data, among them :attr:`unit`, before the first epoch."""
        ...

    def fix_gauge(self, states: Float[Tensor, "node *batch input"], graph: SuperGraph) -> None:
        """Choose one of several sets of weights that predict the same, after training."""
        ...

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
        """The states after 1 to ``num_steps`` steps of all scenes of a super-graph.

        Senders that are 0 in ``sender_mask`` send nothing; states in ``given`` that are not NaN replace predicted ones.
        """
        ...

    def newest(self, states: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch feature"]:
        """The state of now, of what modules read."""
        ...

    def shift_history(
        self, states: Float[Tensor, "*batch input"], newest: Float[Tensor, "*batch feature"]
    ) -> Float[Tensor, "*batch input"]:
        """What modules read one step later."""
        ...

    def rollout_receivers(
        self, origins: Float[Tensor, "node *batch step input"], graph: SuperGraph, structures: Structures
    ) -> Float[Tensor, "node *batch step feature"]:
        """The states of every node after each step, its senders at their true states.

        Raises:
            ValueError: the next state of a node depends on more than its own incoming edges.
        """
        ...

    def inputs_on(self, graph: SuperGraph, states: Float[Tensor, "node *batch input"]) -> Tensor:
        """What the edge module on each edge reads ``[edge, ..., size]``."""
        ...

    def edge_inputs(self, receivers: Tensor, senders: Tensor) -> Tensor:
        """What edge modules read ``[..., size]`` of receivers and senders ``[..., input]``."""
        ...

    def update(
        self,
        states: Float[Tensor, "node *batch input"],
        incoming: Float[Tensor, "node *batch message"],
        node_kinds: Int[Tensor, "node"] | Routing,
    ) -> Float[Tensor, "node *batch feature"]:
        """The states one step later, given the sum of incoming messages."""
        ...

    def linear(self, states: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch feature"]:
        """The states one step later by the linear part alone, without modules."""
        ...
