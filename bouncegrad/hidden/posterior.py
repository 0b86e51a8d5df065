"""Posterior over hidden entities: weighted explanations, credible bands around tracks, probabilities of relations."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bouncegrad.scenes import DataError
from bouncegrad.structures.layout import Layout, to_matrix, to_slots

HALVINGS = 50
"""Bisection steps for a quantile: enough for double precision."""


@dataclass(frozen=True, slots=True)
class Band:
    """Pointwise credible intervals: bounds of each number of a track at a given probability."""

    low: Float[Tensor, "scene hidden time feature"]
    high: Float[Tensor, "scene hidden time feature"]

    def covers(self, tracks: Float[Tensor, "scene hidden time feature"]) -> Tensor:
        """Which numbers of other tracks lie inside the band."""
        return (self.low <= tracks) & (tracks <= self.high)


@dataclass(frozen=True, slots=True)
class HiddenPosterior:
    """Posterior over hidden entities per scene, a mixture of explanations; hidden entities are last in every structure.

    Attributes:
        tracks: ``[scene, explanation, hidden, time, feature]``, mean of each explanation, in the units of the scenes.
        spreads: the same shape, standard deviations.
        weights: ``[scene, explanation]``, posterior probability of each explanation, in descending order.
        structures: ``[scene, explanation, slot]``, most probable structure (latent graph) of each explanation.
        marginals: ``[scene, slot, kind]``, posterior probability of each kind, averaged over explanations.
        layout: slots of the structures, hidden entities included.
        prior: name of the prior over structures; "given" where relations were given.
        log_evidence: ``[scene]``, log evidence in nats, up to a constant that is the same for all explanations.
    """

    tracks: Float[Tensor, "scene explanation hidden time feature"]
    spreads: Float[Tensor, "scene explanation hidden time feature"]
    weights: Float[Tensor, "scene explanation"]
    structures: Int[Tensor, "scene explanation slot"]
    marginals: Float[Tensor, "scene slot kind"]
    layout: Layout
    prior: str
    log_evidence: Float[Tensor, "scene"]

    @property
    def num_hidden(self) -> int:
        """Number of hidden entities."""
        return self.tracks.shape[2]

    @property
    def best_tracks(self) -> Float[Tensor, "scene hidden time feature"]:
        """Tracks of the most probable explanation."""
        return self.tracks[:, 0]

    @property
    def best_structures(self) -> Int[Tensor, "scene slot"]:
        """Structure of the most probable explanation."""
        return self.structures[:, 0]

    @property
    def relations(self) -> Int[Tensor, "scene receiver sender"]:
        """Edge types (kinds) in the most probable explanation: row = receiver, column = sender; diagonal -1."""
        return to_matrix(self.best_structures, self.layout.num_entities)

    @property
    def probabilities(self) -> Float[Tensor, "scene receiver sender kind"]:
        """Posterior probability of each edge type for every ordered pair; zeros on the diagonal."""
        marginals = self.marginals[:, : self.layout.num_edge_slots, : self.layout.num_edge_kinds]
        return to_matrix(marginals, self.layout.num_entities, diagonal=0)

    def idle(self, none_kind: int) -> Float[Tensor, "scene"]:
        """Posterior probability that no hidden entity has any relation; the data then do not determine its track.

        Args:
            none_kind: the edge type without effect (:func:`bouncegrad.inference.weakest_kind`).
        """
        kinds = to_matrix(self.structures.flatten(0, 1), self.layout.num_entities, diagonal=none_kind)
        num_seen = self.layout.num_entities - self.num_hidden
        silent = (kinds[:, num_seen:] == none_kind).all(2).all(1) & (kinds[:, :, num_seen:] == none_kind).all(2).all(1)
        return (self.weights * silent.view_as(self.weights)).sum(1)

    def band(self, level: float = 0.9) -> Band:
        """Pointwise credible intervals with probability ``level``: quantiles of the mixture of normal distributions.

        Raises:
            DataError: a level outside (0, 1).
        """
        if not 0 < level < 1:
            raise DataError(f"expected a level between 0 and 1, got {level}: 0.9 leaves a twentieth on each side")
        return Band(self._quantile((1 - level) / 2), self._quantile((1 + level) / 2))

    def _quantile(self, share: float) -> Float[Tensor, "scene hidden time feature"]:
        """Quantile of each number by bisection."""
        low, high = (self.tracks - 12 * self.spreads).amin(1), (self.tracks + 12 * self.spreads).amax(1)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            below = torch.special.ndtr((middle[:, None] - self.tracks) / self.spreads)
            under = (below * self.weights[:, :, None, None, None]).sum(1) < share
            low, high = middle.where(under, low), high.where(under, middle)
        return (low + high) / 2

    def reorder_hidden(self, order: Int[Tensor, "scene hidden"]) -> HiddenPosterior:
        """The same posterior with the hidden entities of each scene in another order."""
        num_seen = self.layout.num_entities - self.num_hidden
        seen = torch.arange(num_seen).expand(len(order), -1)
        whole = torch.cat([seen, num_seen + order], 1)
        places = _slots_from(whole, self.layout)
        hidden = order[:, None, :, None, None].expand_as(self.tracks)
        return replace(
            self,
            tracks=self.tracks.gather(2, hidden),
            spreads=self.spreads.gather(2, hidden),
            structures=self.structures.gather(2, places[:, None].expand_as(self.structures)),
            marginals=self.marginals.gather(1, places[:, :, None].expand_as(self.marginals)),
        )


def _slots_from(order: Int[Tensor, "scene entity"], layout: Layout) -> Int[Tensor, "scene slot"]:
    """For each slot of the new numbering, its slot in the old one."""
    numbers = to_matrix(torch.arange(layout.num_edge_slots)[None], layout.num_entities)[0]
    edges = to_slots(numbers[order[:, :, None], order[:, None, :]])
    if layout.num_slots == layout.num_edge_slots:
        return edges
    return torch.cat([edges, layout.num_edge_slots + order], 1)
