"""What the proposal network says at once, and the search that it leads: right, bounded, refused without a network."""

import importlib
import math
from copy import deepcopy
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch

from bouncegrad.energies import loss_fn
from bouncegrad.energies.windows import cut_windows, pack
from bouncegrad.evaluation.metrics import match_relations
from bouncegrad.inference import infer
from bouncegrad.models.checkpoint import load_model, save_model
from bouncegrad.models.decoder import NetworkConfig
from bouncegrad.models.model import Model
from bouncegrad.models.noise import NoiseConfig
from bouncegrad.models.proposer import Proposer, ProposerConfig
from bouncegrad.scenes import Scenes, from_arrays, stack_scenes
from bouncegrad.structures.calibration import Reading
from small import springs, untrained

both = importlib.import_module("bouncegrad.inference.guided")  # the package has a function called infer
posteriors = importlib.import_module("bouncegrad.inference.posterior")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def with_proposer(model: Model, **config: Any) -> Model:
    """A copy of a model with a network that nobody trained, so it is unsure of everything and sometimes wrong."""
    copy = deepcopy(model)
    network, shape = model.config.network, {"num_times": 49, "num_features": 4}
    kinds = network.num_edge_kinds, network.num_node_kinds
    settings = ProposerConfig(**{"sees": "trajectories", "hidden": 16, "structure_hidden": 16, **config})
    copy.proposer = Proposer(settings, kinds, **shape, generator=generator(5))
    return copy.eval()


def warm(model: Model, temperature: float) -> Model:
    """The same model, read so hot that many structures are probable."""
    model.reading = Reading(temperature=temperature, weights={"none": [math.log(0.7), math.log(0.3)]})
    return model


def repeated(scenes: Scenes, times: int) -> Scenes:
    """One scene, many times: as many searches beside each other."""
    return scenes.at([0] * times)


# the network alone


@pytest.mark.parametrize("config", [{}, {"encoder": "cnn"}, {"sees": "both"}])
@pytest.mark.parametrize("num_entities", [2, 3, 5])
def test_the_networks_probabilities_are_the_answer(springs_model, config, num_entities):
    model = with_proposer(springs_model, **config)
    scenes = springs(6, num_entities=num_entities, seed=1)
    batch = pack(model, scenes)
    with torch.no_grad():
        expected = model.proposer.from_trajectories(batch.states, batch.graph).exp()
    found = infer(model, scenes, mode="proposal")
    assert torch.equal(found.marginals, expected)
    assert torch.equal(found.structures, expected.argmax(2))
    assert not found.marginals.requires_grad
    assert found.losses.isnan().all()
    assert found.log_evidence.isnan().all()
    assert (found.prior, found.mode) == ("proposal", "proposal")
    assert found.relations.shape == (6, num_entities, num_entities)
    torch.testing.assert_close(found.marginals.sum(2), torch.ones(6, num_entities * (num_entities - 1)))


@pytest.mark.parametrize("encoder", ["mlp", "cnn"])
def test_the_network_sees_no_absent_entities(springs_model, encoder):
    model = with_proposer(springs_model, encoder=encoder)
    three, four = springs(4, seed=3), springs(4, num_entities=4, seed=4)
    found = infer(model, stack_scenes([three, four]), mode="proposal")
    alone = infer(model, three, mode="proposal")
    assert torch.equal(found.relations[:4, :3, :3], alone.relations)
    torch.testing.assert_close(found.probabilities[:4, :3, :3], alone.probabilities, atol=1e-5, rtol=0)


def test_convolutions_read_other_lengths_and_the_rest_reads_the_first_samples(springs_model):
    scenes = springs(4, seed=1, num_steps=10_000)
    model = with_proposer(springs_model, encoder="cnn")
    answers = [infer(model, scenes.between(0, length), mode="proposal").marginals for length in (14, 49, 99)]
    assert all(answer.shape == (4, 6, 2) for answer in answers)
    assert not torch.equal(answers[1], answers[2])
    model = with_proposer(springs_model)
    first, whole = (infer(model, scenes.between(0, length), mode="proposal").marginals for length in (49, 99))
    assert torch.equal(first, whole)


def test_the_network_answers_in_chunks(springs_model, monkeypatch):
    model, scenes = with_proposer(springs_model), springs(5, seed=6)
    found = infer(model, scenes, mode="proposal")
    monkeypatch.setattr(posteriors, "CELL_BUDGET", 1)
    torch.testing.assert_close(infer(model, scenes, mode="proposal").marginals, found.marginals)


@pytest.mark.parametrize("mode", ["proposal", "both"])
@pytest.mark.parametrize("kinds", [{"num_edge_kinds": 3}, {"num_node_kinds": 3}, {"num_edge_kinds": 1}])
def test_any_number_of_kinds(kinds, mode):
    scenes = springs(3)
    network = NetworkConfig(hidden=6, update="general", **kinds)
    found = infer(with_proposer(untrained(scenes, network)), scenes, mode=mode)
    layout = found.layout
    counts = torch.tensor(layout.num_kinds)
    assert (found.structures < counts).all()
    assert found.marginals.shape == (3, layout.num_slots, int(counts.max()))
    assert (found.marginals[:, torch.arange(int(counts.max())) >= counts[:, None]] == 0).all()
    torch.testing.assert_close(found.marginals.sum(2), torch.ones(3, layout.num_slots))
    assert found.node_kinds.shape == (3, 3)


def test_a_saved_model_answers_alike(springs_model, tmp_path):
    scenes = springs(4, seed=1)
    for config in ({"sees": "both"}, {"sees": "structures"}, {"encoder": "cnn"}):
        model = with_proposer(springs_model, **config)
        save_model(tmp_path, model)
        again = load_model(tmp_path)
        for mode in ("both",) if config.get("sees") == "structures" else ("proposal", "both"):
            found, expected = infer(again, scenes, mode=mode), infer(model, scenes, mode=mode)
            assert torch.equal(found.structures, expected.structures)
            assert torch.equal(found.marginals, expected.marginals)


@pytest.mark.parametrize("prior", ["auto", "none", "symmetric", "classes"])
def test_a_search_does_not_ask_the_network(springs_model, prior):
    scenes = springs(8, seed=2)
    plain, other = infer(springs_model, scenes, prior=prior), infer(with_proposer(springs_model), scenes, prior=prior)
    assert torch.equal(other.structures, plain.structures)
    assert torch.equal(other.losses, plain.losses)
    assert torch.equal(other.marginals, plain.marginals)
    assert torch.equal(other.log_evidence, plain.log_evidence)
    assert (other.prior, other.mode) == (plain.prior, "search")


# the search that it leads


@pytest.mark.parametrize("config", [{}, {"sees": "structures"}, {"sees": "both", "blanking": "flip"}])
def test_the_search_agrees_with_the_exact_posterior(springs_model, config):
    """Under shares of kinds that are not alike, and so hot that there is something to agree on."""
    model = warm(with_proposer(springs_model, **config), 2000.0)
    scenes = repeated(springs(1, seed=7), 500)
    exact, found = infer(model, scenes, prior="none"), infer(model, scenes, mode="both")
    assert 0.1 < float(exact.marginals[0].amin(1).min()) < 0.2
    assert (found.marginals.mean(0) - exact.marginals[0]).abs().max() < 0.04  # 3 standard errors
    best = (found.structures == exact.structures).all(1)
    assert best.float().mean() > 0.5
    torch.testing.assert_close(found.losses[best], exact.losses[best], rtol=1e-4, atol=1e-2)
    assert found.log_evidence.isnan().all()
    assert (found.prior, found.mode) == ("none", "both")


def test_the_search_finds_what_the_network_does_not_know(springs_model, monkeypatch):
    """Most of it in its few steps, all of it in many."""
    scenes, model = springs(60, seed=7), with_proposer(springs_model)
    exact = infer(springs_model, scenes, prior="none")
    assert (infer(model, scenes, mode="proposal").structures == exact.structures).float().mean() < 0.7
    assert (infer(model, scenes, mode="both").structures == exact.structures).float().mean() > 0.95
    monkeypatch.setattr(both, "PROPOSALS", 120)
    found = infer(model, scenes, mode="both")
    assert torch.equal(found.structures, exact.structures)
    assert (found.marginals - exact.marginals).abs().mean() < 0.01
    assert match_relations(found.relations, scenes.relations, scenes.present).accuracy > 0.95


def test_the_search_wastes_nothing_on_absent_entities(springs_model):
    """Three entities in scenes with room for six, by a network that is sure of everything: as well read as alone."""
    model, three = with_proposer(springs_model), springs(30, seed=3)
    with torch.no_grad():
        for parameter in model.proposer.heads.parameters():
            parameter.mul_(10)
    mixed = stack_scenes([three, springs(1, num_entities=6, seed=4)]).at(range(30))
    found, alone = infer(model, mixed, mode="both"), infer(model, three, mode="both")
    exact = infer(model, three, prior="none").relations
    right = [(relations == exact).float().mean() for relations in (found.relations[:, :3, :3], alone.relations)]
    assert right[0] > right[1] - 0.04
    assert (found.structures[:, 3 * 5 :] == 0).all()
    assert found.losses.isfinite().all()


@pytest.mark.parametrize("noise", [NoiseConfig(hidden=4), NoiseConfig("none")])
def test_the_search_agrees_with_all_structures_of_several_rounds(noise):
    """Where there are no tables. Without a scale, what the best structure leaves over stands in for it."""
    scenes = repeated(springs(1).between(0, 14), 400)
    network = NetworkConfig(hidden=6, update="general", message_steps=2, skip=False)
    model = with_proposer(untrained(scenes, network, noise), encoder="cnn")
    model.reading = Reading(temperature=0.5)
    every = torch.tensor(list(product(range(2), repeat=6)))
    batch = pack(model, scenes.at([0]))
    target = loss_fn(model, batch, cut_windows(batch, 2))
    losses = torch.cat([target(row[None]) for row in every]).double()
    count = 12 * 2 * 3 * 4
    nats = 1.0 if noise.scale == "learned" else count / (2 * losses.min())
    probabilities = torch.softmax(-nats * losses / (2 * 0.5), 0)
    expected = torch.stack([probabilities @ (every == kind).double() for kind in range(2)], 1)
    found = infer(model, scenes, mode="both", horizon=2)
    assert expected.amin() < 0.3
    assert (found.marginals.mean(0) - expected).abs().max() < 0.04
    assert (found.structures == every[losses.argmin()]).all(1).float().mean() > 0.4
    assert found.losses.mean() < losses.min() + 0.1 * losses.std()


@pytest.mark.parametrize("horizon", [1, 3])
def test_look_ups_sums_and_rollouts_lead_alike(springs_model, monkeypatch, horizon):
    model, scenes = with_proposer(springs_model, encoder="cnn"), springs(6, seed=8).between(0, 20)
    exact = infer(model, scenes, prior="none", horizon=horizon)
    monkeypatch.setattr(both, "PROPOSALS", 120)
    for are_few in (True, False):
        monkeypatch.setattr(both, "_are_few", lambda layout, answer=are_few: answer)
        found = infer(model, scenes, mode="both", horizon=horizon)
        assert torch.equal(found.structures, exact.structures)
        assert (found.marginals - exact.marginals).abs().mean() < 0.01
        torch.testing.assert_close(found.losses, exact.losses, rtol=1e-3, atol=0.5)


def test_the_cost_is_bounded(springs_model, monkeypatch):
    model, scenes, calls = with_proposer(springs_model), springs(2, num_entities=4, seed=1), []

    def counted(*target: Any):
        losses = loss_fn(*target)
        return lambda structures: calls.append(len(structures)) or losses(structures)

    monkeypatch.setattr(both, "loss_fn", counted)
    monkeypatch.setattr(both, "_are_few", lambda layout: False)
    infer(model, scenes, mode="both", horizon=2)
    assert 20 * 4 <= len(calls) <= 20 * 4 + 10


def test_rollouts_that_diverge_are_left(springs_model, monkeypatch):
    """Also where the search begins; the temperature does not mind them."""
    model, scenes = with_proposer(springs_model), springs(20, seed=1)
    exact = infer(model, scenes, prior="none")
    guess = infer(model, scenes, mode="proposal").structures
    tables = both.receiver_tables

    def diverging(*target: Any):
        losses = tables(*target)
        return lambda structures: losses(structures).where((structures != guess).any(1), math.nan)

    monkeypatch.setattr(both, "receiver_tables", diverging)
    found = infer(model, scenes, mode="both")
    assert found.losses.isfinite().all()
    elsewhere = (guess != exact.structures).any(1)
    assert elsewhere.sum() > 10
    assert (found.structures == exact.structures)[elsewhere].float().mean() > 0.9


def test_seeds(springs_model):
    model, scenes = warm(with_proposer(springs_model), 2000.0), springs(5, seed=1)
    first, again, other = (infer(model, scenes, mode="both", seed=seed).marginals for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# what is refused


@pytest.mark.parametrize("mode", ["proposal", "both"])
def test_models_without_a_network(springs_model, mode):
    with pytest.raises(ValueError, match='no proposal network: fit with the recipe "alet2019", or with training'):
        infer(springs_model, springs(2), mode=mode)


def test_networks_that_see_structures_only(springs_model):
    model = with_proposer(springs_model, sees="structures")
    with pytest.raises(ValueError, match="reads trajectories, this one sees structures: fit with .*trajectories"):
        infer(model, springs(2), mode="proposal")


@pytest.mark.parametrize("mode", ["proposal", "both"])
def test_scenes_shorter_than_the_network_reads(springs_model, mode):
    with pytest.raises(ValueError, match='at least 49 samples of a scene, these have 30: bring longer.* "cnn"'):
        infer(with_proposer(springs_model), springs(2).between(0, 30), mode=mode)
    with pytest.raises(ValueError, match="at least 14 samples of a scene, these have 10"):
        infer(with_proposer(springs_model, encoder="cnn"), springs(2).between(0, 10), mode=mode)


@pytest.mark.parametrize("mode", ["proposal", "both"])
def test_other_features(springs_model, mode):
    space = from_arrays(torch.zeros(2, 49, 3, 3), torch.zeros(2, 49, 3, 3))
    model = with_proposer(springs_model)
    with pytest.raises(ValueError, match="trained on the features x, y, vx, vy, but the scenes have x, y, z"):
        infer(model, space, mode=mode)
    model.proposer = Proposer(ProposerConfig(sees="trajectories", hidden=8), (3, 1), 49, 4, generator())
    with pytest.raises(ValueError, match=r"for \(3, 1\) kinds .* and 4 features, the model has \(2, 1\) and 4"):
        infer(model, springs(2), mode=mode)


def test_the_horizon_counts_where_motion_is_compared(springs_model):
    scenes = springs(2)
    with pytest.raises(ValueError, match="a rollout of 49 steps needs scenes of at least 50 samples"):
        infer(with_proposer(springs_model), scenes, mode="both", horizon=49)
    infer(with_proposer(springs_model), scenes, mode="proposal", horizon=49)


@pytest.mark.parametrize("mode", ["proposal", "both"])
def test_priors_are_for_searches_alone(springs_model, mode):
    model = with_proposer(springs_model)
    with pytest.raises(ValueError, match=f"mode \"{mode}\" reads under no prior, but the prior 'symmetric'"):
        infer(model, springs(2), mode=mode, prior="symmetric")
    with pytest.raises(ValueError, match="there is no prior 'triangles': choose auto or one of none"):
        infer(model, springs(2), mode=mode, prior="triangles")
    none = infer(model, springs(2), mode=mode, prior="none")
    assert torch.equal(none.marginals, infer(model, springs(2), mode=mode).marginals)


def test_modes_that_there_are_not(springs_model):
    with pytest.raises(ValueError, match="there is no mode 'fast': choose one of search, proposal, both"):
        infer(springs_model, springs(2), mode="fast")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("every", [20, 2])
@pytest.mark.parametrize("noise", [NoiseConfig(hidden=4), NoiseConfig("none")])
def test_gaps(noise, every):
    """Also so many that there is no motion to compare."""
    scenes = springs(3, seed=5)
    mask, states = scenes.mask.clone(), scenes.states.clone()
    mask[:, ::every, 1], states[:, ::every, 1] = False, math.nan
    model = with_proposer(untrained(scenes, NetworkConfig(hidden=6), noise))
    for mode in ("proposal", "both"):
        found = infer(model, replace(scenes, states=states, mask=mask), mode=mode)
        assert found.marginals.isfinite().all()
