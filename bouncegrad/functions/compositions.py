"""Compositions: how the modules on the slots of a task are combined to one function of its inputs.

A composition is written for one task with one structure; :class:`bouncegrad.functions.FunctionModel` vectorises it over
many tasks, each with its own structure, by ``torch.func.vmap``.
Source: Alet, Lozano-Perez and Kaelbling, 2018, "Modular meta-learning", section 2.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from jaxtyping import Float
from torch import Tensor

Module: TypeAlias = Callable[[Float[Tensor, "*batch in"]], Float[Tensor, "*batch out"]]
"""The module on a slot: a function of the last axis of its input."""


class Composition(ABC):
    """How modules are combined to a function; a new composition defines ``num_slots`` and ``forward``.

    Attributes:
        num_slots: number of modules in the function of a task.
        interchangeable: whether slots of one size can be swapped without changing the function; a proposal network
            then has the same output for all of them.

    Example:
        >>> class Product(Composition):
        ...     num_slots, interchangeable = 2, True
        ...
        ...     def forward(self, modules, inputs):
        ...         return modules[0](inputs) * modules[1](inputs)
    """

    num_slots: int
    interchangeable: ClassVar[bool] = False

    @abstractmethod
    def forward(self, modules: Sequence[Module], inputs: Float[Tensor, "point in"]) -> Float[Tensor, "point out"]:
        """The outputs of one task.

        It may only use operations of torch that do not depend on values (no ``if`` on a tensor, no ``item()``), so that
        ``vmap`` can compute many tasks at once.

        Args:
            modules: ``[slot]``, the module on each slot.
            inputs: inputs of the task.
        """

    def sizes(self, size_in: int, size_out: int) -> tuple[tuple[int, int], ...]:
        """Input and output size of the module on each slot; slots of equal size share a library of modules.

        Args:
            size_in: size of an input of the task.
            size_out: size of an output of the task.
        """
        return ((size_in, size_out),) * self.num_slots


@dataclass(frozen=True)
class Sum(Composition):
    """Sum of the outputs of the modules: ``y = sum_s f_s(x)``.

    Attributes:
        num_slots: number of modules in the sum.
    """

    num_slots: int = 2
    interchangeable: ClassVar[bool] = True

    def forward(self, modules: Sequence[Module], inputs: Float[Tensor, "point in"]) -> Float[Tensor, "point out"]:
        """All modules are applied to the inputs."""
        first, *others = (module(inputs) for module in modules)
        return sum(others, first)


@dataclass(frozen=True)
class Chain(Composition):
    """Composition of modules one after the other: ``y = f_S(... f_2(f_1(x)))``; with one slot, a choice of one module.

    Attributes:
        num_slots: number of modules in the chain.
        width: size of the values between modules; None: the size of the outputs.
    """

    num_slots: int = 2
    width: int | None = None

    def forward(self, modules: Sequence[Module], inputs: Float[Tensor, "point in"]) -> Float[Tensor, "point out"]:
        """The first module is applied to the inputs, every other one to the output of the one before it."""
        for module in modules:
            inputs = module(inputs)
        return inputs

    def sizes(self, size_in: int, size_out: int) -> tuple[tuple[int, int], ...]:
        """From the input size over the width between modules to the output size."""
        between = (self.width or size_out,) * (self.num_slots - 1)
        return tuple(zip((size_in, *between), (*between, size_out), strict=True))
