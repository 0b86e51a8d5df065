"""The decoder protocol: what a network that predicts trajectories given a structure (latent graph) must offer.

The decoder of neural relational inference (Kipf et al. 2018) is the graph network of Alet et al. 2019, here
:class:`bouncegrad.models.decoder.GraphNetwork`: it predicts the next states, given the type of every edge.
"""

from __future__ import annotations

from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor

from bouncegrad.models.decoder import NetworkConfig
from bouncegrad.models.module_bank import ModuleBank, Routing
from bouncegrad.models.super_graph import SuperGraph
from bouncegrad.types import RelaxedStructures, Structures


class Decoder(Protocol):
    """A ``torch.nn.Module`` that rolls scenes out given their structures; the members below come on top of a module's.

    ``input`` is what modules read of an entity: its last samples side by side. ``feature`` is its state at one time.
    Losses of structures and predictions use the members down to :meth:`shift_history`. Tables of energies and sums of
    messages also use both module banks and the members from :meth:`rollout_receivers` on; they need a decoder in which
    the next state of an entity depends on its own incoming edges only.

    Attributes:
        config: hyperparameters of the architecture.
        num_features: size of ``feature``.
        num_inputs: size of ``input``.
        unit: ``[feature]``, a buffer: standard deviation of the residuals of :meth:`linear`. Messages, outputs of
            node modules, residuals and log scales are in this unit; states are not.
        edge_modules: one network per edge type; computes the message of an edge.
        node_modules: one network per node type; computes the change of a node's state.
    """

    config: NetworkConfig
    num_features: int
    num_inputs: int
    unit: Tensor
    edge_modules: ModuleBank
    node_modules: ModuleBank

    @property
    def transition(self) -> Float[Tensor, "input input"]:
        """State-transition matrix of the linear part, in :attr:`unit`; it acts on row vectors from the right."""
        ...

    def fit_skip(self, states: Float[Tensor, "item input"], targets: Float[Tensor, "item feature"]) -> None:
        """Set the constants that depend on the training data, among them :attr:`unit`, before the first epoch."""
        ...

    def fix_gauge(self, states: Float[Tensor, "node *batch input"], graph: SuperGraph) -> None:
        """After training, fix the gauge: choose one of several sets of weights that give the same predictions."""
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
        """Predict the states of all scenes of a super-graph after 1 to ``num_steps`` steps.

        Messages of nodes that are 0 in ``sender_mask`` are zero; states in ``given`` that are not NaN replace
        predicted ones.
        """
        ...

    def newest(self, states: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch feature"]:
        """The newest sample of a history."""
        ...

    def shift_history(
        self, states: Float[Tensor, "*batch input"], newest: Float[Tensor, "*batch feature"]
    ) -> Float[Tensor, "*batch input"]:
        """The history one step later: drop the oldest sample, append ``newest``."""
        ...

    def rollout_receivers(
        self, origins: Float[Tensor, "node *batch step input"], graph: SuperGraph, structures: Structures
    ) -> Float[Tensor, "node *batch step feature"]:
        """Teacher forcing: roll each node out by its own predictions while its senders follow their true states.

        Raises:
            ValueError: if the next state of a node depends on more than its own incoming edges.
        """
        ...

    def inputs_on(self, graph: SuperGraph, states: Float[Tensor, "node *batch input"]) -> Tensor:
        """Inputs of the edge module on each edge, ``[edge, ..., size]``."""
        ...

    def edge_inputs(self, receivers: Tensor, senders: Tensor) -> Tensor:
        """Inputs of edge modules ``[..., size]``, from the histories ``[..., input]`` of receivers and senders."""
        ...

    def update(
        self,
        states: Float[Tensor, "node *batch input"],
        incoming: Float[Tensor, "node *batch message"],
        node_kinds: Int[Tensor, "node"] | Routing,
    ) -> Float[Tensor, "node *batch feature"]:
        """The states one step later, given the sum of incoming messages of each node."""
        ...

    def linear(self, states: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch feature"]:
        """The states one step later by the linear part alone, without modules."""
        ...
