"""One protocol for every kernel: each of them samples small worlds whose probabilities are known."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

from bouncegrad.structures.annealing import anneal, exponential, schedule_annealing
from bouncegrad.structures.factors import FactorTables
from bouncegrad.structures.kernel_interface import Kernel
from bouncegrad.structures.kernel_wrappers import BestState
from bouncegrad.structures.mcmc import ENUMERATION_LIMIT, exact, gibbs, metropolis
from bouncegrad.structures.proposals import without_correction
from bouncegrad.types import Structures
from kernels import (
    BLOCKS,
    ENOUGH,
    KERNELS,
    PRIORS,
    block_metropolis,
    first_half,
    first_of,
    frozen,
    independent,
    repeated,
    run,
    skewed,
    slot_metropolis,
    trace,
    uniform_slot,
)
from worlds import WORLDS, Counting, World, canonical, diverged, evaluate_all, for_tasks, generator, number_of


@pytest.fixture(params=KERNELS)
def build(request: pytest.FixtureRequest) -> Callable[..., Kernel]:
    """Every kernel in turn."""
    return KERNELS[request.param]


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> World:
    """Every world in turn."""
    return WORLDS[request.param]()


# What every kernel draws


@pytest.mark.parametrize(("temperature", "prior"), [(1.0, "no prior"), (0.6, "prior")])
def test_kernels_sample_their_target(build: Callable[..., Kernel], world: World, temperature: float, prior: str):
    log_prior = PRIORS[prior](len(world.num_kinds))
    state = run(build(world.num_kinds, log_prior), world, temperature, ENOUGH.get(build, 120))
    assert world.p_value(state.structures, temperature, log_prior) > 1e-4
    assert torch.equal(state.losses, evaluate_all(world.loss_fn, state.structures))


def test_the_prior_may_forbid_structures(build: Callable[..., Kernel]):
    """Searches that start on forbidden structures leave them, at any temperature, and never come back."""
    log_prior = independent(torch.tensor([[0.3, 0.7], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]).log())
    kernel, world = build(canonical().num_kinds, log_prior), canonical()
    state = run(kernel, world, 1.0, 2 * ENOUGH.get(build, 120))
    assert world.p_value(state.structures, 1.0, log_prior) > 1e-4
    cold = run(kernel, world, 0.0, 200, num_tasks=100)
    assert log_prior(cold.structures).isfinite().all()


@pytest.mark.parametrize("temperature", [0.0, 1e-300])
def test_without_heat_the_prior_decides_between_equal_losses(build: Callable[..., Kernel], temperature: float):
    flat = World((2, 2, 2, 2), lambda structures: torch.zeros(len(structures)))
    log_prior = PRIORS["prior"](4)
    state = run(build(flat.num_kinds, log_prior), flat, temperature, ENOUGH.get(build, 120))
    assert flat.p_value(state.structures, 1.0, log_prior) > 1e-4


BROKEN = {
    "half of the slots": metropolis(first_half((2, 2, 2, 2))),
    "no correction": metropolis(without_correction(skewed((2, 2, 2, 2)))),
    "no prior": metropolis(uniform_slot((2, 2, 2, 2))),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_the_sampling_test_sees_broken_kernels(broken: str):
    world = canonical()
    log_prior = PRIORS["prior"](4) if broken == "no prior" else None
    state = run(BROKEN[broken], world, 1.0, 120)
    assert world.p_value(state.structures, 1.0, log_prior) < 1e-6


def test_the_sampling_test_sees_a_wrong_temperature():
    state = run(exact((2, 2, 2, 2)), canonical(), 1.3, 1)
    assert canonical().p_value(state.structures, 1.0) < 1e-6


# How every kernel behaves


@pytest.mark.parametrize("name", ["canonical", "unequal"])
def test_cooled_kernels_find_the_minimum(build: Callable[..., Kernel], name: str):
    world = WORLDS[name]()
    loss_fn = for_tasks(world.loss_fn, 200)
    cooling = schedule_annealing(exponential(0.4, 0.02, 700))
    state, _ = anneal(build(world.num_kinds), cooling, loss_fn, world.random(200, generator(1)), 700, generator(2))
    found = state.best_losses if isinstance(state, BestState) else state.losses
    assert (found == world.losses.min()).float().mean() > 0.95


def test_temperature_zero_is_greedy(build: Callable[..., Kernel], world: World):
    states, infos = trace(build(world.num_kinds), for_tasks(world.loss_fn, 36), first_of(world), 0.0, 60)
    assert all((after.losses <= before.losses).all() for before, after in pairwise(states))
    assert not any((info.worse & info.accepted).any() for info in infos)


def test_stored_losses_are_those_of_the_stored_structures(build: Callable[..., Kernel], world: World):
    loss_fn = for_tasks(world.loss_fn, 36)
    states, _ = trace(build(world.num_kinds), loss_fn, first_of(world))
    for state in states:
        assert torch.equal(state.losses, evaluate_all(loss_fn, state.structures))
        assert state.structures.dtype == torch.long


def test_info_tells_what_happened(build: Callable[..., Kernel], world: World):
    states, infos = trace(build(world.num_kinds), for_tasks(world.loss_fn, 36), first_of(world))
    for before, after, info in zip(states, states[1:], infos, strict=False):
        assert torch.equal(info.changed, (after.structures != before.structures).any(1))
        if build is not repeated:
            assert torch.equal(info.accepted, info.changed)
            rose = after.losses > before.losses
            assert torch.equal(info.worse & info.accepted, rose)


def test_states_that_were_given_are_left_alone(build: Callable[..., Kernel]):
    structures = first_of(canonical())
    kernel = build(canonical().num_kinds)
    before = kernel.init(structures.clone(), canonical().loss_fn, 1.0)
    kernel.step(before, canonical().loss_fn, generator())
    assert torch.equal(before.structures, structures)
    assert torch.equal(before.losses, canonical().loss_fn(structures))


def test_the_seed_decides_everything(build: Callable[..., Kernel], world: World):
    loss_fn, kernel = for_tasks(world.loss_fn, 36), build(world.num_kinds)
    once, again, other = (trace(kernel, loss_fn, first_of(world), seed=seed)[0] for seed in (5, 5, 6))
    assert all(torch.equal(a.structures, b.structures) for a, b in zip(once, again, strict=True))
    assert not all(torch.equal(a.structures, b.structures) for a, b in zip(once, other, strict=True))


def test_evaluations_are_counted(build: Callable[..., Kernel]):
    counting = Counting(canonical().loss_fn)
    _, infos = trace(build(canonical().num_kinds), counting, first_of(canonical()))
    assert len(counting.asked) == 1 + sum(info.num_evaluations for info in infos)


def test_every_structure_that_is_asked_for_exists(build: Callable[..., Kernel]):
    world = WORLDS["unequal"]()
    counting = Counting(world.loss_fn)
    trace(build(world.num_kinds), counting, first_of(world))
    assert all(((asked >= 0) & (asked < torch.tensor(world.num_kinds))).all() for asked in counting.asked)


def test_a_search_goes_on_from_losses_of_moved_modules(build: Callable[..., Kernel]):
    """``init`` evaluates afresh: nothing of an earlier pass is left in the state."""
    kernel, structures = build((2, 2, 2, 2)), first_of(canonical())
    kernel.init(structures, canonical().loss_fn, 1.0)
    moved = kernel.init(structures, lambda moved: canonical().loss_fn(moved) + 1, 1.0)
    assert torch.equal(moved.losses, canonical().loss_fn(structures) + 1)


# Losses that are not finite


@pytest.mark.parametrize("temperature", [0.0, 1.0, math.inf])
@pytest.mark.parametrize("name", ["diverged", "diverged factors"])
def test_losses_that_are_not_finite_are_never_chosen(build: Callable[..., Kernel], name: str, temperature: float):
    """From a finite loss no search goes to NaN or infinity, and from there every search comes back."""
    world = WORLDS[name]()
    states, _ = trace(build(world.num_kinds), for_tasks(world.loss_fn, 36), first_of(world), temperature, 150)
    assert states[0].losses.isinf().any()
    assert states[-1].losses.isfinite().all()
    assert all((after.losses.isfinite() | before.losses.isinf()).all() for before, after in pairwise(states))
    assert not any(state.losses.isnan().any() for state in states)


@pytest.mark.parametrize("kernel", [slot_metropolis([2] * 5), gibbs(torch.arange(5)[:, None], [2] * 5)])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_searches_walk_out_where_no_move_leads_to_a_finite_loss(kernel: Kernel, temperature: float):
    def far_from_the_corner(structures: Structures) -> torch.Tensor:
        num_ones = structures.sum(1).float()
        return torch.where(num_ones > 2, num_ones, math.nan)

    corner = torch.zeros(36, 5, dtype=torch.long)
    states, _ = trace(kernel, far_from_the_corner, corner, temperature, 300)
    assert (states[-1].structures.sum(1) > 2).all()


def test_a_bad_loss_in_one_task_does_not_touch_the_others(build: Callable[..., Kernel]):
    def spoiled(structures: Structures) -> torch.Tensor:
        losses = canonical().loss_fn(structures)
        losses[::3] = math.nan
        return losses

    kernel, structures = build((2, 2, 2, 2)), first_of(canonical())
    good = torch.arange(len(structures)) % 3 > 0
    for healthy, sick in zip(
        trace(kernel, canonical().loss_fn, structures)[0], trace(kernel, spoiled, structures)[0], strict=True
    ):
        assert torch.equal(healthy.structures[good], sick.structures[good])
        assert torch.equal(healthy.losses[good], sick.losses[good])
        assert sick.losses[~good].isinf().all()


def test_a_proposal_without_a_loss_is_not_called_worse():
    """No temperature would let it in: it says nothing about the temperature."""
    world = diverged()
    shut_in = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    counting = Counting(world.loss_fn)
    states, infos = trace(slot_metropolis(world.num_kinds), counting, shut_in, 1e-9, 200)
    for before, proposed, info in zip(states, counting.asked[1:], infos, strict=False):
        losses = world.loss_fn(proposed)
        assert torch.equal(info.worse, (losses > before.losses) & losses.isfinite())
    assert any(info.worse.any() for info in infos)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_temperatures_have_the_unit_of_the_loss(build: Callable[..., Kernel], scale: float):
    """Losses and temperature times one number: the same search."""
    world = canonical()
    scaled = World((2, 2, 2, 2), lambda structures: world.loss_fn(structures) * scale)
    state = run(build((2, 2, 2, 2)), scaled, scale, ENOUGH.get(build, 120))
    assert world.p_value(state.structures, 1.0) > 1e-4


# Metropolis


def test_metropolis_reports_on_its_proposals():
    """An unchanged proposal is neither accepted nor worse; a worse one is worse whether it is accepted or not."""
    counting = Counting(canonical().loss_fn)
    states, infos = trace(block_metropolis((2, 2, 2, 2)), counting, first_of(canonical()))
    unchanged, refused = 0, 0
    for before, after, proposed, info in zip(states, states[1:], counting.asked[1:], infos, strict=False):
        different = (proposed != before.structures).any(1)
        worse = different & (canonical().loss_fn(proposed) > before.losses)
        accepted = different & (after.structures == proposed).all(1)
        assert torch.equal(info.worse, worse)
        assert torch.equal(info.accepted, accepted)
        unchanged += int((~different).sum())
        refused += int((worse & ~accepted).sum())
    assert unchanged > 0
    assert refused > 0


# Frozen


def test_frozen_never_moves_but_looks_again():
    counting = Counting(canonical().loss_fn)

    def drifting(structures: Structures) -> torch.Tensor:
        return counting(structures) + len(counting.asked)

    structures = first_of(canonical())
    states, infos = trace(frozen(), drifting, structures, num_steps=5)
    for number, state in enumerate(states):
        assert torch.equal(state.structures, structures)
        torch.testing.assert_close(state.losses, canonical().loss_fn(structures) + number + 1)
    assert not any((info.changed | info.accepted | info.worse).any() for info in infos)
    assert [info.num_evaluations for info in infos] == [1] * 5


# Exact


def test_exact_takes_tables_without_asking_for_every_structure():
    """60 slots have more structures than could be listed, but their factors are drawn one by one."""
    slots = torch.randperm(60, generator=generator()).reshape(15, 4)
    energies = torch.randn(1, 15, 16, generator=generator(1)).expand(4000, -1, -1)
    tables = FactorTables(energies, slots, (2, 2, 2, 2))
    start = torch.zeros(4000, 60, dtype=torch.long)
    kernel = exact([2] * 60)
    state, info = kernel.step(kernel.init(start, tables, 1.0), tables, generator(2))
    for factor in range(15):
        losses = energies[0, factor]
        one = World((2, 2, 2, 2), lambda structures, losses=losses: losses[number_of(structures, (2, 2, 2, 2))])
        assert one.p_value(state.structures[:, slots[factor]], 1.0) > 1e-4
    assert info.num_evaluations == 1
    with pytest.raises(ValueError, match="factor tables"):
        kernel.step(state, lambda structures: tables(structures), generator())


def test_exact_forgets_where_it_stood():
    kernel, world = exact((2, 2, 2, 2)), canonical()
    ones, zeros = torch.ones(36, 4, dtype=torch.long), torch.zeros(36, 4, dtype=torch.long)
    drawn = [
        kernel.step(kernel.init(start, world.loss_fn, 1.0), world.loss_fn, generator())[0] for start in (ones, zeros)
    ]
    assert torch.equal(drawn[0].structures, drawn[1].structures)


# Errors


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: gibbs(BLOCKS[:0], [2] * 4), "at least one block"),
        (lambda: gibbs(BLOCKS, [2] * 3), "slots from 0 to 2"),
        (lambda: gibbs(torch.arange(17)[None], [2] * 17), str(ENUMERATION_LIMIT)),
        (lambda: trace(exact([2] * 17), lambda s: s.sum(1).float(), torch.zeros(1, 17).long()), "gibbs or metropolis"),
    ],
)
def test_errors_say_what_was_expected(wrong: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        wrong()
