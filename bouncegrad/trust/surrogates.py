"""Surrogate scenes for the permutation test: real tracks from different scenes, so that there can be no relations."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Generator, Tensor

from bouncegrad.scenes import Scenes


@dataclass(frozen=True, slots=True)
class Shuffle:
    """A permutation of tracks between scenes.

    Attributes:
        sources: ``[scene, entity]``, scene from which each track comes.
        shifts: ``[scene, entity]``, samples by which each track is rotated in time; 0 where there are enough scenes.
    """

    sources: Int[Tensor, "scene entity"]
    shifts: Int[Tensor, "scene entity"]

    @classmethod
    def draw(cls, scenes: Scenes, generator: Generator) -> Shuffle:
        """Draw a random permutation.

        Scenes with the same present entities exchange tracks: the scenes are put on a random circle, and each entity
        takes the track of the same entity at another distance along it. So tracks keep their entity (a ball stays the
        ball) and their time, and no two tracks of a scene come from the same scene. Where a group has fewer scenes than
        entities, tracks are also rotated in time, by shifts that differ by at least half of ``num_times /
        num_entities``.
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
        """Whether any track is rotated in time."""
        return bool(self.shifts.any())

    def apply(self, scenes: Scenes) -> Scenes:
        """The surrogate scenes, without labels and names.

        A rotated track continues with its beginning after its end; the first sample after that seam is masked.
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
        """The original scenes, with the samples masked that are seams in :meth:`apply`."""
        times = (torch.arange(scenes.num_times)[None, :, None] + self.shifts[:, None]) % scenes.num_times
        return replace(scenes, mask=scenes.mask & ~self._seams(times))

    def _seams(self, times: Tensor) -> Bool[Tensor, "scene time entity"]:
        """The samples at which rotated tracks begin anew."""
        return (times == 0) & (self.shifts != 0)[:, None]


def _shifts(num_times: int, num_scenes: int, num_entities: int, generator: Generator) -> Int[Tensor, "scene entity"]:
    """Random shifts of a group of scenes, spread over the times."""
    width = num_times / num_entities
    places = torch.rand(num_scenes, num_entities, generator=generator).argsort(1)
    within = 0.5 * torch.rand(num_scenes, num_entities, generator=generator)
    return ((places + within) * width).long() % num_times
