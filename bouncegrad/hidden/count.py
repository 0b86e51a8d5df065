"""How many entities are hidden: the number that foretells the late samples of a scene best from the early ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from bouncegrad.devices import on_cpu
from bouncegrad.energies import receiver_tables
from bouncegrad.energies.windows import cut_windows, pack
from bouncegrad.hidden.alternating_search import Effort, refine, search
from bouncegrad.hidden.augmented import complete, tables_with
from bouncegrad.hidden.find import belief_of, check_search, scene_groups
from bouncegrad.hidden.hypotheses import Belief, Explanations, weigh
from bouncegrad.hidden.initial_tracks import num_patterns_of, pin_hidden, roll_out_hidden
from bouncegrad.inference import weakest_kind
from bouncegrad.models.model import Model
from bouncegrad.scenes import DataError, Scenes

EARLY = 2 / 3
"""Share of the samples from which the rest is foretold."""

MARGIN = 3.0
"""Nats by which one more hidden entity must foretell the rest better: odds of twenty to one."""


@dataclass(frozen=True, slots=True)
class HiddenCount:
    """How many hidden entities the scenes speak for.

    Attributes:
        candidates: the numbers that were compared, ascending.
        gains: ``[scene, candidate]``, nats by which each foretells the late samples better than the first candidate.
        num_hidden: ``[scene]``, the smallest number that no larger one beats by :data:`MARGIN`.
    """

    candidates: tuple[int, ...]
    gains: Float[Tensor, "scene candidate"]

    @property
    def num_hidden(self) -> Int[Tensor, "scene"]:
        """The number that each scene speaks for; more have to earn it."""
        chosen = torch.zeros(len(self.gains), dtype=torch.long)
        for place in range(1, len(self.candidates)):
            before = self.gains.gather(1, chosen[:, None]).squeeze(1)
            chosen = torch.where(self.gains[:, place] > before + MARGIN, place, chosen)
        return torch.tensor(self.candidates)[chosen]


@torch.no_grad()
def count_hidden(
    model: Model,
    scenes: Scenes,
    candidates: Sequence[int] = (0, 1, 2),
    *,
    prior: str = "auto",
    effort: Effort | None = None,
    seed: int = 0,
) -> HiddenCount:
    """Compare numbers of hidden entities by what they foretell::

        gain(n) = log p(late samples | early samples, n hidden) - log p(late samples | early samples, nobody hidden)

    less that of the first candidate. Whoever is supposed to be there also changes how large errors are expected to be,
    so "nobody" is read beside the same entities, acting by the kind that does nothing, where the model has one.

    Structures and tracks are sought in the early samples only; those that were found are weighed against each other by
    them, and each is then held against the rest. A hidden entity that touches nobody foretells nothing and is not
    counted.

    Args:
        model: as :func:`bouncegrad.hidden.find_hidden` takes it.
        scenes: likewise.
        candidates: numbers to compare.
        prior: under which graphs are read.
        effort: how long to search for each number.
        seed: of the first states.

    Raises:
        DataError: fewer than 6 samples, no candidates, or what :func:`bouncegrad.hidden.find_hidden` refuses.
    """
    numbers = tuple(sorted(set(candidates)))
    if not numbers or numbers[0] < 0:
        raise DataError(f"expected numbers of hidden entities to compare, 0 or more, got {tuple(candidates)}")
    if scenes.num_times < 6:
        raise DataError(f"expected 6 samples or more, to learn from and to foretell, got {scenes.num_times}")
    check_search(model, scenes, max(1, numbers[-1]))
    model, foretold = on_cpu(model), []
    for number in numbers:
        belief = belief_of(model, model.layout(scenes.num_entities + number), prior)
        foretold.append(_foretold(model, scenes, number, belief, effort or Effort(), seed))
    found = torch.stack(foretold, 1)
    return HiddenCount(numbers, found - found[:, :1])


def _foretold(
    model: Model, scenes: Scenes, number: int, belief: Belief, effort: Effort, seed: int
) -> Float[Tensor, "scene"]:
    """Nats by which a number of hidden entities foretells the late samples better than nobody does."""
    if not number:
        return torch.zeros(scenes.num_scenes, dtype=torch.float64)
    layout = model.layout(scenes.num_entities + number)
    num_chains = num_patterns_of(layout, number, effort.num_patterns) * effort.num_starts
    parts = []
    for indices in scene_groups(scenes, num_chains):
        some, generator = scenes.at(indices), Generator().manual_seed(seed)
        early = some.between(0, math.ceil(EARLY * scenes.num_times))
        found = search(model, early, number, belief, effort, generator)
        log_weights, before = _evidence(model, early, found, belief)
        onward = _extrapolate(model, some, found)
        onward = refine(model, some, onward, replace(belief, given=onward.structures), effort.last_rounds)
        _, after = _evidence(model, some, onward, belief)
        parts.append((log_weights.log_softmax(1) + after - before).logsumexp(1))
    return torch.cat(parts)


def _evidence(
    model: Model, scenes: Scenes, found: Explanations, belief: Belief
) -> tuple[Float[Tensor, "scene explanation"], Float[Tensor, "scene explanation"]]:
    """The log evidence of explanations, and what of it they have before nobody."""
    num_hidden = found.tracks.shape[1]
    stage = complete(model, scenes.at(found.scene), num_hidden)
    evidence = weigh(model, stage, found, belief).log_evidence
    nothing = weakest_kind(model, scenes)
    if nothing is None:
        nobody = _log_evidence(model, scenes, belief)[found.scene]
    else:
        silent = pin_hidden(
            tables_with(model, stage, found.tracks),
            torch.full_like(found.structures, nothing),
            num_hidden,
            outgoing=True,
        )
        nobody = belief.prior.posterior(silent, belief.temperature).log_evidence.double()
    shape = (scenes.num_scenes, -1)
    return evidence.view(shape).nan_to_num(-torch.inf), (evidence - nobody).view(shape).nan_to_num(-torch.inf)


def _log_evidence(model: Model, scenes: Scenes, belief: Belief) -> Float[Tensor, "scene"]:
    """Of scenes without hidden entities."""
    batch = pack(model, scenes)
    plain = belief_of(model, model.layout(scenes.num_entities), belief.name)
    tables = receiver_tables(model, batch, cut_windows(batch))
    return plain.prior.posterior(tables, belief.temperature).log_evidence.double()


def _extrapolate(model: Model, scenes: Scenes, found: Explanations) -> Explanations:
    """Tracks of the early samples, led on by the modules to the end."""
    num_hidden, num_early = found.tracks.shape[1:3]
    stage = complete(model, scenes.at(found.scene), num_hidden)
    rest = roll_out_hidden(model, stage, found.tracks[:, :, -1], found.structures, num_early - 1)
    return Explanations(found.scene, torch.cat([found.tracks, rest[:, :, 1:]], 2), found.structures)
