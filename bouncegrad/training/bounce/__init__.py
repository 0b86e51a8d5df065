"""The bounce, the E-step: search the structures (latent graphs) of a batch of scenes, modules fixed.

=================  ==================================================================================================
``e_step``         search "exact", the default: whole graphs from their posterior, by tables or resampled particles
``kernel_e_step``  "metropolis" (learned proposals, Alet et al. 2019), "gibbs", "relaxed" (the encoder, NRI), "frozen"
``temperature``    how hot the search is: the five rules of ``heat``
``target``         what is searched: the energies of a batch under modules that do not change
``config``         the settings, and what every E-step offers (:class:`Bounce`)
=================  ==================================================================================================
"""

from __future__ import annotations

from bouncegrad.structures.layout import Layout, StructureSpace
from bouncegrad.training.bounce.config import Bounce, BounceConfig, BounceResult
from bouncegrad.training.bounce.e_step import TableBounce
from bouncegrad.training.bounce.kernel_e_step import EncoderBounce, FrozenBounce, KernelBounce, ProposalBounce
from bouncegrad.training.bounce.target import SceneTarget, Target, automatic_temperature
from bouncegrad.training.proposal_learner import Learner

__all__ = [
    "Bounce",
    "BounceConfig",
    "BounceResult",
    "EncoderBounce",
    "FrozenBounce",
    "KernelBounce",
    "ProposalBounce",
    "SceneTarget",
    "TableBounce",
    "Target",
    "automatic_temperature",
    "bounce_over",
    "make_bounce",
]


def make_bounce(config: BounceConfig, layout: Layout, learner: Learner | None = None) -> Bounce:
    """The E-step of a configuration, over the slots of a graph.

    Args:
        config: how structures are searched.
        layout: the slots.
        learner: trains the proposal network, for learned proposals.
    """
    if config.search == "exact":
        return TableBounce(config, layout)
    if config.search == "relaxed":
        return EncoderBounce(config, layout)
    return bounce_over(config, layout, learner)


def bounce_over(config: BounceConfig, space: StructureSpace, learner: Learner | None = None) -> Bounce:
    """The E-step of a configuration by a kernel, over the slots of any space of structures: graphs or functions."""
    if config.search == "metropolis":
        return ProposalBounce(config, space, learner)
    return FrozenBounce(config) if config.search == "frozen" else KernelBounce(config, space)
