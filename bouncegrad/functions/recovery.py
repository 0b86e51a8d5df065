"""Comparison of the modules of a sum with known functions, matched one to one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from bouncegrad.functions.model import FunctionModel

RECOVERED = 0.95
"""Share of the variance of a function that a module explains at least when the function counts as recovered."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """The module that matches a function.

    Attributes:
        module: number of the module.
        explained: share of explained variance, ``1 - var(function - module) / var(function)``; an added constant does
            not matter, since the modules of a sum determine constants only together.
    """

    module: int
    explained: float

    @property
    def whole(self) -> bool:
        """Whether the module explains at least :data:`RECOVERED` of the variance of the function."""
        return self.explained >= RECOVERED


@torch.no_grad()
def recovered_functions(
    model: FunctionModel, functions: Mapping[str, Callable[[Tensor], Tensor]], inputs: Tensor
) -> dict[str, Recovered]:
    """Match functions with modules one to one so that the sum of explained variances is largest (Kuhn 1955).

    Args:
        model: model whose composition has slots of one size, so that they share one library.
        functions: name -> function in the user's unit.
        inputs: ``[point, in]``, points of the comparison.

    Raises:
        ValueError: more functions than modules.
    """
    if len(functions) > model.config.num_modules:
        raise ValueError(
            f"{len(functions)} functions cannot be matched with {model.config.num_modules} modules one to one"
        )
    outputs = model.library(0).every_kind(model.normalized_inputs(inputs)) * model.scale_out
    truth = torch.stack([function(inputs) for function in functions.values()])
    residual = (truth[:, None] - outputs).flatten(2).var(2, correction=0)
    explained = (1 - residual / truth.flatten(1).var(1, correction=0).clamp_min(1e-12)[:, None]).double().numpy()
    rows, columns = linear_sum_assignment(numpy.maximum(explained, -1.0), maximize=True)
    names = list(functions)
    pairs = zip(rows, columns, strict=True)
    return {names[row]: Recovered(int(column), float(explained[row, column])) for row, column in pairs}
