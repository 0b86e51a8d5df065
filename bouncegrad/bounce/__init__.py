"""The bounce: search the structures of a batch of scenes while the modules stand still."""

from __future__ import annotations

from bouncegrad.bounce.config import Bounce, BounceConfig, Bounced
from bouncegrad.bounce.kernels import EncoderBounce, KernelBounce, ProposalBounce
from bouncegrad.bounce.tables import TableBounce
from bouncegrad.bounce.target import SceneTarget, Target, automatic_temperature
from bouncegrad.graphs import Layout
from bouncegrad.learner import Learner
from bouncegrad.search.space import SearchSpace

__all__ = [
    "Bounce",
    "BounceConfig",
    "Bounced",
    "EncoderBounce",
    "KernelBounce",
    "ProposalBounce",
    "SceneTarget",
    "TableBounce",
    "Target",
    "automatic_temperature",
    "make_bounce",
    "space_of",
]


def make_bounce(config: BounceConfig, layout: Layout, learner: Learner | None = None) -> Bounce:
    """The search that a configuration names.

    Args:
        config: how structures are searched.
        layout: the slots.
        learner: the proposal network, for learned proposals.
    """
    if config.search == "exact":
        return TableBounce(config, layout)
    if config.search == "metropolis":
        return ProposalBounce(config, space_of(layout), learner)
    if config.search == "relaxed":
        return EncoderBounce(config, layout)
    return KernelBounce(config, space_of(layout))


def space_of(layout: Layout) -> SearchSpace:
    """The slots of a graph; what decides about one receiver is a block."""
    return SearchSpace(layout.num_kinds, layout.receiver_slots)
