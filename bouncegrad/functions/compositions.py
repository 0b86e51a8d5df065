"""Compositions of functions: how the modules on the slots of a task make one function of its inputs.

A composition speaks of one task and one structure. That many tasks, each with its own structure, run at once is derived
from it by ``torch.func`` (:class:`bouncegrad.functions.FunctionModel`).
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
"""The module on a slot: a function of the last axis."""


class Composition(ABC):
    """How modules become a function; to bring another one, give ``num_slots`` and ``forward``.

    Attributes:
        num_slots: how many modules a task is made of.
        interchangeable: whether slots of one size can be swapped without changing the function; a proposal network
            then says the same of all of them.

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

        Only operations of torch that do not look at values (no ``if`` on a tensor, no ``item()``), so that many tasks
        can be computed at once.

        Args:
            modules: ``[slot]``, what sits on each slot.
            inputs: of the task.
        """

    def sizes(self, size_in: int, size_out: int) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of the module on each slot; slots of one size share a library of modules.

        Args:
            size_in: numbers in each input of the task.
            size_out: numbers in each output.
        """
        return ((size_in, size_out),) * self.num_slots


@dataclass(frozen=True)
class Sum(Composition):
    """The sum of what the modules say: ``y = sum_s f_s(x)``.

    Attributes:
        num_slots: modules that are added.
    """

    num_slots: int = 2
    interchangeable: ClassVar[bool] = True

    def forward(self, modules: Sequence[Module], inputs: Float[Tensor, "point in"]) -> Float[Tensor, "point out"]:
        """All modules read the inputs."""
        first, *others = (module(inputs) for module in modules)
        return sum(others, first)


@dataclass(frozen=True)
class Chain(Composition):
    """One module after the other: ``y = f_S(... f_2(f_1(x)))``; with one slot, a choice of one module.

    Attributes:
        num_slots: modules in a row.
        width: numbers that one hands on to the next; None: as many as the task has outputs.
    """

    num_slots: int = 2
    width: int | None = None

    def forward(self, modules: Sequence[Module], inputs: Float[Tensor, "point in"]) -> Float[Tensor, "point out"]:
        """The first module reads the inputs, every other one what the one before it says."""
        for module in modules:
            inputs = module(inputs)
        return inputs

    def sizes(self, size_in: int, size_out: int) -> tuple[tuple[int, int], ...]:
        """From the inputs over the width between modules to the outputs."""
        between = (self.width or size_out,) * (self.num_slots - 1)
        return tuple(zip((size_in, *between), (*between, size_out), strict=True))
