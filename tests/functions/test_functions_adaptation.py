"""Adaptation: what a few steps down a gradient make of modules, compared with the same done by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bouncegrad.functions import AdaptationConfig, FunctionModel, PointSets, adapted, adapted_loss_fn, adapted_losses
from bouncegrad.functions import adaptation as adaptation_file
from bouncegrad.functions.adaptation import mean_squares
from bouncegrad.functions.compositions import Chain, Composition, Sum
from bouncegrad.types import Structures
from points import (
    COMPOSITIONS,
    Product,
    adapted_by_hand,
    gradients_by_hand,
    in_doubles,
    library,
    loss_by_hand,
    ragged,
    task_of,
    weights_by_hand,
)
from worlds import generator

THREE = AdaptationConfig(3, 0.2)
FIRST_ORDER = replace(THREE, order="first")
CUT = replace(THREE, clip_norm=0.3)


@pytest.fixture(params=COMPOSITIONS)
def composition(request: pytest.FixtureRequest) -> Composition:
    """Every composition in turn."""
    return COMPOSITIONS[request.param]


def doubles(composition: Composition, config: AdaptationConfig) -> tuple[FunctionModel, PointSets, Structures]:
    """A library in double precision, tasks, and structures of which some hold a module twice."""
    points = ragged()
    model, points = in_doubles(library(composition, points, adaptation=config), points)
    structures = model.space.random(points.num_tasks, generator(4))
    structures[0], structures[1] = 1, 0
    return model, points, structures


def moved(model: FunctionModel, directions: list[Tensor], length: float) -> None:
    with torch.no_grad():
        for parameter, direction in zip(model.parameters(), directions, strict=True):
            parameter.add_(length * direction)


# Gradients


@pytest.mark.parametrize("config", [THREE, CUT], ids=["whole", "cut"])
def test_gradients_of_the_second_order_are_finite_differences(composition: Composition, config: AdaptationConfig):
    """Of the whole adapted loss with respect to the library, in random directions."""
    model, points, structures = doubles(composition, config)
    adapted_losses(model, structures, points, points.asked).sum().backward()
    for seed in range(3):
        random, values = generator(seed), []
        directions = [torch.randn(each.shape, generator=random, dtype=each.dtype) for each in model.parameters()]
        for length in (1e-6, -2e-6):
            moved(model, directions, length)
            with torch.no_grad():
                values.append(float(adapted_losses(model, structures, points, points.asked).sum()))
        moved(model, directions, 1e-6)
        slopes = [(each.grad, way) for each, way in zip(model.parameters(), directions, strict=True)]
        slope = sum(float((grad * way).sum()) for grad, way in slopes if grad is not None)
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(slope, rel=1e-5, abs=1e-7)


def test_gradients_of_the_first_order_are_those_at_the_adapted_weights(composition: Composition):
    """They are handed to the library as if it had been adapted already."""
    model, points, structures = doubles(composition, FIRST_ORDER)
    adapted_losses(model, structures, points, points.asked).sum().backward()
    inputs, outputs = model.normalized(points)
    weights = tuple(
        tuple(value.detach().requires_grad_() for value in layers) for layers in adapted(model, structures, points)
    )
    loss = mean_squares(model.outputs(weights, inputs), outputs, points.asked).sum()
    model_slopes = {id(each): torch.zeros_like(each) for each in model.parameters()}
    for slot, layers in enumerate(weights):
        bank = model.library(model.slot_libraries[slot])
        shared = [each for pair in zip(bank.weights, bank.biases, strict=True) for each in pair]
        for parameter, slope in zip(shared, torch.autograd.grad(loss, layers, retain_graph=True), strict=True):
            model_slopes[id(parameter)].index_add_(0, structures[:, slot], slope)
    for parameter in model.parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, model_slopes[id(parameter)])


def test_the_two_orders_agree_on_weights_and_not_on_gradients():
    found = []
    for config in (THREE, FIRST_ORDER):
        model, points, structures = doubles(Product(), config)
        losses = adapted_losses(model, structures, points, points.asked)
        losses.sum().backward()
        found.append((losses.detach(), [parameter.grad for parameter in model.parameters()]))
    torch.testing.assert_close(found[0][0], found[1][0])
    assert not any(torch.allclose(one, other) for one, other in zip(found[0][1], found[1][1], strict=True))


# By hand


@pytest.mark.parametrize("config", [THREE, FIRST_ORDER], ids=["second", "first"])
def test_modules_adapt_as_maml_by_hand(composition: Composition, config: AdaptationConfig):
    """Task by task, with one set of parameters for each module, on however many slots it sits."""
    model, points, structures = doubles(composition, config)
    losses, weights = adapted_losses(model, structures, points, points.asked), weights_by_hand(model)
    by_hand = []
    for task, structure in enumerate(structures.tolist()):
        own = adapted_by_hand(model, weights, structure, task_of(points, task, points.given))
        by_hand.append(loss_by_hand(model, own, structure, task_of(points, task, points.asked)))
    torch.testing.assert_close(losses, torch.stack(by_hand))
    losses.sum().backward()
    slopes = gradients_by_hand(torch.stack(by_hand).sum(), weights, model)
    for parameter, expected in zip(model.parameters(), slopes, strict=True):
        torch.testing.assert_close(parameter.grad, expected)


def test_single_precision_does_as_well(composition: Composition):
    model, points, structures = doubles(composition, THREE)
    precise = adapted_losses(model, structures, points, points.asked)
    rounded = adapted_losses(model.float(), structures, ragged(), points.asked)
    torch.testing.assert_close(rounded.double(), precise, rtol=1e-4, atol=1e-5)


def test_slots_with_one_module_share_what_it_learns():
    model, points, _ = doubles(Sum(3), THREE)
    structures = torch.tensor([[1, 1, 0]]).expand(points.num_tasks, -1)
    one, same, other = adapted(model, structures, points)
    for here, there, elsewhere in zip(one, same, other, strict=True):
        torch.testing.assert_close(here, there)
        assert not torch.allclose(here, elsewhere)


def test_slots_of_two_libraries_do_not_share():
    """Modules of one number are others in another library."""
    points = ragged(size_in=4, size_out=4)
    chain = library(Chain(2, width=4), points, adaptation=THREE)
    assert chain.slot_libraries == (0, 0)
    points = ragged(size_in=2, size_out=2)
    model = library(Chain(2, width=4), points, adaptation=THREE, hidden=())
    assert model.slot_libraries == (0, 1)
    weights = adapted(model, torch.zeros(5, 2).long(), points)
    assert [tuple(layers[0].shape) for layers in weights] == [(5, 2, 4), (5, 4, 2)]


# What it depends on


def test_no_steps_change_nothing(composition: Composition):
    model, points, structures = doubles(composition, AdaptationConfig())
    for before, after in zip(model.weights_of(structures), adapted(model, structures, points), strict=True):
        assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_a_cut_step_is_as_long_as_it_may_be(composition: Composition):
    """Of each task on its own; gradients that are short enough stay whole."""
    cut = AdaptationConfig(1, 0.2, clip_norm=0.3)
    model, points, structures = doubles(composition, cut)
    before = model.weights_of(structures)
    lengths = []
    for config in (cut, replace(cut, clip_norm=math.inf), replace(cut, clip_norm=1e6)):
        model.adaptation = config
        ways = zip(before, adapted(model, structures, points), strict=True)
        squares = [(one - two).flatten(1).square().sum(1) for pair in ways for one, two in zip(*pair, strict=True)]
        lengths.append(torch.stack(squares).sum(0).sqrt())
    assert torch.equal(lengths[1], lengths[2])
    assert (lengths[1] > 0.06).any()
    torch.testing.assert_close(lengths[0], lengths[1].clamp_max(0.2 * 0.3))


def test_more_steps_fit_the_given_points_better(composition: Composition):
    points = ragged()
    model, losses = library(composition, points), []
    structures = model.space.random(points.num_tasks, generator())
    for num_steps in (0, 1, 5, 25):
        model.adaptation = AdaptationConfig(num_steps, 0.05)
        losses.append(float(adapted_loss_fn(model, points)(structures).mean()))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.8 * losses[0]


def test_weights_adapt_to_given_points_only():
    model, points, structures = doubles(Product(), THREE)
    spoiled = replace(
        points,
        inputs=torch.where(points.given[:, :, None], points.inputs, 7.0),
        outputs=torch.where(points.given[:, :, None], points.outputs, -50.0),
        asked=~points.asked,
    )
    for layers, others in zip(adapted(model, structures, points), adapted(model, structures, spoiled), strict=True):
        assert all(torch.equal(one, other) for one, other in zip(layers, others, strict=True))


def test_tasks_adapt_each_on_its_own():
    model, points, structures = doubles(Chain(3), THREE)
    together = adapted_losses(model, structures, points, points.asked)
    for task in range(points.num_tasks):
        alone = adapted_losses(model, structures[task : task + 1], points.at([task]), points.at([task]).asked)
        torch.testing.assert_close(alone[0], together[task])


# The loss of a search


@pytest.mark.parametrize("budget", [1, 100, 100_000])
def test_the_loss_of_a_search_is_that_of_the_given_points(monkeypatch: pytest.MonkeyPatch, budget: int):
    """However many tasks are evaluated at once."""
    monkeypatch.setattr(adaptation_file, "ROW_BUDGET", budget)
    model, points, structures = doubles(Product(), THREE)
    losses = adapted_loss_fn(model, points)(structures)
    torch.testing.assert_close(losses, adapted_losses(model, structures, points, points.given).detach())
    assert not losses.requires_grad


def test_the_loss_of_a_search_moves_no_weights():
    model, points, structures = doubles(Product(), THREE)
    before = [parameter.clone() for parameter in model.parameters()]
    adapted_loss_fn(model, points)(structures)
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_mean_squares_are_those_of_the_points_that_count():
    said, truth = torch.randn(2, 3, 4, 2, generator=generator())
    counted = torch.tensor([[1, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]]).bool()
    found = mean_squares(said, truth, counted)
    torch.testing.assert_close(found[0], ((said[0] - truth[0]) ** 2)[counted[0]].mean())
    torch.testing.assert_close(found[1], ((said[1, 2] - truth[1, 2]) ** 2).mean())
    assert found[2] == 0
