import math
from itertools import product

import pytest
import torch

from benchmarks.tables import Case, measured
from bouncegrad.energies import (
    add_gradients,
    energies,
    log_scales_of,
    loss_fn,
    receiver_energies,
    receiver_tables,
    residual_moments,
    tasks_at_once,
    training_loss,
)
from bouncegrad.energies.windows import Rollout, cut_windows, pack
from bouncegrad.models.decoder import NetworkConfig
from bouncegrad.models.model import Model, ModelConfig
from bouncegrad.models.noise import NoiseConfig, NoiseModel, Normal, SharedScale, StudentT
from bouncegrad.models.super_graph import super_graph
from bouncegrad.scenes import Normalization, Scenes
from bouncegrad.structures.layout import Layout

NETWORKS = [
    NetworkConfig(hidden=6, update=update, skip=skip, inputs=inputs, num_node_kinds=num_node_kinds)
    for update in ("general", "superposed")
    for skip, inputs in ((True, "relative"), (False, "absolute"))
    for num_node_kinds in (1, 2)
]
NETWORKS += [
    NetworkConfig(hidden=6, update=update, edge_layers=2, silent_first=True) for update in ("general", "superposed")
]
NETWORKS += [
    NetworkConfig(hidden=6, history=3, update="superposed"),
    NetworkConfig(hidden=6, history=2, update="general", inputs="absolute", skip=False, num_node_kinds=2),
]
NOISES = [
    NoiseConfig(scale, tails, hidden=5)
    for scale, tails in (("none", None), ("shared", None), ("shared", 4.0), ("learned", None), ("learned", 4.0))
]


ROLLOUTS = ("receiver", "scene")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scenes(num_entities: int = 3, num_scenes: int = 4) -> Scenes:
    """Random walks; in one scene an entity is absent, in another a sample is missing."""
    steps = 0.2 * torch.randn(num_scenes, 7, num_entities, 4, generator=generator(1), dtype=torch.float64)
    mask = torch.ones(num_scenes, 7, num_entities, dtype=torch.bool)
    mask[1, :, num_entities - 1] = False
    mask[2, 3, 1] = False
    names = tuple("abcdefghijklmn"[:num_entities])
    return Scenes(steps.cumsum(1), mask, 0.1, ("x", "y", "vx", "vy"), names)


def model_for(data: Scenes, network: NetworkConfig, noise: NoiseConfig) -> Model:
    model = Model(ModelConfig(network, noise), Normalization.fit(data), data.feature_names, generator())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator(7)))
    return model


@pytest.mark.parametrize("noise", NOISES, ids=lambda n: f"{n.scale}-{n.degrees_of_freedom}")
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: f"{n.update}-{n.inputs}-{n.num_node_kinds}-{n.history}")
def test_tables_equal_the_plain_loss_of_every_structure(network: NetworkConfig, noise: NoiseConfig):
    data = scenes()
    model = model_for(data, network, noise)
    batch = pack(model, data)
    windows = cut_windows(batch)
    tables, plain = receiver_tables(model, batch, windows), loss_fn(model, batch, windows)
    layout = model.layout(3)
    every = list(product(*(range(count) for count in layout.num_kinds)))
    assert len(every) == 2**layout.num_slots
    for structure in every:
        structures = torch.tensor(structure).expand(4, -1)
        torch.testing.assert_close(tables(structures), plain(structures), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("noise", NOISES, ids=lambda n: f"{n.scale}-{n.degrees_of_freedom}")
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: f"{n.update}-{n.inputs}-{n.num_node_kinds}-{n.history}")
def test_tables_of_rollouts_equal_the_plain_loss(network: NetworkConfig, noise: NoiseConfig, monkeypatch):
    """Of every combination of each receiver's slots: all receivers run through theirs side by side."""
    monkeypatch.setattr(energies, "CHUNK_CELLS", 500)  # several chunks of nodes and of combinations
    data = scenes()
    model = model_for(data, network, noise)
    batch = pack(model, data)
    windows = cut_windows(batch, 3, rollout="receiver")
    tables, plain = receiver_tables(model, batch, windows), loss_fn(model, batch, windows)
    num_combinations = math.prod(model.layout(3).receiver_kinds)
    assert tables.energies.shape == (4, 3, num_combinations)
    for first in range(num_combinations):
        combinations = (first + torch.arange(3) * 3) % num_combinations
        structures = tables.structures_of(combinations.expand(4, -1))
        torch.testing.assert_close(tables(structures), plain(structures), rtol=1e-5, atol=1e-4)


def test_tables_refuse_what_does_not_factorise():
    data = scenes()
    model = model_for(data, NetworkConfig(hidden=6), NOISES[0])
    batch = pack(model, data)
    with pytest.raises(ValueError, match="horizon 2 of a scene: take windows with rollout"):
        receiver_tables(model, batch, cut_windows(batch, 2))
    rounds = model_for(data, NetworkConfig(hidden=6, message_steps=2), NOISES[0])
    with pytest.raises(ValueError, match="this has 2 rounds"):
        receiver_tables(rounds, batch, cut_windows(batch, 2, rollout="receiver"))
    with pytest.raises(ValueError, match="this network has 2: roll whole scenes out"):
        loss_fn(rounds, batch, cut_windows(batch, 2, rollout="receiver"))(rounds.layout(3).random(4, generator()))


def test_a_receiver_that_rolls_out_alone_hears_what_really_was():
    """Step by step: its own last prediction among the true states of the others."""
    data = scenes()
    model = model_for(data, NETWORKS[0], NOISES[0])
    batch = pack(model, data)
    structures = model.layout(3).random(4, generator(3))
    windows = cut_windows(batch, 3, rollout="receiver")
    found = model.network.rollout_receivers(windows.origins, batch.graph, structures)
    node = 1
    among = batch.states[:, 2].clone()  # the third start
    for step in range(3):
        among = batch.states[:, 2 + step].index_put((torch.tensor([node]),), among[node])
        among = model.network.rollout(among, batch.graph, structures, 1)[:, 0]
        torch.testing.assert_close(found[node, 2, step], among[node])


def test_one_step_of_a_receiver_is_one_step_of_its_scene():
    data = scenes()
    model = model_for(data, NETWORKS[1], NOISES[3])
    batch = pack(model, data)
    structures = model.layout(3).random(4, generator(3))
    alone, together = (receiver_energies(model, batch, cut_windows(batch, 1, 1, r), structures) for r in ROLLOUTS)
    assert torch.equal(alone, together)


def test_receivers_count_while_their_senders_are_seen():
    """Sample 3 of entity 1 is missing in scene 2: others get no further, its own skip it."""
    data = scenes()
    batch = pack(model_for(data, NETWORKS[0], NOISES[0]), data)
    weights = batch.graph.unpack_nodes(cut_windows(batch, 3, rollout="receiver").weights)[2]
    assert weights[0].tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert weights[1].tolist() == [[1, 1, 0], [1, 0, 1], [0, 1, 1], [0, 0, 0]]


def test_errors_accumulate_through_the_linear_skip():
    """Two features, position and velocity: an error of velocity is one of position after another step."""
    data = scenes()
    model = model_for(data, NetworkConfig(hidden=6), NoiseConfig("shared", None))
    assert isinstance(model.scale, SharedScale)
    with torch.no_grad():
        model.network.skip_weight.copy_(torch.tensor([[0.0, 0, 0, 0], [0, 0, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0]]))
        model.network.unit.copy_(torch.tensor([0.5, 1, 1, 1]))
        model.scale.tenth.copy_(torch.tensor([1.0, 2, 3, 4]).log() / model.scale.pace)
    batch = pack(model, data)
    variances = torch.exp(2 * log_scales_of(model, batch.graph, cut_windows(batch, 3, rollout="receiver")))[0, 0]
    gain = 2 / 0.5  # of velocity on position, in units of each; an error of the first step has twice the time for it
    expected = [1, 1 + (1 + gain**2 * 9), 1 + (1 + gain**2 * 9) + (1 + (2 * gain) ** 2 * 9)]
    torch.testing.assert_close(variances[:, 0], torch.tensor(expected))
    torch.testing.assert_close(variances[:, 2], torch.tensor([9.0, 18, 27]))


def test_mean_squared_error_is_what_it_says():
    data = scenes()
    model = model_for(data, NETWORKS[0], NOISES[0])
    batch = pack(model, data)
    windows = cut_windows(batch, horizon=3, stride=3)
    structures = model.layout(3).random(4, generator(3))
    rolled = model.network.rollout(windows.states, batch.graph, structures, 3)
    own = batch.graph.pack_nodes(torch.tensor([0, 1, 2, 3])[:, None].expand(-1, 3)) == 0
    expected = (rolled - windows.targets).square().mean(-1)[own].mean()
    torch.testing.assert_close(loss_fn(model, batch, windows)(structures)[0], expected)


def test_missing_samples_weigh_nothing():
    """Whatever stands at an unobserved time, no energy changes; the scene's other times still count."""
    data = scenes()
    model = model_for(data, NETWORKS[0], NOISES[1])
    batch = pack(model, data)
    windows = cut_windows(batch)
    lost = batch.graph.unpack_nodes(windows.weights)[2, :, :, 0]
    assert lost[:, 3].sum() == 0, "nobody can be predicted from a time at which somebody was not seen"
    assert lost[1, 2] == 0
    assert lost[0, 2] == 1
    structures = model.layout(3).random(4, generator(3))
    before = receiver_energies(model, batch, windows, structures)
    node = int(batch.graph.unpack_nodes(torch.arange(batch.graph.num_nodes))[2, 1])
    batch.states[node, 3] = 100.0
    after = receiver_energies(model, batch, cut_windows(batch), structures)
    torch.testing.assert_close(before, after)


def test_windows_need_enough_samples():
    data = scenes()
    batch = pack(model_for(data, NETWORKS[0], NOISES[0]), data)
    assert cut_windows(batch, 6).states.shape[1] == 1
    with pytest.raises(ValueError, match="at least 8 samples, these have 7"):
        cut_windows(batch, 7)


def test_other_features_are_refused():
    data = scenes()
    model = model_for(data, NETWORKS[0], NOISES[0])
    other = Scenes(data.states[..., :2], data.mask, 0.1, ("x", "y"), data.entity_names)
    with pytest.raises(ValueError, match="x, y, vx, vy, but the scenes have x, y"):
        pack(model, other)


@pytest.mark.parametrize(("noise", "least", "most"), [(Normal(), 0.97, 1.03), (StudentT(3.0), 0.7, 0.9)])
def test_a_shared_scale_finds_the_spread_of_the_residuals(noise: NoiseModel, least: float, most: float):
    """Normal residuals of known spread: under normal tails the scale is their root mean square, under others less."""
    scale, graph = SharedScale(3), super_graph(torch.ones(1, 3, dtype=torch.bool))
    residuals = torch.randn(4000, 3, generator=generator()) * torch.tensor([0.01, 0.1, 1.0])
    optimizer = torch.optim.Adam(scale.parameters(), 5e-3)
    for _ in range(250):
        optimizer.zero_grad()
        noise.energy(residuals, scale(residuals, graph)).mean().backward()
        optimizer.step()
    found = torch.exp(scale(residuals, graph))[0] / residuals.square().mean(0).sqrt()
    assert found.min() > least
    assert found.max() < most


def test_without_a_scale_there_are_no_tails():
    data = scenes()
    structures, losses = Layout(3, 2).random(4, generator(3)), []
    for tails in (None, 4.0):
        model = model_for(data, NETWORKS[0], NoiseConfig("none", tails))
        batch = pack(model, data)
        losses.append(loss_fn(model, batch, cut_windows(batch))(structures))
    assert torch.equal(*losses)


@pytest.mark.parametrize("rollout", ROLLOUTS)
@pytest.mark.parametrize("noise", NOISES, ids=lambda n: f"{n.scale}-{n.degrees_of_freedom}")
def test_longer_rollouts_teach_all_parts(noise: NoiseConfig, rollout: Rollout):
    data = scenes()
    model = model_for(data, NETWORKS[0], noise)
    batch = pack(model, data)
    structures = model.layout(3).random(4, generator())
    training_loss(model, batch, cut_windows(batch, 3, rollout=rollout), structures).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("noise", NOISES, ids=lambda n: f"{n.scale}-{n.degrees_of_freedom}")
def test_the_scale_learns_from_residuals_and_the_mean_from_weighted_squares(noise: NoiseConfig):
    data = scenes()
    model = model_for(data, NETWORKS[0], noise)
    batch = pack(model, data)
    training_loss(model, batch, cut_windows(batch), model.layout(3).random(4, generator())).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_losses_do_not_depend_on_how_many_are_taken_at_once(monkeypatch, size: int):
    data = scenes()
    model = model_for(data, NETWORKS[0], NOISES[0])
    batch, structures = pack(model, data), model.layout(3).random(4, generator())
    windows = cut_windows(batch, 3, 2)
    whole = loss_fn(model, batch, windows)(structures)
    monkeypatch.setattr(energies, "tasks_at_once", lambda *target: size)
    torch.testing.assert_close(loss_fn(model, batch, windows)(structures), whole)


@pytest.mark.parametrize("noise", NOISES[:2], ids=lambda n: n.scale)
@pytest.mark.parametrize("size", [1, 3, 4])
def test_gradients_of_parts_add_up_to_that_of_the_whole(monkeypatch, size: int, noise: NoiseConfig):
    """To what the parameters hold already; one scene has half the samples, and nothing of another was seen."""
    data = scenes()
    data.mask[0, 3:] = data.mask[3] = False
    model = model_for(data, NETWORKS[0], noise)
    batch, structures = pack(model, data), model.layout(3).random(4, generator())
    windows = cut_windows(batch, 3, 1)
    loss = training_loss(model, batch, windows, structures)
    loss.backward()
    expected = [2 * parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    monkeypatch.setattr(energies, "tasks_at_once", lambda *target: size)
    assert add_gradients(model, batch, windows, structures) == pytest.approx(loss.item(), rel=1e-5)
    found = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_as_many_tasks_at_once_as_stay_in_cache(monkeypatch):
    data = scenes(num_scenes=10)
    model = model_for(data, NetworkConfig(hidden=8), NOISES[0])
    batch = pack(model, data)
    windows = cut_windows(batch, 2)
    per_task = len(batch.graph.senders) / 10 * windows.states.shape[1] * 8
    for cells, expected in ((1, 1), (2.4 * per_task, 2), (7 * per_task, 7)):
        monkeypatch.setattr(energies, "CHUNK_CELLS", cells)
        assert tasks_at_once(model, batch, windows) == expected


def test_moments_of_residuals_are_those_of_all_that_was_seen():
    """Against one list of the errors of rollouts, and of those that follow each other."""
    data = scenes()
    model = model_for(data, NETWORKS[0], NOISES[0])
    batch, structures = pack(model, data), model.layout(3).random(4, generator())
    windows = cut_windows(batch, 3, 1, partial=True)
    with torch.no_grad():
        errors = windows.targets - model.network.rollout(windows.states, batch.graph, structures, 3)
    seen = windows.weights.bool()
    squares = errors[seen].square()
    centred = errors - errors[seen].mean()
    before, after = (part[seen[:, :, :-1] & seen[:, :, 1:]] for part in (centred[:, :, :-1], centred[:, :, 1:]))
    mean_square, correlation = residual_moments(model, batch, windows, structures)
    assert mean_square == pytest.approx(squares.mean().item(), rel=1e-4)
    expected = (before * after).sum() / (before.square().sum() * after.square().sum()).sqrt()
    assert correlation == pytest.approx(expected.item(), rel=1e-4)
    assert abs(correlation) > 0.1


def test_the_benchmark_measures():
    figures = measured(Case("general", 4.0, 2), num_tasks=2, repeats=1)
    assert figures["num_evaluations"] == 21
    assert figures["max_relative_difference"] < 1e-4
