"""Functions composed of modules: many tasks at once are what they are one by one, and errors say what is wrong."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bouncegrad.functions import AdaptationConfig, FunctionConfig, adapted_losses, point_sets
from bouncegrad.functions.compositions import Chain, Composition, Module, Sum
from bouncegrad.structures.layout import StructureSpace
from points import (
    COMPOSITIONS,
    Product,
    composed_by_hand,
    gradients_by_hand,
    library,
    loss_by_hand,
    ragged,
    task_of,
    weights_by_hand,
    with_other_padding,
)
from worlds import generator


@pytest.fixture(params=COMPOSITIONS)
def composition(request: pytest.FixtureRequest) -> Composition:
    """Every composition in turn."""
    return COMPOSITIONS[request.param]


# Many tasks at once


def test_many_tasks_at_once_are_what_they_are_one_by_one(composition: Composition):
    points = ragged()
    model = library(composition, points)
    structures = model.space.random(points.num_tasks, generator())
    together, weights = model.predict(structures, points.inputs), weights_by_hand(model)
    for task, structure in enumerate(structures.tolist()):
        inputs = (points.inputs[task] - model.center_in) / model.scale_in
        alone = composed_by_hand(model, weights, structure, inputs)
        torch.testing.assert_close(together[task], alone * model.scale_out)


def test_losses_and_gradients_are_those_of_one_task_after_the_other(composition: Composition):
    points = ragged()
    model = library(composition, points)
    structures, weights = model.space.random(points.num_tasks, generator()), weights_by_hand(model)
    losses = adapted_losses(model, structures, points, points.asked)
    tasks = range(points.num_tasks)
    by_hand = torch.stack(
        [loss_by_hand(model, weights, structures[task].tolist(), task_of(points, task, points.asked)) for task in tasks]
    )
    torch.testing.assert_close(losses, by_hand)
    losses.sum().backward()
    for parameter, expected in zip(model.parameters(), gradients_by_hand(by_hand.sum(), weights, model), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("num_steps", [0, 2])
def test_padding_never_matters(composition: Composition, num_steps: int):
    points = ragged()
    model = library(composition, points, adaptation=AdaptationConfig(num_steps))
    structures, found = model.space.random(points.num_tasks, generator()), []
    for padded in (points, with_other_padding(points)):
        model.zero_grad()
        losses = adapted_losses(model, structures, padded, padded.asked)
        losses.sum().backward()
        found.append([losses.detach(), *(parameter.grad for parameter in model.parameters())])
    assert not torch.equal(points.inputs, with_other_padding(points).inputs)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_units_and_sizes_are_those_of_the_points_that_there_are():
    points = ragged()
    there = points.given | points.asked
    for padded in (points, with_other_padding(points)):
        model = library(Sum(3), padded)
        torch.testing.assert_close(model.center_in, points.inputs[there].mean(0))
        torch.testing.assert_close(model.scale_out, points.outputs[there].square().mean(0).sqrt())


def test_a_number_that_never_varies_keeps_its_unit():
    points = ragged()
    points = replace(points, inputs=torch.cat([points.inputs, torch.ones(*points.given.shape, 1)], 2))
    model = library(Sum(3), points)
    assert model.scale_in[2] == 1
    assert model.predict(torch.zeros(5, 3).long(), points.inputs).isfinite().all()


def test_slots_of_one_size_share_a_library():
    points = ragged()
    assert library(Sum(3), points).slot_libraries == (0, 0, 0)
    assert library(Chain(3), points).slot_libraries == (0, 1, 1)
    assert library(Chain(3), ragged(size_out=2)).slot_libraries == (0, 0, 0)
    assert library(Chain(3, width=4), points).slot_libraries == (0, 1, 2)
    assert library(Product(), points).slot_libraries == (0, 0, 1, 1)
    assert library(Product(), points, num_modules=7).space.num_kinds == (7,) * 4


def test_a_space_draws_every_kind_of_every_slot():
    space = StructureSpace((3, 1, 2), torch.arange(3)[None])
    drawn = space.random(3000, generator())
    assert space.num_slots == 3
    for slot, count in enumerate(space.num_kinds):
        shares = torch.bincount(drawn[:, slot], minlength=3) / 3000
        torch.testing.assert_close(shares[:count], torch.full((count,), 1 / count), atol=0.04, rtol=0)
        assert not shares[count:].any()


def test_what_is_said_to_be_interchangeable_is():
    points = ragged()
    model = library(Sum(3), points)
    structures = torch.tensor([[0, 1, 2]]).expand(5, -1)
    torch.testing.assert_close(
        model.predict(structures, points.inputs), model.predict(structures.flip(1), points.inputs)
    )


# Compositions that do not work


def made(
    forward: Callable[[Sequence[Module], Tensor], object],
    num_slots: object = 2,
    sizes: Callable[[int, int], object] | None = None,
) -> Composition:
    """A composition of one's own."""
    members: dict[str, object] = {"forward": lambda self, modules, inputs: forward(modules, inputs)}
    if num_slots is not None:
        members["num_slots"] = num_slots
    if sizes:
        members["sizes"] = lambda self, size_in, size_out: sizes(size_in, size_out)
    return type("Mine", (Composition,), members)()


def first(modules: Sequence[Module], inputs: Tensor) -> Tensor:
    return modules[0](inputs)


def by_value(modules: Sequence[Module], inputs: Tensor) -> Tensor:
    return modules[0](inputs) if inputs.sum() > 0 else modules[1](inputs)


def by_number(modules: Sequence[Module], inputs: Tensor) -> Tensor:
    return modules[0](inputs) * inputs.max().item()


NOT_COMPOSITIONS = {
    "no number of slots": (made(first, None), r"Mine.num_slots must be a whole number, 1 or more; got None"),
    "half a slot": (made(first, 1.5), r"Mine.num_slots must be a whole number, 1 or more; got 1.5"),
    "no slot": (made(first, 0), r"Mine.num_slots must be a whole number, 1 or more; got 0"),
    "too few sizes": (made(first, 2, lambda *_: ((2, 1),)), r"Mine.sizes\(\) must give \(in, out\) for each of 2"),
    "sizes of nothing": (made(first, 2, lambda *_: ((2, 0), (2, 1))), r"Mine.sizes\(\) must give \(in, out\)"),
    "sizes of three": (made(first, 2, lambda *_: ((2, 1, 1), (2, 1, 1))), r"Mine.sizes\(\) must give \(in, out\)"),
    "sizes of no pairs": (made(first, 2, lambda *_: (2, 1)), r"Mine.sizes\(\) must give \(in, out\)"),
    "one number too many": (
        made(lambda modules, inputs: torch.cat([modules[0](inputs)] * 2, 1)),
        r"Mine.forward must return outputs of shape \(3, 1\) here, got \(3, 2\)",
    ),
    "one number of all points": (
        made(lambda modules, inputs: modules[0](inputs).mean(0)),
        r"must return outputs of shape \(3, 1\) here, got \(1,\)",
    ),
    "two outputs": (made(lambda modules, inputs: (first(modules, inputs),) * 2), r"\(3, 1\) here, got tuple"),
    "a choice by value": (made(by_value), r"may only use operations that do not depend on values"),
    "a number taken out": (made(by_number), r"may only use operations that do not depend on values"),
    "a module that is not there": (made(lambda modules, inputs: modules[2](inputs)), "list of num_slots modules"),
    "modules of another size": (
        made(lambda modules, inputs: modules[1](torch.cat([inputs, modules[0](inputs)], 1))),
        r"sizes \[\(2, 1\), \(2, 1\)\].*where modules have other sizes than the task, define sizes\(\)",
    ),
}


@pytest.mark.parametrize("name", NOT_COMPOSITIONS)
def test_compositions_that_do_not_work_are_told_why(name: str):
    composition, message = NOT_COMPOSITIONS[name]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        library(composition, ragged())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: FunctionConfig(num_modules=0), "num_modules must be a whole number"),
        (lambda: FunctionConfig(hidden=(4, 0)), "hidden must be whole numbers, 1 or more"),
        (lambda: FunctionConfig(hidden=(4, 2.5)), "hidden must be whole numbers, 1 or more"),  # type: ignore[arg-type]
        (lambda: AdaptationConfig(num_steps=-1), "num_steps must be a whole number, 0 or more"),
        (lambda: AdaptationConfig(num_steps=True), "num_steps must be a whole number, 0 or more"),
        (lambda: AdaptationConfig(step_size=0.0), "step_size must be a finite number above 0"),
        (lambda: AdaptationConfig(order="third"), "order must be one of second, first|first, second"),  # type: ignore[arg-type]
    ],
)
def test_settings_that_make_no_library_are_refused(wrong: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        wrong()


def test_modules_without_hidden_layers_are_linear():
    points = ragged()
    model = library(Sum(1), points, hidden=())
    middle = model.predict(torch.zeros(1, 1).long(), torch.tensor([[[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]]]))[0, :, 0]
    torch.testing.assert_close(middle[0] + middle[2], 2 * middle[1])


def test_a_function_of_ragged_tasks_far_from_zero_has_a_loss():
    """Where a task has no point, its function is not asked about a number that no task holds."""

    def growing(modules: Sequence[Module], inputs: Tensor) -> Tensor:
        return modules[0](inputs).exp()

    drawn = [torch.randn(length, 2, generator=generator(length)) for length in (8, 5)]
    points = point_sets([(1000 + each[:, 0], each[:, 1]) for each in drawn])
    for seed in range(5):
        model = library(made(growing, 1), points, seed=seed)
        losses = adapted_losses(model, torch.zeros(2, 1).long(), points, points.asked)
        losses.sum().backward()
        assert losses.isfinite().all()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


def test_a_model_is_its_seed():
    one, again, other = (library(Sum(3), ragged(), seed=seed) for seed in (1, 1, 2))
    weights = [list(model.parameters()) for model in (one, again, other)]
    assert all(torch.equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(weights[0], weights[2], strict=True))
