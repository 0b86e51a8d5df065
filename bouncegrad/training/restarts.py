"""What is left of a training that began again: modules that may turn out to have been the best after all."""

from __future__ import annotations

import warnings
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


BEGUN, BEGUN_STEPS = 0.08, 1000
"""Share of the training, and gradient steps, after which it is asked whether the structures mean anything yet."""


HOPELESS = 0.5
"""Share of the training after which it is too late to start over."""


MEANINGLESS = 0.05
"""Share of a structure's nats that one half of the held-out samples must foretell of the other by then. On charged
scenes attempts that came to something foretold 0.11 to 0.16, those that did not 0.03."""


ASTRAY, SURE = 0.25, 0.5
"""Share of the training after which a training that explains the held-out scenes ever worse has gone astray, unless its
structures mean more than this. Of eight trainings from 50 scenes of springs two went astray with 53 and 79 % of the
relations right (meaning 0.18 and 0.30), and one in passing, with 97 % (0.73); five explained the held-out scenes ever
better and found all (0.93 where it was looked at)."""


NUM_ATTEMPTS = 4
"""Times to begin from new modules before going on with what there is."""


def should_have_begun(progress: float, num_steps: int) -> bool:
    """Whether it is time to ask if the structures mean anything."""
    return progress >= BEGUN and num_steps >= BEGUN_STEPS


def goes_on(meant: float, num_attempts: int, progress: float) -> bool:
    """Whether a training that was asked keeps its modules: they mean something, or it is too late for others."""
    return meant >= MEANINGLESS or num_attempts >= NUM_ATTEMPTS or progress > HOPELESS


def gone_astray(since_best: float, num_attempts: int, begun_anew: float) -> bool:
    """Whether a training that is not :data:`SURE` of its structures should begin again: it learns scenes by heart.

    Args:
        since_best: share of the training since the held-out scenes were explained best.
        num_attempts: so far.
        begun_anew: where a training would be that begins now; it must not be too late for it.
    """
    return since_best >= ASTRAY and num_attempts < NUM_ATTEMPTS and begun_anew <= HOPELESS


def warn_if_astray(since_best: float, meant: float) -> None:
    """Tell the caller of the caller that a model comes from a training that went astray (:data:`ASTRAY`)."""
    if since_best >= ASTRAY and MEANINGLESS <= meant < SURE:
        warnings.warn(
            f"the last {since_best:.0%} of the training explained the held-out scenes ever worse, and one half of the "
            f"samples of a scene foretells only {meant:.1%} of what could be known of its structure from the other "
            "half: modules were learned by heart. Do not believe them before another seed or more scenes agree",
            stacklevel=3,
        )


def warn_if_meaningless(meant: float, num_attempts: int) -> None:
    """Tell the caller of the caller that the kinds of a model say next to nothing (:meth:`HeldOut.meaning`)."""
    if meant < MEANINGLESS:
        warnings.warn(
            f"the kinds of relation mean next to nothing: one half of the samples of a scene foretells {meant:.1%} "
            f"of what could be known of its structure from the other half (attempts: {num_attempts}). Do not "
            "believe the relations; try another seed, more scenes or more passes, or there are none",
            stacklevel=3,
        )
