"""The bounce: search the structures of a batch of scenes while the modules stand still."""

from __future__ import annotations

from bouncegrad.bounce.config import Bounce, BounceConfig, Bounced
from bouncegrad.bounce.kernels import EncoderBounce, KernelBounce, ProposalBounce
from bouncegrad.bounce.tables import TableBounce
from bouncegrad.graphs import Layout
from bouncegrad.learner import ProposalLearner

__all__ = [
    "Bounce",
    "BounceConfig",
    "Bounced",
    "EncoderBounce",
    "KernelBounce",
    "ProposalBounce",
    "TableBounce",
    "make_bounce",
]


def make_bounce(config: BounceConfig, layout: Layout, learner: ProposalLearner | None = None) -> Bounce:
    """The search that a configuration names.

    Args:
        config: how structures are searched.
        layout: the slots.
        learner: the proposal network, for learned proposals.
    """
    if config.search == "exact":
        return TableBounce(config, layout)
    if config.search == "metropolis":
        return ProposalBounce(config, layout, learner)
    if config.search == "relaxed":
        return EncoderBounce(config, layout)
    return KernelBounce(config, layout)
