"""Training of the proposal network (encoder) on the structures (latent graphs) that the search finds.

Source: Alet et al. 2019, section 4.2: as in AlphaZero (Silver et al. 2017), the network proposes to a search and is
trained on the results of that search.
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
    """Result of the E-step on one batch, as the proposal network learns from it.

    Attributes:
        before: ``[task, slot]``, structures before the E-step.
        after: ``[task, slot]``, structures after it.
        accepted: ``[task]``, whether the proposal was accepted, which may equal the structure before.
    """

    before: Structures
    after: Structures
    accepted: Bool[Tensor, "task"]


class Learner(ABC, Generic[Network]):
    """A proposal network with its moving average and its optimizer, for any input of the network.

    One step lowers the cross entropy of the network's probabilities against the structures, with label smoothing s::

        L = - mean over learned slots of sum_k ((1 - s) [k = kind] + s / K) log p_k

    Four measures keep one bad batch from undoing what many taught: the loss is computed from log probabilities, whose
    gradient is bounded for each slot (from probabilities, as in the released code of Alet et al. 2019, single precision
    makes the gradient of a network that is sure and wrong a thousand times too large); states and gradients are
    clipped; the network that proposes is an average over many batches; smoothed labels bound its probabilities, and
    proposals mix in a floor for every kind. Measured by ``experiments/stability.py``.

    Args:
        proposer: the network; it is trained in place.
        config: settings of the training.
    """

    def __init__(self, proposer: Network, config: ProposerConfig) -> None:
        self.proposer, self.config = proposer, config
        average = get_ema_multi_avg_fn(self.config.averaging)
        self.averaged = AveragedModel(proposer, multi_avg_fn=average, use_buffers=True)
        self.optimizer = _optimizer(proposer, self.config)
        self.num_steps = 0

    @property
    def proposing(self) -> Network:
        """The network that proposes and is returned: the moving average, or without averaging the network itself."""
        return cast(Network, self.averaged.module) if self.config.averaging else self.proposer

    @abstractmethod
    def beliefs_fn(self, batch: Any, generator: Generator) -> BeliefsFn:
        """Log probabilities of the edge types in a batch, for proposals.

        Without averaging the network proposes with dropout, as it is trained; ``generator`` draws it.
        """

    @abstractmethod
    def guess(self, batch: Any, structures: Structures, generator: Generator) -> Structures:
        """The most probable kind of every slot, ``[task, slot]``, without dropout."""

    @abstractmethod
    def log_probs(
        self, batch: Any, lesson: SearchOutcome, generator: Generator
    ) -> list[Float[Tensor, "task slot kind"]]:
        """Log probabilities by each encoder, with dropout, for the loss."""

    @abstractmethod
    def slot_mask(self, batch: Any) -> Bool[Tensor, "task slot"]:
        """Which slots exist."""

    def learn(self, batch: Any, lesson: SearchOutcome, generator: Generator) -> float:
        """One gradient step of each encoder; returns the mean loss per slot in nats, NaN where no task teaches."""
        chosen = lesson.accepted if self.config.learn_from == "accepted" else torch.ones_like(lesson.accepted)
        if not chosen.any():
            return math.nan
        self.optimizer.zero_grad()
        slots = self.slot_mask(batch)
        learned = slots & chosen[:, None].to(slots.device)
        loss = torch.stack(
            [self._loss(each, learned, lesson.after, chosen) for each in self.log_probs(batch, lesson, generator)]
        ).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.proposer.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.averaged.update_parameters(self.proposer)
        self.num_steps += 1
        return loss.item()

    def _loss(
        self, log_probs: Float[Tensor, "task slot kind"], learned: Tensor, labels: Structures, chosen: Tensor
    ) -> Float[Tensor, ""]:
        """Cross entropy with label smoothing over the slots ``learned``; log probabilities of -inf are left out."""
        label_loss = -log_probs.gather(2, labels[:, :, None].to(log_probs.device)).squeeze(2)
        counts = (log_probs > -math.inf).sum(2)
        uniform_loss = -log_probs.masked_fill(log_probs == -math.inf, 0).sum(2) / counts
        smoothing = self.config.label_smoothing
        per_slot = (1 - smoothing) * label_loss + smoothing * uniform_loss
        share = chosen.float().mean()  # as if the tasks that do not teach had no loss
        return share * (per_slot * learned).sum() / learned.sum().clamp_min(1)

    def state(self) -> dict[str, Tensor]:
        """All that resuming needs, as tensors."""
        tensors = {f"network.{name}": value for name, value in self.proposer.state_dict().items()}
        tensors |= {f"averaged.{name}": value for name, value in self.averaged.state_dict().items()}
        tensors |= {f"optimizer.{name}": value for name, value in moments_of(self.optimizer).items()}
        return tensors | {"num_steps": torch.tensor(self.num_steps)}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from what :meth:`state` returned.

        Raises:
            KeyError: the state belongs to another network.
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
    """The learner of a network that reads trajectories, current structures, or both.

    Args:
        proposer: the network; it is trained in place.
        layout: the slots.
    """

    def __init__(self, proposer: Proposer, layout: Layout) -> None:
        super().__init__(proposer, proposer.config)
        self.layout = layout

    def beliefs_fn(self, batch: Batch, generator: Generator) -> BeliefsFn:
        """Log probabilities of the edge types in a batch, for proposals."""
        noise = None if self.config.averaging else generator
        return network_beliefs(self.proposing, batch, self.layout, noise)

    def guess(self, batch: Batch, structures: Structures, generator: Generator) -> Structures:
        """The most probable kind of every slot, ``[task, slot]``."""
        return network_guess(self.proposing, batch, self.layout, structures, generator)

    def log_probs(
        self, batch: Batch, lesson: SearchOutcome, generator: Generator
    ) -> list[Float[Tensor, "task slot kind"]]:
        """Log probabilities by each encoder, with dropout, for the loss."""
        found = []
        if self.config.sees in ("trajectories", "both"):
            found.append(self.proposer.from_trajectories(batch.states, batch.graph, generator))
        if self.config.sees in ("structures", "both"):
            partial = blanked(lesson.before, self.layout, self.config, generator)
            found.append(self.proposer.from_structures(partial, batch.graph, generator))
        return found

    def slot_mask(self, batch: Batch) -> Bool[Tensor, "task slot"]:
        """Slots whose entities are present."""
        return existing_slots(batch.graph, self.layout)


def moments_of(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimizer for each parameter (moments, steps), as ``index.name`` -> tensor."""
    moments = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, state in moments.items() for name, value in state.items()}


def load_moments(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Load into an optimizer what :func:`moments_of` returned."""
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, word = name.split(".")
        states.setdefault(int(index), {})[word] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})


def _optimizer(proposer: nn.Module, config: ProposerConfig) -> torch.optim.Optimizer:
    if config.optimizer == "adam":
        return torch.optim.Adam(proposer.parameters(), config.learning_rate)
    return torch.optim.SGD(proposer.parameters(), config.learning_rate, momentum=config.momentum)
