"""What every training does: passes over scenes in random batches, by number or by the clock, resumable to the bit."""

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
from bouncegrad.training.config import PassReport, TrainingConfig
from bouncegrad.training.optimizer import Descent
from bouncegrad.training.proposal_learner import Learner
from bouncegrad.types import Structures

Network = TypeVar("Network", bound=nn.Module)


Part = TypeVar("Part")


Clock = Callable[[float], float]
"""Turns the share of the passes that is done into the share of the whole training; at 1 a pass ends early."""


class Trainer(ABC, Generic[Network, Part]):
    """A network, its average, its optimiser, randomness, and the best weights so far.

    Args:
        model: what is trained, in place.
        num_scenes: to learn from.
        batch_size: of them at once.
        config: how.
        generator: of all randomness.
    """

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
        """Learn from the scenes ``[task]`` of one batch."""

    @abstractmethod
    def finish_pass(self, parts: Sequence[Part], clock: Clock) -> PassReport:
        """Judge the pass that ends, of which ``parts`` were done."""

    def follow(self, model: Network) -> None:
        """Train this network from now on; what was best so far is forgotten."""
        self.model = model
        self.averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(self.config.averaging))
        self.descent = Descent(model, replace(self.config, weight_decay=self.weight_decay))
        self.best_weights, self.best_pass = _copied(model), self.num_passes_done

    @property
    def weight_decay(self) -> float:
        """Of the training as it stands."""
        return self.config.weight_decay

    @property
    def searched(self) -> Network:
        """The averaged network."""
        return cast(Network, self.averaged.module)

    @property
    def progress(self) -> float:
        """Share of ``config.num_passes`` that is done."""
        return self.num_passes_done / self.config.num_passes

    def passes(self, minutes: float | None = None, elapsed: float = 0.0) -> Iterator[PassReport]:
        """Train to the end, pass by pass.

        Args:
            minutes: how long to train; temperature and learning rate then follow the time. None: for
                ``config.num_passes`` passes, on the CPU repeatable to the bit.
            elapsed: seconds that an interrupted training has already had.
        """
        if minutes is not None and not is_positive(minutes):
            raise ValueError(f"expected a positive, finite number of minutes, got {minutes}")
        started = time.monotonic() - elapsed

        def clock(by_passes: float) -> float:
            return by_passes if minutes is None else (time.monotonic() - started) / (60 * minutes)

        progress = clock(self.progress)
        while progress < 1:
            report = self.run_pass(clock)
            progress = clock(self.progress)
            yield replace(report, progress=min(1.0, progress), seconds=time.monotonic() - started)

    def run_pass(self, clock: Clock = lambda by_passes: by_passes) -> PassReport:
        """Learn once from every training scene, in random order.

        Args:
            clock: by which temperature and learning rate are set. By default the passes count, whatever they take.
        """
        batches = torch.randperm(self.num_scenes, generator=self.generator).split(self.batch_size)
        parts: list[Part] = []
        for number, indices in enumerate(batches):
            progress = clock(self.progress + number / len(batches) / self.config.num_passes)
            if parts and progress >= 1:
                break
            parts.append(self.learn_from(indices, min(1.0, progress)))
        self.num_passes_done += 1
        return self.finish_pass(parts, clock)

    def step(self, progress: float) -> None:
        """One step down the gradient that the parameters hold."""
        self.descent.step(progress)
        self.averaged.update_parameters(self.model)

    def keep_if_best(self, held_out: float) -> None:
        """Remember the averaged weights if no pass had a smaller loss on the held-out scenes."""
        if held_out <= self.best_score:
            self.best_score, self.best_weights = held_out, _copied(self.searched)
            self.best_pass = self.num_passes_done

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that a continued training needs, as tensors and JSON."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"averaged.{name}": value for name, value in self.averaged.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best_weights.items()}
        moments, descent = self.descent.state()
        tensors |= {f"optimizer.{name}": value for name, value in moments.items()}
        tensors["generator"] = self.generator.get_state()
        return tensors, {
            "num_passes_done": self.num_passes_done,
            "descent": descent,
            "best_score": self.best_score,
            "best_pass": self.best_pass,
        }

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` returned.

        Raises:
            KeyError: it belongs to another network.
            RuntimeError: likewise.
        """
        self.model.load_state_dict(under("model.", tensors))
        self.averaged.load_state_dict(under("averaged.", tensors))
        self.best_weights = under("best.", tensors)
        self.generator.set_state(tensors["generator"])
        self.descent.load_state(under("optimizer.", tensors), meta["descent"])
        self.num_passes_done = meta["num_passes_done"]
        self.best_score = meta["best_score"]
        self.best_pass = meta.get("best_pass", self.num_passes_done)  # of older versions


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names start with ``prefix``, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


class SearchingTrainer(Trainer[Network, Part]):
    """A training that keeps structures between its passes; whoever inherits sets what it searches with.

    Attributes:
        learns: what learns, and from what, as messages say it.
        data: the latter in one word.
        structures: ``[task, slot]``, of all tasks to learn from.
        learner: of the proposal network, where there is one.
        bounce: the search.
    """

    learns: ClassVar[str] = "this model and these scenes"
    data: ClassVar[str] = "data"
    structures: Structures
    learner: Learner[Any] | None
    bounce: Bounce

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that a continued training needs, as tensors and JSON."""
        tensors, meta = super().state()
        if self.learner:
            tensors |= {f"proposer.{name}": value for name, value in self.learner.state().items()}
        return tensors | {"structures": self.structures}, meta | {"bounce": self.bounce.state()}

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` returned.

        Raises:
            CheckpointError: it belongs to another network or to other data.
        """
        try:
            self.restore(tensors, meta)
        except torch.OutOfMemoryError:  # a RuntimeError, and nothing that the checkpoint is to blame for
            raise
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint does not fit {self.learns} ({error}): were the {self.data} changed? Choose another "
                "run folder to start again"
            ) from error

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Do as :meth:`load_state` says, and fail as it comes."""
        super().load_state(tensors, meta)
        if tensors["structures"].shape != self.structures.shape:
            raise KeyError(f"structures of shape {tuple(tensors['structures'].shape)}")
        self.structures = tensors["structures"]
        if self.learner:
            self.learner.load_state(under("proposer.", tensors))
        self.bounce.load_state(meta["bounce"])
