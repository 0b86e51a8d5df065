"""What is known of entities that nobody saw: explanations with weights, bands, probabilities of relations."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bouncegrad.scenes import DataError
from bouncegrad.structures.layout import Layout, to_matrix, to_slots

HALVINGS = 50
"""Of the interval in which a quantile lies: enough for double precision."""


@dataclass(frozen=True, slots=True)
class Band:
    """Between which values each number of a track lies with a given probability, one by one."""

    low: Float[Tensor, "scene hidden time feature"]
    high: Float[Tensor, "scene hidden time feature"]

    def covers(self, tracks: Float[Tensor, "scene hidden time feature"]) -> Tensor:
        """Which numbers of other tracks lie inside."""
        return (self.low <= tracks) & (tracks <= self.high)


@dataclass(frozen=True, slots=True)
class HiddenPosterior:
    """Hidden entities as inferred for each scene, as a mixture of explanations; they are the last of every structure.

    Attributes:
        tracks: ``[scene, explanation, hidden, time, feature]``, where each explanation has them, in the units of the
            scenes.
        spreads: the same shape, standard deviations.
        weights: ``[scene, explanation]``, the probability of each, the largest first.
        structures: ``[scene, explanation, slot]``, the most probable of each.
        marginals: ``[scene, slot, kind]``, over all explanations.
        layout: which slots there are, hidden entities included.
        prior: under which graphs were read; "given" where relations were known.
        log_evidence: ``[scene]``, log probability of what was seen, nats, up to what no explanation changes.
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
        """How many entities are hidden."""
        return self.tracks.shape[2]

    @property
    def best_tracks(self) -> Float[Tensor, "scene hidden time feature"]:
        """Those of the most probable explanation."""
        return self.tracks[:, 0]

    @property
    def best_structures(self) -> Int[Tensor, "scene slot"]:
        """That of the most probable explanation."""
        return self.structures[:, 0]

    @property
    def relations(self) -> Int[Tensor, "scene receiver sender"]:
        """The kinds in the most probable explanation: row = who is acted on, column = who acts; diagonal -1."""
        return to_matrix(self.best_structures, self.layout.num_entities)

    @property
    def probabilities(self) -> Float[Tensor, "scene receiver sender kind"]:
        """The probability of each kind for every ordered pair; zeros on the diagonal."""
        marginals = self.marginals[:, : self.layout.num_edge_slots, : self.layout.num_edge_kinds]
        return to_matrix(marginals, self.layout.num_entities, diagonal=0)

    def idle(self, none_kind: int) -> Float[Tensor, "scene"]:
        """The probability that no hidden entity has any relation: then what was seen says nothing of them.

        Args:
            none_kind: the kind that does nothing (:func:`bouncegrad.inference.weakest_kind`).
        """
        kinds = to_matrix(self.structures.flatten(0, 1), self.layout.num_entities, diagonal=none_kind)
        num_seen = self.layout.num_entities - self.num_hidden
        silent = (kinds[:, num_seen:] == none_kind).all(2).all(1) & (kinds[:, :, num_seen:] == none_kind).all(2).all(1)
        return (self.weights * silent.view_as(self.weights)).sum(1)

    def band(self, level: float = 0.9) -> Band:
        """Where each number lies with probability ``level``: quantiles of the mixture of normals.

        Raises:
            DataError: a level that is no probability.
        """
        if not 0 < level < 1:
            raise DataError(f"expected a level between 0 and 1, got {level}: 0.9 leaves a twentieth on each side")
        return Band(self._quantile((1 - level) / 2), self._quantile((1 + level) / 2))

    def _quantile(self, share: float) -> Float[Tensor, "scene hidden time feature"]:
        low, high = (self.tracks - 12 * self.spreads).amin(1), (self.tracks + 12 * self.spreads).amax(1)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            below = torch.special.ndtr((middle[:, None] - self.tracks) / self.spreads)
            under = (below * self.weights[:, :, None, None, None]).sum(1) < share
            low, high = middle.where(under, low), high.where(under, middle)
        return (low + high) / 2

    def reorder_hidden(self, order: Int[Tensor, "scene hidden"]) -> HiddenPosterior:
        """The same with the hidden entities of each scene in another order."""
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
    """Which slot of the old numbering each slot of the new one is."""
    numbers = to_matrix(torch.arange(layout.num_edge_slots)[None], layout.num_entities)[0]
    edges = to_slots(numbers[order[:, :, None], order[:, None, :]])
    if layout.num_slots == layout.num_edge_slots:
        return edges
    return torch.cat([edges, layout.num_edge_slots + order], 1)
