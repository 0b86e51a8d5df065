"""Batches and their stretches: parts of them, and where they end."""

import pytest
import torch

from bouncegrad.energies import loss_fn
from bouncegrad.energies.windows import Rollout, cut_windows, pack, select_tasks, split_tasks
from bouncegrad.models.decoder import NetworkConfig
from bouncegrad.models.model import Model, ModelConfig
from bouncegrad.models.noise import NoiseConfig
from bouncegrad.scenes import Normalization, Scenes
from worlds import generator


def scenes(num_scenes: int = 6, num_times: int = 7) -> Scenes:
    """Random walks of up to four entities; in some scenes one is absent, in another a sample is missing."""
    steps = 0.2 * torch.randn(num_scenes, num_times, 4, 2, generator=generator(1), dtype=torch.float64)
    mask = torch.ones(num_scenes, num_times, 4, dtype=torch.bool)
    mask[1, :, 3] = mask[4, :, 0] = mask[4, :, 2] = False
    mask[2, 3, 1] = False
    return Scenes(steps.cumsum(1), mask, 0.1, ("x", "y"), tuple("abcd"))


def model_of(data: Scenes) -> Model:
    config = ModelConfig(NetworkConfig(hidden=6), NoiseConfig("none", None))
    return Model(config, Normalization.fit(data), data.feature_names, generator())


@pytest.mark.parametrize("rollout", ["scene", "receiver"])
@pytest.mark.parametrize("tasks", [[0], [4], [1, 2], [0, 3, 5], [0, 1, 2, 3, 4, 5]])
def test_a_part_of_a_batch_has_the_losses_of_the_whole(tasks: list[int], rollout: Rollout):
    data = scenes()
    model = model_of(data)
    batch = pack(model, data)
    windows, structures = cut_windows(batch, 2, 1, rollout), model.layout(4).random(6, generator(2))
    chosen = torch.tensor(tasks)
    part, its_stretches = select_tasks(batch, windows, chosen)
    found = loss_fn(model, part, its_stretches)(structures[chosen])
    torch.testing.assert_close(found, loss_fn(model, batch, windows)(structures)[chosen])
    packed = pack(model, data.at(tasks))
    assert torch.equal(part.states, packed.states)
    assert torch.equal(part.valid, packed.valid)
    assert its_stretches.rollout == rollout


@pytest.mark.parametrize("size", [1, 2, 4, 6, 100])
def test_parts_make_up_the_batch(size: int):
    batch = pack(model_of(scenes()), scenes())
    parts = list(split_tasks(batch, cut_windows(batch), size))
    assert torch.equal(torch.cat([tasks for tasks, _, _ in parts]), torch.arange(6))
    assert torch.equal(torch.cat([part.states for _, part, _ in parts]), batch.states)
    assert torch.equal(torch.cat([windows.weights for _, _, windows in parts]), cut_windows(batch).weights)
    assert [len(tasks) for tasks, _, _ in parts[:-1]] == [size] * (len(parts) - 1)


def test_rollouts_that_the_end_cuts_short():
    """Seven samples, three steps, a start at every second: the last one sees two of its steps."""
    batch = pack(model_of(scenes()), scenes())
    whole, short = cut_windows(batch, 3, 2), cut_windows(batch, 3, 2, partial=True)
    assert whole.states.shape[1] == 2
    assert short.states.shape[1] == 3
    assert torch.equal(short.states, batch.states[:, [0, 2, 4]])
    assert torch.equal(short.targets[:, 2, :2], batch.states[:, 5:7])
    for name in ("states", "targets", "weights"):
        assert torch.equal(getattr(short, name)[:, :2], getattr(whole, name))
    weights = batch.graph.unpack_nodes(short.weights)
    assert weights[0, 0].tolist() == [[1, 1, 1], [1, 1, 1], [1, 1, 0]]
    assert weights[2, 1].tolist() == [[1, 1, 0], [0, 1, 1], [1, 1, 0]], "sample 3 was not seen"
    assert cut_windows(batch, 3, 3, partial=True).weights[0].tolist() == [[1, 1, 1], [1, 1, 1]], (
        "nothing starts at the end"
    )


@pytest.mark.parametrize("rollout", ["scene", "receiver"])
def test_what_lies_beyond_the_end_costs_nothing(rollout: Rollout):
    """A short rollout costs what it would if the scene had gone on without being measured."""
    data = scenes()
    model = model_of(data)
    batch, structures = pack(model, data), model.layout(4).random(6, generator(2))
    longer = torch.cat([data.states, torch.zeros(6, 2, 4, 2, dtype=torch.float64)], 1)
    unseen = torch.cat([data.mask, torch.zeros(6, 2, 4, dtype=torch.bool)], 1)
    gone_on = pack(model, Scenes(longer, unseen, 0.1, data.feature_names, data.entity_names))
    short = loss_fn(model, batch, cut_windows(batch, 3, 1, rollout, partial=True))(structures)
    torch.testing.assert_close(short, loss_fn(model, gone_on, cut_windows(gone_on, 3, 1, rollout))(structures))
