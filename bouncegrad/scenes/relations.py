"""Conversion of labels of relations, as in a file, to kinds (edge types) numbered from 0."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bouncegrad.scenes.record import DataError


def relation_kinds(
    relations: Float[Tensor, "scene receiver sender"],
) -> tuple[Int[Tensor, "scene receiver sender"], tuple[float, ...]]:
    """Number the different labels off the diagonal 0 .. K-1, in ascending order.

    Different labels become different kinds: -1 and +1 become 0 and 1, and so do 0 and 1.

    Args:
        relations: ``[scene, receiver, sender]``, labels; NaN = unknown; the diagonal is ignored.

    Returns:
        ``kinds [scene, receiver, sender]``, int64, -1 on the diagonal and where the label is unknown; and the
        label that each kind stands for.

    Raises:
        DataError: ``relations`` is not ``[scene, receiver, sender]``.

    Example:
        >>> import torch
        >>> kinds, labels = relation_kinds(torch.tensor([[[1.0, -1.0], [2.0, 1.0]]]))
        >>> kinds.tolist(), labels
        ([[[-1, 0], [1, -1]]], (-1.0, 2.0))
    """
    if relations.dim() != 3 or relations.shape[1] != relations.shape[2]:
        raise DataError(f"expected relations of shape [scene, receiver, sender], got {tuple(relations.shape)}")
    diagonal = torch.eye(relations.shape[1], dtype=torch.bool, device=relations.device)
    known = ~diagonal & ~torch.isnan(relations)
    labels = torch.unique(relations[known], sorted=True)
    kinds = torch.full(relations.shape, -1, dtype=torch.int64, device=relations.device)
    kinds[known] = torch.searchsorted(labels, relations[known])
    return kinds, tuple(labels.tolist())
