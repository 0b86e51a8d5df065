"""The three noise models against scipy's densities and against derivatives of their energies."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from bouncegrad.models.noise import NoiseConfig, NoiseModel, Normal, SquaredError, StudentT, noise_model
from worlds import generator

UNIT = torch.tensor([0.1, 2.0, 0.5], dtype=torch.float64)
LIKELIHOODS = [(Normal(), stats.norm), (StudentT(4.0), stats.t(4.0)), (StudentT(2.5), stats.t(2.5))]
NOISE_MODELS = [SquaredError(UNIT), *(noise for noise, _ in LIKELIHOODS)]


def errors(*, num: int = 40) -> tuple[Tensor, Tensor]:
    """Residuals and log scales ``[time, feature]``, some of them far out."""
    residuals = 3 * torch.randn(num, 3, generator=generator(1), dtype=torch.float64)
    return residuals, torch.randn(num, 3, generator=generator(2), dtype=torch.float64)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (NoiseConfig("shared", None), Normal()),
        (NoiseConfig("learned", 3.0), StudentT(3.0)),
    ],
)
def test_a_configuration_names_a_noise_model(config: NoiseConfig, expected: NoiseModel):
    assert noise_model(config, UNIT) == expected


@pytest.mark.parametrize("degrees", [None, 4.0])
def test_without_a_scale_errors_are_squares_whatever_the_tails(degrees: float | None):
    found = noise_model(NoiseConfig("none", degrees), UNIT)
    assert isinstance(found, SquaredError)
    assert not found.in_nats


@pytest.mark.parametrize(("noise", "distribution"), LIKELIHOODS)
def test_energies_are_log_densities_but_for_a_constant(noise: NoiseModel, distribution):
    residuals, log_scales = errors()
    log_density = distribution.logpdf(residuals * torch.exp(-log_scales)) - log_scales.numpy()
    expected = 3 * noise.log_normaliser - torch.from_numpy(log_density).sum(1)
    torch.testing.assert_close(noise.energy(residuals, log_scales), expected)


def test_the_energy_of_squares_is_the_mean_square_in_the_unit_of_the_states():
    residuals, log_scales = errors()
    noise = SquaredError(UNIT)
    torch.testing.assert_close(noise.energy(residuals, log_scales), (residuals * UNIT).square().sum(1) / 3)
    assert math.isnan(noise.log_normaliser)


@pytest.mark.parametrize("noise", NOISE_MODELS)
def test_precisions_are_the_derivative_of_the_energy_over_the_residual(noise: NoiseModel):
    residuals, log_scales = errors()
    with torch.enable_grad():
        leaf = residuals.clone().requires_grad_()
        (slope,) = torch.autograd.grad(noise.energy(leaf, log_scales).sum(), leaf)
    torch.testing.assert_close(noise.precisions(residuals, log_scales), slope / residuals)


@pytest.mark.parametrize("noise", NOISE_MODELS)
def test_weights_are_precisions_against_those_of_a_square(noise: NoiseModel):
    residuals, log_scales = errors()
    square = Normal().precisions(residuals, log_scales) if noise.in_nats else 2 * UNIT.square() / 3
    torch.testing.assert_close(noise.weights(residuals, log_scales), noise.precisions(residuals, log_scales) / square)


@pytest.mark.parametrize("num_features", [1, 2, 3, 5])
@pytest.mark.parametrize("noise", NOISE_MODELS)
def test_rho_and_its_factor_give_the_energy(noise: NoiseModel, num_features: int):
    if not noise.in_nats:
        noise = SquaredError(UNIT.repeat(2)[:num_features])
    residuals = torch.randn(40, num_features, generator=generator(3), dtype=torch.float64)
    log_scales = torch.randn(40, num_features, generator=generator(4), dtype=torch.float64)
    away = residuals * noise.inverse_scales(log_scales)
    constants = log_scales.sum(1) if noise.in_nats else 0.0
    found = noise.factors(torch.ones(40, dtype=torch.float64)) * noise.rho(away.square()) + constants
    torch.testing.assert_close(found, noise.energy(residuals, log_scales))


@pytest.mark.parametrize("noise", NOISE_MODELS)
def test_cdf_and_ppf_are_inverse(noise: NoiseModel):
    levels = torch.tensor([0.01, 0.3, 0.5, 0.9, 0.999], dtype=torch.float64)
    torch.testing.assert_close(noise.cdf(torch.tensor([noise.ppf(float(level)) for level in levels])), levels)


def test_the_cdf_of_likelihoods_is_the_integral_of_their_density():
    places = torch.linspace(-8, 2, 20001, dtype=torch.float64)
    for noise, _ in LIKELIHOODS:
        density = torch.exp(noise.log_normaliser - noise.energy(places[:, None], torch.zeros(20001, 1)))
        below = noise.cdf(places[:1]) + torch.trapezoid(density, places)
        torch.testing.assert_close(below, noise.cdf(places[-1:]), rtol=1e-6, atol=0)


def test_student_tails_tend_to_normal_ones():
    residuals, log_scales = errors()
    normal = Normal().energy(residuals, log_scales)
    torch.testing.assert_close(StudentT(1e10).energy(residuals, log_scales), normal, rtol=1e-5, atol=1e-5)
    frame = torch.tensor([[50.0]])
    assert StudentT(4.0).energy(frame, frame * 0) < 0.02 * Normal().energy(frame, frame * 0)
