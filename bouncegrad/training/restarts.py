"""Restarts: when a training restarts from new weights, because it collapsed or overfits, and which attempt is kept.

Collapse: the edge types carry no information, so that one half of the samples of a held-out scene predicts nothing of
the structure (latent graph) that explains the other half. Overfit: the held-out loss rises, and that information is
small. Both are measured without labels; the information is called meaning
(:meth:`bouncegrad.training.held_out.HeldOut.meaning`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

DECAYS = (1.0, 0.0, 5.0)
"""Weight decay of each attempt after one that overfits. Small weights memorise less: from 30 scenes of springs no
decay led to 57 to 94 % of the relations right, and decay 1 to all of them (20 scenes: decay 5 to 85 and 97 %, none to
57 to 64 %). But forces that change fast with distance need large weights: from 50 charged scenes no decay led to 78 to
96 %, and decay 1 to 58 to 71 %. So attempts with decay alternate with attempts without, and held-out scenes choose."""

TEST_AT, TEST_AFTER_STEPS = 0.08, 1000
"""Share of the training, and gradient steps, after which it is tested for collapse."""

LATEST_RESTART = 0.5
"""Share of the training after which it is too late to restart."""

COLLAPSE_MEANING = 0.05
"""Meaning below which a training has collapsed. On charged scenes attempts that succeeded had 0.11 to 0.16 at the time
of the test, those that failed 0.03."""

OVERFIT_SHARE, MEANINGFUL = 0.25, 0.5
"""Overfit: the least held-out loss lies this share of the epochs back or more, and the structures have less meaning
than ``MEANINGFUL``. Of eight trainings from 50 scenes of springs two overfitted, with 53 and 79 % of the relations
right (meaning 0.18 and 0.30), and one for a while, with 97 % (0.73); in five the held-out loss kept falling, and all
relations were found (0.93 where it was measured)."""

NUM_ATTEMPTS = 4
"""Greatest number of attempts; the last one is never tested for collapse or overfitting."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The best weights of an attempt, and the state of the E-step that goes with them.

    Attributes:
        meaning: share of the information in a structure that one half of the held-out samples predicts of the other.
        since_best: share of the training since the epoch with the least held-out loss.
        weights: weights of the model.
        search_state: state of the E-step.
    """

    meaning: float
    since_best: float
    weights: dict[str, Tensor]
    search_state: dict[str, Any]

    def better(self, other: Attempt | None) -> Attempt:
        """The attempt with more meaning of the two."""
        return other if other is not None and other.meaning > self.meaning else self


class RestartPolicy:
    """The rules of restarts, with the number of attempts so far and the best of the attempts that overfitted.

    Args:
        weight_decay: weight decay until an attempt overfits.
    """

    def __init__(self, weight_decay: float) -> None:
        self.first_decay = weight_decay
        self.num_attempts, self.num_passes_lost, self.has_begun = 1, 0, False
        self.num_overfits = 0
        self.kept: Attempt | None = None

    @property
    def weight_decay(self) -> float:
        """Weight decay of the present attempt: as configured until one overfits, then by turns (:data:`DECAYS`)."""
        return DECAYS[min(self.num_overfits, len(DECAYS)) - 1] if self.num_overfits else self.first_decay

    def has_collapsed(self, progress: float, num_steps: int, meaning_fn: Callable[[], float]) -> bool:
        """Whether to restart because of collapse (edge types without information); tested once in each attempt.

        Args:
            progress: share of the training that is done.
            num_steps: gradient steps of this attempt.
            meaning_fn: computes the meaning; called only when it is time to test.
        """
        if self.has_begun or not is_testable(progress, num_steps):
            return False
        is_last = self.num_attempts >= NUM_ATTEMPTS or progress > LATEST_RESTART
        self.has_begun = meaning_fn() >= COLLAPSE_MEANING or is_last
        return not self.has_begun

    def has_overfitted(
        self, since_best: float, num_steps: int, restarted_at: float, meaning_fn: Callable[[], float]
    ) -> bool:
        """Whether to restart because of overfitting (the held-out loss has not fallen for long).

        Args:
            since_best: share of the training since the epoch with the least held-out loss.
            num_steps: gradient steps of this attempt.
            restarted_at: progress of a training that restarts now; past :data:`LATEST_RESTART` it is too late.
            meaning_fn: computes the meaning; called only when it decides.
        """
        if not is_testable(1.0, num_steps) or self.num_attempts >= NUM_ATTEMPTS or restarted_at > LATEST_RESTART:
            return False
        return since_best >= OVERFIT_SHARE and meaning_fn() < MEANINGFUL

    def count_overfit(self, attempt: Attempt | None) -> None:
        """Count an attempt that overfitted, and keep it if it is the best so far; None: it cannot be kept."""
        self.kept = self.kept if attempt is None else attempt.better(self.kept)
        self.num_overfits += 1

    def count_restart(self, num_passes_done: int) -> None:
        """Count a restart; the ``num_passes_done`` epochs before it do not count as progress."""
        self.has_begun = False
        self.num_attempts += 1
        self.num_passes_lost = num_passes_done

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The weights of the kept attempt, with names prefixed by ``kept.``, and the rest as JSON."""
        tensors = {f"kept.{name}": value for name, value in self.kept.weights.items()} if self.kept else {}
        kept = self.kept and {
            "meaning": self.kept.meaning,
            "since_best": self.kept.since_best,
            "searched": self.kept.search_state,
        }
        attempts = [self.num_attempts, self.num_passes_lost, self.has_begun]
        return tensors, {"attempts": attempts, "astray": [self.num_overfits, kept]}

    def load_state(self, weights: dict[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state` returned; ``weights`` are those of the kept attempt, without the prefix."""
        self.num_attempts, self.num_passes_lost, self.has_begun = meta["attempts"]
        self.num_overfits, kept = meta.get("astray", (0, None))  # checkpoints of older versions have none
        self.kept = kept and Attempt(kept["meaning"], kept["since_best"], weights, kept["searched"])


def is_testable(progress: float, num_steps: int) -> bool:
    """Whether a training is far enough to be tested for collapse (:data:`TEST_AT`, :data:`TEST_AFTER_STEPS`)."""
    return progress >= TEST_AT and num_steps >= TEST_AFTER_STEPS


def warn_if_collapsed_or_overfit(attempt: Attempt, num_attempts: int) -> None:
    """Issue a ``UserWarning`` if the training of a model collapsed or overfits; it points to the caller's caller."""
    if attempt.meaning < COLLAPSE_MEANING:
        warnings.warn(
            f"training collapsed: the edge types carry no information. One half of the samples of a scene predicts "
            f"{attempt.meaning:.1%} of the information in the structure of the other half (attempts: {num_attempts}). "
            "Do not trust the relations: try another seed, more scenes or more epochs; or there may be no relations",
            stacklevel=3,
        )
    elif attempt.since_best >= OVERFIT_SHARE and attempt.meaning < MEANINGFUL:
        warnings.warn(
            f"training overfits: over its last {attempt.since_best:.0%} it explained the held-out scenes ever worse, "
            f"and one half of the samples of a scene predicts only {attempt.meaning:.1%} of the information in the "
            "structure of the other half. Do not trust the relations before another seed or more scenes agree",
            stacklevel=3,
        )
