"""How a training is set, and what it says of each pass."""

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
    """How modules and structures are learned.

    Attributes:
        num_passes: times that every training scene is searched and learned from.
        batch_size: scenes in one super-graph; fewer where scenes are so large that memory would not hold them.
        learning_rate: of Adam, at its highest.
        warm_up: steps over which the learning rate rises to it: Adam's first steps are as long as any, whatever the
            gradient. 1: none.
        schedule: of the learning rate: "cosine", to near 0 at the end of the training; "plateau", halved where the loss
            stops falling; "steps", halved every 200 passes (:class:`bouncegrad.training.optimizer.Descent`).
        clip_norm: the gradient's norm is cut to this.
        weight_decay: share of each weight that a step takes away, over the learning rate (Loshchilov and Hutter 2019).
            Small weights remember single scenes less, and follow forces less that change fast. A training that learned
            its scenes by heart tries others by itself (:mod:`bouncegrad.training.restarts`).
        horizon: steps of the rollouts that are trained and searched on: those of receivers alone with search "exact",
            of whole scenes with the others.
        stride: samples between the starts of those rollouts.
        partial: also learn from rollouts that the end of a scene cuts short.
        starts: share of the starts that each batch is searched and learned on, drawn at random, at the start; grows
            geometrically to all of them while the search cools. Few samples cost little, but what a relation does again
            and again then shows less beside what single samples seem to say: on charged scenes a third of the samples
            let one seed of three settle on kinds that mean nothing.
        starts_per_step: starts of each scene that one gradient step sees; the structures drawn for a batch pay for as
            many steps as it takes to see all its starts once.
        averaging: per gradient step, how much of the averaged modules stays. The averaged modules are those that
            structures are drawn with, that are judged on held-out scenes, and that a fit returns; 0: no averaging.
        merge_kinds: merge edge kinds that turn out not to be needed, when the search has cooled and once more halfway
            from there to the end (exact search only).
        bounce: how structures are searched.
        proposer: the network that learns to propose structures from those that the search finds, for learned proposals
            and for answers at once (``infer(mode="proposal")``).
        relaxation: how that network's structures are sampled and weighed with search "relaxed".

    Raises:
        ValueError: a number or word that makes no training.
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
            raise ValueError('learned proposals need a network: set proposer.sees to what it is to see, not "nothing"')
        if self.bounce.search == "relaxed" and self.proposer.sees != "trajectories":
            raise ValueError(f'search "relaxed" needs proposer.sees "trajectories", got {self.proposer.sees!r}')


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReport:
    """What one pass over the training scenes did; None where a training has no such thing.

    Attributes:
        number: passes done, counted from 1.
        loss: mean training loss of the modules.
        temperature: of the last batch.
        acceptance: share of scenes whose structure changed.
        prior: what the search believed of graphs.
        held_out: mean loss of the held-out scenes under their best structures, nats or mean squares per scene.
        relation_accuracy: of the current training structures, where labels exist; never used to learn.
        progress: share of the training that is done.
        seconds: since the training began, interruptions left out.
        proposed: share of scenes for which another structure than theirs was proposed.
        proposal_accuracy: of the structures that the proposal network thinks most probable, like relation_accuracy;
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
