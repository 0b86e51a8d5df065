import math

import pytest
import torch

from bouncegrad.structures.annealing import (
    COLDEST,
    HOTTEST,
    AcceptedWorse,
    Annealing,
    AnnealingState,
    acceptance_annealing,
    acceptance_target,
    anneal,
    as_schedule,
    exponential,
    schedule_annealing,
    step_temperature,
)
from bouncegrad.structures.kernel_interface import Kernel, SearchInfo
from bouncegrad.structures.kernel_wrappers import BestState, best_so_far
from bouncegrad.structures.mcmc import metropolis
from kernels import frozen, repeat, uniform_slot
from worlds import canonical, generator, tabulated


def info(num_worse: int, num_accepted: int, num_tasks: int = 100) -> SearchInfo:
    """A step with so many worse proposals, of which so many were accepted."""
    numbers = torch.arange(num_tasks)
    return SearchInfo(numbers < num_accepted, numbers < num_accepted, numbers < num_worse, 1)


def accepted_share(infos: list[SearchInfo]) -> float:
    """Share of worse proposals that were accepted."""
    num_worse = sum(int(one.worse.sum()) for one in infos)
    return sum(int((one.worse & one.accepted).sum()) for one in infos) / num_worse


def steer(annealing: Annealing, num_steps: int, num_tasks: int = 200, num_repeats: int = 1) -> list[SearchInfo]:
    """Search a random world of 8 binary slots."""
    world = tabulated((2,) * 8, seed=3)
    structures = world.random(num_tasks, generator(1))
    kernel = metropolis(uniform_slot(world.num_kinds))
    kernel = kernel if num_repeats == 1 else repeat(kernel, num_repeats)
    return anneal(kernel, annealing, world.loss_fn, structures, num_steps, generator(2))[1]


def test_schedules():
    assert as_schedule(0.5)(0) == as_schedule(0.5)(1000) == 0.5
    assert as_schedule(2.0)(3) == 2.0
    assert as_schedule(lambda step: 2.0 * step)(3) == 6.0
    cooling = exponential(8.0, 0.5, 4)
    assert [cooling(step) for step in range(7)] == pytest.approx([8, 4, 2, 1, 0.5, 0.5, 0.5])
    assert [exponential(1.0, 4.0, 2)(step) for step in range(3)] == pytest.approx([1, 2, 4])
    assert exponential(3.0, 3.0, 1)(0) == 3.0


def test_acceptance_target_is_that_of_the_paper():
    target = acceptance_target(1000)
    assert target(0) == 1.0
    assert target(200) == pytest.approx(math.exp(-1))
    assert target(1000) == pytest.approx(math.exp(-5))


def test_scheduled_annealing_gives_each_step_its_temperature():
    heat = schedule_annealing(lambda step: 10.0 - step)
    temperatures = []

    def step(state, loss_fn, random):
        temperatures.append(state.temperature)
        return frozen().step(state, loss_fn, random)

    structures = canonical().structures
    state, infos = anneal(Kernel(frozen().init, step), heat, canonical().loss_fn, structures, 4, generator())
    assert temperatures == [10, 9, 8, 7]
    assert state.temperature == 7
    assert len(infos) == 4


def test_no_step_is_only_the_beginning():
    structures = canonical().structures
    state, infos = anneal(
        best_so_far(frozen()), schedule_annealing(2.0), canonical().loss_fn, structures, 0, generator()
    )
    assert isinstance(state, BestState)
    assert state.temperature == 2.0
    assert infos == []


@pytest.mark.parametrize("target", [0.02, 0.1, 0.4, 0.8])
@pytest.mark.parametrize("start", [1e-6, 1.0, 1e6])
def test_steering_reaches_its_target_from_anywhere(target: float, start: float):
    """From zero acceptance, and from a temperature at which everything is accepted."""
    infos = steer(acceptance_annealing(target, start), 400)
    assert accepted_share(infos[150:]) == pytest.approx(target, rel=0.2)


@pytest.mark.parametrize("num_tasks", [1, 10])
def test_few_tasks_are_steered_too(num_tasks: int):
    infos = steer(acceptance_annealing(0.3, 1e-6), 2500, num_tasks)
    assert accepted_share(infos[500:]) == pytest.approx(0.3, rel=0.2)


def test_steering_follows_a_moving_target():
    target = acceptance_target(800)
    infos = steer(acceptance_annealing(target, 1e-6), 800, num_tasks=500)
    for step in range(200, 800, 100):
        assert accepted_share(infos[step - 20 : step + 20]) == pytest.approx(target(step), rel=0.2, abs=0.005)


def test_steering_reads_repeated_steps_rightly():
    """What a task did in one step of many is not mistaken for what it did in another."""
    infos = steer(acceptance_annealing(0.3), 300, num_repeats=5)
    assert accepted_share(infos[150:]) == pytest.approx(0.3, rel=0.1)
    single = steer(schedule_annealing(1.0), 300)
    assert accepted_share(steer(schedule_annealing(1.0), 300, num_repeats=5)) == pytest.approx(
        accepted_share(single), rel=0.1
    )


@pytest.mark.parametrize("num_accepted", [0, 100])
@pytest.mark.parametrize("target", [0.0, 0.5, 1.0])
def test_nothing_absorbs(num_accepted: int, target: float):
    """However long a search accepts nothing or all, the temperature stays positive and finite, and comes back."""
    heat = acceptance_annealing(target, 1.0)
    state = heat.init()
    for _ in range(3000):
        state = heat.next(state, info(100, num_accepted))
        assert 0 < state.temperature < math.inf
    assert 0 < state.share < 1
    stuck, heat = state.temperature, acceptance_annealing(0.5, 1.0)
    for _ in range(250):
        state = heat.next(state, info(100, 100 - num_accepted))
    if num_accepted:
        assert state.temperature > max(1.0, stuck)
    else:
        assert state.temperature < min(1.0, stuck)


def test_temperature_rises_when_too_little_is_accepted_and_falls_when_too_much():
    heat = acceptance_annealing(0.3, 2.0)
    begin = heat.init()
    assert begin == AnnealingState(0, 2.0, 0.3)
    hotter, cooler = heat.next(begin, info(100, 0)), heat.next(begin, info(100, 100))
    assert 2.0 < hotter.temperature <= 4.0
    assert 1.0 <= cooler.temperature < 2.0
    assert 0 < hotter.share < 0.3 < cooler.share < 1
    assert heat.next(begin, info(100, 30)).temperature == pytest.approx(2.0, rel=0.01)


def test_steps_that_say_nothing_change_nothing():
    heat = acceptance_annealing(0.3, 2.0)
    assert heat.next(heat.init(), info(0, 0)) == AnnealingState(1, 2.0, 0.3)


def test_unchanged_and_better_proposals_are_not_counted():
    heat = acceptance_annealing(0.3, 2.0)
    numbers = torch.arange(100)
    better = SearchInfo(numbers >= 50, numbers >= 50, numbers < 50, 1)
    assert heat.next(heat.init(), better).share < 0.3


def test_the_running_share_by_hand():
    """Numbers of a first batch weigh 0.01 each, later ones the share if that is less; better ones do not count."""
    worse, accepted = torch.tensor([True, True, False, True]), torch.tensor([True, False, True, False])
    one = AcceptedWorse().after(SearchInfo(accepted, accepted, worse, 1))
    seen = 1 - 0.99**3 * (1 - 1e-9)
    assert (one.taken, one.seen) == pytest.approx((0.99**3 * 1e-9 + 0.99**2 * 0.01, seen))
    assert one.share == pytest.approx(0.3300, abs=1e-4)
    rare = AcceptedWorse(0.002, 0.5).after(info(2, 1))
    taken = 0.996 * (0.996 * 0.002 + 0.004 * 1)
    assert (rare.taken, rare.seen) == pytest.approx((taken, 1 - 0.996**2 * 0.5))
    assert AcceptedWorse(0.002, 0.5).after(info(0, 0)) == AcceptedWorse(0.002, 0.5)
    assert AcceptedWorse().share == 1


def test_near_nothing_the_running_share_hardly_moves():
    """All of ten worse proposals are accepted: one that is steered by pseudo-counts knows at once."""
    share = AcceptedWorse(1e-7, 1.0).after(info(10, 10))
    assert share.share == pytest.approx(11e-7, rel=1e-3)
    steered = acceptance_annealing(0.5, 1.0)
    assert steered.next(AnnealingState(0, 1.0, 1e-7), info(10, 10)).share > 0.4


def test_steps_of_a_tenth():
    assert step_temperature(5.0, 0.1, 0.2) == pytest.approx(5.5)
    assert step_temperature(5.0, 0.3, 0.2) == step_temperature(5.0, 0.2, 0.2) == pytest.approx(5 / 1.1)
    assert step_temperature(COLDEST, 1.0, 0.0) == COLDEST
    assert step_temperature(HOTTEST, 0.0, 1.0) == HOTTEST


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: exponential(0.0, 1.0, 5), "positive"),
        (lambda: exponential(1.0, 0.0, 5), "as_schedule"),
        (lambda: exponential(1.0, -1.0, 5), "positive"),
        (lambda: exponential(1.0, 0.5, 0), "at least one step"),
        (lambda: acceptance_target(0), "positive"),
        (lambda: acceptance_annealing(0.5, 0.0), "positive and finite"),
        (lambda: acceptance_annealing(0.5, math.inf), "finite"),
        (lambda: acceptance_annealing(0.5, math.nan), "positive"),
        (lambda: acceptance_annealing(0.5, 1.0, 0.0), "gain"),
    ],
)
def test_errors_say_what_was_expected(wrong, message: str):
    with pytest.raises(ValueError, match=message):
        wrong()
