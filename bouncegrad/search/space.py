"""What there is to search: slots, the kinds that each takes, and which of them are decided together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from bouncegrad.types import Structures


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """The slots of a task.

    Attributes:
        num_kinds: ``[slot]``, how many kinds each slot takes.
        blocks: ``[block, width]``, slots that are redrawn together: a receiver's incoming edges, say.
    """

    num_kinds: tuple[int, ...]
    blocks: Int[Tensor, "block width"]

    @property
    def num_slots(self) -> int:
        """Of a task."""
        return len(self.num_kinds)

    def random(self, num_tasks: int, generator: Generator) -> Structures:
        """Uniformly random structures ``[task, slot]``."""
        uniform = torch.rand(num_tasks, self.num_slots, generator=generator, device=generator.device)
        return (uniform * torch.tensor(self.num_kinds, device=generator.device)).long()
