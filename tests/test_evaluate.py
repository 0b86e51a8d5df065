from itertools import product

import pytest
import torch

from bouncegrad.compositions import NetworkConfig
from bouncegrad.evaluate import loss_fn, receiver_energies, receiver_tables, training_loss
from bouncegrad.model import Model, ModelConfig, pack, windows
from bouncegrad.noise import NoiseConfig, negative_log_likelihood
from bouncegrad.scenes import Normalization, Scenes

NETWORKS = [
    NetworkConfig(hidden=6, update=update, skip=skip, inputs=inputs, num_node_kinds=num_node_kinds)
    for update in ("general", "superposed")
    for skip, inputs in ((True, "relative"), (False, "absolute"))
    for num_node_kinds in (1, 2)
]
NOISES = [NoiseConfig("none"), NoiseConfig("learned", hidden=5), NoiseConfig("learned", 4.0, hidden=5)]


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
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: f"{n.update}-{n.inputs}-{n.num_node_kinds}")
def test_tables_equal_the_plain_loss_of_every_structure(network: NetworkConfig, noise: NoiseConfig):
    data = scenes()
    model = model_for(data, network, noise)
    batch = pack(model, data)
    stretches = windows(batch)
    tables, plain = receiver_tables(model, batch, stretches), loss_fn(model, batch, stretches)
    layout = model.layout(3)
    every = list(product(*(range(count) for count in layout.num_kinds)))
    assert len(every) == 2**layout.num_slots
    for structure in every:
        structures = torch.tensor(structure).expand(4, -1)
        torch.testing.assert_close(tables(structures), plain(structures), rtol=1e-5, atol=1e-4)


def test_tables_refuse_what_does_not_factorise():
    data = scenes()
    model = model_for(data, NetworkConfig(hidden=6), NOISES[0])
    batch = pack(model, data)
    with pytest.raises(ValueError, match="horizon 2"):
        receiver_tables(model, batch, windows(batch, 2))


def test_mean_squared_error_is_what_it_says():
    data = scenes()
    model = model_for(data, NETWORKS[0], NOISES[0])
    batch = pack(model, data)
    stretches = windows(batch, horizon=3, stride=3)
    structures = model.layout(3).random(4, generator(3))
    rolled = model.network.rollout(stretches.states, batch.graph, structures, 3)
    own = batch.graph.pack_nodes(torch.tensor([0, 1, 2, 3])[:, None].expand(-1, 3)) == 0
    expected = (rolled - stretches.targets).square().mean(-1)[own].mean()
    torch.testing.assert_close(loss_fn(model, batch, stretches)(structures)[0], expected)


def test_missing_samples_weigh_nothing():
    """Whatever stands at an unobserved time, no energy changes; the scene's other times still count."""
    data = scenes()
    model = model_for(data, NETWORKS[0], NOISES[1])
    batch = pack(model, data)
    stretches = windows(batch)
    lost = batch.graph.unpack_nodes(stretches.weights)[2, :, :, 0]
    assert lost[:, 3].sum() == 0, "nobody can be predicted from a time at which somebody was not seen"
    assert lost[1, 2] == 0
    assert lost[0, 2] == 1
    structures = model.layout(3).random(4, generator(3))
    before = receiver_energies(model, batch, stretches, structures)
    node = int(batch.graph.unpack_nodes(torch.arange(batch.graph.num_nodes))[2, 1])
    batch.states[node, 3] = 100.0
    after = receiver_energies(model, batch, windows(batch), structures)
    torch.testing.assert_close(before, after)


def test_windows_need_enough_samples():
    data = scenes()
    batch = pack(model_for(data, NETWORKS[0], NOISES[0]), data)
    assert windows(batch, 6).states.shape[1] == 1
    with pytest.raises(ValueError, match="at least 8 samples, these have 7"):
        windows(batch, 7)


def test_other_features_are_refused():
    data = scenes()
    model = model_for(data, NETWORKS[0], NOISES[0])
    other = Scenes(data.states[..., :2], data.mask, 0.1, ("x", "y"), data.entity_names)
    with pytest.raises(ValueError, match="x, y, vx, vy, but the scenes have x, y"):
        pack(model, other)


def test_student_tails_tend_to_normal_ones():
    residuals = torch.tensor([[0.5, -1.0]], dtype=torch.float64)
    log_scales = torch.tensor([[0.3, 0.0]], dtype=torch.float64)
    normal = negative_log_likelihood(residuals, log_scales)
    torch.testing.assert_close(negative_log_likelihood(residuals, log_scales, 1e7), normal, rtol=1e-5, atol=0)
    frame = torch.tensor([[50.0]])
    assert negative_log_likelihood(frame, frame * 0, 4.0) < 0.02 * negative_log_likelihood(frame, frame * 0)


@pytest.mark.parametrize("noise", NOISES, ids=lambda n: f"{n.scale}-{n.degrees_of_freedom}")
def test_the_scale_learns_from_residuals_and_the_mean_from_weighted_squares(noise: NoiseConfig):
    data = scenes()
    model = model_for(data, NETWORKS[0], noise)
    batch = pack(model, data)
    training_loss(model, batch, windows(batch), model.layout(3).random(4, generator())).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)
