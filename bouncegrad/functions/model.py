"""A library of modules under a composition: many tasks at once, each with the modules of its own structure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.func import vmap

from bouncegrad.functions.compositions import Composition, Module
from bouncegrad.functions.points import PointSets
from bouncegrad.models.module_bank import ModuleBank
from bouncegrad.settings import check_settings, is_count
from bouncegrad.structures.layout import StructureSpace
from bouncegrad.types import Structures

Layers: TypeAlias = tuple[Tensor, ...]
"""The parameters of one module: weight ``[in, out]`` and bias ``[1, out]`` of each layer in turn."""

Weights: TypeAlias = tuple[Layers, ...]
"""The parameters of the module on each slot, all with an axis ``task`` in front."""


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class AdaptationConfig:
    """How weights are adapted to a task.

    Attributes:
        num_steps: gradient steps on the given points; 0: none, weights are as they were learned.
        step_size: of each.
        order: "second" also follows how the steps themselves depend on the weights; "first" does not.
        clip_norm: a task's gradient is cut to this, so that no step is longer than ``step_size * clip_norm``: a single
            task whose steps diverge else decides where all weights go. Infinite for none (Finn et al. 2017).

    Raises:
        ValueError: a number or word that makes no adaptation.
    """

    num_steps: int = 0
    step_size: float = 0.1
    order: Literal["first", "second"] = "second"
    clip_norm: float = math.inf

    def __post_init__(self) -> None:
        check_settings(self, positive=("step_size",))
        if not self.clip_norm > 0:
            raise ValueError(f"clip_norm must be a number above 0, or infinite; got {self.clip_norm}")
        if not isinstance(self.num_steps, int) or isinstance(self.num_steps, bool) or self.num_steps < 0:
            raise ValueError(f"num_steps must be a whole number, 0 or more; got {self.num_steps!r}")


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class FunctionConfig:
    """The library of modules, and how it adapts.

    Attributes:
        num_modules: modules in each library; slots whose modules have inputs and outputs of one size share a library.
        hidden: widths of the hidden layers of a module, with ReLU behind each.
        adaptation: what weights go through for each task, before a structure is judged and before it is used.

    Raises:
        ValueError: a number that makes no library.
    """

    num_modules: int = 20
    hidden: tuple[int, ...] = (64, 64)
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)

    def __post_init__(self) -> None:
        check_settings(self, counts=("num_modules",))
        if not all(is_count(width) for width in self.hidden):
            raise ValueError(f"hidden must be whole numbers, 1 or more; got {self.hidden}")


class FunctionModel(nn.Module):
    """Functions composed of modules.

    Inputs are normalised by the mean and the spread of the tasks that are learned from, outputs by their size alone: a
    product of modules cannot make up for a constant. Losses are mean squares in that unit.

    Attributes:
        adaptation: how weights adapt to a task; may be changed at any time.
        proposer: the network that proposes structures, where one was trained.

    Args:
        composition: how modules make a function.
        config: the modules.
        points: tasks to learn from, for sizes and units.
        generator: draws the initial weights.

    Raises:
        ValueError: the composition does not make outputs of the right size out of such modules.
    """

    center_in: Tensor
    scale_in: Tensor
    scale_out: Tensor

    def __init__(
        self, composition: Composition, config: FunctionConfig, points: PointSets, generator: Generator
    ) -> None:
        super().__init__()
        self.composition, self.config, self.adaptation = composition, config, config.adaptation
        size_in, size_out = points.inputs.shape[2], points.outputs.shape[2]
        sizes = _sizes_of(composition, size_in, size_out)
        libraries = list(dict.fromkeys(sizes))
        self.libraries = nn.ModuleList(
            ModuleBank(config.num_modules, (first, *config.hidden, last), generator, gain=1.0, random_biases=True)
            for first, last in libraries
        )
        self.slot_libraries = tuple(libraries.index(size) for size in sizes)
        there = points.given | points.asked
        inputs, outputs = points.inputs[there], points.outputs[there]
        spread, size = inputs.std(0, correction=0), outputs.square().mean(0).sqrt()
        self.register_buffer("center_in", inputs.mean(0))
        self.register_buffer("scale_in", torch.where(spread > 0, spread, 1.0))
        self.register_buffer("scale_out", torch.where(size > 0, size, 1.0))
        self.proposer: nn.Module | None = None
        self._check_composition(points)

    @property
    def space(self) -> StructureSpace:
        """The slots; all of them are one block."""
        num_slots = self.composition.num_slots
        return StructureSpace((self.config.num_modules,) * num_slots, torch.arange(num_slots)[None])

    def weights_of(self, structures: Structures) -> Weights:
        """The parameters of the modules that sit on the slots of each task."""
        return tuple(
            _layers_at(self.library(library), kinds)
            for library, kinds in zip(self.slot_libraries, structures.unbind(1), strict=True)
        )

    def library(self, number: int) -> ModuleBank:
        """The modules of slots of one size."""
        return cast(ModuleBank, self.libraries[number])

    def outputs(self, weights: Weights, inputs: Float[Tensor, "task point in"]) -> Float[Tensor, "task point out"]:
        """What functions of these weights make of normalised inputs; normalised outputs."""
        return vmap(self.output)(weights, inputs)

    def output(self, weights: Weights, inputs: Float[Tensor, "point in"]) -> Float[Tensor, "point out"]:
        """Of one task: weights without the axis of tasks."""
        return self.composition.forward([_module_of(layers) for layers in weights], inputs)

    def predict(
        self, structures: Structures, inputs: Float[Tensor, "task point in"]
    ) -> Float[Tensor, "task point out"]:
        """What structures make of inputs, both in the user's units."""
        said = self.outputs(self.weights_of(structures), self.normalized_inputs(inputs))
        return said * self.scale_out

    def normalized_inputs(self, inputs: Float[Tensor, "task point in"]) -> Float[Tensor, "task point in"]:
        """As the modules read them."""
        return (inputs - self.center_in) / self.scale_in

    def normalized(self, points: PointSets) -> tuple[Tensor, Tensor]:
        """Inputs and outputs in the model's unit."""
        return self.normalized_inputs(points.inputs), points.outputs / self.scale_out

    def _check_composition(self, points: PointSets) -> None:
        """Try the composition on two tasks of three points, at once and beside each other."""
        composition, size_out = type(self.composition).__name__, points.outputs.shape[2]
        structures = torch.zeros(2, self.composition.num_slots, dtype=torch.long)
        try:
            with torch.no_grad():
                said = self.outputs(self.weights_of(structures), torch.zeros(2, 3, points.inputs.shape[2]))
        except (RuntimeError, TypeError, IndexError) as error:
            raise ValueError(
                f"{composition}.forward does not work on modules of sizes {self._slot_sizes()}: {error}. It gets a "
                "list of num_slots modules and inputs [point, in], and may only use operations that do not look at "
                "values; where modules have other sizes than the task, give sizes()"
            ) from error
        if not isinstance(said, Tensor) or said.shape != (2, 3, size_out):
            came = tuple(said.shape[1:]) if isinstance(said, Tensor) else type(said).__name__
            raise ValueError(f"{composition}.forward must return outputs of shape (3, {size_out}) here, got {came}")

    def _slot_sizes(self) -> list[tuple[int, int]]:
        shapes = [self.library(library).weights for library in self.slot_libraries]
        return [(int(weights[0].shape[1]), int(weights[-1].shape[2])) for weights in shapes]


def _sizes_of(composition: Composition, size_in: int, size_out: int) -> Sequence[tuple[int, int]]:
    name, num_slots = type(composition).__name__, getattr(composition, "num_slots", None)
    if not is_count(num_slots):
        raise ValueError(f"{name}.num_slots must be a whole number, 1 or more; got {num_slots!r}")
    sizes = composition.sizes(size_in, size_out)
    if len(sizes) != num_slots or not all(_is_pair(size) for size in sizes):
        raise ValueError(f"{name}.sizes() must give (in, out) for each of {num_slots} slots; got {sizes!r}")
    return [(first, last) for first, last in sizes]


def _is_pair(size: object) -> bool:
    return isinstance(size, tuple | list) and len(size) == 2 and all(is_count(number) for number in size)


def _layers_at(bank: ModuleBank, kinds: Tensor) -> Layers:
    pairs = zip(bank.weights, bank.biases, strict=True)
    return tuple(parameter.index_select(0, kinds) for pair in pairs for parameter in pair)


def _module_of(layers: Layers) -> Module:
    """The module of these parameters, as :class:`ModuleBank` applies it."""

    def module(inputs: Tensor) -> Tensor:
        hidden = inputs
        for layer, (weight, bias) in enumerate(zip(layers[::2], layers[1::2], strict=True)):
            hidden = torch.relu(hidden) if layer else hidden
            hidden = hidden @ weight + bias[0]
        return hidden

    return module
