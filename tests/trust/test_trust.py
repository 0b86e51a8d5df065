"""Whether an answer can be trusted: surrogate scenes have no relations, and a model fits the world that it
describes."""

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bouncegrad.energies.windows import pack
from bouncegrad.fit import fit
from bouncegrad.inference import infer
from bouncegrad.models.decoder import NetworkConfig
from bouncegrad.models.model import Model
from bouncegrad.models.noise import NoiseConfig, Normal
from bouncegrad.scenes import DataError, Scenes, from_arrays
from bouncegrad.simulate import Springs, simulate
from bouncegrad.trust import Shuffle, misfit, null_test
from bouncegrad.trust.misfit import misfit_of
from bouncegrad.trust.residuals import Residuals
from small import springs, tiny, untrained
from worlds import generator


def strangers(num_scenes: int, seed: int = 0) -> Scenes:
    """Particles that each moved on springs, but never met those beside them."""
    return Shuffle.draw(springs(num_scenes, seed=seed), generator(seed)).apply(springs(num_scenes, seed=seed))


def numbered(num_scenes: int, num_times: int = 20, num_entities: int = 4) -> Scenes:
    """Every state tells its scene, time and entity."""
    grids = torch.meshgrid(*(torch.arange(n) for n in (num_scenes, num_times, num_entities)), indexing="ij")
    mask = torch.ones(num_scenes, num_times, num_entities, dtype=torch.bool)
    return Scenes(torch.stack(grids, 3).double(), mask, 1.0, ("a", "b", "c"), tuple("pqrs"[:num_entities]))


@pytest.mark.parametrize("seed", range(3))
def test_strangers_never_met(seed: int):
    """Every track is there once, whole, in its own place, and no two of a scene come from the same one."""
    scenes = numbered(6)
    mixed = Shuffle.draw(scenes, generator(seed)).apply(scenes)
    sources, times, entities = mixed.states.unbind(3)
    assert (sources == sources[:, :1]).all()
    assert torch.equal(times, scenes.states[..., 1])
    assert torch.equal(entities, scenes.states[..., 2])
    assert all(len(row.unique()) == 4 for row in sources[:, 0])
    assert all(torch.equal(column.sort().values, torch.arange(6.0).double()) for column in sources[:, 0].T)
    assert mixed.mask.all()


@pytest.mark.parametrize("num_scenes", [1, 2])
def test_few_scenes_are_turned_in_time(num_scenes: int):
    scenes = numbered(num_scenes, num_times=40)
    shuffle = Shuffle.draw(scenes, generator())
    mixed = shuffle.apply(scenes)
    assert shuffle.turns
    for scene in range(num_scenes):
        shifts = shuffle.shifts[scene].sort().values
        assert torch.cat([shifts, shifts[:1] + 40]).diff().min() >= 5  # half of 40 / 4
    steps = mixed.states[..., 1].diff(dim=1)
    assert ((steps == 1) | ~mixed.mask[:, 1:]).all()
    assert torch.equal(mixed.mask, shuffle.as_gappy(scenes).mask)


def test_absent_entities_stay_absent():
    scenes = numbered(12)
    mask = scenes.mask.clone()
    mask[:6, :, 3] = False
    scenes = replace(
        scenes, mask=mask, exogenous=torch.zeros(12, 4, dtype=torch.bool).index_fill(1, torch.tensor(0), 1)
    )
    mixed = Shuffle.draw(scenes, generator()).apply(scenes)
    assert torch.equal(mixed.mask, scenes.mask)
    assert mixed.exogenous is not None
    assert torch.equal(mixed.exogenous, scenes.exogenous)


def test_springs_are_relations(springs_model):
    found = null_test(springs_model, springs(40, seed=5))
    assert found.has_relations
    assert (found.p_value, found.structure_p_value) == (0.05, 0.05)
    assert 1 < found.structure_effect < 6 * 0.7 + 0.1  # six pairs of one bit each
    assert "There are relations" in str(found)
    assert json.loads(json.dumps(found.to_dict()))["nats_per_pair"] == pytest.approx(found.effect / 6)


def test_one_scene_is_enough_for_springs(springs_model):
    found = null_test(springs_model, springs(1, seed=5, num_steps=10_000))
    assert found.turned
    assert found.has_relations


def test_strangers_are_not_related(springs_model):
    """Neither where the model knows springs, nor where it learned from strangers."""
    unseen = strangers(40, seed=6)
    found = null_test(springs_model, unseen)
    assert not found.has_relations
    assert "No relations are detected" in str(found)
    assert not null_test(fit(strangers(24), tiny()), unseen).has_relations


def test_p_values_of_strangers_are_uniform():
    model = untrained(springs(8), NetworkConfig(hidden=4))
    ranks = torch.tensor([null_test(model, strangers(6, seed), seed=seed + 50).p_value for seed in range(10)])
    assert (ranks <= 0.05).sum() <= 2
    assert 0.3 < ranks.mean() < 0.8


def test_null_tests_that_cannot_be(springs_model):
    with pytest.raises(ValueError, match="expected 19 shuffles or more, got 5"):
        null_test(springs_model, springs(5), num_shuffles=5)
    with pytest.raises(DataError, match="3 samples or more, got 2"):
        null_test(springs_model, springs(5).between(0, 2))
    rounds = untrained(springs(5), NetworkConfig(hidden=4, message_steps=2))
    with pytest.raises(ValueError, match="one round of messages, this one has 2"):
        null_test(rounds, springs(5))


@torch.no_grad()
def own_world(model: Model, num_scenes: int, noise: float = 1.0, num_times: int = 30) -> Scenes:
    """Scenes that move exactly as a model says, with errors ``noise`` times as large as it says."""
    scenes, network = springs(num_scenes, seed=9), model.network
    batch, draws = pack(model, scenes), torch.distributions.Chi2(torch.tensor(4.0))
    structures = model.layout(3).random(num_scenes, generator(1))
    kinds = batch.graph.pack_edges(structures), batch.graph.pack_node_kinds(structures)
    states = [batch.states[:, 0]]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(num_times - 1):
            errors = torch.randn(states[-1].shape) / (draws.sample(states[-1].shape) / 4).sqrt()
            errors = noise * errors * torch.exp(model.log_scales(states[-1], batch.graph)) * network.unit
            states.append(network.step(states[-1], batch.graph, *kinds) + errors)
    unpacked = model.normalization.undo(batch.graph.unpack_nodes(torch.stack(states, 1)).transpose(1, 2))
    return replace(scenes, states=unpacked, mask=scenes.mask[:, :num_times], relations=None)


def test_a_model_fits_its_own_world(springs_model):
    scenes = own_world(springs_model, 40)
    found = misfit(springs_model, scenes, infer(springs_model, scenes, prior="none"))
    assert found.warnings == ()
    assert "The model fits" in str(found)
    for feature in found.features:
        assert feature.distance < 0.03
        assert feature.coverage == pytest.approx((0.5, 0.9, 0.99), abs=0.02)
        assert abs(feature.autocorrelation) < 0.05


def test_more_noise_does_not_fit(springs_model):
    scenes = own_world(springs_model, 40, noise=5.0)
    found = misfit(springs_model, scenes, infer(springs_model, scenes, prior="none"))
    assert "x, y, vx, vy: errors are larger than the model claims" in str(found)
    assert found.to_dict()["warnings"] == list(found.warnings)


def test_springs_fit_and_other_worlds_do_not(springs_model):
    scenes = springs(40, seed=5)
    assert misfit(springs_model, scenes).warnings == ()
    strengths = simulate(Springs(3, (0.0, 2.5)), 40, generator=7)
    for sign, other in {
        "larger than the model claims": replace(scenes, states=scenes.states[:, ::2], mask=scenes.mask[:, ::2]),
        "something that acts is missing": from_arrays(strengths.loc, strengths.vel),
        "most errors have one sign": blown(scenes),
        "measurement noise": shaken(scenes),
    }.items():
        assert any(sign in text for text in misfit(springs_model, other).warnings), sign


def blown(scenes: Scenes) -> Scenes:
    """In a constant wind along x."""
    times = torch.arange(scenes.num_times).double()[None, :, None]
    change = torch.stack([0.001 * times.square(), 0 * times, 0.02 * times, 0 * times], 3)
    return replace(scenes, states=scenes.states + change)


def shaken(scenes: Scenes) -> Scenes:
    """Measured with noise."""
    return replace(scenes, states=scenes.states + 0.02 * torch.randn(scenes.states.shape, generator=generator()))


def test_one_strange_entity_is_named(springs_model):
    scenes = springs(20, seed=5)
    states = scenes.states.clone()
    states[3, :, 1] += 0.1 * torch.randn(states[3, :, 1].shape, generator=generator())
    found = misfit(springs_model, replace(scenes, states=states, scene_names=tuple(f"s{i}" for i in range(20))))
    assert (found.worst.scene, found.worst.entity) == (3, 1)
    assert any("entity 1 of scene s3" in text for text in found.warnings)


def residuals(values: Tensor, left: float = 1.0) -> Residuals:
    """Of 20 scenes and 5 entities, of normal errors."""
    valid = torch.ones(values.shape[:3], dtype=torch.bool)
    return Residuals(values, values, left * values, valid, Normal())


def test_what_is_left_over():
    """White errors are all right, however large; those that go on, or alternate, matter where they are large."""
    scenes = numbered(20, 31, 4)
    white = torch.randn(20, 31, 4, 3, generator=generator())
    going_on, alternating = (white[:, 1:] + white[:, :-1]) / 2**0.5, (white[:, 1:] - white[:, :-1]) / 2**0.5
    assert misfit_of(residuals(white[:, 1:]), scenes).warnings == ()
    assert "something that acts is missing" in misfit_of(residuals(going_on), scenes).warnings[0]
    assert "alternate in sign" in misfit_of(residuals(alternating), scenes).warnings[0]
    assert misfit_of(residuals(going_on, left=0.05), scenes).warnings == ()


def test_few_samples_raise_no_alarm():
    scenes = numbered(1, 6)
    for seed in range(20):
        assert misfit_of(residuals(torch.randn(1, 5, 4, 3, generator=generator(seed))), scenes).warnings == ()


def test_mean_squares_have_tails_too():
    model = untrained(springs(10), NetworkConfig(hidden=4), NoiseConfig("none"))
    found = misfit(model, springs(10))
    assert not found.claimed
    assert all(0.5 < feature.coverage[1] <= 1 for feature in found.features)


def test_misfits_that_cannot_be(springs_model):
    with pytest.raises(DataError, match="the posterior of 5 scenes, got one of 4"):
        misfit(springs_model, springs(5), infer(springs_model, springs(4)))
    scenes = springs(3)
    alternately = scenes.mask & (torch.arange(49) % 2 == 0)[None, :, None]
    with pytest.raises(DataError, match="no sample can be predicted"):
        misfit(springs_model, replace(scenes, mask=alternately))


def test_other_settings_of_models():
    """General updates, shared scales and mean squares are examined like any other."""
    scenes = springs(6)
    for noise in (NoiseConfig("shared", None), NoiseConfig("none")):
        model = untrained(scenes, NetworkConfig(hidden=4, update="general"), noise)
        assert null_test(model, scenes).num_pairs == 6
        assert misfit(model, scenes).num_scenes == 6
