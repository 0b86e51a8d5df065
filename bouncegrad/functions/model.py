"""Model of functions: a library of modules and a composition, vectorised over tasks with different structures."""

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
"""The parameters of one module: weight ``[in, out]`` and bias ``[1, out]`` of each layer, one after the other."""

Weights: TypeAlias = tuple[Layers, ...]
"""The parameters of the module on each slot, all with ``task`` as first axis."""


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class AdaptationConfig:
    """How weights are adapted to a task (MAML).

    Attributes:
        num_steps: number of gradient steps on the given points; 0: no adaptation.
        step_size: step size of the gradient steps.
        order: "second" differentiates through the gradient steps; "first" does not.
        clip_norm: largest norm of the gradient of a task, so that no step is longer than ``step_size * clip_norm`` and
            a single task whose steps diverge cannot dominate the update of the weights. Infinite: no clipping (Finn et
            al. 2017).

    Raises:
        ValueError: a setting out of range.
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
    """Size of the library of modules, and adaptation of its weights.

    Attributes:
        num_modules: number of modules in each library; slots with the same input and output size share a library.
        hidden: widths of the hidden layers of a module, each followed by ReLU.
        adaptation: adaptation of weights to each task, in the evaluation of structures and in predictions.

    Raises:
        ValueError: a setting out of range.
    """

    num_modules: int = 20
    hidden: tuple[int, ...] = (64, 64)
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)

    def __post_init__(self) -> None:
        check_settings(self, counts=("num_modules",))
        if not all(is_count(width) for width in self.hidden):
            raise ValueError(f"hidden must be whole numbers, 1 or more; got {self.hidden}")


class FunctionModel(nn.Module):
    """Functions composed of modules from shared libraries.

    Inputs are normalised by mean and standard deviation of the training tasks, outputs by their root mean square alone:
    a product of modules cannot represent an added constant. Losses are mean squared errors in that unit.

    Attributes:
        adaptation: adaptation of weights to a task; may be changed at any time.
        proposer: the proposal network of structures, if one was trained.

    Args:
        composition: how modules are combined to a function.
        config: settings of the library of modules.
        points: training tasks, which determine sizes and units.
        generator: source of randomness of the initial weights.

    Raises:
        ValueError: with such modules, the composition fails or has outputs of the wrong size.
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
        exists = points.given | points.asked
        inputs, outputs = points.inputs[exists], points.outputs[exists]
        spread, size = inputs.std(0, correction=0), outputs.square().mean(0).sqrt()
        self.register_buffer("center_in", inputs.mean(0))
        self.register_buffer("scale_in", torch.where(spread > 0, spread, 1.0))
        self.register_buffer("scale_out", torch.where(size > 0, size, 1.0))
        self.proposer: nn.Module | None = None
        self._check_composition(points)

    @property
    def space(self) -> StructureSpace:
        """The space of structures: the slots, all in one block."""
        num_slots = self.composition.num_slots
        return StructureSpace((self.config.num_modules,) * num_slots, torch.arange(num_slots)[None])

    def weights_of(self, structures: Structures) -> Weights:
        """The parameters of the modules on the slots of each task."""
        return tuple(
            _layers_at(self.library(library), kinds)
            for library, kinds in zip(self.slot_libraries, structures.unbind(1), strict=True)
        )

    def library(self, number: int) -> ModuleBank:
        """The library of modules of the slots of one size."""
        return cast(ModuleBank, self.libraries[number])

    def outputs(self, weights: Weights, inputs: Float[Tensor, "task point in"]) -> Float[Tensor, "task point out"]:
        """Normalised outputs of the functions with these weights at normalised inputs."""
        return vmap(self.output)(weights, inputs)

    def output(self, weights: Weights, inputs: Float[Tensor, "point in"]) -> Float[Tensor, "point out"]:
        """Normalised outputs of one task; ``weights`` without the axis ``task``."""
        return self.composition.forward([_module_of(layers) for layers in weights], inputs)

    def predict(
        self, structures: Structures, inputs: Float[Tensor, "task point in"]
    ) -> Float[Tensor, "task point out"]:
        """Outputs of the functions of ``structures`` without adaptation, in the user's units like ``inputs``."""
        outputs = self.outputs(self.weights_of(structures), self.normalized_inputs(inputs))
        return outputs * self.scale_out

    def normalized_inputs(self, inputs: Float[Tensor, "task point in"]) -> Float[Tensor, "task point in"]:
        """Inputs in the unit of the modules."""
        return (inputs - self.center_in) / self.scale_in

    def normalized(self, points: PointSets) -> tuple[Tensor, Tensor]:
        """Inputs and outputs in the model's unit."""
        return self.normalized_inputs(points.inputs), points.outputs / self.scale_out

    def _check_composition(self, points: PointSets) -> None:
        """Apply the composition to two tasks of three points, vectorised."""
        composition, size_out = type(self.composition).__name__, points.outputs.shape[2]
        structures = torch.zeros(2, self.composition.num_slots, dtype=torch.long)
        try:
            with torch.no_grad():
                outputs = self.outputs(self.weights_of(structures), torch.zeros(2, 3, points.inputs.shape[2]))
        except (RuntimeError, TypeError, IndexError) as error:
            raise ValueError(
                f"{composition}.forward does not work on modules of sizes {self._slot_sizes()}: {error}. It gets a "
                "list of num_slots modules and inputs [point, in], and may only use operations that do not depend on "
                "values; where modules have other sizes than the task, define sizes()"
            ) from error
        if not isinstance(outputs, Tensor) or outputs.shape != (2, 3, size_out):
            came = tuple(outputs.shape[1:]) if isinstance(outputs, Tensor) else type(outputs).__name__
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
