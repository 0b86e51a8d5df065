"""The modules: M small networks (multi-layer perceptrons) as stacked tensors, one per edge type or node type."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn


@dataclass(frozen=True, slots=True)
class Routing:
    """Items sorted by type, so that each module runs once on a contiguous block; reused over the steps of a rollout.

    Attributes:
        order: ``[item]``, indices of the items, sorted by type.
        counts: number of items of each type.
        back: ``[item]``, the inverse permutation: position of each item in ``order``.
    """

    order: Int[Tensor, "item"]
    counts: list[int]
    back: Int[Tensor, "item"]


class ModuleBank(nn.Module):
    """M multi-layer perceptrons of one shape, one for each kind (edge type or node type).

    ``y = W_L relu(... relu(W_1 x + b_1) ...) + b_L`` with the weights of kind ``m`` at index ``m`` of each
    parameter: ``weights[l]`` is ``[kind, in, out]``, ``biases[l]`` is ``[kind, 1, out]``.

    Args:
        num_modules: M.
        sizes: widths of the layers, from input to output.
        generator: draws the initial weights, uniform in ``+-gain sqrt(1 / in)``.
        final_relu: apply a ReLU after the last layer, too, as the edge modules of Alet et al. 2019 have.
        gain: factor on the initial weights of the hidden layers; ``sqrt(6)`` keeps the variance of activations (He et
            al. 2015).
        random_biases: initial biases uniform in ``+-sqrt(1 / in)``, as in linear layers of torch, instead of 0.
        final_gain: factor on the initial weights of the last layer; small values give initial outputs near 0.
        silent_first: the output of kind 0 is 0 for every input ("no relation"); its weights are unused.
    """

    def __init__(
        self,
        num_modules: int,
        sizes: Sequence[int],
        generator: Generator,
        *,
        final_relu: bool = False,
        gain: float = 6**0.5,
        random_biases: bool = False,
        final_gain: float = 1.0,
        silent_first: bool = False,
    ) -> None:
        super().__init__()
        self.num_modules = num_modules
        self.silent_first = silent_first
        self.final_relu = final_relu
        gains = [gain] * (len(sizes) - 2) + [final_gain]
        layers = list(zip(pairwise(sizes), gains, strict=True))
        self.weights = nn.ParameterList(_uniform(num_modules, *shape, gain, generator) for shape, gain in layers)
        self.biases = nn.ParameterList(torch.zeros(num_modules, 1, size) for size in sizes[1:])
        if random_biases:
            for bias, size in zip(self.biases, sizes, strict=False):
                bias.data = _uniform(num_modules, 1, bias.shape[2], 1 / math.sqrt(size), generator)

    def forward(
        self, inputs: Float[Tensor, "item *batch in"], kinds: Int[Tensor, "item"] | Float[Tensor, "item kind"] | Routing
    ) -> Tensor:
        """Apply to each item the module of its kind; each module runs once, on all its items.

        Args:
            inputs: ``[item, ..., in]``.
            kinds: ``[item]``, from 0 to M - 1; or relaxed, ``[item, kind]``, the share of each kind; or the result of
                :meth:`route`.

        Returns:
            ``[item, ..., out]``; for relaxed kinds the sum of the outputs of all modules, weighted by the shares.
        """
        routing = self.route(kinds)
        if isinstance(routing, Tensor):
            return self._mixed(inputs, routing) if routing.is_floating_point() else self._apply_one(inputs, 0)
        groups = inputs.index_select(0, routing.order).split(routing.counts)
        outputs = torch.cat([self._apply_one(group, kind) for kind, group in enumerate(groups)])
        return outputs.index_select(0, routing.back)

    def route(
        self, kinds: Int[Tensor, "item"] | Float[Tensor, "item kind"] | Routing
    ) -> Int[Tensor, "item"] | Float[Tensor, "item kind"] | Routing:
        """Sort items by kind for :meth:`forward`; relaxed kinds and banks of one module need no sorting."""
        if isinstance(kinds, Routing) or kinds.is_floating_point() or self.num_modules == 1:
            return kinds
        order = torch.argsort(kinds, stable=True)
        return Routing(order, torch.bincount(kinds, minlength=self.num_modules).tolist(), torch.argsort(order))

    def every_kind(self, inputs: Float[Tensor, "*batch in"]) -> Float[Tensor, "kind *batch out"]:
        """Apply all modules to the same inputs: ``[..., in]`` to ``[kind, ..., out]``."""
        hidden = inputs.reshape(1, -1, inputs.shape[-1]).expand(self.num_modules, -1, -1)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = self._activate(torch.baddbmm(bias, hidden, weight), layer)
        if self.silent_first:
            hidden = torch.cat([torch.zeros_like(hidden[:1]), hidden[1:]])
        return hidden.view(self.num_modules, *inputs.shape[:-1], hidden.shape[-1])

    def _mixed(self, inputs: Tensor, shares: Float[Tensor, "item kind"]) -> Tensor:
        """The sum of the outputs of all modules, weighted by ``shares``."""
        first, *others = range(int(self.silent_first), self.num_modules)
        columns = shares.view(*shares.shape, *(1,) * (inputs.dim() - 1)).unbind(1)
        mixed = self._apply_one(inputs, first) * columns[first]
        for kind in others:
            mixed = mixed + self._apply_one(inputs, kind) * columns[kind]
        return mixed

    def _apply_one(self, inputs: Tensor, kind: int) -> Tensor:
        if self.silent_first and kind == 0:
            return inputs.new_zeros(*inputs.shape[:-1], self.biases[-1].shape[-1])
        hidden = inputs.reshape(-1, inputs.shape[-1])
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = self._activate(torch.addmm(bias[kind], hidden, weight[kind]), layer)
        return hidden.view(*inputs.shape[:-1], hidden.shape[-1])

    def finish(self, hidden: Float[Tensor, "*batch hidden"], kind: int) -> Float[Tensor, "*batch out"]:
        """The layers of one module after its first linear map, whose output ``hidden`` is overwritten."""
        flat = self._activate(hidden.view(-1, hidden.shape[-1]), 0)
        for layer in range(1, len(self.weights)):
            flat = self._activate(torch.addmm(self.biases[layer][kind], flat, self.weights[layer][kind]), layer)
        return flat.view(*hidden.shape[:-1], flat.shape[-1])

    def _activate(self, hidden: Tensor, layer: int) -> Tensor:
        """ReLU in place: the output of a linear map has no other use, not even in its gradient."""
        return torch.relu_(hidden) if self.final_relu or layer < len(self.weights) - 1 else hidden


def _uniform(num_modules: int, size_in: int, size_out: int, gain: float, generator: Generator) -> Tensor:
    bound = gain / math.sqrt(size_in)
    weights = torch.rand(num_modules, size_in, size_out, generator=generator, device=generator.device)
    return weights.mul_(2 * bound).sub_(bound)
