"""Noise models: how surprising a prediction error is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from bouncegrad.models.graph_network import silenced
from bouncegrad.models.module_bank import ModuleBank
from bouncegrad.models.super_graph import SuperGraph
from bouncegrad.settings import check_settings


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class NoiseConfig:
    """Which noise model weighs the errors.

    Attributes:
        scale: "none": no distribution, the energy is the squared error averaged over features (Alet et al. 2019);
            "shared": one standard deviation for each feature, the same for all entities, times and scenes; "learned": a
            standard deviation that a small network predicts for each entity, time and feature.
        degrees_of_freedom: of Student-t tails over a shared or learned scale, so that one bad frame cannot outvote a
            scene; ``None`` for normal tails. Without a scale there are no tails, and it is not looked at.
        hidden: width of the scale network of "learned".

    Raises:
        ValueError: a number or word that makes no noise model.
    """

    scale: Literal["none", "shared", "learned"] = "learned"
    degrees_of_freedom: float | None = 4.0
    hidden: int = 32

    def __post_init__(self) -> None:
        tails = () if self.degrees_of_freedom is None else ("degrees_of_freedom",)
        check_settings(self, counts=("hidden",), positive=tails)


class SharedScale(nn.Module):
    """Log standard deviation of the errors, one for each feature and nothing else.

    Gradient descent on the likelihood finds the root mean square of the residuals (under Student-t tails less than
    that: it leaves bad frames to the tails). The parameter is a tenth of the logarithm: Adam moves all parameters at
    about one pace, and a scale has further to go than a weight.

    Args:
        num_features: size of the state of an entity.
    """

    pace = 10.0

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.tenth = nn.Parameter(torch.zeros(num_features))

    def forward(
        self,
        states: Float[Tensor, "node *batch input"],
        graph: SuperGraph,
        heard: Float[Tensor, "node *batch"] | None = None,
    ) -> Float[Tensor, "node *batch feature"]:
        """Log standard deviations, in units of the network's outputs; all nodes alike."""
        del graph, heard
        return (self.pace * self.tenth).expand(*states.shape[:-1], -1)


class ScaleNetwork(nn.Module):
    """Log standard deviation of the errors, from a node's state and its surroundings, blind to all kinds.

    ``log sigma_i = f(x_i) + g(sum_j h(x_j - x_i))``. Since no kind enters, the scale cannot be used to
    make a wrong structure look likely, and the energy of a superposed network stays quadratic.

    Args:
        sizes: of what is seen of an entity, of its state at one time, and of the hidden layers.
        generator: draws the initial weights.
    """

    limits = (-9.0, 5.0)

    def __init__(self, sizes: tuple[int, int, int], generator: Generator) -> None:
        super().__init__()
        num_inputs, num_features, hidden = sizes
        self.own = ModuleBank(1, (num_inputs, hidden, hidden, num_features), generator, final_gain=0.1)
        self.pair = ModuleBank(1, (num_inputs, hidden, hidden), generator)
        self.surroundings = ModuleBank(1, (hidden, hidden, num_features), generator, final_gain=0.1)

    def forward(
        self,
        states: Float[Tensor, "node *batch input"],
        graph: SuperGraph,
        heard: Float[Tensor, "node *batch"] | None = None,
    ) -> Float[Tensor, "node *batch feature"]:
        """Log standard deviations, in units of the network's outputs; nodes that are not ``heard`` are not seen."""
        pairs = states.index_select(0, graph.senders) - states.index_select(0, graph.receivers)
        around = graph.incoming(silenced(_only(self.pair, pairs), graph, heard))
        return (_only(self.own, states) + _only(self.surroundings, around)).clamp(*self.limits)


def scale_of(
    config: NoiseConfig, num_inputs: int, num_features: int, generator: Generator
) -> SharedScale | ScaleNetwork | None:
    """The scale that a configuration names; None where errors are mean squares."""
    if config.scale == "shared":
        return SharedScale(num_features)
    sizes = (num_inputs, num_features, config.hidden)
    return ScaleNetwork(sizes, generator) if config.scale == "learned" else None


def _only(bank: ModuleBank, inputs: Tensor) -> Tensor:
    return bank.every_kind(inputs)[0]


def negative_log_likelihood(
    residuals: Float[Tensor, "*batch feature"],
    log_scales: Float[Tensor, "*batch feature"],
    degrees_of_freedom: float | None = None,
) -> Float[Tensor, "*batch"]:
    """Nats of surprise, summed over features, without the constants that no structure changes.

    Normal: ``(r / sigma)^2 / 2 + log sigma``. Student-t with d degrees of freedom:
    ``(d + 1) / 2 log(1 + (r / sigma)^2 / d) + log sigma``, which tends to the normal form as d grows.

    >>> negative_log_likelihood(torch.tensor([2.0]), torch.zeros(1)).item()
    2.0
    """
    squares = (residuals * torch.exp(-log_scales)).square()
    if degrees_of_freedom is None:
        return (0.5 * squares + log_scales).sum(-1)
    tails = 0.5 * (degrees_of_freedom + 1) * torch.log1p(squares / degrees_of_freedom)
    return (tails + log_scales).sum(-1)
