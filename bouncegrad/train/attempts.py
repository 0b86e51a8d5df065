"""What is left of a training that began again: modules that may turn out to have been the best after all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

DECAYS = (1.0, 0.0, 5.0)
"""Weight decay of each attempt after one that learned its scenes by heart. Small weights remember less: from 30 scenes
of springs no decay led to 57 to 94 % of the relations right, and 1 to all of them (20 scenes: 5 to 85 and 97 %, none to
57 to 64 %). But forces that change fast with distance want large weights: from 50 charged scenes no decay led to 78 to
96 %, and 1 to 58 to 71 %. So decay takes turns with none, and held-out scenes choose between the attempts."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The best modules of an attempt, and what the search knew by then.

    Attributes:
        meaning: share of a structure's nats that one half of the held-out samples foretells of the other.
        since_best: share of the training since then.
        weights: of the modules.
        searched: the state of the bounce.
    """

    meaning: float
    since_best: float
    weights: dict[str, Tensor]
    searched: dict[str, Any]

    def better(self, other: Attempt | None) -> Attempt:
        """Of two attempts the one whose structures mean more."""
        return other if other is not None and other.meaning > self.meaning else self

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """As tensors, their names behind ``kept.``, and all other fields as JSON."""
        tensors = {f"kept.{name}": value for name, value in self.weights.items()}
        return tensors, {"meaning": self.meaning, "since_best": self.since_best, "searched": self.searched}


def decay_of(attempt: int, first: float) -> float:
    """Weight decay after so many attempts that learned by heart."""
    return DECAYS[min(attempt, len(DECAYS)) - 1] if attempt else first
