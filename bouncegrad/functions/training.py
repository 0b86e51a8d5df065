"""BounceGrad on functions: structures are searched on the given points of each task, modules learn from the others."""

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
"""How often in a training the tasks to choose by are searched, evenly."""


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class FunctionRecipe:
    """All that a fit of functions needs to know beside the tasks.

    Attributes:
        model: the library of modules, and how it adapts.
        training: how modules and structures are learned. Of what only scenes have (horizons, starts, kinds that are
            merged, priors) nothing is looked at; search "exact" draws from all structures of a task.
    """

    model: FunctionConfig
    training: TrainingConfig


@dataclass(frozen=True, slots=True)
class _Part:
    """What was done with one batch.

    Attributes:
        loss: of the gradient step.
        found: by the search.
    """

    loss: float
    found: BounceResult


class FunctionTraining(Trainer[FunctionModel, _Part]):
    """A training of a library of modules that searches one structure for each task.

    Args:
        tasks: to learn from.
        held_out: tasks by which the best modules are chosen; their structures are found anew each time.
        composition: how modules make a function.
        recipe: how it is trained.
        seed: of all randomness.

    Raises:
        ValueError: a search that functions do not have, or a composition that does not work.
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
        """Bounce and grad of one batch, and a step of the proposal network."""
        batch, before = self.tasks.at(indices), self.structures[indices]
        kind = TabulatedTarget if self.config.bounce.search == "exact" else PointTarget
        target = kind(self.ema_model, batch)
        found = self.bounce.search(target, before, progress, self.generator)
        self.structures[indices] = found.structures
        loss = adapted_losses(self.model, found.structures, batch, batch.asked).mean()
        if loss.isfinite():  # else some task's steps of adaptation diverged, and would take all weights along
            loss.backward()
            self.step(progress)
        if self.learner:
            self.learner.learn(batch, SearchOutcome(before, found.structures, found.accepted), self.generator)
        return _Part(loss.item(), found)

    def finish_epoch(self, parts: Sequence[_Part], clock: Clock) -> EpochReport:
        """Note what the epoch did; now and then judge the modules by the held-out tasks."""
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
        """The library of the epoch that explained the held-out tasks best.

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
        """Everything that a continued training needs, as tensors and JSON."""
        tensors, meta = super().state()
        return tensors, meta | {"last_held_out": self.last_held_out}

    def _restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""
        super()._restore(tensors, meta)
        self.last_held_out = meta["last_held_out"]


def _blocks_of(config: BounceConfig, space: StructureSpace) -> StructureSpace:
    """What a search redraws at once: all slots, or one."""
    return replace(space, blocks=space.blocks.T) if config.block == "edge" else space


def check_search(config: TrainingConfig, model: FunctionModel) -> None:
    """Refuse searches that functions do not have.

    Raises:
        ValueError: naming what was asked for.
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
