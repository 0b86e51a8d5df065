"""Settings of a training, and the report of each epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from bouncegrad.models.proposer import ProposerConfig
from bouncegrad.settings import check_settings
from bouncegrad.training.bounce import BounceConfig
from bouncegrad.training.elbo import RelaxationConfig


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class TrainingConfig:
    """How modules and structures (latent graphs) are learned.

    Attributes:
        num_passes: number of epochs; each searches the structure of every training scene and learns from it.
        batch_size: scenes in one super-graph; fewer where scenes are so large that memory would not hold them.
        learning_rate: peak learning rate of Adam.
        warm_up: gradient steps over which the learning rate rises to its peak: Adam's first steps are as long as any,
            whatever the gradient. 1: no warm-up.
        schedule: schedule of the learning rate: "cosine", to near 0 at the end of the training; "plateau", halved where
            the loss stops falling; "steps", halved every 200 epochs
            (:class:`bouncegrad.training.optimizer.ScheduledOptimizer`).
        clip_norm: norm to which longer gradients are clipped.
        weight_decay: share of each weight that a step subtracts, divided by the learning rate (Loshchilov and Hutter
            2019). Small weights memorise single scenes less, but fit forces that change fast less well. A training that
            overfits restarts with other values by itself (:mod:`bouncegrad.training.restarts`).
        horizon: steps of the rollouts in the loss of E-step and M-step: of one receiver among true senders (teacher
            forcing) with search "exact", of whole scenes with the others.
        stride: samples between the starts of those rollouts.
        partial: whether rollouts that the end of a scene cuts short count as well.
        starts: share of the starts that each batch uses at the beginning of the training, drawn at random; it grows
            geometrically to 1 while the search cools. Few samples cost little time, but are noisier evidence of the
            edges: on charged scenes a third of the samples made one seed of three collapse to edge types without
            meaning.
        starts_per_step: starts of each scene in one gradient step; the M-step of a batch takes as many steps as it
            needs to use each start once.
        averaging: decay of the exponential moving average of the weights, per gradient step. The averaged weights are
            used in the E-step and on held-out scenes, and are what a fit returns; 0: no averaging.
        merge_kinds: merge kinds (edge types) that are not needed, when the search has cooled and once more halfway from
            there to the end (exact search only).
        bounce: settings of the E-step.
        proposer: settings of the proposal network (encoder), which learns from the structures that the search finds;
            used for learned proposals and for amortised inference (``infer(mode="proposal")``).
        relaxation: settings of the relaxed E-step and the ELBO, for search "relaxed".

    Raises:
        ValueError: a number out of range, or words that do not go together.
    """

    num_passes: int = 40
    batch_size: int = 50
    learning_rate: float = 2e-3
    warm_up: int = 20
    schedule: Literal["cosine", "plateau", "steps"] = "cosine"
    clip_norm: float = 1.0
    weight_decay: float = 0.0
    horizon: int = 1
    stride: int = 1
    partial: bool = False
    starts: float = 1.0
    starts_per_step: int = 4
    averaging: float = 0.995
    merge_kinds: bool = False
    bounce: BounceConfig = field(default_factory=BounceConfig)
    proposer: ProposerConfig = field(default_factory=ProposerConfig)
    relaxation: RelaxationConfig = field(default_factory=RelaxationConfig)

    def __post_init__(self) -> None:
        check_settings(
            self,
            counts=("num_passes", "batch_size", "warm_up", "horizon", "stride", "starts_per_step"),
            positive=("learning_rate", "clip_norm"),
            below_one=("averaging",),
        )
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be a finite number, 0 or more; got {self.weight_decay}")
        if not 0 < self.starts <= 1:
            raise ValueError(f"starts must be a share above 0, up to 1; got {self.starts}")
        if self.merge_kinds and self.bounce.search != "exact":
            raise ValueError(f'kinds are merged by tables: expected search "exact", got {self.bounce.search!r}')
        if (self.bounce.search, self.bounce.proposals) == ("metropolis", "learned") and self.proposer.sees == "nothing":
            raise ValueError('learned proposals need a network: set proposer.sees to its input, not to "nothing"')
        if self.bounce.search == "relaxed" and self.proposer.sees != "trajectories":
            raise ValueError(f'search "relaxed" needs proposer.sees "trajectories", got {self.proposer.sees!r}')


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReport:
    """Figures of one epoch, a line of ``log.jsonl``; None where a training has no such figure.

    Attributes:
        number: number of the epoch, counted from 1.
        loss: mean training loss of the modules.
        temperature: temperature of the E-step in the last batch.
        acceptance: share of scenes whose structure changed.
        prior: name of the prior over graphs in the E-step.
        held_out: mean loss of the held-out scenes under their best structures, nats or mean squares per scene.
        relation_accuracy: accuracy of the current training structures, where labels exist; never used to learn.
        progress: share of the training that is done.
        seconds: seconds since the training began, without interruptions.
        proposed: share of scenes whose proposed structure differs from the current one.
        proposal_accuracy: accuracy of the most probable structures by the proposal network, like relation_accuracy;
            None without labels or network.
        step_errors: mean squared errors of the first and of the last step of rollouts, of some scenes of each batch, in
            the unit of the normalised states; None where rollouts have one step.
    """

    number: int
    loss: float
    temperature: float | None = None
    acceptance: float | None = None
    prior: str | None = None
    held_out: float
    relation_accuracy: float | None = None
    progress: float = 0.0
    seconds: float = 0.0
    proposed: float = 0.0
    proposal_accuracy: float | None = None
    step_errors: tuple[float, float] | None = None
