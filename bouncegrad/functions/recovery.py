"""Which known functions the modules of a sum have become."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from bouncegrad.functions.model import FunctionModel

RECOVERED = 0.95
"""Share of a function's variance that a module must explain to count as that function."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """The module that is most like a function.

    Attributes:
        module: its number.
        explained: ``1 - var(function - module) / var(function)``; constants may differ, since the slots of a sum can
            trade them.
    """

    module: int
    explained: float

    @property
    def whole(self) -> bool:
        """Whether the module is that function."""
        return self.explained >= RECOVERED


@torch.no_grad()
def recovered_functions(
    model: FunctionModel, functions: Mapping[str, Callable[[Tensor], Tensor]], inputs: Tensor
) -> dict[str, Recovered]:
    """Match functions with modules one to one, so that as much as possible is explained (Kuhn 1955).

    Args:
        model: of a composition whose slots share one library.
        functions: name -> what a module should say, in the user's unit.
        inputs: ``[point, in]``, where they are compared.

    Raises:
        ValueError: more functions than modules.
    """
    if len(functions) > model.config.num_modules:
        raise ValueError(
            f"{len(functions)} functions cannot be matched with {model.config.num_modules} modules one to one"
        )
    said = model.library(0).every_kind(model.normalized_inputs(inputs)) * model.scale_out
    truth = torch.stack([function(inputs) for function in functions.values()])
    left = (truth[:, None] - said).flatten(2).var(2, correction=0)
    explained = (1 - left / truth.flatten(1).var(1, correction=0).clamp_min(1e-12)[:, None]).double().numpy()
    rows, columns = linear_sum_assignment(numpy.maximum(explained, -1.0), maximize=True)
    names = list(functions)
    pairs = zip(rows, columns, strict=True)
    return {names[row]: Recovered(int(column), float(explained[row, column])) for row, column in pairs}
