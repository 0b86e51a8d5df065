"""Rules that every test keeps."""

from collections.abc import Iterator

import numpy
import pytest
import torch
from hypothesis import settings

from bouncegrad.fit import fit
from bouncegrad.models.model import Model
from small import QUICK, springs

settings.register_profile("bouncegrad", deadline=None, derandomize=True)
settings.load_profile("bouncegrad")


@pytest.fixture(autouse=True)
def no_global_state() -> Iterator[None]:
    """Fail any test that changes global randomness, the default dtype or the default device."""
    before = _global_state()
    yield
    after = _global_state()
    assert after[1:] == before[1:], "a test changed the default dtype, device or gradient mode"
    assert torch.equal(after[0][0], before[0][0]), "a test drew from torch's global generator"
    assert after[0][1] == before[0][1], "a test drew from numpy's global generator"


@pytest.fixture(scope="session")
def springs_model() -> Model:
    """A good model of springs between three entities."""
    return fit(springs(150), QUICK)


@pytest.fixture(scope="session")
def directed_model() -> Model:
    """A good model of springs that only pull at one end."""
    return fit(springs(150, directed=True), QUICK)


def _global_state() -> tuple:
    randomness = (torch.random.get_rng_state(), str(numpy.random.get_state()))  # noqa: NPY002 to see that nobody uses it
    return randomness, torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
