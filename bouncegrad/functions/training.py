"""BounceGrad on functions: structures are searched on given points (E-step), modules trained on the others (M-step)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from bouncegrad.functions.adaptation import adapted_losses
from bouncegrad.functions.compositions import Composition
from bouncegrad.functions.inference import found_structures
from bouncegrad.functions.model import FunctionConfig, FunctionModel
from bouncegrad.functions.points import PointSets
from bouncegrad.functions.proposer import PointLearner, PointProposer
from bouncegrad.functions.target import PointTarget, TabulatedTarget
from bouncegrad.structures.layout import StructureSpace
from bouncegrad.training.bounce import BounceConfig, BounceResult, bounce_over
from bouncegrad.training.config import EpochReport, TrainingConfig
from bouncegrad.training.proposal_learner import SearchOutcome
from bouncegrad.training.trainer import Clock, Trainer

NUM_JUDGEMENTS = 25
"""Number of evaluations on the held-out tasks in a training, evenly spaced."""


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class FunctionRecipe:
    """Settings of a fit of functions.

    Attributes:
        model: settings of the library of modules and of adaptation.
        training: settings of the E-step and the M-step. Settings for scenes alone (horizons, starts, merging of edge
            types, priors) are ignored; search "exact" draws from all structures of a task.
    """

    model: FunctionConfig
    training: TrainingConfig


@dataclass(frozen=True, slots=True)
class _Part:
    """Result of one batch.

    Attributes:
        loss: loss of the gradient step.
        found: result of the search.
    """

    loss: float
    found: BounceResult


class FunctionTraining(Trainer[FunctionModel, _Part]):
    """Training of a library of modules with one structure per task.

    Args:
        tasks: training tasks.
        held_out: tasks that select the best epoch; their structures are inferred again at each evaluation.
        composition: how modules are combined to a function.
        recipe: settings of the training.
        seed: seed of all randomness.

    Raises:
        ValueError: a search that functions do not support, or a composition that fails.
    """

    learns = "this library and these tasks"
    data = "tasks"

    def __init__(
        self, tasks: PointSets, held_out: PointSets, composition: Composition, recipe: FunctionRecipe, seed: int
    ) -> None:
        generator, training = Generator().manual_seed(seed), recipe.training
        self.tasks, self.held_out = tasks, held_out
        model = FunctionModel(composition, recipe.model, tasks, generator)
        check_search(training, model)
        super().__init__(model, tasks.num_tasks, training.batch_size, training, generator)
        self.structures = model.space.random(tasks.num_tasks, generator)
        sees = training.proposer.sees != "nothing"
        self.learner = PointLearner(PointProposer(training.proposer, model, generator), model) if sees else None
        self.bounce = bounce_over(training.bounce, _blocks_of(training.bounce, model.space), self.learner)
        self.last_held_out = math.inf

    def learn_from(self, indices: Tensor, progress: float) -> _Part:
        """E-step (bounce) and M-step (grad) of one batch, and a gradient step of the proposal network."""
        batch, before = self.tasks.at(indices), self.structures[indices]
        kind = TabulatedTarget if self.config.bounce.search == "exact" else PointTarget
        target = kind(self.ema_model, batch)
        found = self.bounce.search(target, before, progress, self.generator)
        self.structures[indices] = found.structures
        loss = adapted_losses(self.model, found.structures, batch, batch.asked).mean()
        if loss.isfinite():  # not finite: adaptation diverged for some task, and its gradient would ruin all weights
            loss.backward()
            self.step(progress)
        if self.learner:
            self.learner.learn(batch, SearchOutcome(before, found.structures, found.accepted), self.generator)
        return _Part(loss.item(), found)

    def finish_epoch(self, parts: Sequence[_Part], clock: Clock) -> EpochReport:
        """Report of the epoch; at :data:`NUM_JUDGEMENTS` epochs the modules are evaluated on the held-out tasks."""
        loss = sum(part.loss for part in parts) / len(parts)
        self.bounce.finish_epoch(None)
        self.descent.finish_epoch(loss)
        every = max(1, self.config.num_passes // NUM_JUDGEMENTS)
        if self.num_passes_done % every == 0 or clock(self.progress) >= 1:
            self.last_held_out = self._judged()
            self.keep_if_best(self.last_held_out)
        return EpochReport(
            number=self.num_passes_done,
            loss=loss,
            held_out=self.last_held_out,
            temperature=parts[-1].found.temperature,
            acceptance=float(torch.cat([part.found.changed for part in parts]).float().mean()),
            proposed=float(torch.cat([part.found.proposed for part in parts]).float().mean()),
        )

    @torch.no_grad()
    def _judged(self) -> float:
        """Mean loss of the asked points of the held-out tasks, under the structures that their given points choose."""
        structures = found_structures(PointTarget(self.ema_model, self.held_out), Generator().manual_seed(0))
        return float(adapted_losses(self.ema_model, structures, self.held_out, self.held_out.asked).mean())

    def best_model(self) -> FunctionModel:
        """The library of the epoch with the smallest loss on the held-out tasks.

        Raises:
            ValueError: the training diverged from its first epoch on.
        """
        if self.num_passes_done and self.best_score == math.inf:
            raise ValueError(
                "no pass had a finite loss: the training diverged; lower learning_rate, clip_norm or, with adapted "
                "weights, step_size"
            )
        best = FunctionModel(self.model.composition, self.model.config, self.tasks, Generator())
        best.load_state_dict(self.best_weights)
        best.proposer = self.learner.final_network() if self.learner else None
        return best.eval()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """State from which a training resumes, as tensors and JSON."""
        tensors, meta = super().state()
        return tensors, meta | {"last_held_out": self.last_held_out}

    def _restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Resume from the result of :meth:`state`."""
        super()._restore(tensors, meta)
        self.last_held_out = meta["last_held_out"]


def _blocks_of(config: BounceConfig, space: StructureSpace) -> StructureSpace:
    """The space with the blocks that a search redraws together: all slots, or single ones."""
    return replace(space, blocks=space.blocks.T) if config.block == "edge" else space


def check_search(config: TrainingConfig, model: FunctionModel) -> None:
    """Check that functions support the settings of the search.

    Raises:
        ValueError: they do not; the message names the setting.
    """
    bounce = config.bounce
    if bounce.search == "relaxed":
        raise ValueError('functions are searched by "metropolis", "gibbs", "exact" or "frozen"; got "relaxed"')
    if bounce.heat == "entropy":
        raise ValueError('functions have no heat "entropy": choose "steered", "scheduled", "stepped" or "automatic"')
    if bounce.search == "exact" and not model.space.fits_tables:
        raise ValueError(
            f'search "exact" lists all structures of a task, and {" x ".join(map(str, model.space.num_kinds))} are '
            'too many: choose search "metropolis"'
        )
    if config.proposer.sees not in ("nothing", "points"):
        raise ValueError(f'a proposal network of functions sees "points"; got {config.proposer.sees!r}')
