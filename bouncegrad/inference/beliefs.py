"""What a proposal network says of every slot of a batch: log probabilities of the edge types, and their most
probable."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from bouncegrad.energies.windows import Batch
from bouncegrad.models.proposer import Proposer, blanked
from bouncegrad.models.super_graph import SuperGraph
from bouncegrad.structures.layout import Layout
from bouncegrad.structures.proposals import Beliefs, BeliefsFn
from bouncegrad.types import Structures


@torch.no_grad()
def network_beliefs(proposer: Proposer, batch: Batch, layout: Layout, noise: Generator | None = None) -> BeliefsFn:
    """What a network thinks of the structures of a batch, never less than its floor of any kind; on the CPU.

    With two encoders a fair coin decides, task by task and anew for every proposal, which of them is heard.

    Args:
        proposer: the network.
        batch: the scenes.
        layout: their slots.
        noise: draws what is dropped out; None for nothing. What an encoder of structures drops is part of a proposal's
            circumstances, the same on the way back.
    """
    config = proposer.config
    moved = None
    if config.sees in ("trajectories", "both"):
        moved = with_floor(proposer.from_trajectories(batch.states, batch.graph, noise), config.floor).cpu()
        if config.sees == "trajectories":
            return lambda generator: lambda structures: moved

    def circumstances(generator: Generator) -> Beliefs:
        seed = int(torch.randint(2**62, (), generator=generator))
        sender_mask = torch.rand(len(batch.graph.present), generator=generator) < 0.5

        @torch.no_grad()
        def beliefs(structures: Structures) -> Tensor:
            drawn = Generator().manual_seed(seed)
            seen = blanked(structures, layout, config, drawn)
            said = proposer.from_structures(seen, batch.graph, None if noise is None else drawn)
            said = with_floor(said, config.floor).cpu()
            return said if moved is None else torch.where(sender_mask[:, None, None], moved, said)

        return beliefs

    return circumstances


@torch.no_grad()
def network_guess(
    proposer: Proposer, batch: Batch, layout: Layout, structures: Structures, generator: Generator
) -> Structures:
    """The most probable kind of every slot: from the trajectories where a network reads them, else from structures."""
    if "trajectories" in proposer.encoders:
        return proposer.from_trajectories(batch.states, batch.graph).argmax(2).cpu()
    seen = blanked(structures, layout, proposer.config, generator)
    return proposer.from_structures(seen, batch.graph).argmax(2).cpu()


def with_floor(log_probabilities: Float[Tensor, "task slot kind"], floor: float) -> Float[Tensor, "task slot kind"]:
    """``log((1 - floor) p + floor / K)`` over the K kinds that a slot takes."""
    if not floor:
        return log_probabilities
    possible = log_probabilities > -math.inf
    least = math.log(floor) - possible.sum(2, keepdim=True).log()
    mixed = torch.logaddexp(log_probabilities + math.log1p(-floor) if floor < 1 else least, least.expand_as(possible))
    return mixed.masked_fill(~possible, -math.inf).log_softmax(2)


def existing_slots(graph: SuperGraph, layout: Layout) -> Bool[Tensor, "task slot"]:
    """Slots whose entities are there."""
    edges = graph.unpack_edges(torch.ones_like(graph.senders, dtype=torch.bool))
    return edges if layout.num_node_kinds == 1 else torch.cat([edges, graph.present], 1)
