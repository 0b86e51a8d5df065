"""Inference and prediction: exact where it can be, blind to labels and to the future."""

import importlib
import math
from dataclasses import replace
from itertools import product

import pytest
import torch

from bouncegrad.energies import loss_fn
from bouncegrad.energies.windows import cut_windows, pack
from bouncegrad.evaluation.metrics import match_relations
from bouncegrad.inference import infer, predict, weakest_kind
from bouncegrad.models.decoder import NetworkConfig
from bouncegrad.models.model import Model
from bouncegrad.models.noise import NoiseConfig
from bouncegrad.scenes import DataError, Scenes, from_arrays, stack_scenes
from bouncegrad.structures import layout as layouts
from bouncegrad.structures.layout import to_slots
from small import springs, untrained, without_labels

posteriors = importlib.import_module("bouncegrad.inference.posterior")  # the package has a function called infer

NETWORKS = [
    NetworkConfig(hidden=6),
    NetworkConfig(hidden=6, num_edge_kinds=3),
    NetworkConfig(hidden=6, num_node_kinds=2, update="general", inputs="absolute", skip=False),
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def accuracy(model: Model, scenes: Scenes) -> float:
    return match_relations(infer(model, scenes).relations, scenes.relations, scenes.present).accuracy


# structures


@pytest.mark.parametrize("noise", [NoiseConfig(hidden=4), NoiseConfig("none"), NoiseConfig("learned", 4.0, hidden=4)])
@pytest.mark.parametrize("network", NETWORKS)
def test_the_posterior_is_that_of_all_structures(network, noise):
    """All structures of two entities are listed, each with the loss that training has for it."""
    scenes = springs(3, num_entities=2 if network.num_node_kinds > 1 else 3).between(0, 6)
    model = untrained(scenes, network, noise)
    layout, batch = model.layout(scenes.num_entities), pack(model, scenes)
    every = torch.tensor(list(product(*map(range, layout.num_kinds))))
    target = loss_fn(model, batch, cut_windows(batch))
    losses = torch.stack([target(row.expand(3, -1)) for row in every], 1).double()
    numbers = 5 * scenes.num_entities * 4
    nats = 1.0 if noise.scale == "learned" else numbers / (2 * losses.amin(1).mean())
    probabilities = torch.softmax(-nats * losses, 1)
    found = infer(model, scenes)
    assert torch.equal(found.structures, every[losses.argmin(1)])
    torch.testing.assert_close(found.losses.double(), losses.amin(1), rtol=1e-4, atol=1e-4)
    for kind in range(found.marginals.shape[2]):
        expected = probabilities @ (every == kind).double()
        torch.testing.assert_close(found.marginals[:, :, kind].double(), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        found.marginals.sum(2), torch.ones_like(found.losses)[:, None].expand(-1, layout.num_slots)
    )


def test_probabilities_and_relations_are_matrices():
    scenes = springs(4)
    found = infer(untrained(scenes, NETWORKS[1]), scenes)
    diagonal = torch.eye(3, dtype=torch.bool)
    assert (found.relations[:, diagonal] == -1).all()
    assert (found.probabilities[:, diagonal] == 0).all()
    torch.testing.assert_close(found.probabilities[:, ~diagonal].sum(2), torch.ones(4, 6))
    assert torch.equal(to_slots(found.relations), found.structures)
    assert (found.node_kinds == 0).all()
    assert infer(untrained(scenes, NETWORKS[2]), scenes).node_kinds.shape == (4, 3)


def test_labels_are_not_looked_at(springs_model):
    scenes = springs(20, seed=2)
    assert scenes.relations is not None
    found = infer(springs_model, scenes)
    for version in (without_labels(scenes), replace(scenes, relations=1 - scenes.relations)):
        again = infer(springs_model, version)
        assert torch.equal(again.structures, found.structures)
        assert torch.equal(again.marginals, found.marginals)


def test_a_transposed_answer_would_be_wrong(directed_model):
    """Row = who is acted on: where relations have a direction the transpose of the answer is no better than a coin."""
    scenes = springs(100, seed=1, directed=True)
    found = infer(directed_model, scenes).relations
    assert match_relations(found, scenes.relations).accuracy > 0.95
    assert match_relations(found.mT, scenes.relations).accuracy < 0.65


@pytest.mark.parametrize("num_entities", [2, 4, 5])
def test_other_numbers_of_entities(springs_model, num_entities):
    assert accuracy(springs_model, springs(40, num_entities=num_entities, seed=1)) > 0.9


def test_absent_entities_are_left_out(springs_model):
    """Scenes of three among scenes of four: the same answers as alone, and as good ones."""
    three, four = springs(20, seed=3), springs(20, num_entities=4, seed=4)
    mixed = stack_scenes([three, four])
    found, alone = infer(springs_model, mixed), infer(springs_model, three)
    assert torch.equal(found.relations[:20, :3, :3], alone.relations)
    torch.testing.assert_close(found.probabilities[:20, :3, :3], alone.probabilities, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.losses[:20], alone.losses, rtol=1e-4, atol=1e-2)
    assert accuracy(springs_model, mixed) > 0.9


def test_a_gap_costs_two_samples_and_nothing_else(springs_model):
    scenes = springs(30, seed=5)
    mask = scenes.mask.clone()
    mask[:, 20, 1] = False
    states = scenes.states.clone()
    states[:, 20, 1] = math.nan
    assert accuracy(springs_model, replace(scenes, states=states, mask=mask)) > 0.9


@pytest.mark.parametrize("noise", [NoiseConfig(hidden=4), NoiseConfig("none")])
def test_scenes_without_two_samples_in_a_row_say_nothing(noise):
    scenes = springs(3, seed=5).between(0, 6)
    mask = scenes.mask.clone()
    mask[:, ::2] = False
    found = infer(untrained(scenes, NETWORKS[0], noise), replace(scenes, mask=mask))
    torch.testing.assert_close(found.marginals, torch.full((3, 6, 2), 0.5))
    rounds = NetworkConfig(hidden=6, update="general", message_steps=2)
    assert infer(untrained(scenes, rounds, noise), replace(scenes, mask=mask)).marginals.isfinite().all()


def test_chunks_change_nothing(springs_model, monkeypatch):
    scenes = springs(10, seed=6)
    found = infer(springs_model, scenes)
    monkeypatch.setattr(posteriors, "CELL_BUDGET", 1)
    assert torch.equal(infer(springs_model, scenes).structures, found.structures)


def test_sampling_agrees_with_the_exact_answer(springs_model, monkeypatch):
    scenes = springs(60, seed=7)
    exact = infer(springs_model, scenes, prior="none")
    monkeypatch.setattr(layouts, "TABLE_LIMIT", 1)
    sampled = infer(springs_model, scenes, prior="none")
    assert torch.equal(sampled.structures, exact.structures)
    # half a nat: single precision of the states, against scales of a ten-thousandth of the box
    torch.testing.assert_close(sampled.losses, exact.losses, rtol=1e-3, atol=0.5)
    torch.testing.assert_close(sampled.marginals.sum(2), torch.ones(60, 6))
    assert (sampled.marginals - exact.marginals).abs().mean() < 0.03
    assert match_relations(infer(springs_model, scenes).relations, scenes.relations).accuracy > 0.95


def test_longer_rollouts_are_read_from_tables_and_by_sampling_alike(springs_model, monkeypatch):
    scenes = springs(5, seed=8).between(0, 15)
    exact = infer(springs_model, scenes, prior="none", horizon=3)
    assert match_relations(exact.relations, scenes.relations).accuracy > 0.9
    assert exact.log_evidence.isfinite().all()
    monkeypatch.setattr(layouts, "TABLE_LIMIT", 1)
    sampled = infer(springs_model, scenes, horizon=3)
    assert (sampled.structures == exact.structures).float().mean() > 0.9
    assert (sampled.marginals - exact.marginals).abs().mean() < 0.05


def test_other_features_are_refused(springs_model):
    space = from_arrays(torch.zeros(2, 9, 3, 3), torch.zeros(2, 9, 3, 3))
    with pytest.raises(ValueError, match="trained on the features x, y, vx, vy, but the scenes have x, y, z"):
        infer(springs_model, space)


def test_scenes_shorter_than_the_horizon(springs_model):
    with pytest.raises(ValueError, match="a rollout of 5 steps needs scenes of at least 6 samples, these have 5"):
        infer(springs_model, springs(2).between(0, 5), horizon=5)


def test_the_kind_that_does_nothing_is_named(springs_model):
    scenes = springs(60, seed=9)
    match = match_relations(infer(springs_model, scenes).relations, scenes.relations)
    weakest = weakest_kind(springs_model, scenes)
    assert weakest is not None
    assert match.labels[match.relabelling[weakest]] == 0


# predictions


def test_only_the_start_is_read(springs_model):
    """Any other sample may be anything, also missing: a prediction that peeks would change."""
    scenes = springs(5, seed=1)
    structures = infer(springs_model, scenes).structures
    found = predict(springs_model, scenes, structures, start=30, num_steps=18)
    others = torch.arange(49) != 30
    states, mask = scenes.states.clone(), scenes.mask.clone()
    states[:, others] = 3 * torch.randn(5, 48, 3, 4, generator=generator(), dtype=torch.float64)
    assert torch.equal(
        predict(springs_model, replace(scenes, states=states), structures, start=30, num_steps=18), found
    )
    mask[:, others] = False
    assert torch.equal(predict(springs_model, replace(scenes, mask=mask), structures, start=30, num_steps=18), found)
    assert torch.equal(predict(springs_model, scenes.between(30, 49), structures, start=0, num_steps=18), found)
    assert torch.equal(predict(springs_model, scenes, structures, start=-19, num_steps=18), found)


def test_the_start_matters(springs_model):
    scenes = springs(5, seed=1)
    structures = infer(springs_model, scenes).structures
    states = scenes.states.clone()
    states[:, 30] += 0.1
    found = predict(springs_model, scenes, structures, start=30, num_steps=3)
    assert not torch.equal(
        predict(springs_model, replace(scenes, states=states), structures, start=30, num_steps=3), found
    )


def test_the_motion_is_predicted(springs_model):
    scenes = springs(40, seed=1)
    structures = infer(springs_model, scenes).structures
    found = predict(springs_model, scenes, structures, start=20, num_steps=10)
    errors = (found - scenes.states[:, 21:31]).square().mean((0, 2, 3))
    still = (scenes.states[:, 20:21] - scenes.states[:, 21:31]).square().mean((0, 2, 3))
    assert (errors < 0.1 * still).all()
    wrong = predict(springs_model, scenes, 1 - structures, start=20, num_steps=10)
    assert (wrong - scenes.states[:, 21:31]).square().mean() > 10 * errors.mean()


def test_who_was_not_measured_at_the_start_does_not_act(springs_model):
    scenes = springs(6, num_entities=4, seed=1)
    structures = torch.ones(6, 12, dtype=torch.long)
    mask = scenes.mask.clone()
    mask[:, 30, 3] = False
    found = predict(springs_model, replace(scenes, mask=mask), structures, start=30, num_steps=5)
    three = Scenes(scenes.states[:, :, :3], scenes.mask[:, :, :3], 0.1, scenes.feature_names, tuple("abc"))
    alone = predict(springs_model, three, torch.ones(6, 6, dtype=torch.long), start=30, num_steps=5)
    torch.testing.assert_close(found[:, :, :3], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("start", "num_steps"), [(49, 5), (-50, 5), (3, 0)])
def test_spans_that_cannot_be(springs_model, start, num_steps):
    scenes = springs(2)
    with pytest.raises(DataError, match=f"from 0 to 48 and at least one step, got start {start} and {num_steps} steps"):
        predict(springs_model, scenes, torch.zeros(2, 6, dtype=torch.long), start=start, num_steps=num_steps)


def test_structures_of_other_scenes_are_refused(springs_model):
    with pytest.raises(DataError, match=r"\(2, 6\), got \(2, 12\): infer them from these scenes"):
        predict(springs_model, springs(2), torch.zeros(2, 12, dtype=torch.long), start=3, num_steps=1)


def test_what_was_imported_from_its_old_place_still_is():
    found = importlib.import_module("bouncegrad.infer")
    assert found.weakest_kind is weakest_kind
    assert found.infer is infer
