"""How many kinds there are: second copies and unused kinds go, kinds that foretell something stay."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bouncegrad.energies import loss_fn
from bouncegrad.energies.windows import cut_windows, pack
from bouncegrad.evaluation.metrics import match_relations
from bouncegrad.fit import fit
from bouncegrad.inference import infer, weakest_kind
from bouncegrad.models.checkpoint import load_model, save_model
from bouncegrad.models.edge_kinds import KindsReport, Merge
from bouncegrad.models.model import Model, ModelConfig, select_edge_types
from bouncegrad.models.noise import NoiseConfig
from bouncegrad.recipes import RECIPES, Recipe, with_kinds
from bouncegrad.structures.calibration import Reading
from bouncegrad.structures.factors import FactorTables
from bouncegrad.structures.layout import Layout
from bouncegrad.training import BounceGrad, kind_merging
from bouncegrad.training.kind_merging import judge_kinds, merge_kinds
from bouncegrad.training.rollout_tuning import PolishConfig
from small import QUICK, springs, tiny


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def with_copy(model: Model, kind: int, noise: float = 1e-3) -> Model:
    """A model with one kind more: nearly ``kind``."""
    more = select_edge_types(model, [*range(model.config.network.num_edge_kinds), kind])
    with torch.no_grad():
        for parameter in more.network.edge_modules.parameters():
            parameter[-1].mul_(1 + noise * torch.randn(parameter[-1].shape, generator=generator()))
    more.reading = Reading(model.reading.prior, model.reading.temperature)
    return more


def with_useless_kind(model: Model) -> Model:
    """A model with one kind more, that explains nothing."""
    more = with_copy(model, 1)
    with torch.no_grad():
        more.network.edge_modules.biases[-1][-1].add_(5.0)
    return more


@pytest.mark.parametrize("kind", [0, 1])
def test_copies_are_merged(springs_model, kind: int, tmp_path):
    scenes = springs(60, seed=3)
    model = with_copy(springs_model, kind)
    merged = merge_kinds(model, scenes)
    assert merged.kinds is not None
    assert merged.config.network.num_edge_kinds == 2
    assert merged.kinds.asked == 3
    assert {merged.kinds.merges[0].kind, merged.kinds.merges[0].into} == {kind, 2}
    assert "3 kinds asked for, 2 found: kind" in str(merged.kinds)
    found = infer(merged, scenes)
    assert match_relations(found.relations, scenes.relations).accuracy > 0.95
    assert merged.kinds.places[weakest_kind(springs_model, scenes) or 0] == weakest_kind(merged, scenes)
    save_model(tmp_path / "model", merged)
    assert load_model(tmp_path / "model").kinds == merged.kinds


def test_other_structures_cost_what_they_did(springs_model):
    scenes = springs(20, seed=3)
    model = with_copy(springs_model, 0)
    merged = merge_kinds(model, scenes)
    assert merged.kinds is not None
    batch = pack(model, scenes)
    structures = merged.layout(3).random(20, generator())
    before = loss_fn(model, batch, cut_windows(batch))(torch.tensor(merged.kinds.kept)[structures])
    torch.testing.assert_close(loss_fn(merged, batch, cut_windows(batch))(structures), before)


def test_unused_kinds_are_left_out(springs_model):
    merged = merge_kinds(with_useless_kind(springs_model), springs(60, seed=3))
    assert "kind 2 was hardly used and is left out" in str(merged.kinds)


def test_kinds_that_differ_stay(springs_model):
    model = merge_kinds(springs_model, springs(60, seed=3))
    assert str(model.kinds) == "2 kinds asked for, and each of them is needed"
    assert model.config.network.num_edge_kinds == 2


def noisy_tables(levels: Tensor, structures: Tensor, noise: float, seed: int) -> FactorTables:
    """Half-scenes in which every edge is seen ten times as the level of its kind, with noise of that size."""
    layout = Layout(4, len(levels))
    observed = levels[structures][:, :, None] + noise * torch.randn(*structures.shape, 10, generator=generator(seed))
    nats = (0.5 * ((observed[..., None] - levels) / noise).square()).sum(2)[:, layout.receiver_slots]
    tables = FactorTables(torch.zeros(0), layout.receiver_slots, layout.receiver_kinds)
    digits = torch.arange(len(levels) ** 3)[:, None] // tables.radix() % len(levels)
    energies = sum(nats[:, :, place, digits[:, place]] for place in range(3))
    return FactorTables(torch.as_tensor(energies), layout.receiver_slots, layout.receiver_kinds)


@pytest.mark.parametrize("noise", [0.1, 0.5, 1.0])
def test_three_strengths_are_three_kinds(noise: float):
    """Also where halves of scenes are too noisy to tell them apart for sure."""
    layout = Layout(4, 3)
    structures = layout.random(100, generator(1))
    early, late = (noisy_tables(torch.tensor([0.0, 0.5, 1.0]), structures, noise, seed) for seed in (2, 3))
    assert judge_kinds(early, late, layout, Reading()).found == 3


@pytest.mark.parametrize("gap", [0.0, 0.1, 1.0])
def test_what_fits_better_in_one_half_only_is_no_kind(gap: float):
    """Kinds 1 and 2 share the work: which of them fits an edge better is drawn anew in each half."""
    layout = Layout(4, 3)
    structures = layout.random(100, generator(1))
    halves = []
    for seed in (2, 3):
        coin = 1 + (torch.rand(structures.shape, generator=generator(seed)) < 0.5).long()
        levels = torch.tensor([0.0, 1.0, 1.0 + 0.1 * gap])
        halves.append(noisy_tables(levels, torch.where(structures == 0, 0, coin), 0.1, seed + 10))
    report = judge_kinds(*halves, layout, Reading())
    assert report.found == 2
    assert 0 in report.kept


def test_numbers_of_the_kinds():
    report = KindsReport(4, (Merge(1, 3, 0.2, 0.0), Merge(3, 0, 0.2, 0.0)))
    assert (report.found, report.kept, report.places) == (2, (0, 2), (0, 0, 1, 0))
    again = report.extended(KindsReport(2, (Merge(1, 0, 0.0, 0.01),)))
    assert (again.kept, again.merges[-1].kind, again.merges[-1].into) == ((0,), 2, 0)
    assert KindsReport.from_dict(again.to_dict()) == again


def test_how_many_to_begin_with():
    recipe = RECIPES["fast"]
    assert [with_kinds(recipe, "auto", size).model.network.num_edge_kinds for size in (3, 5, 6, 8)] == [4, 4, 3, 3]
    assert with_kinds(recipe, "auto", 9) is recipe
    assert with_kinds(recipe, None, 5) is recipe
    assert with_kinds(recipe, 7, 5).model.network.num_edge_kinds == 7
    polished = replace(recipe, polish=PolishConfig(num_passes=3))
    assert with_kinds(polished, "auto", 5).polish == polished.polish
    for wrong in (0, 2.5, "many"):
        with pytest.raises(ValueError, match='whole number, 1 or more, or "auto"'):
            with_kinds(recipe, wrong, 5)  # pyright: ignore[reportArgumentType]


def merging(recipe: Recipe, num_kinds: int) -> Recipe:
    return with_kinds(recipe, num_kinds, 3)


def test_a_training_merges_and_resumes_to_the_bit(monkeypatch):
    """Of modules that have hardly begun to differ none is needed if that takes much."""
    monkeypatch.setattr(kind_merging, "NEGLIGIBLE", 20.0)
    scenes, recipe = springs(24), merging(tiny(num_passes=10), 3)
    whole = BounceGrad(scenes, scenes, recipe.model, recipe.training, 0)
    passes = whole.passes()
    next(report for report in passes if whole.kinds.merges)
    assert whole.num_passes_done < 10
    assert whole.structures.max() < whole.kinds.found
    tensors, meta = whole.state()
    copies = {name: value.clone() for name, value in tensors.items()}
    rest = list(passes)
    other = BounceGrad(scenes, scenes, recipe.model, recipe.training, 5)
    other.load_state(copies, meta)
    again = list(other.passes())
    assert [replace(each, seconds=0) for each in again] == [replace(each, seconds=0) for each in rest]
    assert other.best_model().kinds == whole.best_model().kinds


def test_one_kind_too_many():
    """Springs, three kinds asked for: two are found, and the relations are right."""
    model = fit(springs(150), QUICK, kinds=3)
    assert model.kinds is not None
    assert model.kinds.found == 2
    unseen = springs(60, seed=1)
    assert match_relations(infer(model, unseen).relations, unseen.relations).accuracy > 0.95


def test_kinds_that_cannot_be_judged(springs_model):
    with pytest.raises(ValueError, match="expected 3 samples or more, got 2"):
        merge_kinds(springs_model, springs(5).between(0, 2))
    with pytest.raises(ValueError, match="expected a model with a learned scale"):
        fit(springs(12), replace(tiny(), model=ModelConfig(noise=NoiseConfig("none"))), kinds=2)
    with pytest.raises(ValueError, match="expected search \"exact\", got 'metropolis'"):
        fit(springs(12), tiny(search="metropolis"), kinds=2)
