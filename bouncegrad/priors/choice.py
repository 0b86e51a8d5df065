"""Which prior holds: the one that foresaw the data best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from bouncegrad.graphs import Layout
from bouncegrad.priors.families import Independent, NodeClasses
from bouncegrad.priors.posterior import GraphPrior
from bouncegrad.priors.symmetric import Symmetric

PRIORS: dict[str, Callable[[Layout], GraphPrior]] = {
    "none": Independent.of,
    "symmetric": Symmetric.of,
    "classes": NodeClasses.of,
}
"""Name -> prior, from the weakest belief to the strongest."""


def priors_for(layout: Layout, weights: Mapping[str, Sequence[float]] | None = None) -> dict[str, GraphPrior]:
    """All priors that can be used on scenes of this size.

    Args:
        layout: the slots of the scenes.
        weights: name -> log weights to begin with, as :class:`bouncegrad.model.Reading` holds them.
    """
    found = {}
    for name, prior in PRIORS.items():
        try:
            found[name] = prior(layout)
        except ValueError:
            continue
        if weights and name in weights:
            found[name] = found[name].reweighted(torch.tensor(weights[name]))
    return found
