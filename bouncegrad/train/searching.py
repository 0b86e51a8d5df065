"""What every training does that searches: a structure for each task, a search with memory, a network that proposes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from bouncegrad.bounce import Bounce
from bouncegrad.learner import Learner
from bouncegrad.models.checkpoint import CheckpointError
from bouncegrad.train.loop import Network, Part, Trainer, under
from bouncegrad.types import Structures


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
