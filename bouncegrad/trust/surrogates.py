"""Scenes of strangers: every track is real, but those beside each other have never met."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Generator, Tensor

from bouncegrad.scenes import Scenes


@dataclass(frozen=True, slots=True)
class Shuffle:
    """Which track stands where.

    Attributes:
        sources: ``[scene, entity]``, the scene that the track comes from.
        shifts: ``[scene, entity]``, samples by which it is turned in time; 0 where there are scenes enough.
    """

    sources: Int[Tensor, "scene entity"]
    shifts: Int[Tensor, "scene entity"]

    @classmethod
    def draw(cls, scenes: Scenes, generator: Generator) -> Shuffle:
        """Draw one at random.

        Scenes in which the same entities are present exchange tracks: in a random circle of scenes, each entity takes
        the track of the same entity from another distance. So tracks keep their place (a ball stays the ball) and their
        time, and no two of a scene come from the same one. Where fewer scenes than entities are alike, tracks are also
        turned in time, by shifts that lie at least half of ``num_times / num_entities`` apart from each other.
        """
        present = scenes.present
        sources = torch.arange(scenes.num_scenes)[:, None].repeat(1, scenes.num_entities)
        shifts = torch.zeros_like(sources)
        patterns, groups = present.unique(dim=0, return_inverse=True)
        for group, pattern in enumerate(patterns):
            members, entities = (groups == group).nonzero().flatten(), pattern.nonzero().flatten()
            circle = members[torch.randperm(len(members), generator=generator)]
            few = len(members) < len(entities)
            steps = torch.randperm(len(members), generator=generator)
            for place, entity in enumerate(entities.tolist()):
                sources[circle, entity] = circle.roll(int(steps[place % len(steps)]))
            if few:
                shifts[members[:, None], entities] = _shifts(scenes.num_times, len(members), len(entities), generator)
        return cls(sources, shifts)

    @property
    def turns(self) -> bool:
        """Whether any track is turned in time."""
        return bool(self.shifts.any())

    def apply(self, scenes: Scenes) -> Scenes:
        """The scenes of strangers; labels and names stay behind.

        Where a track is turned, its end is followed by its beginning: the first sample behind that seam is masked.
        """
        times = (torch.arange(scenes.num_times)[None, :, None] + self.shifts[:, None]) % scenes.num_times
        at = (self.sources[:, None].expand_as(times), times, torch.arange(scenes.num_entities).expand_as(times))
        return replace(
            scenes,
            states=scenes.states[at],
            mask=scenes.mask[at] & ~self._seams(times),
            relations=None,
            exogenous=None if scenes.exogenous is None else scenes.exogenous[at[0][:, 0], at[2][:, 0]],
            names=None,
        )

    def as_gappy(self, scenes: Scenes) -> Scenes:
        """The scenes as they are, with samples masked where those of :meth:`apply` have seams."""
        times = (torch.arange(scenes.num_times)[None, :, None] + self.shifts[:, None]) % scenes.num_times
        return replace(scenes, mask=scenes.mask & ~self._seams(times))

    def _seams(self, times: Tensor) -> Bool[Tensor, "scene time entity"]:
        return (times == 0) & (self.shifts != 0)[:, None]


def _shifts(num_times: int, num_scenes: int, num_entities: int, generator: Generator) -> Int[Tensor, "scene entity"]:
    width = num_times / num_entities
    places = torch.rand(num_scenes, num_entities, generator=generator).argsort(1)
    within = 0.5 * torch.rand(num_scenes, num_entities, generator=generator)
    return ((places + within) * width).long() % num_times
