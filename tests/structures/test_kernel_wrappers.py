import math
from collections.abc import Callable

import pytest
import torch

from bouncegrad.structures.kernel_interface import Kernel
from bouncegrad.structures.kernel_wrappers import BestState, best_so_far, mixture
from bouncegrad.structures.mcmc import exact
from kernels import KERNELS, first_of, frozen, mixed, repeat, trace
from worlds import WORLDS, World, canonical, evaluate_all, for_tasks


@pytest.fixture(params=KERNELS)
def build(request: pytest.FixtureRequest) -> Callable[..., Kernel]:
    """Every kernel in turn."""
    return KERNELS[request.param]


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> World:
    """Every world in turn."""
    return WORLDS[request.param]()


def test_repeat_is_many_steps(world: World):
    loss_fn, kernel = for_tasks(world.loss_fn, 36), mixed(world.num_kinds)
    states, infos = trace(kernel, loss_fn, first_of(world), num_steps=21)
    leaps, told = trace(repeat(kernel, 7), loss_fn, first_of(world), num_steps=3)
    for number, (leap, info) in enumerate(zip(leaps[1:], told, strict=True)):
        part = slice(7 * number, 7 * number + 7)
        assert torch.equal(leap.structures, states[part.stop].structures)
        assert torch.equal(leap.losses, states[part.stop].losses)
        assert torch.equal(info.changed, (states[part.stop].structures != states[part.start].structures).any(1))
        assert torch.equal(info.accepted, infos[part.stop - 1].accepted)
        assert torch.equal(info.worse, infos[part.stop - 1].worse)
        assert info.num_evaluations == sum(one.num_evaluations for one in infos[part])


def test_the_best_never_gets_worse(build: Callable[..., Kernel], world: World):
    loss_fn = for_tasks(world.loss_fn, 36)
    kernel = best_so_far(build(world.num_kinds))
    states, _ = trace(kernel, loss_fn, first_of(world), temperature=5.0)
    plain, _ = trace(build(world.num_kinds), loss_fn, first_of(world), temperature=5.0)
    least = plain[0].losses
    for state, without in zip(states, plain, strict=True):
        assert isinstance(state, BestState)
        least = torch.minimum(least, without.losses)
        assert torch.equal(state.structures, without.structures), "remembering must not change the search"
        assert torch.equal(state.best_losses, least)
        assert torch.equal(state.best_losses, evaluate_all(loss_fn, state.best_structures))


def test_a_mixture_draws_its_kernels_by_weight():
    kernel = mixture([(3.0, frozen()), (1.0, exact((2, 2, 2, 2)))])
    _, infos = trace(kernel, canonical().loss_fn, first_of(canonical()), num_steps=400)
    assert {info.num_evaluations for info in infos} == {1, 16}
    assert 70 < sum(info.num_evaluations == 16 for info in infos) < 130


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: mixture([]), "positive weights"),
        (lambda: mixture([(1.0, frozen()), (0.0, frozen())]), "positive weights"),
        (lambda: mixture([(math.nan, frozen())]), "positive weights"),
    ],
)
def test_errors_say_what_was_expected(wrong: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        wrong()
