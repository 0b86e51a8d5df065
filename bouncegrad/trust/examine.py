"""Examine a model on scenes: permutation test, goodness of fit, and the meaning of each edge type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bouncegrad.inference import infer
from bouncegrad.models.model import Model
from bouncegrad.scenes import Scenes
from bouncegrad.trust.meaning import KindMeaning, describe_kinds
from bouncegrad.trust.misfit import Misfit, misfit
from bouncegrad.trust.permutation_test import NullTest, null_test


@dataclass(frozen=True, slots=True)
class Examination:
    """Results of all tests of one model on some scenes.

    Attributes:
        null: permutation test for relations.
        misfit: goodness of fit of the model on these scenes.
        meanings: effect of each edge type.
    """

    null: NullTest
    misfit: Misfit
    meanings: tuple[KindMeaning, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "null": self.null.to_dict(),
            "misfit": self.misfit.to_dict(),
            "kinds": [meaning.to_dict() for meaning in self.meanings],
        }

    def __str__(self) -> str:
        return "\n".join([str(self.null), str(self.misfit), *map(str, self.meanings)])


def examine(
    model: Model,
    scenes: Scenes,
    num_shuffles: int = 19,
    seed: int = 0,
    watch: Callable[[float, str], None] | None = None,
) -> Examination:
    """Test for relations and for misfit, and describe the edge types; labels are ignored.

    Args:
        model: a model with one round of messages.
        scenes: scenes, preferably held out from training.
        num_shuffles: number of sets of surrogate scenes (:func:`bouncegrad.trust.null_test`).
        seed: seed of the shuffles.
        watch: called with the share that is done and a description of the next part.
    """
    # Posterior, real scenes, each set of surrogate scenes, misfit, edge types: parts of about equal duration.
    num_parts = num_shuffles + 4

    def report_part(part: int, what: str) -> None:
        if watch:
            watch(part / num_parts, what)

    def report_shuffle(number: int) -> None:
        report_part(2 + number, f"surrogate scenes of the permutation test: {number} of {num_shuffles}")

    report_part(0, f"relations of {scenes.num_scenes} scenes")
    posterior = infer(model, scenes)
    report_part(1, "real scenes of the permutation test")
    null = null_test(model, scenes, num_shuffles, seed, report_shuffle)
    report_part(num_parts - 2, "goodness of fit")
    fits = misfit(model, scenes, posterior)
    report_part(num_parts - 1, "effect of each kind")
    return Examination(null, fits, describe_kinds(model, scenes, posterior))
