"""Number of hidden entities: compare numbers by how well they predict late samples of a scene from the early ones."""

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
"""Share of the samples that count as early."""

MARGIN = 3.0
"""Nats that one more hidden entity must gain in predicting the late samples: odds of twenty to one."""


@dataclass(frozen=True, slots=True)
class HiddenCount:
    """Predictive gain of each number of hidden entities, per scene.

    Attributes:
        candidates: numbers of hidden entities, ascending.
        gains: ``[scene, candidate]``, log predictive probability of the late samples in nats, minus that of the first
            candidate.
        num_hidden: ``[scene]``, the smallest number that no larger one beats by :data:`MARGIN`.
    """

    candidates: tuple[int, ...]
    gains: Float[Tensor, "scene candidate"]

    @property
    def num_hidden(self) -> Int[Tensor, "scene"]:
        """The chosen number for each scene; a larger number must gain more than :data:`MARGIN`."""
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
    """Compare numbers of hidden entities by their predictions::

        gain(n) = log p(late samples | early samples, n hidden) - log p(late samples | early samples, none hidden)

    minus that of the first candidate. Additional entities change the noise scale that the model expects. So "none
    hidden" is evaluated with the same entities present but without effect, by the edge type without effect, where the
    model has one.

    Structures and tracks are inferred from the early samples only. Explanations are weighted by their evidence on the
    early samples, and each predicts the late ones. A hidden entity without relations predicts nothing and is not
    counted.

    Args:
        model: as for :func:`bouncegrad.hidden.find_hidden`.
        scenes: as for :func:`bouncegrad.hidden.find_hidden`.
        candidates: numbers to compare.
        prior: prior over structures.
        effort: size of the search for each number.
        seed: seed of the random first states.

    Raises:
        DataError: fewer than 6 samples, no candidates, or what :func:`bouncegrad.hidden.find_hidden` refuses.
    """
    numbers = tuple(sorted(set(candidates)))
    if not numbers or numbers[0] < 0:
        raise DataError(f"expected numbers of hidden entities to compare, 0 or more, got {tuple(candidates)}")
    if scenes.num_times < 6:
        raise DataError(f"expected 6 samples or more, early ones to infer from and late ones, got {scenes.num_times}")
    check_search(model, scenes, max(1, numbers[-1]))
    model, gains = on_cpu(model), []
    for number in numbers:
        belief = belief_of(model, model.layout(scenes.num_entities + number), prior)
        gains.append(_predictive_gain(model, scenes, number, belief, effort or Effort(), seed))
    stacked = torch.stack(gains, 1)
    return HiddenCount(numbers, stacked - stacked[:, :1])


def _predictive_gain(
    model: Model, scenes: Scenes, number: int, belief: Belief, effort: Effort, seed: int
) -> Float[Tensor, "scene"]:
    """Gain over no hidden entity in the log predictive probability of the late samples, nats."""
    if not number:
        return torch.zeros(scenes.num_scenes, dtype=torch.float64)
    layout = model.layout(scenes.num_entities + number)
    num_chains = num_patterns_of(layout, number, effort.num_patterns) * effort.num_starts
    parts = []
    for indices in scene_groups(scenes, num_chains):
        some, generator = scenes.at(indices), Generator().manual_seed(seed)
        early = some.between(0, math.ceil(EARLY * scenes.num_times))
        found = search(model, early, number, belief, effort, generator)
        # p(late | early) = sum over explanations of weight(early) * p(all) / p(early), relative to no hidden entity.
        log_weights, before = _evidence(model, early, found, belief)
        continued = _extrapolate(model, some, found)
        continued = refine(model, some, continued, replace(belief, given=continued.structures), effort.last_rounds)
        _, after = _evidence(model, some, continued, belief)
        parts.append((log_weights.log_softmax(1) + after - before).logsumexp(1))
    return torch.cat(parts)


def _evidence(
    model: Model, scenes: Scenes, found: Explanations, belief: Belief
) -> tuple[Float[Tensor, "scene explanation"], Float[Tensor, "scene explanation"]]:
    """Log evidence of explanations, and its difference to the log evidence without effects of hidden entities."""
    num_hidden = found.tracks.shape[1]
    stage = complete(model, scenes.at(found.scene), num_hidden)
    evidence = weigh(model, stage, found, belief).log_evidence
    nothing = weakest_kind(model, scenes)
    if nothing is None:
        baseline = _log_evidence(model, scenes, belief)[found.scene]
    else:
        idle = pin_hidden(
            tables_with(model, stage, found.tracks),
            torch.full_like(found.structures, nothing),
            num_hidden,
            outgoing=True,
        )
        baseline = belief.prior.posterior(idle, belief.temperature).log_evidence.double()
    shape = (scenes.num_scenes, -1)
    return evidence.view(shape).nan_to_num(-torch.inf), (evidence - baseline).view(shape).nan_to_num(-torch.inf)


def _log_evidence(model: Model, scenes: Scenes, belief: Belief) -> Float[Tensor, "scene"]:
    """Log evidence of scenes without hidden entities."""
    batch = pack(model, scenes)
    plain = belief_of(model, model.layout(scenes.num_entities), belief.name)
    tables = receiver_tables(model, batch, cut_windows(batch))
    return plain.prior.posterior(tables, belief.temperature).log_evidence.double()


def _extrapolate(model: Model, scenes: Scenes, found: Explanations) -> Explanations:
    """Continue tracks of the early samples to the end by rollouts."""
    num_hidden, num_early = found.tracks.shape[1:3]
    stage = complete(model, scenes.at(found.scene), num_hidden)
    rest = roll_out_hidden(model, stage, found.tracks[:, :, -1], found.structures, num_early - 1)
    return Explanations(found.scene, torch.cat([found.tracks, rest[:, :, 1:]], 2), found.structures)
