"""Point sets as the target of a search: tables of all structures, and searches that draw from them."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from bouncegrad.functions import AdaptationConfig, FunctionModel, PointSets, PointTarget, adapted_losses
from bouncegrad.functions import target as target_file
from bouncegrad.functions.compositions import Chain, Composition, Sum
from bouncegrad.functions.target import TabulatedTarget, tables_of
from bouncegrad.structures.layout import TABLE_LIMIT, StructureSpace
from bouncegrad.training.bounce import Bounce, BounceConfig, KernelBounce, ProposalBounce
from points import COMPOSITIONS, FOUR_SLOTS, Product, library, one_task, ragged
from worlds import ROUGHNESS, World, composed, every_structure, generator, number_of


@dataclass(frozen=True)
class Ordinary(Composition):
    """A sum that nothing knows to be one."""

    num_slots: int = 3

    def forward(self, modules, inputs):
        return sum((module(inputs) for module in modules[1:]), modules[0](inputs))


@dataclass(frozen=True)
class Mean(Sum):
    """A kind of sum that is none."""

    def forward(self, modules, inputs):
        return super().forward(modules, inputs) / self.num_slots


def live_losses(target: PointTarget) -> Tensor:
    """``[task, structure]``, one structure after the other."""
    every = every_structure(target.model.space.num_kinds)
    loss = target.loss_fn()
    return torch.stack([loss(each.expand(target.batch.num_tasks, -1)) for each in every], 1)


def tables_like(composition: Composition, like: FunctionModel, points: PointSets) -> Tensor:
    """The tables of the modules of one library under another composition."""
    model = library(composition, points)
    model.load_state_dict(like.state_dict())
    return tables_of(PointTarget(model, points)).energies


# Worlds made of compositions


@pytest.mark.parametrize("name", FOUR_SLOTS)
def test_worlds_of_compositions_hold_live_losses(name: str):
    """In any order and for any number of tasks, up to their unit and what the best structure costs."""
    world, target = composed(name), one_task(name, 50)
    structures = world.random(50, generator())
    live, energies = target.loss_fn()(structures), world.loss_fn(structures)
    assert live.std() > 0.01
    torch.testing.assert_close((live - live.min()) / live.std(), (energies - energies.min()) / energies.std())
    assert float(world.losses.std()) == pytest.approx(ROUGHNESS)
    assert len(world.losses.mul(1e4).round().unique()) >= 5


def searches(space: StructureSpace, heat: BounceConfig) -> dict[str, tuple[Bounce, int]]:
    """Ways to search, and how many steps bring them from anywhere to their distribution."""
    slots = replace(heat, search="metropolis", block="edge", corrected=True)
    return {
        "exact": (KernelBounce(replace(heat, search="exact"), space), 1),
        "gibbs": (KernelBounce(replace(heat, search="gibbs"), space), 1),
        "slots": (ProposalBounce(slots, space), 40),
        "flipped": (ProposalBounce(replace(slots, flip=True), space), 40),
        "blocks": (ProposalBounce(replace(slots, block="node"), space), 30),
    }


@pytest.mark.parametrize(
    ("name", "search"),
    [
        *(("sum", search) for search in ("exact", "gibbs", "slots", "flipped", "blocks")),
        *(("adapted product", search) for search in ("exact", "gibbs", "slots")),
    ],
)
def test_searches_draw_from_the_losses_as_they_are(name: str, search: str):
    """Nothing is tabulated but by the exact search: every step evaluates compositions."""
    target = one_task(name, 600)
    kind = TabulatedTarget if search == "exact" else PointTarget
    energies = live_losses(target.at(torch.tensor([0])))[0]
    world = World((2, 2, 2, 2), lambda structures: energies[number_of(structures, (2, 2, 2, 2))])
    temperature = 1.5 * float(energies.std())
    heat = BounceConfig(heat="scheduled", hottest=temperature, coolest=temperature)
    bounce, num_steps = searches(target.model.space, heat)[search]
    structures, random = world.random(600, generator(1)), generator(2)
    for _ in range(num_steps):
        structures = bounce.search(kind(*target), structures, 0.5, random).structures
    assert world.p_value(structures, temperature) > 1e-4


# Tables


@pytest.mark.parametrize("adaptation", [AdaptationConfig(), AdaptationConfig(2)], ids=["as they are", "adapted"])
@pytest.mark.parametrize("name", COMPOSITIONS)
def test_tables_hold_the_loss_of_every_structure(name: str, adaptation: AdaptationConfig):
    points = ragged()
    target = PointTarget(library(COMPOSITIONS[name], points, 2, adaptation), points)
    tables = tables_of(target)
    torch.testing.assert_close(tables.energies[:, 0], live_losses(target), rtol=1e-4, atol=1e-5)
    structures = target.model.space.random(points.num_tasks, generator())
    torch.testing.assert_close(tables(structures), target.loss_fn()(structures), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(TabulatedTarget(*target).loss_fn()(structures), tables(structures))


@pytest.mark.parametrize("budget", [1, 600, target_file.CELL_BUDGET])
def test_sums_are_tabulated_like_any_other_composition(monkeypatch: pytest.MonkeyPatch, budget: int):
    """However many tasks at once."""
    monkeypatch.setattr(target_file, "CELL_BUDGET", budget)
    points = ragged(size_out=2)
    model = library(Sum(3), points)
    fast = tables_of(PointTarget(model, points)).energies
    torch.testing.assert_close(fast, tables_like(Ordinary(3), model, points))


def test_a_composition_made_from_a_sum_is_not_taken_for_one():
    points = ragged()
    model = library(Mean(3), points)
    tables = tables_of(PointTarget(model, points))
    torch.testing.assert_close(tables.energies[:, 0], live_losses(PointTarget(model, points)))


def test_tables_are_of_given_points_only():
    points = ragged()
    spoiled = replace(points, outputs=torch.where(points.given[:, :, None], points.outputs, 99.0))
    for composition in (Sum(3), Chain(3)):
        model = library(composition, points)
        one, other = (tables_of(PointTarget(model, each)).energies for each in (points, spoiled))
        assert torch.equal(one, other)


def test_tables_need_no_gradient():
    points = ragged()
    for composition in (Sum(3), Product()):
        assert not tables_of(PointTarget(library(composition, points, 2), points)).energies.requires_grad


@pytest.mark.parametrize(
    ("num_modules", "num_slots", "listed"),
    [(20, 2, True), (64, 2, True), (65, 2, False), (16, 3, True), (20, 3, False), (16, 16, False), (2, 64, False)],
)
def test_structures_are_listed_where_there_are_few(num_modules: int, num_slots: int, listed: bool):
    space = StructureSpace((num_modules,) * num_slots, torch.arange(num_slots)[None])
    assert space.fits_tables == listed == (num_modules**num_slots <= TABLE_LIMIT)
    assert space.num_structures == num_modules**num_slots


# What searches ask of a target


def test_targets_are_parted_by_task():
    points = ragged()
    target = PointTarget(library(Chain(3), points), points)
    structures, chosen = target.model.space.random(5, generator()), torch.tensor([4, 1])
    torch.testing.assert_close(target.at(chosen).loss_fn()(structures[chosen]), target.loss_fn()(structures)[chosen])


def test_residuals_ask_for_the_temperature_of_their_likelihood():
    """``2 L / n``: at it a loss is the exponent of n independent normal residuals of mean square L."""
    points = ragged(lengths=(8, 8, 8), size_out=2)
    target = PointTarget(library(Sum(3), points), points)
    structures = target.model.space.random(3, generator())
    mean = float(adapted_losses(target.model, structures, points, points.given).detach().mean())
    assert target.automatic_temperature(structures) == pytest.approx(2 * mean / (4 * 2))
