"""Tracks: the smoother against algebra that is written out, and against a world where the truth is known."""

import pytest
import torch

from bouncegrad.hidden.augmented import complete
from bouncegrad.hidden.block_tridiagonal import BlockTridiagonal
from bouncegrad.hidden.gauss_newton import Estimate, energies_of, gauss_newton_step, parabola, step_with_slopes
from bouncegrad.structures.layout import to_slots
from exact import exact_springs, moving, seen_of, truth_of
from worlds import generator

MIXED = torch.tensor([[[0, 1, 1], [1, 0, 0], [1, 0, 0]], [[0, 0, 1], [0, 0, 1], [1, 1, 0]]])
"""Two scenes of three entities; the last of each is to be hidden."""


def random_chain(num_tasks: int = 3, num_times: int = 5, size: int = 2) -> BlockTridiagonal:
    draw = generator(3)
    lower = torch.randn(num_tasks, num_times - 1, size, size, generator=draw, dtype=torch.float64)
    roots = torch.randn(num_tasks, num_times, size, size, generator=draw, dtype=torch.float64)
    return BlockTridiagonal(roots @ roots.mT + 6 * torch.eye(size), lower)


def dense(chain: BlockTridiagonal) -> torch.Tensor:
    num_tasks, num_times, size, _ = chain.diagonal.shape
    whole = torch.zeros(num_tasks, num_times, size, num_times, size, dtype=torch.float64)
    for time in range(num_times):
        whole[:, time, :, time] = chain.diagonal[:, time]
        if time:
            whole[:, time, :, time - 1] = chain.lower[:, time - 1]
            whole[:, time - 1, :, time] = chain.lower[:, time - 1].mT
    return whole.flatten(3).flatten(1, 2)


def test_chains_are_matrices():
    chain = random_chain()
    whole, factor = dense(chain), chain.cholesky()
    right = torch.randn(3, 5, 2, generator=generator(4), dtype=torch.float64)
    found = factor.solve(right).flatten(1)
    torch.testing.assert_close(found, torch.linalg.solve(whole, right.flatten(1)))
    torch.testing.assert_close(factor.log_determinant, torch.logdet(whole))
    inverse = torch.linalg.inv(whole).view(3, 5, 2, 5, 2)
    expected = torch.stack([inverse[:, time, :, time] for time in range(5)], 1)
    torch.testing.assert_close(factor.covariances(), expected)
    boosted = dense(chain.damped(torch.tensor([0.5, 0, 1.0])))
    torch.testing.assert_close(boosted[1], whole[1])
    torch.testing.assert_close(boosted[2].diagonal(), 2 * whole[2].diagonal())


@pytest.mark.parametrize("degrees", [None, 4.0])
def test_the_gradient_is_that_of_the_energy(degrees):
    model = exact_springs(degrees=degrees)
    scenes = moving(model, to_slots(MIXED), 3)
    stage = complete(model, seen_of(scenes), 1)
    tracks = truth_of(scenes) + 1e-3 * torch.randn(2, 1, 30, 4, generator=generator(5))
    form = parabola(model, stage, tracks, step_with_slopes(model, stage, tracks, to_slots(MIXED)), model.noise)
    with torch.enable_grad():
        leaf = tracks.clone().requires_grad_()
        (expected,) = torch.autograd.grad(energies_of(model, stage, leaf, to_slots(MIXED)).sum(), leaf)
    torch.testing.assert_close(stage.as_tracks(form.gradient).float(), expected, rtol=2e-3, atol=1.0)


def test_one_step_finds_the_track_of_a_linear_world():
    model = exact_springs()
    scenes = moving(model, to_slots(MIXED), 3)
    stage = complete(model, seen_of(scenes), 1)
    nowhere = Estimate.at(torch.zeros(2, 1, 30, 4))
    found = gauss_newton_step(model, stage, nowhere, to_slots(MIXED), model.noise)
    assert (found.fallen > 0).all()
    assert (found.tracks - truth_of(scenes)).abs().max() < 0.02
    again = gauss_newton_step(model, stage, found, to_slots(MIXED), model.noise)
    assert (again.fallen < 1).all()


def test_tracks_and_numbers_are_two_ways_to_write_the_same():
    model = exact_springs()
    scenes = moving(model, to_slots(MIXED), 3)
    stage = complete(model, seen_of(scenes), 2)
    tracks = torch.randn(2, 2, 30, 4, generator=generator(6))
    assert torch.equal(stage.as_tracks(stage.of_hidden(stage.with_tracks(tracks).states)), tracks)
