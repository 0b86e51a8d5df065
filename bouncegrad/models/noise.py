"""Noise models: the likelihood of a prediction error, or its square; and the networks that predict the error scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, TypeAlias

import torch
from jaxtyping import Float
from scipy import stats
from torch import Generator, Tensor, nn

from bouncegrad.models.decoder import mask_senders
from bouncegrad.models.module_bank import ModuleBank
from bouncegrad.models.super_graph import SuperGraph
from bouncegrad.settings import check_settings


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class NoiseConfig:
    """The noise model: the likelihood of prediction errors.

    Attributes:
        scale: "none": no distribution, the energy is the squared error averaged over features (Alet et al. 2019);
            "shared": one standard deviation for each feature, the same for all entities, times and scenes; "learned": a
            standard deviation that a small network predicts for each entity, time and feature.
        degrees_of_freedom: of a Student-t likelihood with a shared or learned scale, whose heavy tails limit the
            influence of single bad frames; ``None`` for a normal likelihood. Ignored without a scale.
        hidden: width of the network that predicts a "learned" scale.

    Raises:
        ValueError: if a number or word is not a valid setting.
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
    """The energy of a prediction error: its negative log likelihood, or its square.

    Residuals ``r`` are in the network's unit, ``sigma`` is the exponential of their log scales, and ``e = r / sigma``.
    The energy of an entity is ``factor * sum over times and features of rho(e)``, plus ``log sigma`` for likelihoods.

    Attributes:
        in_nats: whether energies are negative log likelihoods in nats; if not, they are mean squared errors.
    """

    in_nats: ClassVar[bool]

    @property
    def log_normaliser(self) -> float:
        """Log of the constant factor of the density of ``e``; energies omit it, as it does not depend on structures."""
        ...

    def inverse_scales(self, log_scales: PerFeature) -> PerFeature:
        """``1 / sigma``, the factor on residuals."""
        ...

    def energy(self, residuals: PerFeature, log_scales: PerFeature) -> Float[Tensor, "*batch"]:
        """The energy of the residuals of each entity at each time, summed or averaged over features."""
        ...

    def weights(self, residuals: PerFeature, log_scales: PerFeature) -> PerFeature:
        """Weight of each residual in iteratively reweighted least squares (Lange, Little and Taylor 1989).

        The derivative of the energy over ``e``, divided by ``e``, relative to that of a square: 1 for squares, less
        than 1 for large errors under heavy tails.
        """
        ...

    def precisions(self, residuals: PerFeature, log_scales: PerFeature) -> PerFeature:
        """The derivative of the energy over ``r``, divided by ``r``: for likelihoods the weight over the variance."""
        ...

    def rho(self, squares: Float[Tensor, "*batch error"]) -> Float[Tensor, "*batch"]:
        """The sum of ``rho(e)``, given ``e^2``, which is overwritten."""
        ...

    def factors(self, counts: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """The factor on :meth:`rho`, given the number of predicted states of the scene."""
        ...

    def cdf(self, errors: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Cumulative distribution function of ``e``, in double precision on the CPU."""
        ...

    def ppf(self, probability: float) -> float:
        """Quantile function of ``e``, the inverse of :meth:`cdf`."""
        ...


class _NormalErrors:
    """What the noise models without heavy tails share: no reweighting, and normal errors."""

    __slots__ = ()

    def weights(self, residuals: PerFeature, log_scales: PerFeature) -> PerFeature:
        """1 for every residual: least squares without reweighting."""
        del log_scales
        return torch.ones_like(residuals)

    def rho(self, squares: Float[Tensor, "*batch error"]) -> Float[Tensor, "*batch"]:
        """``rho(e) = e^2``."""
        return squares.sum(-1)

    def cdf(self, errors: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Cumulative distribution function of the standard normal distribution."""
        return torch.from_numpy(stats.norm.cdf(errors.double().numpy()))

    def ppf(self, probability: float) -> float:
        """Quantile function of the standard normal distribution."""
        return float(stats.norm.ppf(probability))


@dataclass(frozen=True, slots=True, eq=False)
class SquaredError(_NormalErrors):
    """No likelihood: the squared error, averaged over features and predicted states (Alet et al. 2019).

    There is no scale, so log scales are ignored, and ``1 / sigma`` is the network's unit. ``cdf`` and ``ppf`` take
    ``e``, over its own root mean square, to be normal.

    Attributes:
        unit: ``[feature]``, the network's unit, in which residuals come.
    """

    unit: Float[Tensor, "feature"]
    in_nats: ClassVar[bool] = False

    @property
    def log_normaliser(self) -> float:
        """NaN: squares without a scale have no density."""
        return math.nan

    def inverse_scales(self, log_scales: PerFeature) -> PerFeature:
        """The network's unit, so that ``e`` is in the unit of the normalised states."""
        return self.unit.expand_as(log_scales)

    def energy(self, residuals: PerFeature, log_scales: PerFeature) -> Float[Tensor, "*batch"]:
        """Mean of ``e^2`` over features."""
        del log_scales
        return (residuals * self.unit).square().mean(-1)

    def precisions(self, residuals: PerFeature, log_scales: PerFeature) -> PerFeature:
        """``2 unit^2 / num_features``."""
        del log_scales
        return (self.unit.square() * 2 / len(self.unit)).expand_as(residuals)

    def factors(self, counts: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """One over how many numbers of the scene are predicted."""
        return 1 / (counts * len(self.unit))


@dataclass(frozen=True, slots=True)
class Normal(_NormalErrors):
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

    def precisions(self, residuals: PerFeature, log_scales: PerFeature) -> PerFeature:
        """``1 / sigma^2``."""
        del residuals
        return torch.exp(-2 * log_scales)

    def factors(self, counts: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """``1 / 2``."""
        return torch.full_like(counts, 0.5)


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
        """Cumulative distribution function of Student's t distribution."""
        return torch.from_numpy(stats.t.cdf(errors.double().numpy(), self.degrees_of_freedom))

    def ppf(self, probability: float) -> float:
        """Quantile function of Student's t distribution."""
        return float(stats.t.ppf(probability, self.degrees_of_freedom))


def noise_model(config: NoiseConfig, unit: Float[Tensor, "feature"]) -> NoiseModel:
    """Build the noise model of a configuration, for errors in a network's ``unit``."""
    if config.scale == "none":
        return SquaredError(unit)
    return Normal() if config.degrees_of_freedom is None else StudentT(config.degrees_of_freedom)


class SharedScale(nn.Module):
    """Log standard deviation of the errors: one parameter for each feature, shared by all entities, times and scenes.

    Maximum likelihood gives the root mean square of the residuals (less under Student-t tails, where large errors weigh
    less). The parameter is a tenth of the logarithm: steps of Adam have about the same size for all parameters, and a
    log scale has a longer way to go than a weight.

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
        """Log standard deviations in the network's unit, the same for all nodes."""
        del graph, sender_mask
        return (self.pace * self.tenth).expand(*states.shape[:-1], -1)


class ScaleNetwork(nn.Module):
    """Log standard deviation of the errors, predicted from a node's state and its neighbours, not from the structure.

    ``log sigma_i = f(x_i) + g(sum_j h(x_j - x_i))``. Since no edge type or node type enters, the scale cannot make a
    wrong structure likely, and the energy of a superposed network stays quadratic under a normal likelihood.

    Args:
        sizes: numbers of inputs per entity (its whole history), of features of its state, and of hidden units.
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
        """Log standard deviations in the network's unit; nodes that are 0 in ``sender_mask`` do not contribute."""
        pairs = states.index_select(0, graph.senders) - states.index_select(0, graph.receivers)
        around = graph.incoming(mask_senders(_apply_single(self.pair, pairs), graph, sender_mask))
        return (_apply_single(self.own, states) + _apply_single(self.surroundings, around)).clamp(*self.limits)


def scale_of(
    config: NoiseConfig, num_inputs: int, num_features: int, generator: Generator
) -> SharedScale | ScaleNetwork | None:
    """Build the scale of a configuration; None for "none", where energies are mean squared errors."""
    if config.scale == "shared":
        return SharedScale(num_features)
    sizes = (num_inputs, num_features, config.hidden)
    return ScaleNetwork(sizes, generator) if config.scale == "learned" else None


def _apply_single(bank: ModuleBank, inputs: Tensor) -> Tensor:
    """The output of a bank of one module."""
    return bank.every_kind(inputs)[0]
