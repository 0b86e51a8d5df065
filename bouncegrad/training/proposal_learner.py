"""The proposal network as it learns, batch by batch, from the structures that a search finds.

Source: Alet et al. 2019, section 4.2: like AlphaZero's network (Silver et al. 2017), it is trained on what the search
finds that it helps.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bouncegrad.energies.windows import Batch
from bouncegrad.inference.beliefs import existing_slots, network_beliefs, network_guess
from bouncegrad.models.proposer import Proposer, ProposerConfig, blanked
from bouncegrad.structures.layout import Layout
from bouncegrad.structures.proposals import BeliefsFn
from bouncegrad.types import Structures

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class SearchOutcome:
    """What a search found in one batch.

    Attributes:
        before: ``[task, slot]``, the structures that were there.
        after: ``[task, slot]``, those that are there now.
        accepted: ``[task]``, the search took what was proposed, even if that was the structure that was there.
    """

    before: Structures
    after: Structures
    accepted: Bool[Tensor, "task"]


class Learner(ABC, Generic[Network]):
    """A proposal network, its average and its optimiser, whatever it is that the network reads.

    One step lowers the cross entropy of the network's beliefs and the structures, smoothed::

        L = - mean over learned slots of sum_k ((1 - s) [k = kind] + s / K) log p_k

    What keeps one bad batch from ruining what many taught: logarithms of probabilities, by which no slot pulls by more
    than its share (from the probabilities, as the released code of Alet et al. 2019 has it, single precision makes the
    pull of a network that is sure and wrong a thousand times too strong); states and the gradient are cut; and the
    network that proposes is an average over many batches. Smoothed labels bound how sure it becomes, and a proposal
    leaves every kind a share. Measured by ``experiments/stability.py``.

    Args:
        proposer: the network; it is changed in place.
        config: how it learns.
    """

    def __init__(self, proposer: Network, config: ProposerConfig) -> None:
        self.proposer, self.config = proposer, config
        average = get_ema_multi_avg_fn(self.config.averaging)
        self.averaged = AveragedModel(proposer, multi_avg_fn=average, use_buffers=True)
        self.optimizer = _optimizer(proposer, self.config)
        self.num_steps = 0

    @property
    def proposing(self) -> Network:
        """The network that proposes and is kept."""
        return cast(Network, self.averaged.module) if self.config.averaging else self.proposer

    @abstractmethod
    def beliefs_fn(self, batch: Any, generator: Generator) -> BeliefsFn:
        """What the network proposes for a batch.

        Without averaging it proposes as it learns, with dropout, drawn by ``generator``.
        """

    @abstractmethod
    def guess(self, batch: Any, structures: Structures, generator: Generator) -> Structures:
        """The most probable kind of every slot, as the network sees it without any noise of learning."""

    @abstractmethod
    def log_probs(
        self, batch: Any, lesson: SearchOutcome, generator: Generator
    ) -> list[Float[Tensor, "task slot kind"]]:
        """What each encoder says while it learns."""

    @abstractmethod
    def slot_mask(self, batch: Any) -> Bool[Tensor, "task slot"]:
        """Which slots there are."""

    def learn(self, batch: Any, lesson: SearchOutcome, generator: Generator) -> float:
        """One gradient step of each encoder; returns the mean loss per slot in nats, NaN where nothing was to learn."""
        chosen = lesson.accepted if self.config.learn_from == "accepted" else torch.ones_like(lesson.accepted)
        if not chosen.any():
            return math.nan
        self.optimizer.zero_grad()
        asked = self.slot_mask(batch)
        there = asked & chosen[:, None].to(asked.device)
        loss = torch.stack(
            [self._loss(said, there, lesson.after, chosen) for said in self.log_probs(batch, lesson, generator)]
        ).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.proposer.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.averaged.update_parameters(self.proposer)
        self.num_steps += 1
        return loss.item()

    def _loss(
        self, said: Float[Tensor, "task slot kind"], there: Tensor, labels: Structures, chosen: Tensor
    ) -> Float[Tensor, ""]:
        surprise = -said.gather(2, labels[:, :, None].to(said.device)).squeeze(2)
        counts = (said > -math.inf).sum(2)
        spread = -said.masked_fill(said == -math.inf, 0).sum(2) / counts
        smoothing = self.config.label_smoothing
        per_slot = (1 - smoothing) * surprise + smoothing * spread
        share = chosen.float().mean()  # as if the tasks that do not teach had no loss
        return share * (per_slot * there).sum() / there.sum().clamp_min(1)

    def state(self) -> dict[str, Tensor]:
        """Everything that a continued learning needs."""
        tensors = {f"network.{name}": value for name, value in self.proposer.state_dict().items()}
        tensors |= {f"averaged.{name}": value for name, value in self.averaged.state_dict().items()}
        tensors |= {f"optimizer.{name}": value for name, value in moments_of(self.optimizer).items()}
        return tensors | {"num_steps": torch.tensor(self.num_steps)}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` returned.

        Raises:
            KeyError: it belongs to another network.
            RuntimeError: likewise.
        """
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "averaged": {}, "optimizer": {}}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            if rest:
                parts[part][rest] = value
        self.proposer.load_state_dict(parts["network"])
        self.averaged.load_state_dict(parts["averaged"])
        load_moments(self.optimizer, parts["optimizer"])
        self.num_steps = int(tensors["num_steps"])

    def final_network(self) -> Network:
        """A copy of the network that proposes."""
        return copy.deepcopy(self.proposing).eval()


class ProposalLearner(Learner[Proposer]):
    """A network that reads scenes, their structures, or both.

    Args:
        proposer: the network; it is changed in place.
        layout: the slots.
    """

    def __init__(self, proposer: Proposer, layout: Layout) -> None:
        super().__init__(proposer, proposer.config)
        self.layout = layout

    def beliefs_fn(self, batch: Batch, generator: Generator) -> BeliefsFn:
        """What the network proposes for a batch."""
        noise = None if self.config.averaging else generator
        return network_beliefs(self.proposing, batch, self.layout, noise)

    def guess(self, batch: Batch, structures: Structures, generator: Generator) -> Structures:
        """The most probable kind of every slot."""
        return network_guess(self.proposing, batch, self.layout, structures, generator)

    def log_probs(
        self, batch: Batch, lesson: SearchOutcome, generator: Generator
    ) -> list[Float[Tensor, "task slot kind"]]:
        """What each encoder says while it learns."""
        said = []
        if self.config.sees in ("trajectories", "both"):
            said.append(self.proposer.from_trajectories(batch.states, batch.graph, generator))
        if self.config.sees in ("structures", "both"):
            seen = blanked(lesson.before, self.layout, self.config, generator)
            said.append(self.proposer.from_structures(seen, batch.graph, generator))
        return said

    def slot_mask(self, batch: Batch) -> Bool[Tensor, "task slot"]:
        """Slots whose entities are there."""
        return existing_slots(batch.graph, self.layout)


def moments_of(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimiser remembers of each parameter, as ``index.name`` -> tensor."""
    moments = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, state in moments.items() for name, value in state.items()}


def load_moments(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of :func:`moments_of`."""
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, word = name.split(".")
        states.setdefault(int(index), {})[word] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})


def _optimizer(proposer: nn.Module, config: ProposerConfig) -> torch.optim.Optimizer:
    if config.optimizer == "adam":
        return torch.optim.Adam(proposer.parameters(), config.learning_rate)
    return torch.optim.SGD(proposer.parameters(), config.learning_rate, momentum=config.momentum)
