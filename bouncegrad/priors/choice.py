"""Which prior holds: the one that foresaw the data best."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bouncegrad.graphs import Layout
from bouncegrad.priors.families import Independent, NodeClasses, Symmetric
from bouncegrad.priors.posterior import GraphPrior
from bouncegrad.types import FactorTables

PRIORS: dict[str, Callable[[Layout], GraphPrior]] = {
    "none": Independent.of,
    "symmetric": Symmetric.of,
    "classes": NodeClasses.of,
}
"""Name -> prior, from the weakest belief to the strongest."""


def priors_for(layout: Layout) -> dict[str, GraphPrior]:
    """All priors that can be used on scenes of this size."""
    found = {}
    for name, prior in PRIORS.items():
        try:
            found[name] = prior(layout)
        except ValueError:
            continue
    return found


def evidence_of(priors: Mapping[str, GraphPrior], tables: FactorTables, temperature: float) -> dict[str, float]:
    """Mean log evidence of each prior, nats per scene."""
    return {name: float(p.posterior(tables, temperature).log_evidence.mean()) for name, p in priors.items()}


def best_prior(priors: Mapping[str, GraphPrior], tables: FactorTables, temperature: float) -> str:
    """The name of the prior with the largest evidence; the weaker belief where they tie."""
    evidence = evidence_of(priors, tables, temperature)
    return max(evidence, key=lambda name: (evidence[name], -list(priors).index(name)))
