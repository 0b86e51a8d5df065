"""Noise models: the likelihood of a prediction error, or its square; and the networks that predict its scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, TypeAlias

import torch
from jaxtyping import Float
from scipy import stats
from torch import Generator, Tensor, nn

from bouncegrad.models.graph_network import mask_senders
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


PerFeature: TypeAlias = Float[Tensor, "*batch feature"]
"""One number for each feature of an entity, at any number of times."""


class NoiseModel(Protocol):
    """What a prediction error costs.

    Residuals ``r`` are in the network's unit, ``sigma`` is the exponential of their log scales, and ``e = r / sigma``.
    The energy of an entity is ``factor * sum over times and features of rho(e)``, plus ``log sigma`` for likelihoods.

    Attributes:
        in_nats: whether energies are negative log likelihoods; if not they are means of squares.
    """

    in_nats: ClassVar[bool]

    @property
    def log_normaliser(self) -> float:
        """Log of the constant factor of the density of ``e``, which energies leave out: no structure changes it."""
        ...

    def inverse_scales(self, log_scales: PerFeature) -> PerFeature:
        """``1 / sigma``, what residuals are multiplied by."""
        ...

    def energy(self, residuals: PerFeature, log_scales: PerFeature) -> Float[Tensor, "*batch"]:
        """The energy of the residuals of one entity at one time."""
        ...

    def weights(self, residuals: PerFeature, log_scales: PerFeature) -> PerFeature:
        """Weight of each residual in iteratively reweighted least squares (Lange, Little and Taylor 1989).

        The derivative of the energy over ``e``, divided by ``e`` and by what it is for a square alone: 1, but less than
        that for surprising errors under heavy tails.
        """
        ...

    def precisions(self, residuals: PerFeature, log_scales: PerFeature) -> PerFeature:
        """The derivative of the energy over ``r``, divided by ``r``: for likelihoods the weight over the variance."""
        ...

    def rho(self, squares: Float[Tensor, "*batch error"]) -> Float[Tensor, "*batch"]:
        """The sum of ``rho(e)``, given ``e^2``, which is overwritten."""
        ...

    def factors(self, counts: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """What :meth:`rho` is multiplied by, given how many states of the scene are predicted."""
        ...

    def cdf(self, errors: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Cumulative probability of ``e``, in double precision; on the CPU."""
        ...

    def ppf(self, probability: float) -> float:
        """The inverse of :meth:`cdf`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class SquaredError:
    """No distribution: the squared error, averaged over features and predicted states (Alet et al. 2019).

    There is no scale, so log scales are not looked at, and ``1 / sigma`` is the network's unit. ``e`` over its own root
    mean square is taken to be normal.

    Attributes:
        unit: of the network, in which residuals are.
    """

    unit: Float[Tensor, "feature"]
    in_nats: ClassVar[bool] = False

    @property
    def log_normaliser(self) -> float:
        """Not a number: squares without a scale are no density."""
        return math.nan

    def inverse_scales(self, log_scales: PerFeature) -> PerFeature:
        """The unit, so that errors are those of normalised states."""
        return self.unit.expand_as(log_scales)

    def energy(self, residuals: PerFeature, log_scales: PerFeature) -> Float[Tensor, "*batch"]:
        """Mean of ``e^2`` over features."""
        del log_scales
        return (residuals * self.unit).square().mean(-1)

    def weights(self, residuals: PerFeature, log_scales: PerFeature) -> PerFeature:
        """Ones."""
        del log_scales
        return torch.ones_like(residuals)

    def precisions(self, residuals: PerFeature, log_scales: PerFeature) -> PerFeature:
        """``2 unit^2`` over the number of features."""
        del log_scales
        return (self.unit.square() * 2 / len(self.unit)).expand_as(residuals)

    def rho(self, squares: Float[Tensor, "*batch error"]) -> Float[Tensor, "*batch"]:
        """``rho(e) = e^2``."""
        return squares.sum(-1)

    def factors(self, counts: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """One over how many numbers of the scene are predicted."""
        return 1 / (counts * len(self.unit))

    def cdf(self, errors: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Of the standard normal distribution."""
        return torch.from_numpy(stats.norm.cdf(errors.double().numpy()))

    def ppf(self, probability: float) -> float:
        """Of the standard normal distribution."""
        return float(stats.norm.ppf(probability))


@dataclass(frozen=True, slots=True)
class Normal:
    """Normal errors, ``(r / sigma)^2 / 2 + log sigma``.

    >>> Normal().energy(torch.tensor([2.0]), torch.zeros(1)).item()
    2.0
    """

    in_nats: ClassVar[bool] = True

    @property
    def log_normaliser(self) -> float:
        """``-log(2 pi) / 2``."""
        return -0.5 * math.log(2 * math.pi)

    def inverse_scales(self, log_scales: PerFeature) -> PerFeature:
        """``1 / sigma``."""
        return torch.exp(-log_scales)

    def energy(self, residuals: PerFeature, log_scales: PerFeature) -> Float[Tensor, "*batch"]:
        """Nats, summed over features."""
        squares = (residuals * torch.exp(-log_scales)).square()
        return (0.5 * squares + log_scales).sum(-1)

    def weights(self, residuals: PerFeature, log_scales: PerFeature) -> PerFeature:
        """Ones."""
        del log_scales
        return torch.ones_like(residuals)

    def precisions(self, residuals: PerFeature, log_scales: PerFeature) -> PerFeature:
        """``1 / sigma^2``."""
        del residuals
        return torch.exp(-2 * log_scales)

    def rho(self, squares: Float[Tensor, "*batch error"]) -> Float[Tensor, "*batch"]:
        """``rho(e) = e^2``."""
        return squares.sum(-1)

    def factors(self, counts: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """A half."""
        return torch.full_like(counts, 0.5)

    def cdf(self, errors: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Of the standard normal distribution."""
        return torch.from_numpy(stats.norm.cdf(errors.double().numpy()))

    def ppf(self, probability: float) -> float:
        """Of the standard normal distribution."""
        return float(stats.norm.ppf(probability))


@dataclass(frozen=True, slots=True)
class StudentT:
    """Student-t errors, ``(d + 1) / 2 log(1 + (r / sigma)^2 / d) + log sigma``; tends to :class:`Normal` as d grows.

    Attributes:
        degrees_of_freedom: ``d``; the fewer, the heavier the tails.
    """

    degrees_of_freedom: float
    in_nats: ClassVar[bool] = True

    @property
    def log_normaliser(self) -> float:
        """``log Gamma((d + 1) / 2) - log Gamma(d / 2) - log(d pi) / 2``."""
        d = self.degrees_of_freedom
        return math.lgamma((d + 1) / 2) - math.lgamma(d / 2) - 0.5 * math.log(d * math.pi)

    def inverse_scales(self, log_scales: PerFeature) -> PerFeature:
        """``1 / sigma``."""
        return torch.exp(-log_scales)

    def energy(self, residuals: PerFeature, log_scales: PerFeature) -> Float[Tensor, "*batch"]:
        """Nats, summed over features."""
        d, squares = self.degrees_of_freedom, (residuals * torch.exp(-log_scales)).square()
        return (0.5 * (d + 1) * torch.log1p(squares / d) + log_scales).sum(-1)

    def weights(self, residuals: PerFeature, log_scales: PerFeature) -> PerFeature:
        """``(d + 1) / (d + e^2)``."""
        d = self.degrees_of_freedom
        return (d + 1) / (d + (residuals * torch.exp(-log_scales)).square())

    def precisions(self, residuals: PerFeature, log_scales: PerFeature) -> PerFeature:
        """``(d + 1) / (d + e^2) / sigma^2``."""
        d, precisions = self.degrees_of_freedom, torch.exp(-2 * log_scales)
        return precisions * (d + 1) / (d + residuals.square() * precisions)

    def rho(self, squares: Float[Tensor, "*batch error"]) -> Float[Tensor, "*batch"]:
        """``rho(e) = log(1 + e^2 / d)``; two errors share a logarithm, ``(1 + a) (1 + b) - 1 = a b + a + b``."""
        values, half = squares.mul_(1 / self.degrees_of_freedom), squares.shape[-1] // 2
        first, second, rest = values.split([half, half, values.shape[-1] - 2 * half], -1)
        return (first * second).add_(first).add_(second).log1p_().sum(-1) + rest.log1p().sum(-1)

    def factors(self, counts: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """``(d + 1) / 2``."""
        return torch.full_like(counts, 0.5 * (self.degrees_of_freedom + 1))

    def cdf(self, errors: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Of Student's distribution."""
        return torch.from_numpy(stats.t.cdf(errors.double().numpy(), self.degrees_of_freedom))

    def ppf(self, probability: float) -> float:
        """Of Student's distribution."""
        return float(stats.t.ppf(probability, self.degrees_of_freedom))


def noise_model(config: NoiseConfig, unit: Float[Tensor, "feature"]) -> NoiseModel:
    """The noise model that a configuration names, of errors in a network's unit."""
    if config.scale == "none":
        return SquaredError(unit)
    return Normal() if config.degrees_of_freedom is None else StudentT(config.degrees_of_freedom)


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
        sender_mask: Float[Tensor, "node *batch"] | None = None,
    ) -> Float[Tensor, "node *batch feature"]:
        """Log standard deviations, in units of the network's outputs; all nodes alike."""
        del graph, sender_mask
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
        sender_mask: Float[Tensor, "node *batch"] | None = None,
    ) -> Float[Tensor, "node *batch feature"]:
        """Log standard deviations, in units of the network's outputs; nodes that are not ``sender_mask`` are not
        seen."""
        pairs = states.index_select(0, graph.senders) - states.index_select(0, graph.receivers)
        around = graph.incoming(mask_senders(_only(self.pair, pairs), graph, sender_mask))
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
