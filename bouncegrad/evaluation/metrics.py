"""Metrics: accuracy of relations under one relabelling, calibration of probabilities, errors of rollouts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from bouncegrad.scenes import relation_kinds


@dataclass(frozen=True, slots=True, eq=False)
class RelationMatch:
    """Inferred kinds (edge types) against true labels, under the relabelling that makes most of them right.

    Attributes:
        accuracy: share of the known ordered pairs whose kind stands for their label, from 0 to 1.
        confusion: ``[label, kind]``, number of known ordered pairs of all scenes with this label and kind.
        relabelling: for each kind the index of the label it stands for, -1 if it stands for none.
        labels: the labels as in the file, ascending.
    """

    accuracy: float
    confusion: Int[Tensor, "label kind"]
    relabelling: tuple[int, ...]
    labels: tuple[float, ...]

    @property
    def num_pairs(self) -> int:
        """Number of ordered pairs that are compared."""
        return int(self.confusion.sum())

    @property
    def num_right(self) -> int:
        """Number of ordered pairs whose kind is right."""
        return sum(int(self.confusion[label, kind]) for kind, label in enumerate(self.relabelling) if label >= 0)

    def true_kinds(self, relations: Float[Tensor, "scene receiver sender"]) -> Int[Tensor, "scene receiver sender"]:
        """The true relations in the numbering of the inferred kinds.

        -1 on the diagonal and where the label is unknown; the number of kinds, which no inferred kind equals,
        where no kind stands for the label.

        Raises:
            ValueError: a label that is not among :attr:`labels`.
        """
        indices, found = relation_kinds(relations)
        unknown = sorted(set(found) - set(self.labels))
        if unknown:
            raise ValueError(f"expected labels among {self.labels}, got {unknown[0]}: match all scenes together")
        num_kinds = len(self.relabelling)
        kinds = [self.relabelling.index(i) if i in self.relabelling else num_kinds for i in range(len(self.labels))]
        lookup = torch.tensor([kinds[self.labels.index(label)] for label in found] + [-1], device=indices.device)
        return lookup[indices]


def match_relations(
    inferred: Int[Tensor, "scene receiver sender"],
    relations: Float[Tensor, "scene receiver sender"] | None,
    present: Bool[Tensor, "scene entity"] | None = None,
) -> RelationMatch:
    """Compare inferred kinds (edge types) with true labels over all scenes together.

    ``accuracy = max_pi sum_k confusion[pi(k), k] / number of pairs`` where pi gives each kind a label of its
    own: the linear assignment problem on the confusion summed over all scenes (Kuhn 1955; scipy). The relabelling
    is the same for all scenes: with one per scene even random kinds would score well. With more kinds than labels
    the kinds left over are wrong, with more labels than kinds the labels are.

    Args:
        inferred: ``[scene, receiver, sender]``, kinds from 0; the diagonal is not used.
        relations: ``[scene, receiver, sender]``, labels as in the file; NaN = unknown, left out.
        present: ``[scene, entity]``, False for absent entities, whose pairs are left out; None = all present.

    Raises:
        ValueError: no relations, shapes that differ, no known label, or a negative kind where the label is known.

    Example:
        >>> import torch
        >>> inferred = torch.tensor([[[0, 1, 1], [0, 0, 1], [0, 0, 0]]])
        >>> match = match_relations(inferred, 1.0 - inferred)
        >>> match.accuracy, match.relabelling
        (1.0, (1, 0))
    """
    if relations is None:
        raise ValueError("there are no true relations to compare with: relations is None")
    if inferred.shape != relations.shape or inferred.is_floating_point():
        raise ValueError(
            f"expected integer kinds of shape [scene, receiver, sender] = {tuple(relations.shape)}, "
            f"got {inferred.dtype} of shape {tuple(inferred.shape)}"
        )
    truth, labels = relation_kinds(relations)
    known = (truth >= 0) & _both_present(inferred, present)
    confusion = _confusion(truth[known], inferred[known], len(labels))
    return _matched(confusion, labels)


def _both_present(inferred: Tensor, present: Tensor | None) -> Tensor:
    if present is None:
        return torch.ones_like(inferred, dtype=torch.bool)
    if present.shape != inferred.shape[:2]:
        shape = tuple(inferred.shape[:2])
        raise ValueError(f"expected present of shape [scene, entity] = {shape}, got {tuple(present.shape)}")
    return present[:, :, None] & present[:, None, :]


def _confusion(truth: Tensor, kinds: Tensor, num_labels: int) -> Tensor:
    if not len(truth):
        raise ValueError("no relation between two present entities is known: there is nothing to compare")
    if kinds.min() < 0:
        raise ValueError(f"kinds count from 0, got {int(kinds.min())}: decide every known pair of present entities")
    num_kinds = int(kinds.max()) + 1
    counts = torch.bincount(truth * num_kinds + kinds, minlength=num_labels * num_kinds)
    return counts.view(num_labels, num_kinds).cpu()


def _matched(confusion: Tensor, labels: tuple[float, ...]) -> RelationMatch:
    """Solve the assignment of labels (rows) to kinds (columns)."""
    rows, columns = linear_sum_assignment(confusion.numpy(), maximize=True)
    label_of = dict(zip(columns.tolist(), rows.tolist(), strict=True))
    relabelling = tuple(label_of.get(kind, -1) for kind in range(confusion.shape[1]))
    num_right = int(confusion[rows, columns].sum())
    return RelationMatch(num_right / int(confusion.sum()), confusion, relabelling, labels)


@dataclass(frozen=True, slots=True, eq=False)
class ReliabilityCurve:
    """Reliability curve: accuracy of the answers in each bin of confidence.

    Attributes:
        bounds: ``[bound]``, limits of the bins of confidence, ascending from 0 to 1.
        confidence: ``[bin]``, mean confidence in each bin; NaN in an empty one.
        accuracy: ``[bin]``, share of right answers in each bin; NaN in an empty one.
        count: ``[bin]``, number of answers in each bin.
    """

    bounds: Float[Tensor, "bound"]
    confidence: Float[Tensor, "bin"]
    accuracy: Float[Tensor, "bin"]
    count: Int[Tensor, "bin"]

    def to_rows(self) -> list[dict[str, float]]:
        """The bins that are not empty, as plain JSON."""
        table = zip(self.bounds[:-1], self.bounds[1:], self.confidence, self.accuracy, self.count, strict=True)
        names = ("above", "up_to", "confidence", "right", "count")
        return [dict(zip(names, (float(x) for x in row), strict=True)) for row in table if row[-1] > 0]

    @property
    def expected_error(self) -> float:
        """Expected calibration error: mean over answers of ``|accuracy - confidence|`` of their bin."""
        gaps = (self.accuracy - self.confidence).abs().nan_to_num(0.0)
        return float((gaps * self.count).sum() / self.count.sum())


def reliability_curve(
    probabilities: Float[Tensor, "*batch kind"], kinds: Int[Tensor, "*batch"], num_bins: int = 10
) -> ReliabilityCurve:
    """Sort answers by confidence into bins of equal width and compute the accuracy in each.

    The answer is the most probable kind (edge type), its probability the confidence. Bin b takes confidences in
    ``(b / num_bins, (b + 1) / num_bins]``.

    Args:
        probabilities: ``[..., kind]``, probabilities that sum to 1 over kinds.
        kinds: ``[...]``, the true kinds in the same numbering (:meth:`RelationMatch.true_kinds`); negative =
            unknown, left out; a number beyond the kinds is a relation that no answer gets right.
        num_bins: number of bins.

    Raises:
        ValueError: shapes that differ, numbers that are no probabilities, no known kind, no bins.
    """
    _check_probabilities(probabilities, kinds, num_bins)
    known = kinds >= 0
    confidence, answer = probabilities[known].double().max(-1)
    right = (answer == kinds[known]).double()
    bins = (torch.ceil(confidence * num_bins) - 1).clamp(0, num_bins - 1).long()
    count = torch.bincount(bins, minlength=num_bins)
    return ReliabilityCurve(
        bounds=torch.linspace(0, 1, num_bins + 1, dtype=torch.float64),
        confidence=torch.bincount(bins, confidence, num_bins) / count,
        accuracy=torch.bincount(bins, right, num_bins) / count,
        count=count,
    )


def expected_calibration_error(
    probabilities: Float[Tensor, "*batch kind"], kinds: Int[Tensor, "*batch"], num_bins: int = 10
) -> float:
    """Expected calibration error: mean distance between confidence and accuracy of the answers; 0 = calibrated.

    ``sum_b count_b |accuracy_b - confidence_b| / sum_b count_b`` over bins of confidence (Naeini et al.
    2015; Guo et al. 2017, equation 3). Arguments and errors as in :func:`reliability_curve`.

    Example:
        >>> import torch
        >>> expected_calibration_error(torch.tensor([[0.75, 0.25]] * 4), torch.tensor([0, 0, 0, 1]))
        0.0
    """
    return reliability_curve(probabilities, kinds, num_bins).expected_error


def _check_probabilities(probabilities: Tensor, kinds: Tensor, num_bins: int) -> None:
    if probabilities.dim() < 2 or probabilities.shape[:-1] != kinds.shape:
        raise ValueError(
            f"expected probabilities [..., kind] and kinds [...], "
            f"got {tuple(probabilities.shape)} and {tuple(kinds.shape)}"
        )
    if num_bins < 1:
        raise ValueError(f"expected at least one bin, got {num_bins}")
    if not (kinds >= 0).any():
        raise ValueError("no true kind is known (all are negative): there is nothing to compare")
    known = probabilities[kinds >= 0]
    error = (known.sum(-1) - 1).abs().max()
    if not (known >= 0).all() or not error < 1e-3:  # rounding of float16 stays within 1e-3
        raise ValueError("probabilities must be non-negative and sum to 1 over kinds: apply softmax to logits first")


def rollout_mse(
    predicted: Float[Tensor, "scene step entity feature"],
    truth: Float[Tensor, "scene step entity feature"],
    mask: Bool[Tensor, "scene step entity"] | None = None,
) -> Float[Tensor, "step"]:
    """Mean squared error at each step, over scenes, valid entities and features together.

    In the square of the given units; published figures are in normalised units (positions and velocities in
    [-1, 1] by the extremes of the canonical training set). Computed in float64; NaN at a step without valid
    entities.

    Args:
        predicted: ``[scene, step, entity, feature]``, predicted states.
        truth: true states of the same shape.
        mask: ``[scene, step, entity]``, True = the truth was measured; None = all were.

    Raises:
        ValueError: shapes that differ.

    Example:
        >>> import torch
        >>> rollout_mse(torch.ones(3, 2, 5, 4), torch.zeros(3, 2, 5, 4)).tolist()
        [1.0, 1.0]
    """
    if predicted.dim() != 4 or predicted.shape != truth.shape:
        raise ValueError(
            f"expected predicted and truth of one shape [scene, step, entity, feature], "
            f"got {tuple(predicted.shape)} and {tuple(truth.shape)}"
        )
    if mask is not None and mask.shape != truth.shape[:3]:
        shape = tuple(truth.shape[:3])
        raise ValueError(f"expected mask of shape [scene, step, entity] = {shape}, got {tuple(mask.shape)}")
    errors = (predicted.double() - truth.double()).square().mean(-1)
    valid = torch.ones_like(errors, dtype=torch.bool) if mask is None else mask
    total = torch.where(valid, errors, 0.0).sum((0, 2))
    count = valid.sum((0, 2))
    return torch.where(count > 0, total / count, math.nan)
