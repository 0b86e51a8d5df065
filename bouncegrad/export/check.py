"""Checks that a posterior belongs to scenes, and that a scene and an edge type exist."""

from __future__ import annotations

from bouncegrad.inference import Posterior
from bouncegrad.scenes import DataError, Scenes


def check_answer(posterior: Posterior, scenes: Scenes, *, scene: int | None = None, kind: int | None = None) -> None:
    """Check that ``posterior`` fits ``scenes``, and that ``scene`` and ``kind`` (edge type) exist.

    Raises:
        DataError: one of these does not hold.
    """
    about = (len(posterior.structures), posterior.layout.num_entities)
    if about != (scenes.num_scenes, scenes.num_entities):
        raise DataError(
            f"the posterior is about {about[0]} scenes of {about[1]} entities, but {scenes.num_scenes} of "
            f"{scenes.num_entities} were given: pass the scenes from which it was inferred"
        )
    if scene is not None and not 0 <= scene < scenes.num_scenes:
        raise DataError(f"expected a scene from 0 to {scenes.num_scenes - 1}, got {scene}")
    num_kinds = posterior.layout.num_edge_kinds
    if kind is not None and not 0 <= kind < num_kinds:
        raise DataError(f"expected a kind from 0 to {num_kinds - 1}, got {kind}")
