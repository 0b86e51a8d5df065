"""The training loop: epochs of random batches, for a number of epochs or of minutes, resumable to the bit.

A training that infers structures (latent graphs) also holds those of all its tasks, the E-step that searches them
(:mod:`bouncegrad.training.bounce`) and possibly a proposal network that learns from the results of the E-step.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Generic, TypeVar, cast

import torch
from torch import Generator, Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bouncegrad.models.checkpoint import CheckpointError
from bouncegrad.settings import is_positive
from bouncegrad.training.bounce import Bounce
from bouncegrad.training.config import EpochReport, TrainingConfig
from bouncegrad.training.optimizer import ScheduledOptimizer
from bouncegrad.training.proposal_learner import Learner
from bouncegrad.types import Structures

Network = TypeVar("Network", bound=nn.Module)
Part = TypeVar("Part")


Clock = Callable[[float], float]
"""Share of the epochs that is done -> share of the training that is done; an epoch ends early when it reaches 1."""


class Trainer(ABC, Generic[Network, Part]):
    """A network, the moving average of its weights, its optimizer, the random generator, and the best weights so far.

    Subclasses define the work on a batch (:meth:`learn_from`) and the judgement of an epoch (:meth:`finish_epoch`).

    Attributes:
        learns: the network and the data, as error messages name them.
        data: the data alone, as error messages name them.
        searches: whether there are structures, an E-step and possibly a learner, which are then part of the state.
        structures: ``[task, slot]``, the current structures of all training tasks.
        bounce: the E-step.
        learner: trains the proposal network; None where there is none.

    Args:
        model: the network to train, in place.
        num_scenes: number of training scenes.
        batch_size: scenes in a batch.
        config: settings of the training.
        generator: source of all randomness.
    """

    learns: ClassVar[str] = "this model and these scenes"
    data: ClassVar[str] = "data"
    searches: ClassVar[bool] = True
    structures: Structures
    bounce: Bounce
    learner: Learner[Any] | None = None

    def __init__(
        self, model: Network, num_scenes: int, batch_size: int, config: TrainingConfig, generator: Generator
    ) -> None:
        self.num_scenes, self.batch_size = num_scenes, batch_size
        self.config, self.generator = config, generator
        self.num_passes_done = 0
        self.best_score = math.inf
        self.follow(model)

    @abstractmethod
    def learn_from(self, indices: Tensor, progress: float) -> Part:
        """Learn from one batch: the scenes ``indices``, ``[task]``, at this share of the training."""

    @abstractmethod
    def finish_epoch(self, parts: Sequence[Part], clock: Clock) -> EpochReport:
        """Judge the epoch from the results of its batches, ``parts``, and report it."""

    def follow(self, model: Network) -> None:
        """Train this network from now on, with a new optimizer and average; its weights count as the best so far."""
        self.model = model
        self.averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(self.config.averaging))
        self.descent = self.optimizer_for(model)
        self.best_weights, self.best_pass = _copied(model), self.num_passes_done

    def optimizer_for(self, model: Network) -> ScheduledOptimizer:
        """A new optimizer of the weights to train."""
        return ScheduledOptimizer(model, replace(self.config, weight_decay=self.weight_decay))

    @property
    def weight_decay(self) -> float:
        """Weight decay of a new optimizer."""
        return self.config.weight_decay

    @property
    def ema_model(self) -> Network:
        """The network with the exponential moving average of the weights: what the E-step and all judgements use."""
        return cast(Network, self.averaged.module)

    @property
    def progress(self) -> float:
        """Share of ``config.num_passes`` that is done."""
        return self.num_passes_done / self.config.num_passes

    def passes(self, minutes: float | None = None, elapsed: float = 0.0) -> Iterator[EpochReport]:
        """Train to the end, one report per epoch.

        Args:
            minutes: how long to train; temperature and learning rate then follow the time. None: train for
                ``config.num_passes`` epochs, on the CPU repeatable to the bit.
            elapsed: seconds that an interrupted training has already taken.

        Raises:
            ValueError: minutes that are not positive and finite.
        """
        if minutes is not None and not is_positive(minutes):
            raise ValueError(f"expected a positive, finite number of minutes, got {minutes}")
        started = time.monotonic() - elapsed

        def clock(by_passes: float) -> float:
            return by_passes if minutes is None else (time.monotonic() - started) / (60 * minutes)

        progress = clock(self.progress)
        while progress < 1:
            report = self.run_epoch(clock)
            progress = clock(self.progress)
            yield replace(report, progress=min(1.0, progress), seconds=time.monotonic() - started)

    def run_epoch(self, clock: Clock = lambda by_passes: by_passes) -> EpochReport:
        """Learn once from every training scene, in random order.

        Args:
            clock: turns the share of the epochs into that of the training, which sets temperature and learning rate; by
                default they are the same.
        """
        batches = torch.randperm(self.num_scenes, generator=self.generator).split(self.batch_size)
        parts: list[Part] = []
        for number, indices in enumerate(batches):
            progress = clock(self.progress + number / len(batches) / self.config.num_passes)
            if parts and progress >= 1:
                break
            parts.append(self.learn_from(indices, min(1.0, progress)))
        self.num_passes_done += 1
        return self.finish_epoch(parts, clock)

    def step(self, progress: float) -> None:
        """One optimizer step along the gradient in the parameters' ``grad``, and one update of the average."""
        self.descent.step(progress)
        self.averaged.update_parameters(self.model)

    def keep_if_best(self, held_out: float) -> None:
        """Keep the averaged weights if no epoch had a smaller loss on the held-out scenes."""
        if held_out <= self.best_score:
            self.best_score, self.best_weights = held_out, _copied(self.ema_model)
            self.best_pass = self.num_passes_done

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that resuming the training needs, as tensors and JSON."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"averaged.{name}": value for name, value in self.averaged.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best_weights.items()}
        moments, descent = self.descent.state()
        tensors |= {f"optimizer.{name}": value for name, value in moments.items()}
        tensors["generator"] = self.generator.get_state()
        meta: dict[str, Any] = {
            "num_passes_done": self.num_passes_done,
            "descent": descent,
            "best_score": self.best_score,
            "best_pass": self.best_pass,
        }
        if self.learner:
            tensors |= {f"proposer.{name}": value for name, value in self.learner.state().items()}
        if self.searches:
            tensors["structures"], meta["bounce"] = self.structures, self.bounce.state()
        return tensors, meta

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state` returned.

        Raises:
            CheckpointError: the state belongs to another network or to other data.
        """
        try:
            self._restore(tensors, meta)
        except torch.OutOfMemoryError:  # a RuntimeError, but not a fault of the checkpoint
            raise
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint does not fit {self.learns} ({error}): were the {self.data} changed? Choose another "
                "run folder to start again"
            ) from error

    def _restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """The work of :meth:`load_state`, without its error messages; subclasses add what their :meth:`state` adds."""
        self.model.load_state_dict(with_prefix("model.", tensors))
        self.averaged.load_state_dict(with_prefix("averaged.", tensors))
        self.best_weights = with_prefix("best.", tensors)
        self.generator.set_state(tensors["generator"])
        self.descent.load_state(with_prefix("optimizer.", tensors), meta["descent"])
        self.num_passes_done = meta["num_passes_done"]
        self.best_score = meta["best_score"]
        self.best_pass = meta.get("best_pass", self.num_passes_done)  # checkpoints of older versions have none
        if self.searches:
            self._restore_search(tensors, meta)

    def _restore_search(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        if tensors["structures"].shape != self.structures.shape:
            raise KeyError(f"structures of shape {tuple(tensors['structures'].shape)}")
        self.structures = tensors["structures"]
        if self.learner:
            self.learner.load_state(with_prefix("proposer.", tensors))
        self.bounce.load_state(meta["bounce"])


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with ``prefix``, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}
