"""Log probabilities of the edge types by the proposal network (encoder), for proposals of a search and as a guess."""

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
    """Log probabilities of the edge types of a batch, mixed with the floor of the network; on the CPU.

    With two encoders, a fair coin chooses one of them for each task and each proposal.

    Args:
        proposer: the network.
        batch: the scenes.
        layout: their slots.
        noise: generator of the dropout; None: no dropout.

    Returns:
        A function of a generator, called once for each proposal, that fixes coin, blanked slots and dropout. It returns
        structures -> log probabilities, ``[task, slot, kind]``, the same for the proposal and for the way back, as the
        Hastings correction requires.
    """
    config = proposer.config
    by_trajectories = None
    if config.sees in ("trajectories", "both"):
        by_trajectories = with_floor(proposer.from_trajectories(batch.states, batch.graph, noise), config.floor).cpu()
        if config.sees == "trajectories":
            return lambda generator: lambda structures: by_trajectories

    def circumstances(generator: Generator) -> Beliefs:
        seed = int(torch.randint(2**62, (), generator=generator))
        reads_trajectories = torch.rand(len(batch.graph.present), generator=generator) < 0.5

        @torch.no_grad()
        def beliefs(structures: Structures) -> Tensor:
            drawn = Generator().manual_seed(seed)
            partial = blanked(structures, layout, config, drawn)
            found = proposer.from_structures(partial, batch.graph, None if noise is None else drawn)
            found = with_floor(found, config.floor).cpu()
            if by_trajectories is None:
                return found
            return torch.where(reads_trajectories[:, None, None], by_trajectories, found)

        return beliefs

    return circumstances


@torch.no_grad()
def network_guess(
    proposer: Proposer, batch: Batch, layout: Layout, structures: Structures, generator: Generator
) -> Structures:
    """The most probable kind of every slot, ``[task, slot]``: by the encoder of trajectories if there is one, else by
    that of structures, which reads ``structures`` with some slots blanked."""
    if "trajectories" in proposer.encoders:
        return proposer.from_trajectories(batch.states, batch.graph).argmax(2).cpu()
    seen = blanked(structures, layout, proposer.config, generator)
    return proposer.from_structures(seen, batch.graph).argmax(2).cpu()


def with_floor(log_probabilities: Float[Tensor, "task slot kind"], floor: float) -> Float[Tensor, "task slot kind"]:
    """Mix probabilities with uniform ones: ``log((1 - floor) p + floor / K)`` over the K kinds that a slot takes."""
    if not floor:
        return log_probabilities
    possible = log_probabilities > -math.inf
    least = math.log(floor) - possible.sum(2, keepdim=True).log()
    mixed = torch.logaddexp(log_probabilities + math.log1p(-floor) if floor < 1 else least, least.expand_as(possible))
    return mixed.masked_fill(~possible, -math.inf).log_softmax(2)


def existing_slots(graph: SuperGraph, layout: Layout) -> Bool[Tensor, "task slot"]:
    """Slots whose entities are present."""
    edges = graph.unpack_edges(torch.ones_like(graph.senders, dtype=torch.bool))
    return edges if layout.num_node_kinds == 1 else torch.cat([edges, graph.present], 1)
