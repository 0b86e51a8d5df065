"""Central forces: against runs of the reference, and in small worlds whose motion is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bouncegrad.simulate import (
    CANONICAL_EXTREMES,
    CentralForce,
    Charged,
    Kuramoto,
    Split,
    Springs,
    Start,
    integrate,
    simulate,
    simulate_canonical,
)
from bouncegrad.simulate.canonical import canonical_start
from bouncegrad.simulate.motion import BOX, STEP, scaled_start

DATA = Path(__file__).parents[2].parent / "shared" / "data"
SYSTEMS = {"springs5": Springs(), "charged5": Charged()}
TINY_SPLITS = {"train": Split(3, 500), "valid": Split(2, 300), "test": Split(4, 700)}


def reference(name):
    path = DATA / f"nri_reference_{name}.npz"
    if not path.exists():
        pytest.skip(f"needs runs of the reference simulator at {path}")
    return np.load(path)


def reference_start(data, key, count=None):
    return Start(*(data[f"{part}_{key}"][:count] for part in ("loc0", "vel0", "edges")))


def deviation(run, loc, vel):
    """Largest difference of each sample: [scene, time]."""
    return np.maximum(np.abs(run.loc - loc), np.abs(run.vel - vel)).max((2, 3))


def horizons(run, loc, vel, tolerance=1e-9):
    """Samples of each scene before the first one that deviates: [scene]."""
    agrees = deviation(run, loc, vel) <= tolerance
    return np.cumprod(agrees, axis=1).sum(1)


def two_entities(loc, vel=((0.0, 0.0), (0.0, 0.0)), edges=((0.0, 1.0), (1.0, 0.0))):
    """One scene of two entities, whose positions and velocities are given entity by entity."""
    return Start(np.array([loc]).swapaxes(1, 2), np.array([vel]).swapaxes(1, 2), np.array([edges]))


# against the reference


@pytest.mark.parametrize("name", SYSTEMS)
def test_canonical_scenes_are_those_of_the_reference(name):
    data = reference(name)
    run = simulate_canonical(SYSTEMS[name], "train", 8)
    np.testing.assert_array_equal(run.edges, data["canonical_edges"])
    exact = run.loc.shape[1] if name == "springs5" else 3
    assert horizons(run, data["canonical_loc"], data["canonical_vel"]).min() >= exact
    assert run.time_step == pytest.approx(0.1)


@pytest.mark.parametrize("name", SYSTEMS)
def test_each_of_the_first_500_steps_is_that_of_the_reference(name):
    data = reference(name)
    run = integrate(SYSTEMS[name], reference_start(data, "T5000", 4), num_steps=501, sample_every=1)
    assert deviation(run, data["dense_loc"], data["dense_vel"]).max() < 1e-9


@pytest.mark.parametrize(("key", "num_steps"), [("T5000", 5_000), ("T10000", 10_000)])
def test_springs_stay_with_the_reference(key, num_steps):
    data = reference("springs5")
    run = integrate(Springs(), reference_start(data, key), num_steps=num_steps)
    assert run.loc.shape == data[f"loc_{key}"].shape
    assert deviation(run, data[f"loc_{key}"], data[f"vel_{key}"]).max() < 1e-6


def test_charged_stay_with_the_reference_until_rounding_has_grown():
    data = reference("charged5")
    run = integrate(Charged(), reference_start(data, "T5000"))
    samples = horizons(run, data["loc_T5000"], data["vel_T5000"])
    assert samples.min() >= 3, "every scene agrees to step 300 however a platform rounds"
    assert (samples == 49).mean() >= 0.25, "and many to the end"


@dataclass(frozen=True, slots=True)
class DirectCharged(Charged):
    """The same physics in other rounding: distances from differences."""

    def couplings(self, loc, edges):
        distances = np.square(loc[:, :, None] - loc[:, None]).sum(0) + np.eye(self.num_entities)[:, :, None]
        return self.interaction * edges / (distances * np.sqrt(distances))


def test_rounding_alone_parts_charged_scenes_but_not_soon():
    start = canonical_start(Charged(), "train", 64, {"train": Split(64, 5_000)})
    run, other = integrate(Charged(), start), integrate(DirectCharged(), start)
    samples = horizons(run, other.loc, other.vel)
    assert samples.min() >= 2
    assert 0.25 <= (samples == 49).mean() < 1


# the published stream


def naive_starts(name, num_entities, splits):
    """Every draw of the published procedure, one call each: starts of all scenes of each split."""
    stream = np.random.RandomState(42)
    return {
        split: [naive_scene(stream, name, num_entities, size.num_steps // 100 - 1) for _ in range(size.num_scenes)]
        for split, size in splits.items()
    }


def naive_scene(stream, name, num_entities, num_samples):
    draw_labels = naive_springs if name == "springs" else naive_charges
    edges = draw_labels(stream, num_entities)
    loc, vel = stream.randn(2, num_entities), stream.randn(2, num_entities)
    stream.randn(num_samples, 2, num_entities)
    stream.randn(num_samples, 2, num_entities)
    return loc, vel, edges


def naive_springs(stream, num_entities):
    edges = stream.choice([0, 0.5, 1], size=(num_entities, num_entities), p=[0.5, 0, 0.5])
    for i in range(num_entities):
        edges[i, i] = 0
        edges[i, i + 1 :] = edges[i + 1 :, i]
    return edges


def naive_charges(stream, num_entities):
    charges = stream.choice([-1.0, 0.0, 1.0], size=(num_entities, 1), p=[0.5, 0, 0.5])
    return charges.dot(charges.T)


@pytest.mark.parametrize("num_entities", [2, 3, 5, 10])
@pytest.mark.parametrize(("name", "system"), [("springs", Springs), ("charged", Charged)])
def test_skipping_ahead_equals_drawing_everything(name, system, num_entities):
    naive = naive_starts(name, num_entities, TINY_SPLITS)
    for split, scenes in naive.items():
        for num_scenes in (1, len(scenes)):
            start = canonical_start(system(num_entities), split, num_scenes, TINY_SPLITS)
            loc, vel, edges = (np.stack(part) for part in zip(*scenes[:num_scenes], strict=True))
            expected = scaled_start(system(num_entities), Start(loc, vel, edges))
            np.testing.assert_array_equal(start.loc, expected.loc)
            np.testing.assert_array_equal(start.vel, expected.vel)
            np.testing.assert_array_equal(start.edges, edges)


def test_test_scenes_are_drawn_after_60_000_others():
    run = simulate_canonical(Charged(), "test", 2)
    naive = naive_starts(
        "charged", 5, {"train": Split(50_000, 5_000), "rest": Split(10_000, 5_000), "test": Split(2, 10_000)}
    )
    assert run.loc.shape == (2, 99, 2, 5)
    np.testing.assert_array_equal(run.edges, np.stack([edges for _, _, edges in naive["test"]]))


@pytest.mark.parametrize("name", SYSTEMS)
def test_canonical_scenes_lie_within_the_canonical_extremes(name):
    run, extremes = simulate_canonical(SYSTEMS[name], "train", 200), CANONICAL_EXTREMES[name]
    assert extremes.loc_min - 1e-6 <= run.loc.min() <= run.loc.max() <= extremes.loc_max + 1e-6
    assert extremes.vel_min - 1e-6 <= run.vel.min() <= run.vel.max() <= extremes.vel_max + 1e-6


# any central force


ALL_SYSTEMS = [
    Springs(),
    Springs(3, strengths=(0.0, 0.5, 1.0), probabilities=(0.5, 0.2, 0.3)),
    Springs(9, directed=True),
    Charged(),
    Charged(9, charges=(-1.0, 0.0, 2.0), probabilities=(0.3, 0.3, 0.4)),
]


@pytest.mark.parametrize("system", ALL_SYSTEMS)
def test_every_system_starts_as_it_says_and_returns_what_it_says(system):
    assert isinstance(system, CentralForce)
    run = simulate(system, 300, generator=0, num_steps=2, sample_every=1)
    assert run.loc.shape == run.vel.shape == (300, 1, 2, system.num_entities)
    assert run.edges.shape == (300, system.num_entities, system.num_entities)
    assert run.loc.dtype == run.vel.dtype == run.edges.dtype == np.float64
    assert run.time_step == STEP
    assert run.loc.std() == pytest.approx(system.start_spread, rel=0.1)
    assert np.median(np.hypot(run.vel[:, :, 0], run.vel[:, :, 1])) == pytest.approx(system.speed, rel=0.01)
    assert np.abs(run.vel.mean((0, 1, 3))).max() < 0.1, "directions are uniform"


@pytest.mark.parametrize("system", ALL_SYSTEMS)
@pytest.mark.parametrize("chunk_size", [1, 3, 16])
def test_chunks_change_nothing(system, chunk_size):
    whole, parts = (
        simulate(system, 7, generator=1, num_steps=300, observation_noise=0.1, chunk_size=size)
        for size in (None, chunk_size)
    )
    np.testing.assert_array_equal(whole.loc, parts.loc)
    np.testing.assert_array_equal(whole.vel, parts.vel)


@pytest.mark.parametrize("system", ALL_SYSTEMS)
def test_a_short_simulation_is_the_beginning_of_a_long_one(system):
    short, long = (simulate(system, n, generator=2, num_steps=200, observation_noise=0.1) for n in (3, 8))
    np.testing.assert_array_equal(short.edges, long.edges[:3])
    np.testing.assert_array_equal(short.loc, long.loc[:3])


def test_randomness_is_the_argument_and_nothing_else():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the global state is what must not change
    generator = np.random.default_rng(3)
    first, second = (simulate(Springs(), 2, generator=generator, num_steps=200) for _ in range(2))
    again = simulate(Springs(), 2, generator=3, num_steps=200)
    np.testing.assert_array_equal(first.loc, again.loc)
    assert not np.array_equal(first.loc, second.loc)
    simulate_canonical(Springs(2), "train", 1)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_progress_bar_counts_chunks(capsys):
    simulate(Springs(), 2, generator=0, num_steps=200, chunk_size=1, progress=True)
    assert "chunks of 1 scenes" in capsys.readouterr().out
    simulate(Springs(), 2, generator=0, num_steps=200)
    assert capsys.readouterr().out == ""


# relations


def test_spring_labels_have_their_frequencies_and_are_symmetric_without_diagonal():
    edges = Springs(5, (0.0, 0.5, 1.0), (0.6, 0.1, 0.3)).draw_edges(4_000, np.random.default_rng(0))
    np.testing.assert_array_equal(edges, edges.swapaxes(1, 2))
    assert (edges.diagonal(axis1=1, axis2=2) == 0).all()
    pairs = edges[:, *np.tril_indices(5, -1)]
    assert [(pairs == label).mean() for label in (0.0, 0.5, 1.0)] == pytest.approx([0.6, 0.1, 0.3], abs=0.01)


def test_directed_labels_are_drawn_for_each_direction():
    edges = Springs(directed=True).draw_edges(4_000, np.random.default_rng(0))
    there, back = edges[:, *np.triu_indices(5, 1)], edges.swapaxes(1, 2)[:, *np.triu_indices(5, 1)]
    assert np.corrcoef(there.ravel(), back.ravel())[0, 1] == pytest.approx(0, abs=0.03)
    assert (edges.diagonal(axis1=1, axis2=2) == 0).all()


def test_charge_labels_are_products():
    edges = Charged().draw_edges(100, np.random.default_rng(0))
    np.testing.assert_array_equal(edges, edges[:, :, :1] * edges[:, :1, :])
    assert set(np.unique(edges)) == {-1.0, 1.0}
    assert (edges.diagonal(axis1=1, axis2=2) == 1).all()


@pytest.mark.parametrize(("receiver", "sender"), [(0, 1), (1, 0)])
def test_a_sender_moves_its_receiver_and_not_the_reverse(receiver, sender):
    edges = np.zeros((2, 2))
    edges[receiver, sender] = 1.0
    start = two_entities([(-0.5, 0.2), (0.5, -0.1)], [(0.1, 0.0), (0.0, 0.1)], edges)
    run = integrate(Springs(2), start, num_steps=2_000)
    np.testing.assert_allclose(run.vel[0, :, :, sender], np.broadcast_to(start.vel[0, :, sender], (19, 2)), atol=0)
    towards = start.loc[0, :, sender] - start.loc[0, :, receiver]
    assert (run.vel[0, 0, :, receiver] - start.vel[0, :, receiver]) @ towards > 0


# motion with known answers


def test_two_entities_on_a_spring_are_a_harmonic_oscillator():
    """``r'' = -2 k r`` with k = 0.1, so r = r0 cos(w t) with w = sqrt(2 k), but for a first-order scheme."""
    run = integrate(Springs(2), two_entities([(-0.5, 1.0), (0.5, 1.0)]), num_steps=20_001)
    times = run.time_step * np.arange(1, 201)
    distance = run.loc[0, :, 0, 1] - run.loc[0, :, 0, 0]
    np.testing.assert_allclose(distance, np.cos(np.sqrt(0.2) * times), atol=5e-4)
    np.testing.assert_allclose(run.loc[0, :, 1], 1.0, atol=1e-12)


def test_symmetric_springs_conserve_momentum_and_energy():
    run = simulate(Springs(start_spread=0.3), 50, generator=4)
    momentum, center = run.vel.sum(3), run.loc.mean(3)
    np.testing.assert_allclose(momentum, np.broadcast_to(momentum[:, :1], momentum.shape), atol=1e-12)
    drift = np.diff(center, axis=1) - run.time_step * momentum[:, :1] / 5
    np.testing.assert_allclose(drift, 0, atol=1e-12)
    differences = run.loc[..., :, None] - run.loc[..., None, :]
    stretched = np.einsum("sij,stdij->st", run.edges, differences**2)
    energy = 0.5 * (run.vel**2).sum((2, 3)) + 0.25 * 0.1 * stretched
    np.testing.assert_allclose(energy, np.broadcast_to(energy[:, :1], energy.shape), rtol=1e-3)


@pytest.mark.parametrize(("label", "sign"), [(1.0, 1), (-1.0, -1)])
def test_like_charges_part_and_opposite_ones_meet_at_the_inverse_square(label, sign):
    start = two_entities([(-1.0, 0.0), (1.0, 0.0)], edges=[(1.0, label), (label, 1.0)])
    run = integrate(Charged(2), start, num_steps=2, sample_every=1)
    acceleration = run.vel[0, 0, 0] / STEP  # one kick at the start, at distance 2
    np.testing.assert_allclose(acceleration, [-sign / 4, sign / 4], rtol=1e-12)


def test_forces_are_clipped_and_finite_however_close_charges_are():
    close = two_entities([(0.0, 0.0), (1e-5, -1e-5)], edges=np.ones((2, 2)))
    run = integrate(Charged(2), close, num_steps=2, sample_every=1)
    np.testing.assert_allclose(np.abs(run.vel), 0.1)
    same = two_entities([(1.0, 2.0), (1.0, 2.0)], edges=np.ones((2, 2)))
    np.testing.assert_array_equal(integrate(Charged(2), same, num_steps=2, sample_every=1).vel, 0)


def test_a_free_entity_bounces_between_the_walls():
    """Position folded at the walls: a triangle wave of period 4 BOX / speed."""
    free = np.zeros((2, 2))
    run = integrate(
        Springs(2), two_entities([(0.0, 0.0), (4.0, 1.0)], [(20.0, -3.0), (0.0, 7.0)], free), num_steps=3_000
    )
    times = run.time_step * np.arange(1, 30)
    unfolded = np.array([[20.0, 0.0], [-3.0, 7.0]]) * times[:, None, None] + np.array([[0.0, 4.0], [0.0, 1.0]])
    phase = (unfolded + BOX) % (4 * BOX)
    np.testing.assert_allclose(run.loc[0], BOX - np.abs(phase - 2 * BOX), atol=1e-9)
    np.testing.assert_allclose(np.abs(run.vel[0]), np.broadcast_to([[20.0, 0.0], [3.0, 7.0]], (29, 2, 2)), atol=1e-9)


def test_nobody_leaves_the_box():
    run = simulate(Charged(start_spread=3.0, speed=4.0), 20, generator=5, num_steps=1_000, sample_every=1)
    assert BOX - 0.01 < np.abs(run.loc).max() <= BOX


def test_walls_turn_velocities_inward_and_nothing_else_does():
    free = Springs(strengths=(0.0,), start_spread=2.0, speed=10.0)
    run = simulate(free, 20, generator=5, num_steps=1_000, sample_every=1)
    before, after = run.vel[:, :-1], run.vel[:, 1:]
    beyond = np.abs(run.loc[:, :-1] + STEP * before) > BOX
    assert beyond.sum() > 100
    assert (after * run.loc[:, 1:] < 0)[beyond].all()
    np.testing.assert_array_equal(np.abs(before), np.abs(after))
    np.testing.assert_array_equal(before[~beyond], after[~beyond])


def test_a_start_beyond_a_wall_is_mirrored_into_the_box():
    start = two_entities([(5.25, 0.0), (0.0, -5.5)], [(1.0, 0.0), (0.0, -1.0)], np.zeros((2, 2)))
    run = integrate(Springs(2), start, num_steps=2, sample_every=1)
    np.testing.assert_allclose(run.loc[0, 0], [[4.75 - STEP, 0.0], [0.0, -4.5 + STEP]])
    assert start.loc[0, 0, 0] == 5.25, "what the caller passed is left alone"


def test_noise_is_on_what_is_observed_and_not_on_the_motion():
    clean, noisy = (simulate(Springs(), 100, generator=6, observation_noise=noise) for noise in (0.0, 0.1))
    np.testing.assert_array_equal(clean.edges, noisy.edges)
    for error in (noisy.loc - clean.loc, noisy.vel - clean.vel):
        assert error.std() == pytest.approx(0.1, rel=0.02)
        assert error.mean() == pytest.approx(0, abs=0.002)
        assert np.corrcoef(error[:, :-1].ravel(), error[:, 1:].ravel())[0, 1] == pytest.approx(0, abs=0.02)
    assert abs(np.corrcoef((noisy.loc - clean.loc).ravel(), (noisy.vel - clean.vel).ravel())[0, 1]) < 0.02


# errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Springs(num_entities=1), "num_entities must be 2 or more"),
        (lambda: Charged(num_entities=0), "num_entities must be 2 or more"),
        (lambda: Springs(strengths=()), "at least one"),
        (lambda: Springs(probabilities=(0.5, 0.6)), "sum to 1"),
        (lambda: Charged(probabilities=(-0.5, 1.5)), "0 or more"),
        (lambda: Springs(strengths=(0.0, 0.5, 1.0), probabilities=(0.5, 0.5)), "one probability for each of the 3"),
        (lambda: simulate(Kuramoto(), 1, generator=0), r"central forces.*got Kuramoto.*call its draw"),  # type: ignore
        (lambda: simulate(Springs(), 0, generator=0), "num_scenes must be 1 or more"),
        (lambda: simulate(Springs(), 1, generator=0, num_steps=199), "at least 2"),
        (lambda: simulate(Springs(), 1, generator=0, sample_every=0), "sample_every of at least 1"),
        (lambda: simulate(Springs(), 1, generator=0, observation_noise=-0.1), "standard deviation"),
        (lambda: simulate(Springs(), 1, generator=0, chunk_size=0), "chunk_size must be 1 or more"),
        (
            lambda: integrate(Springs(3), two_entities([(0.0, 0.0), (1.0, 1.0)])),
            r"start.loc must have shape \(1, 2, 3\)",
        ),
        (
            lambda: integrate(Springs(2), two_entities([(0.0, 0.0), (1.0, 1.0)], edges=[[0.0, 1.0]])),
            "start.edges must have",
        ),
        (lambda: integrate(Springs(2), Start(*np.zeros((2, 0, 2, 2)), np.zeros((0, 2, 2)))), "one scene or more"),
        (lambda: simulate_canonical(Springs(directed=True), "train", 1), "Use `simulate`"),
        (lambda: simulate_canonical(Springs(strengths=(0.0, 0.5, 1.0)), "train", 1), "all else by default"),
        (lambda: canonical_start(Springs(), "validation", 1, TINY_SPLITS), "split must be one of train, valid, test"),
        (lambda: simulate_canonical(Springs(), "valid", 10_001), "10000 scenes"),
        (lambda: simulate_canonical(Springs(), "train", 0), "at least one"),
    ],
)
def test_errors_say_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
