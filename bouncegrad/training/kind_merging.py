"""How many kinds of relation there are: a kind that foretells nothing of its own is merged with another.

Two kinds differ if it pays to tell them apart: what the first half of a scene says about who has which must make the
second half likelier. Modules that merely share the work (two copies of one module, each better in some place) fit
every scene better, so the energies alone ask for ever more kinds; but which of them fits an edge better changes from
one half of the scene to the other, and foretells nothing.
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
from bouncegrad.models.model import Model, only_kinds
from bouncegrad.scenes import Scenes
from bouncegrad.structures.calibration import Halves, Reading, reading_of
from bouncegrad.structures.factors import Factors, FactorTables
from bouncegrad.structures.layout import TABLE_LIMIT, Layout
from bouncegrad.structures.priors import PRIORS, GraphPrior, fit_weights, priors_for
from bouncegrad.structures.priors.posterior import combination_kinds

WORTH = 0.3
"""Share of what the distinction of two kinds could foretell that it must foretell to be kept. It could foretell its own
nats (what it adds to the information in a structure), as far as the samples are good enough for the others': second
copies of a module were measured to foretell 1 to 3 % of that, up to 25 % in a bad fit, real kinds 100 % and more."""


NEGLIGIBLE = 0.05
"""Nats per scene below which a kind is not needed, however seldom it is used."""


PLAIN = 0.01
"""Pseudo-count of the weights under which kinds are judged: more would lend an unused kind pairs to foretell."""


LEARNINGS = 3
"""Rounds in which the weights of a prior are learned anew when kinds are left out."""


def merge_kinds(model: Model, scenes: Scenes) -> Model:
    """Merge the kinds of a trained model that are not needed.

    Structures without the kinds that go have the same energies under the model that is returned; prior and temperature
    of its reading are found anew, and its ``kinds`` say what was merged.

    Args:
        model: with a learned scale.
        scenes: that the model was not trained on; their relations are not looked at.

    Raises:
        ValueError: scenes too short to have two halves, or a model without a learned scale.
    """
    check_judgeable(model, model.layout(scenes.num_entities), scenes.num_times)
    early, late = _tables(model, [pack(model, scenes)])
    layout = model.layout(scenes.num_entities)
    report = judge_kinds(early, late, layout, model.reading)
    merged = only_kinds(model, report.kept)
    early, late = (_only(tables, report.kept, layout) for tables in (early, late))
    priors = priors_for(replace(layout, num_edge_kinds=report.found))
    both = early.plus(late)
    priors = {name: _learned_on(prior, both, model.reading.temperature) for name, prior in priors.items()}
    merged.reading = reading_of(priors, early, late)
    merged.kinds = report
    return merged.eval()


def unneeded_kinds(model: Model, batches: Sequence[Batch], weights: Mapping[str, Sequence[float]]) -> KindsReport:
    """Which kinds of a model in training are not needed.

    Args:
        model: with a learned scale.
        batches: scenes that it does not learn from.
        weights: prior -> log weights, as learned so far.
    """
    early, late = _tables(model, batches)
    layout = model.layout(batches[0].graph.present.shape[1])
    return judge_kinds(early, late, layout, reading_of(priors_for(layout, weights), early, late))


def judge_kinds(early: FactorTables, late: FactorTables, layout: Layout, reading: Reading) -> KindsReport:
    """Which kinds are not needed, the least needed first.

    Args:
        early: tables of the first halves of scenes.
        late: of the second halves.
        layout: the slots.
        reading: prior and temperature at which the scenes are read.
    """
    report = KindsReport(layout.num_edge_kinds)
    name = reading.prior if _possible(reading.prior, layout) else "none"
    while report.found > 1 and _possible(name, replace(layout, num_edge_kinds=report.found - 1)):
        merge = _least_needed(report, _Seen(early, late, layout), name, reading.temperature)
        if merge is None:
            break
        report = KindsReport(report.asked, (*report.merges, merge))
    return report


def _possible(name: str, layout: Layout) -> bool:
    try:
        PRIORS[name](layout)
    except ValueError:
        return False
    return True


def check_judgeable(model: Model, layout: Layout, num_times: int) -> None:
    """Refuse models without nats in tables, and scenes without two halves."""
    if not model.noise.in_nats or model.config.network.message_steps != 1:
        raise ValueError(
            "kinds are judged by nats of tables: expected a model with a learned scale and one round of messages, got "
            f"scale {model.config.noise.scale!r} and message_steps {model.config.network.message_steps}"
        )
    if not layout.fits_tables:
        raise ValueError(
            f"kinds are judged by tables of at most {TABLE_LIMIT} joint assignments of one entity's edges, here "
            f"{layout.num_assignments}: choose the number of kinds yourself"
        )
    fewest = model.config.network.history + 2
    if num_times < fewest:
        raise ValueError(
            f"kinds are judged by two halves of a scene: expected {fewest} samples or more, got {num_times}; "
            "bring longer scenes"
        )


def _tables(model: Model, batches: Sequence[Batch]) -> tuple[FactorTables, FactorTables]:
    return tables_of(model, batches, early_half), tables_of(model, batches, late_half)


@dataclass(frozen=True, slots=True)
class _Seen:
    """Both halves of the scenes, with all kinds or some."""

    early: FactorTables
    late: FactorTables
    layout: Layout

    def only(self, kinds: Sequence[int]) -> _Seen:
        early, late = (_only(tables, kinds, self.layout) for tables in (self.early, self.late))
        return _Seen(early, late, replace(self.layout, num_edge_kinds=len(kinds)))


@dataclass(frozen=True, slots=True)
class _Judgement:
    """What some kinds say: foretold nats, evidence and nats of the structures per scene, and the marginals."""

    foretold: float
    evidence: float
    information: float
    marginals: Float[Tensor, "task slot kind"]


def _judgement(seen: _Seen, name: str, temperature: float) -> _Judgement:
    both = seen.early.plus(seen.late)
    prior = _learned_on(PRIORS[name](seen.layout), both, temperature, PLAIN)
    posterior = prior.posterior(both, temperature)
    return _Judgement(
        foretold=float(Halves.of(prior, seen.early, seen.late, [temperature]).foretold.mean()),
        evidence=float(posterior.log_evidence.mean()),
        information=-float(prior.log_probability(posterior.best()).mean()),
        marginals=posterior.marginals()[:, : seen.layout.num_edge_slots],
    )


def _least_needed(report: KindsReport, seen: _Seen, name: str, temperature: float) -> Merge | None:
    """Of the kinds that are not needed, the one whose loss costs the least evidence."""
    now = _judgement(seen.only(report.kept), name, temperature)
    found: list[tuple[float, Merge]] = []
    for place, kind in enumerate(report.kept):
        rest = [other for other in report.kept if other != kind]
        then = _judgement(seen.only(rest), name, temperature)
        lost = now.foretold - then.foretold
        could = (now.information - then.information) * now.foretold / max(now.information, 1e-9)
        if lost <= WORTH * max(0.0, could) + NEGLIGIBLE:
            instead = (now.marginals[:, :, place, None] * then.marginals).sum((0, 1))
            share = float(now.marginals[:, :, place].mean())
            found.append((now.evidence - then.evidence, Merge(kind, rest[int(instead.argmax())], share, lost)))
    return min(found, key=lambda each: each[0])[1] if found else None


def _only(tables: FactorTables, kinds: Sequence[int], layout: Layout) -> FactorTables:
    """The tables without the combinations that have other kinds on an edge."""
    edges = combination_kinds(tables)[:, : layout.num_entities - 1]
    kept = torch.isin(edges, torch.tensor(kinds, device=edges.device)).all(1)
    num_kinds = replace(layout, num_edge_kinds=len(kinds)).receiver_kinds
    return FactorTables(tables.energies[:, :, kept], tables.slots, num_kinds, tables.exist)


def _learned_on(prior: GraphPrior, tables: Factors, temperature: float, pseudo_count: float = 10.0) -> GraphPrior:
    for _ in range(LEARNINGS):
        prior = fit_weights(prior, prior.posterior(tables, temperature).usage(), pseudo_count)
    return prior


JUDGED_AT = (0.0, 0.5)
"""When kinds are judged, as shares of the time that is left when the search has cooled. The second time the modules
that took over from others have had time to learn."""


def num_judgements_due(progress: float, cooling: float) -> int:
    """How many times kinds should have been judged by now, if the search has cooled at ``cooling``."""
    return sum(progress >= cooling + share * (1 - cooling) for share in JUDGED_AT)
