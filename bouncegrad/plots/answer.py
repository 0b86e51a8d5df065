"""What there is to show of scenes beside themselves."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from bouncegrad.scenes import Scenes


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What was found out about scenes.

    Attributes:
        kinds: ``[scene, receiver, sender]``, the inferred kind of each ordered pair.
        none_kind: the kind that means "does not act", not drawn; None draws every kind.
        kind_names: what to call the kinds, in their order; ``kind 0``, ``kind 1``, ... where there is none.
        predicted: ``[scene, step, entity, feature]``, the continuation from time ``num_observed`` on, in the
            units of the scenes; or None.
        num_observed: how many samples the answer has seen; all if None.
    """

    kinds: Int[Tensor, "scene receiver sender"]
    none_kind: int | None = None
    kind_names: tuple[str, ...] = ()
    predicted: Float[Tensor, "scene step entity feature"] | None = None
    num_observed: int | None = None

    def name_of(self, kind: int) -> str:
        """What to call ``kind``."""
        return self.kind_names[kind] if kind < len(self.kind_names) else f"kind {kind}"

    def observed_times(self, scenes: Scenes) -> int:
        """How many samples of ``scenes`` the answer has seen."""
        return scenes.num_times if self.num_observed is None else self.num_observed


def check_answer(scenes: Scenes, answer: Answer) -> None:
    """Raise ``ValueError`` where ``answer`` cannot be one about ``scenes``."""
    wanted = (scenes.num_scenes, scenes.num_entities, scenes.num_entities)
    if tuple(answer.kinds.shape) != wanted or answer.kinds.is_floating_point():
        got = f"{answer.kinds.dtype} of shape {tuple(answer.kinds.shape)}"
        raise ValueError(f"expected integer kinds [scene, receiver, sender] = {wanted}, got {got}")
    if not 1 <= answer.observed_times(scenes) <= scenes.num_times:
        raise ValueError(f"expected num_observed from 1 to {scenes.num_times}, got {answer.num_observed}")
    if answer.predicted is not None:
        _check_predicted(scenes, answer.predicted)


def _check_predicted(scenes: Scenes, predicted: Tensor) -> None:
    wanted = (scenes.num_scenes, scenes.num_entities, scenes.num_features)
    if predicted.dim() != 4 or (predicted.shape[0], *predicted.shape[2:]) != wanted or predicted.shape[1] < 1:
        axes = f"({wanted[0]}, step, {wanted[1]}, {wanted[2]})"
        raise ValueError(f"expected predicted [scene, step, entity, feature] = {axes}, got {tuple(predicted.shape)}")
