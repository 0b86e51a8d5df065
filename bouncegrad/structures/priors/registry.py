"""All graph priors by name, and the subset that is compared by evidence (marginal likelihood)."""

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
"""Name -> constructor of a prior; the compared priors come first, from the weakest to the strongest assumption."""

COMPARED = ("none", "symmetric", "classes")
"""The priors that are compared by evidence when no name is given; the others are used by name only. Each compared prior
costs the computation of its posterior in every batch, and one more chance of a wrong choice."""


def check_possible(name: str, num_edge_kinds: int, num_node_kinds: int) -> None:
    """Check that a prior, by name, supports these numbers of kinds; "auto" always does.

    Raises:
        ValueError: one edge type, or several node types, that the prior does not support.
    """
    if name != "auto":
        PRIORS[name](Layout(3, min(2, num_edge_kinds), num_node_kinds))


def fast_priors(layout: Layout) -> dict[str, GraphPrior]:
    """The priors of :data:`COMPARED` whose posteriors are exact and cheap enough to be compared in every batch.

    Symmetric graphs that are too large to be summed over are left out; they are compared after training only. Without
    tables no posterior is exact, and only the weakest prior, "none", is left.
    """
    found = priors_for(layout)
    if "symmetric" in found and not fits_elimination(layout):
        del found["symmetric"]
    return found if layout.fits_tables else {"none": found["none"]}


def priors_for(layout: Layout, weights: Mapping[str, Sequence[float]] | None = None) -> dict[str, GraphPrior]:
    """The priors in :data:`COMPARED`, and those named in ``weights``, that support scenes of this layout.

    Args:
        layout: the slots of the scenes.
        weights: name -> initial log weights, as in :class:`bouncegrad.structures.calibration.Reading`.
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
