"""The record of inferred relations and predictions that pictures of scenes show."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from bouncegrad.scenes import Scenes


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Inferred relations and predictions of scenes.

    Attributes:
        kinds: ``[scene, receiver, sender]``, the inferred kind (edge type) of each ordered pair.
        none_kind: the edge type that means "no interaction", which is not drawn; None: every edge type is drawn.
        kind_names: names of the edge types, in their order; ``kind 0``, ``kind 1``, ... where there is none.
        predicted: ``[scene, step, entity, feature]``, the rollout from time ``num_observed`` on, in the units of the
            scenes; or None.
        num_observed: number of samples used for inference; None: all.
    """

    kinds: Int[Tensor, "scene receiver sender"]
    none_kind: int | None = None
    kind_names: tuple[str, ...] = ()
    predicted: Float[Tensor, "scene step entity feature"] | None = None
    num_observed: int | None = None

    def name_of(self, kind: int) -> str:
        """Name of an edge type."""
        return self.kind_names[kind] if kind < len(self.kind_names) else f"kind {kind}"

    def observed_times(self, scenes: Scenes) -> int:
        """Number of samples of ``scenes`` used for inference."""
        return scenes.num_times if self.num_observed is None else self.num_observed


def check_answer(scenes: Scenes, answer: Answer) -> None:
    """Raise ``ValueError`` where shapes of ``answer`` do not fit ``scenes``."""
    expected = (scenes.num_scenes, scenes.num_entities, scenes.num_entities)
    if tuple(answer.kinds.shape) != expected or answer.kinds.is_floating_point():
        got = f"{answer.kinds.dtype} of shape {tuple(answer.kinds.shape)}"
        raise ValueError(f"expected integer kinds [scene, receiver, sender] = {expected}, got {got}")
    if not 1 <= answer.observed_times(scenes) <= scenes.num_times:
        raise ValueError(f"expected num_observed from 1 to {scenes.num_times}, got {answer.num_observed}")
    if answer.predicted is not None:
        _check_predicted(scenes, answer.predicted)


def _check_predicted(scenes: Scenes, predicted: Tensor) -> None:
    expected = (scenes.num_scenes, scenes.num_entities, scenes.num_features)
    if predicted.dim() != 4 or (predicted.shape[0], *predicted.shape[2:]) != expected or predicted.shape[1] < 1:
        axes = f"({expected[0]}, step, {expected[1]}, {expected[2]})"
        raise ValueError(f"expected predicted [scene, step, entity, feature] = {axes}, got {tuple(predicted.shape)}")
