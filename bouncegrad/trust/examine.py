"""All that a model and scenes say about whether the model can be believed on them."""

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
    """Three answers about one model and some scenes.

    Attributes:
        null: whether there are relations at all.
        misfit: whether the model fits these scenes.
        meanings: what each kind does.
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
    """Test for relations, for misfit, and describe the kinds; labels are not looked at.

    Args:
        model: with one round of messages.
        scenes: best ones that it was not trained on.
        num_shuffles: sets of scenes of strangers (:func:`bouncegrad.trust.null_test`).
        seed: of the shuffles.
        watch: told which share is done, and what comes next.
    """
    num_parts = num_shuffles + 4  # the relations, the real scenes, the shuffled ones, misfit, kinds: about alike

    def tell(part: int, what: str) -> None:
        if watch:
            watch(part / num_parts, what)

    def report_shuffle(number: int) -> None:
        tell(2 + number, f"scenes of strangers beside the real ones: {number} of {num_shuffles}")

    tell(0, f"relations of {scenes.num_scenes} scenes")
    posterior = infer(model, scenes)
    tell(1, "the real scenes, one half beside the other")
    null = null_test(model, scenes, num_shuffles, seed, report_shuffle)
    tell(num_parts - 2, "whether the model fits")
    fits = misfit(model, scenes, posterior)
    tell(num_parts - 1, "what each kind does")
    return Examination(null, fits, describe_kinds(model, scenes, posterior))
