"""Small point sets and libraries of modules, and the same functions written out by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor
from torch.nn import functional

from bouncegrad.functions import (
    AdaptationConfig,
    FunctionConfig,
    FunctionModel,
    PointSets,
    PointTarget,
    point_sets,
)
from bouncegrad.functions.compositions import Chain, Composition, Module, Sum

BETWEEN = 3
"""Numbers that the first modules of a :class:`Product` hand on."""


@dataclass(frozen=True)
class Product(Composition):
    """Two modules read the inputs, two others read the product of what these say: two libraries."""

    num_slots: int = 4

    def forward(self, modules: Sequence[Module], inputs: Tensor) -> Tensor:
        between = modules[0](inputs) * modules[1](inputs)
        return modules[2](between) - modules[3](between.tanh())

    def sizes(self, size_in: int, size_out: int) -> tuple[tuple[int, int], ...]:
        return ((size_in, BETWEEN),) * 2 + ((BETWEEN, size_out),) * 2


COMPOSITIONS: dict[str, Composition] = {
    "sum": Sum(3),
    "chain": Chain(3),
    "wide chain": Chain(3, width=4),
    "product": Product(),
}


def ragged(seed: int = 0, lengths: Sequence[int] = (9, 4, 6, 12, 5), size_in: int = 2, size_out: int = 1) -> PointSets:
    """Waves of random direction, phase and number of points, half of which are given."""
    random, tasks = Generator().manual_seed(seed), []
    for length in lengths:
        inputs = 2 * torch.rand(length, size_in, generator=random) - 1
        directions = torch.randn(size_in, size_out, generator=random)
        tasks.append((inputs, torch.sin(2 * inputs @ directions + torch.rand(1, generator=random))))
    return point_sets(tasks, share_given=0.5, seed=seed)


def library(
    composition: Composition,
    points: PointSets,
    num_modules: int = 3,
    adaptation: AdaptationConfig | None = None,
    hidden: tuple[int, ...] = (5, 4),
    seed: int = 1,
) -> FunctionModel:
    """Untrained modules of a few numbers."""
    config = FunctionConfig(num_modules, hidden, adaptation or AdaptationConfig())
    return FunctionModel(composition, config, points, Generator().manual_seed(seed))


FOUR_SLOTS: dict[str, tuple[Composition, AdaptationConfig]] = {
    "sum": (Sum(4), AdaptationConfig()),
    "chain": (Chain(4), AdaptationConfig()),
    "adapted product": (Product(), AdaptationConfig(2, 0.02)),
}
"""Compositions of four slots, and how their modules adapt."""


def one_task(name: str, num_tasks: int = 1) -> PointTarget:
    """Two modules for each of four slots and one task to search them for, as often as there shall be tasks.

    Weights are larger than those that a training starts with, so that the first modules of a chain count as well.
    """
    composition, adaptation = FOUR_SLOTS[name]
    points = ragged(lengths=(10,), size_in=1)
    model = library(composition, points, 2, adaptation, hidden=(8,), seed=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return PointTarget(model, points.at([0] * num_tasks))


def in_doubles(model: FunctionModel, points: PointSets) -> tuple[FunctionModel, PointSets]:
    """Both in double precision; the model is changed in place."""
    return model.double(), replace(points, inputs=points.inputs.double(), outputs=points.outputs.double())


def task_of(points: PointSets, task: int, which: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs and outputs of one task, of the points ``[task, point]`` alone: nothing is padded."""
    return points.inputs[task, which[task]], points.outputs[task, which[task]]


def with_other_padding(points: PointSets, seed: int = 3) -> PointSets:
    """Other numbers where a task has no point."""
    absent, random = ~(points.given | points.asked), Generator().manual_seed(seed)
    inputs, outputs = points.inputs.clone(), points.outputs.clone()
    for values in (inputs, outputs):
        values[absent] = 10 * torch.randn(values[absent].shape, generator=random, dtype=values.dtype)
    return replace(points, inputs=inputs, outputs=outputs)


# By hand: one task after the other, without banks, batches or torch.func

Weights = dict[tuple[int, int], list[Tensor]]
"""The parameters of each module, by the number of its library and its kind: weight ``[out, in]``, bias, and so on."""


def weights_by_hand(model: FunctionModel) -> Weights:
    """Copies of all modules, as linear layers of torch hold them."""
    found: Weights = {}
    for number in set(model.slot_libraries):
        bank = model.library(number)
        for kind in range(bank.num_modules):
            layers = zip(bank.weights, bank.biases, strict=True)
            pairs = [(weight[kind].T.detach().clone(), bias[kind, 0].detach().clone()) for weight, bias in layers]
            found[number, kind] = [value.requires_grad_() for pair in pairs for value in pair]
    return found


def module_by_hand(layers: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
    """Linear layers with ReLU between them."""

    def module(inputs: Tensor) -> Tensor:
        *hidden, last = zip(layers[::2], layers[1::2], strict=True)
        for weight, bias in hidden:
            inputs = functional.relu(functional.linear(inputs, weight, bias))
        return functional.linear(inputs, *last)

    return module


def composed_by_hand(model: FunctionModel, weights: Weights, structure: Sequence[int], inputs: Tensor) -> Tensor:
    """What one task's function makes of normalised inputs ``[point, in]``."""
    slots = zip(model.slot_libraries, structure, strict=True)
    modules = [module_by_hand(weights[number, int(kind)]) for number, kind in slots]
    if isinstance(model.composition, Sum):
        return modules[0](inputs) + modules[1](inputs) + modules[2](inputs)
    if isinstance(model.composition, Chain):
        return modules[2](modules[1](modules[0](inputs)))
    between = modules[0](inputs) * modules[1](inputs)
    return modules[2](between) - modules[3](torch.tanh(between))


def loss_by_hand(
    model: FunctionModel, weights: Weights, structure: Sequence[int], task: tuple[Tensor, Tensor]
) -> Tensor:
    """Mean square of one task's points, in the model's unit."""
    inputs, outputs = task
    said = composed_by_hand(model, weights, structure, (inputs - model.center_in) / model.scale_in)
    return ((said - outputs / model.scale_out) ** 2).mean()


def adapted_by_hand(
    model: FunctionModel, weights: Weights, structure: Sequence[int], given: tuple[Tensor, Tensor]
) -> Weights:
    """Plain MAML (Finn et al. 2017): the parameters of every module that the task uses go down one shared gradient."""
    used = sorted({(number, int(kind)) for number, kind in zip(model.slot_libraries, structure, strict=True)})
    config, weights = model.adaptation, dict(weights)
    for _ in range(config.num_steps):
        loss = loss_by_hand(model, weights, structure, given)
        values = [value for name in used for value in weights[name]]
        slopes = iter(torch.autograd.grad(loss, values, create_graph=config.order == "second"))
        for name in used:
            weights[name] = [value - config.step_size * next(slopes) for value in weights[name]]
    return weights


def gradients_by_hand(loss: Tensor, weights: Weights, model: FunctionModel) -> list[Tensor]:
    """The gradient of a loss of :func:`weights_by_hand`, in the order of the model's parameters."""
    found = []
    for number in range(len(model.libraries)):
        kinds = range(model.config.num_modules)
        columns = list(zip(*(weights[number, kind] for kind in kinds), strict=True))
        for layers in (columns[::2], columns[1::2]):
            for values in layers:
                slopes = torch.autograd.grad(loss, values, retain_graph=True, allow_unused=True, materialize_grads=True)
                found.append(torch.stack([slope.T if slope.dim() == 2 else slope[None] for slope in slopes]))
    return found
