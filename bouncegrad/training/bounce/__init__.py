"""The bounce: search the structures of a batch of scenes while the modules stand still."""

from __future__ import annotations

from bouncegrad.structures.layout import Layout, StructureSpace
from bouncegrad.training.bounce.config import Bounce, BounceConfig, BounceResult
from bouncegrad.training.bounce.exact import TableBounce
from bouncegrad.training.bounce.kernels import EncoderBounce, KernelBounce, ProposalBounce, StillBounce
from bouncegrad.training.bounce.target import SceneTarget, Target, automatic_temperature
from bouncegrad.training.proposal_learner import Learner

__all__ = [
    "Bounce",
    "BounceConfig",
    "BounceResult",
    "EncoderBounce",
    "KernelBounce",
    "ProposalBounce",
    "SceneTarget",
    "StillBounce",
    "TableBounce",
    "Target",
    "automatic_temperature",
    "bounce_over",
    "make_bounce",
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
    if config.search == "relaxed":
        return EncoderBounce(config, layout)
    return bounce_over(config, layout, learner)


def bounce_over(config: BounceConfig, space: StructureSpace, learner: Learner | None = None) -> Bounce:
    """The search that a configuration names, over the slots of anything: a graph or not."""
    if config.search == "metropolis":
        return ProposalBounce(config, space, learner)
    return StillBounce(config) if config.search == "frozen" else KernelBounce(config, space)
