"""Which prior holds: the one that foresaw the data best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from bouncegrad.structures.layout import Layout
from bouncegrad.structures.priors.block_model import BlockModel
from bouncegrad.structures.priors.dyads import Dyads
from bouncegrad.structures.priors.independent import Independent
from bouncegrad.structures.priors.leader import Leader
from bouncegrad.structures.priors.posterior import GraphPrior
from bouncegrad.structures.priors.single_file import SingleFile
from bouncegrad.structures.priors.spanning_tree import SpanningTree
from bouncegrad.structures.priors.sparse import Sparse
from bouncegrad.structures.priors.symmetric import Symmetric, fits_elimination
from bouncegrad.structures.priors.triads import Triads

PRIORS: dict[str, Callable[[Layout], GraphPrior]] = {
    "none": Independent.of,
    "symmetric": Symmetric.of,
    "classes": BlockModel.of,
    "few": Sparse.of,
    "leader": Leader.of,
    "file": SingleFile.of,
    "tree": SpanningTree.of,
    "dyads": Dyads.of,
    "triads": Triads.of,
}
"""Name -> prior; those that are compared stand first, from the weakest belief to the strongest."""

COMPARED = ("none", "symmetric", "classes")
"""The priors between which evidence decides by itself; the others are there by name. Every one that is compared costs
the time of its posterior in every batch, and one more chance to be chosen by accident."""


def check_possible(name: str, num_edge_kinds: int, num_node_kinds: int) -> None:
    """Refuse a prior by name that has no use for these kinds, whatever the scenes; "auto" finds one that has.

    Raises:
        ValueError: one edge kind, or several node kinds, where the prior cannot treat them.
    """
    if name != "auto":
        PRIORS[name](Layout(3, min(2, num_edge_kinds), num_node_kinds))


def fast_priors(layout: Layout) -> dict[str, GraphPrior]:
    """Those of :data:`COMPARED` whose posteriors are cheap enough to be compared in every batch.

    Their posteriors are exact: symmetric graphs too large to be summed over wait until the model is read. Without
    tables nothing is exact, and only the weakest belief is left.
    """
    found = priors_for(layout)
    if "symmetric" in found and not fits_elimination(layout):
        del found["symmetric"]
    return found if layout.fits_tables else {"none": found["none"]}


def priors_for(layout: Layout, weights: Mapping[str, Sequence[float]] | None = None) -> dict[str, GraphPrior]:
    """Those of the priors in :data:`COMPARED`, and of those with weights, that can be used on scenes of this size.

    Args:
        layout: the slots of the scenes.
        weights: name -> log weights to begin with, as :class:`bouncegrad.structures.calibration.Reading` holds them.
    """
    found = {}
    for name, prior in PRIORS.items():
        if name not in COMPARED and name not in (weights or ()):
            continue
        try:
            found[name] = prior(layout)
        except ValueError:
            continue
        if weights and name in weights:
            found[name] = found[name].with_weights(torch.tensor(weights[name]))
    return found
