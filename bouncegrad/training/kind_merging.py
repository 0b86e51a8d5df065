"""The number of edge types: an edge type that predicts nothing of its own is merged with another.

Two edge types differ if the distinction predicts: which of them an edge has in the first half of a scene must make the
second half more probable. The likelihood alone always favours more edge types, because two modules that share one
relation, each better in some places, fit every scene better. But which of such two fits an edge better changes from one
half of the scene to the other, and predicts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from bouncegrad.energies import tables_of
from bouncegrad.energies.windows import Batch, early_half, late_half, pack
from bouncegrad.models.edge_kinds import KindsReport, Merge
from bouncegrad.models.model import Model, select_edge_types
from bouncegrad.scenes import Scenes
from bouncegrad.structures.calibration import Halves, Reading, reading_of
from bouncegrad.structures.factors import Factors, FactorTables
from bouncegrad.structures.layout import TABLE_LIMIT, Layout
from bouncegrad.structures.priors import PRIORS, GraphPrior, fit_weights, priors_for
from bouncegrad.structures.priors.posterior import combination_kinds

WORTH = 0.3
"""Share of the nats that an edge type could predict which it must predict to be kept. It could predict the nats that it
adds to the information in a structure, times the share of that information which all edge types together predict:
second copies of a module were measured to predict 1 to 3 % of that, up to 25 % in a bad fit, real edge types 100 % and
more."""


NEGLIGIBLE = 0.05
"""Nats per scene below which an edge type is not needed, however rare it is."""


PLAIN = 0.01
"""Pseudo-count of the prior's weights in the test: a larger one would give an unused edge type pairs to predict."""


LEARNINGS = 3
"""Rounds in which the weights of a prior are fitted again when edge types are left out."""


def merge_kinds(model: Model, scenes: Scenes) -> Model:
    """Merge the edge types of a trained model that are not needed.

    Structures (latent graphs) of the edge types that stay have the same energies under the returned model. Prior and
    temperature of its ``reading`` are chosen again, and its ``kinds`` report what was merged.

    Args:
        model: a model with a learned noise scale; not changed.
        scenes: scenes that the model was not trained on; their relations are not used.

    Raises:
        ValueError: scenes too short to have two halves, or a model without a learned scale.
    """
    check_judgeable(model, model.layout(scenes.num_entities), scenes.num_times)
    early, late = _tables(model, [pack(model, scenes)])
    layout = model.layout(scenes.num_entities)
    report = judge_kinds(early, late, layout, model.reading)
    merged = select_edge_types(model, report.kept)
    early, late = (_only(tables, report.kept, layout) for tables in (early, late))
    priors = priors_for(replace(layout, num_edge_kinds=report.found))
    both = early.plus(late)
    priors = {name: _learned_on(prior, both, model.reading.temperature) for name, prior in priors.items()}
    merged.reading = reading_of(priors, early, late)
    merged.kinds = report
    return merged.eval()


def unneeded_kinds(model: Model, batches: Sequence[Batch], weights: Mapping[str, Sequence[float]]) -> KindsReport:
    """Report which edge types of a model in training are not needed.

    Args:
        model: a model with a learned noise scale.
        batches: held-out scenes.
        weights: name of a prior -> its log weights, as learned so far.
    """
    early, late = _tables(model, batches)
    layout = model.layout(batches[0].graph.present.shape[1])
    return judge_kinds(early, late, layout, reading_of(priors_for(layout, weights), early, late))


def judge_kinds(early: FactorTables, late: FactorTables, layout: Layout, reading: Reading) -> KindsReport:
    """Report which edge types are not needed, by backward elimination: the least needed first, one at a time.

    Args:
        early: tables of the first halves of scenes.
        late: tables of the second halves.
        layout: the slots.
        reading: prior and temperature of the posteriors.
    """
    report = KindsReport(layout.num_edge_kinds)
    name = reading.prior if _possible(reading.prior, layout) else "none"
    while report.found > 1 and _possible(name, replace(layout, num_edge_kinds=report.found - 1)):
        merge = _least_needed(report, _Evidence(early, late, layout), name, reading.temperature)
        if merge is None:
            break
        report = KindsReport(report.asked, (*report.merges, merge))
    return report


def _possible(name: str, layout: Layout) -> bool:
    """Whether a prior exists for so many edge types."""
    try:
        PRIORS[name](layout)
    except ValueError:
        return False
    return True


def check_judgeable(model: Model, layout: Layout, num_times: int) -> None:
    """Refuse models without tables in nats, and scenes without two halves.

    Raises:
        ValueError: no learned scale, several rounds of messages, tables too large, or too few samples.
    """
    if not model.noise.in_nats or model.config.network.message_steps != 1:
        raise ValueError(
            "edge types are merged by tables in nats: expected a model with a learned scale and one round of messages, "
            f"got scale {model.config.noise.scale!r} and message_steps {model.config.network.message_steps}"
        )
    if not layout.fits_tables:
        raise ValueError(
            f"edge types are merged by tables of at most {TABLE_LIMIT} joint assignments of one entity's edges, here "
            f"{layout.num_assignments}: choose the number of edge types yourself"
        )
    fewest = model.config.network.history + 2
    if num_times < fewest:
        raise ValueError(
            f"edge types are merged by two halves of a scene: expected {fewest} samples or more, got {num_times}; "
            "bring longer scenes"
        )


def _tables(model: Model, batches: Sequence[Batch]) -> tuple[FactorTables, FactorTables]:
    return tables_of(model, batches, early_half), tables_of(model, batches, late_half)


@dataclass(frozen=True, slots=True)
class _Evidence:
    """Tables of both halves of the scenes, of all edge types or of some."""

    early: FactorTables
    late: FactorTables
    layout: Layout

    def only(self, kinds: Sequence[int]) -> _Evidence:
        early, late = (_only(tables, kinds, self.layout) for tables in (self.early, self.late))
        return _Evidence(early, late, replace(self.layout, num_edge_kinds=len(kinds)))


@dataclass(frozen=True, slots=True)
class _Judgement:
    """Value of a set of edge types, in nats per scene, and the marginals under it.

    Attributes:
        predicted: ``log p(late | early) / p(late)``, how much more probable one half makes the other.
        evidence: log evidence of all samples.
        information: ``- log p(structure)`` of the most probable structures.
        marginals: posterior probability of each edge type on each edge.
    """

    predicted: float
    evidence: float
    information: float
    marginals: Float[Tensor, "task slot kind"]


def _judgement(scenes: _Evidence, name: str, temperature: float) -> _Judgement:
    both = scenes.early.plus(scenes.late)
    prior = _learned_on(PRIORS[name](scenes.layout), both, temperature, PLAIN)
    posterior = prior.posterior(both, temperature)
    return _Judgement(
        predicted=float(Halves.of(prior, scenes.early, scenes.late, [temperature]).foretold.mean()),
        evidence=float(posterior.log_evidence.mean()),
        information=-float(prior.log_probability(posterior.best()).mean()),
        marginals=posterior.marginals()[:, : scenes.layout.num_edge_slots],
    )


def _least_needed(report: KindsReport, scenes: _Evidence, name: str, temperature: float) -> Merge | None:
    """The edge type, of those that are not needed, whose removal costs the least evidence; None if all are needed."""
    now = _judgement(scenes.only(report.kept), name, temperature)
    found: list[tuple[float, Merge]] = []
    for place, kind in enumerate(report.kept):
        rest = [other for other in report.kept if other != kind]
        then = _judgement(scenes.only(rest), name, temperature)
        lost = now.predicted - then.predicted
        could = (now.information - then.information) * now.predicted / max(now.information, 1e-9)
        if lost <= WORTH * max(0.0, could) + NEGLIGIBLE:
            # merge it into the edge type that takes most of its edges over
            instead = (now.marginals[:, :, place, None] * then.marginals).sum((0, 1))
            share = float(now.marginals[:, :, place].mean())
            found.append((now.evidence - then.evidence, Merge(kind, rest[int(instead.argmax())], share, lost)))
    return min(found, key=lambda each: each[0])[1] if found else None


def _only(tables: FactorTables, kinds: Sequence[int], layout: Layout) -> FactorTables:
    """The tables without the combinations that have any other kind on an edge."""
    edges = combination_kinds(tables)[:, : layout.num_entities - 1]
    kept = torch.isin(edges, torch.tensor(kinds, device=edges.device)).all(1)
    num_kinds = replace(layout, num_edge_kinds=len(kinds)).receiver_kinds
    return FactorTables(tables.energies[:, :, kept], tables.slots, num_kinds, tables.exist)


def _learned_on(prior: GraphPrior, tables: Factors, temperature: float, pseudo_count: float = 10.0) -> GraphPrior:
    """A prior with weights fitted to the posteriors, by a few rounds of expectation maximisation."""
    for _ in range(LEARNINGS):
        prior = fit_weights(prior, prior.posterior(tables, temperature).usage(), pseudo_count)
    return prior


JUDGED_AT = (0.0, 0.5)
"""When edge types are tested, as shares of the training that is left when the search has cooled. By the second time the
modules that took over the edges of others have had time to learn."""


def num_judgements_due(progress: float, cooling: float) -> int:
    """How many tests of the edge types are due at ``progress``, if the search has cooled at ``cooling``."""
    return sum(progress >= cooling + share * (1 - cooling) for share in JUDGED_AT)
