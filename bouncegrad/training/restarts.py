"""When a training restarts from new weights: it has collapsed, or it overfits; and which attempt is kept in the end.

Collapse: the edge types carry no information, so that one half of the samples of a held-out scene predicts nothing of
the latent graph that explains the other half. Overfitting: the held-out scenes are explained ever worse. Both are
measured on held-out scenes without labels (:meth:`bouncegrad.training.held_out.HeldOut.meaning`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

DECAYS = (1.0, 0.0, 5.0)
"""Weight decay of each attempt after one that overfitted. Small weights memorise less: from 30 scenes of springs no
decay led to 57 to 94 % of the relations right, and decay 1 to all of them (20 scenes: decay 5 to 85 and 97 %, none to
57 to 64 %). But forces that change fast with distance need large weights: from 50 charged scenes no decay led to 78 to
96 %, and decay 1 to 58 to 71 %. So attempts with decay alternate with attempts without, and held-out scenes choose."""

BEGUN, BEGUN_STEPS = 0.08, 1000
"""Share of the training, and gradient steps, after which it is tested for collapse."""

HOPELESS = 0.5
"""Share of the training after which it is too late to restart."""

MEANINGLESS = 0.05
"""A training with less meaning than this has collapsed. On charged scenes attempts that succeeded had 0.11 to 0.16 at
the time of the test, those that failed 0.03."""

ASTRAY, SURE = 0.25, 0.5
"""A training overfits if it has explained the held-out scenes ever worse for this share of its epochs, unless its
structures have more meaning than ``SURE``. Of eight trainings from 50 scenes of springs two overfitted, with 53 and
79 % of the relations right (meaning 0.18 and 0.30), and one in passing, with 97 % (0.73); five explained the held-out
scenes ever better and found all relations (0.93 where it was measured)."""

NUM_ATTEMPTS = 4
"""Attempts at most; the last one is kept whatever it is like."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The best modules of an attempt, and the state of the E-step by then.

    Attributes:
        meaning: share of the information in a structure that one half of the held-out samples predicts of the other.
        since_best: share of the training since the held-out scenes were explained best.
        weights: the modules' weights.
        search_state: the state of the E-step.
    """

    meaning: float
    since_best: float
    weights: dict[str, Tensor]
    search_state: dict[str, Any]

    def better(self, other: Attempt | None) -> Attempt:
        """Of two attempts the one with more meaning."""
        return other if other is not None and other.meaning > self.meaning else self


class RestartPolicy:
    """The rules of restarts, the number of attempts so far, and the best attempt that was given up.

    Args:
        weight_decay: of the first attempt, and of all that follow a collapse.
    """

    def __init__(self, weight_decay: float) -> None:
        self.first_decay = weight_decay
        self.num_attempts, self.num_passes_lost, self.has_begun = 1, 0, False
        self.num_overfits = 0
        self.kept: Attempt | None = None

    @property
    def weight_decay(self) -> float:
        """Of the present attempt: as configured until a training overfits, then by turns (:data:`DECAYS`)."""
        return DECAYS[min(self.num_overfits, len(DECAYS)) - 1] if self.num_overfits else self.first_decay

    def has_collapsed(self, progress: float, num_steps: int, meaning_fn: Callable[[], float]) -> bool:
        """Whether to restart because the edge types carry no information; tested once for each attempt.

        Args:
            progress: share of the training that is done.
            num_steps: gradient steps of this attempt.
            meaning_fn: measures the meaning; called only when it is time to test.
        """
        if self.has_begun or not is_testable(progress, num_steps):
            return False
        is_last = self.num_attempts >= NUM_ATTEMPTS or progress > HOPELESS
        self.has_begun = meaning_fn() >= MEANINGLESS or is_last
        return not self.has_begun

    def has_overfitted(
        self, since_best: float, num_steps: int, restarted_at: float, meaning_fn: Callable[[], float]
    ) -> bool:
        """Whether to restart because the held-out scenes have long been explained worse than before.

        Args:
            since_best: share of the training since the held-out scenes were explained best.
            num_steps: gradient steps of this attempt.
            restarted_at: the progress that a training would have that restarts now; it must not be too late for it.
            meaning_fn: measures the meaning; called only when it decides.
        """
        if not is_testable(1.0, num_steps) or self.num_attempts >= NUM_ATTEMPTS or restarted_at > HOPELESS:
            return False
        return since_best >= ASTRAY and meaning_fn() < SURE

    def count_overfit(self, attempt: Attempt | None) -> None:
        """Note that an attempt overfitted, and keep it if it is the best so far; None: it cannot be kept."""
        self.kept = self.kept if attempt is None else attempt.better(self.kept)
        self.num_overfits += 1

    def count_restart(self, num_passes_done: int) -> None:
        """Note that the training restarts after so many epochs, which do not count as progress."""
        self.has_begun = False
        self.num_attempts += 1
        self.num_passes_lost = num_passes_done

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The weights of the kept attempt, their names behind ``kept.``, and all else as JSON."""
        tensors = {f"kept.{name}": value for name, value in self.kept.weights.items()} if self.kept else {}
        kept = self.kept and {
            "meaning": self.kept.meaning,
            "since_best": self.kept.since_best,
            "searched": self.kept.search_state,
        }
        attempts = [self.num_attempts, self.num_passes_lost, self.has_begun]
        return tensors, {"attempts": attempts, "astray": [self.num_overfits, kept]}

    def load_state(self, weights: dict[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state` returned; ``weights`` of the kept attempt by their own names."""
        self.num_attempts, self.num_passes_lost, self.has_begun = meta["attempts"]
        self.num_overfits, kept = meta.get("astray", (0, None))  # checkpoints of older versions have none
        self.kept = kept and Attempt(kept["meaning"], kept["since_best"], weights, kept["searched"])


def is_testable(progress: float, num_steps: int) -> bool:
    """Whether a training has done enough to be tested for collapse (:data:`BEGUN`, :data:`BEGUN_STEPS`)."""
    return progress >= BEGUN and num_steps >= BEGUN_STEPS


def warn_of(attempt: Attempt, num_attempts: int) -> None:
    """Warn the caller of the caller that a model has collapsed or overfitted, if it has."""
    if attempt.meaning < MEANINGLESS:
        warnings.warn(
            f"training collapsed: the kinds of relation carry no information. One half of the samples of a scene "
            f"predicts {attempt.meaning:.1%} of what could be known of its structure from the other half (attempts: "
            f"{num_attempts}). Do not believe the relations; try another seed, more scenes or more passes, or there "
            "are none",
            stacklevel=3,
        )
    elif attempt.since_best >= ASTRAY and attempt.meaning < SURE:
        warnings.warn(
            f"training overfits: the last {attempt.since_best:.0%} of it explained the held-out scenes ever worse, and "
            f"one half of the samples of a scene predicts only {attempt.meaning:.1%} of what could be known of its "
            "structure from the other half. Do not believe the relations before another seed or more scenes agree",
            stacklevel=3,
        )
