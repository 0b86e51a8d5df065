"""Message sums: the energies of the plain loss, whole or one changed block at a time."""

import pytest
import torch
from test_energies import model_for, scenes

from bouncegrad.energies import CHUNK_CELLS, receiver_energies
from bouncegrad.energies.factors_of import factors_of
from bouncegrad.energies.message_sums import MessageSums, message_sums
from bouncegrad.energies.windows import cut_windows, pack
from bouncegrad.models.decoder import NetworkConfig
from bouncegrad.models.noise import NoiseConfig
from bouncegrad.structures.factors import FactorTables, block_kinds
from bouncegrad.structures.layout import TABLE_LIMIT, Layout

NETWORKS = [
    NetworkConfig(hidden=6, update=update, inputs=inputs, num_edge_kinds=num_edge_kinds, num_node_kinds=num_node_kinds)
    for update in ("general", "superposed")
    for inputs, num_edge_kinds, num_node_kinds in (("relative", 2, 1), ("absolute", 3, 2))
]
NOISES = [NoiseConfig("none"), NoiseConfig("learned", None, hidden=5), NoiseConfig("learned", 4.0, hidden=5)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("noise", NOISES, ids=lambda n: f"{n.scale}-{n.degrees_of_freedom}")
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: f"{n.update}-{n.num_node_kinds}")
class TestEnergies:
    """Of random walks, one with an absent entity and one with a gap."""

    def made(self, network: NetworkConfig, noise: NoiseConfig):
        data = scenes(4)
        model = model_for(data, network, noise)
        batch = pack(model, data)
        target = (model, batch, cut_windows(batch))
        return message_sums(*target), target, model.layout(4)

    def chains(self, layout: Layout, slots: torch.Tensor) -> torch.Tensor:
        return layout.random(12, generator(3))[:, slots].unflatten(0, (4, 3))

    @torch.no_grad()
    def test_they_are_those_of_the_plain_loss(self, network, noise):
        sums, target, layout = self.made(network, noise)
        structures = layout.random(4, generator(3))
        expected = receiver_energies(*target, structures)
        state = sums.chain_state(structures[:, sums.slots][:, None])
        close(state.energies[:, 0], expected)
        close(sums(structures), expected.sum(1))

    def test_alternatives_are_those_of_changed_structures(self, network, noise):
        sums, _, layout = self.made(network, noise)
        state = sums.chain_state(self.chains(layout, sums.slots))
        blocks = [torch.tensor([[0, 2], [1, 0], [2, 1], [0, 1]]), torch.tensor([[2], [0], [1], [1]])]
        if layout.num_node_kinds > 1:
            blocks.append(torch.full((4, 1), 3))
        for positions in blocks:
            found = sums.alternatives(state, positions)
            kinds = block_kinds(layout.receiver_kinds[int(positions[0, 0])], positions.shape[1])
            for code, values in enumerate(kinds):
                changed = state.with_kinds(positions, values.expand(4, 3, 4, -1))
                close(found[..., code], sums.chain_state(changed).energies)

    def test_sums_that_move_are_sums_made_anew(self, network, noise):
        sums, _, layout = self.made(network, noise)
        state = sums.chain_state(self.chains(layout, sums.slots))
        random = generator(5)
        for _ in range(20):
            positions = torch.stack([torch.randperm(3, generator=random)[:2] for _ in range(4)])
            codes = torch.randint(layout.num_edge_kinds**2, (4, 3, 4), generator=random)
            state = sums.move(state, positions, codes)
        torch.testing.assert_close(state.cache, sums.chain_state(state.kinds).cache, atol=1e-4, rtol=1e-4)


def test_tables_and_sums_say_the_same():
    data = scenes(4)
    model = model_for(data, NETWORKS[2], NOISES[2])
    batch = pack(model, data)
    tables, sums = factors_of(model, batch, cut_windows(batch)), message_sums(model, batch, cut_windows(batch))
    assert isinstance(tables, FactorTables)
    kinds = model.layout(4).random(20, generator(3))[:, sums.slots].unflatten(0, (4, 5))
    first, second = tables.chain_state(kinds), sums.chain_state(kinds)
    close(first.energies, second.energies)
    positions = torch.tensor([[0, 2], [1, 0], [2, 1], [0, 1]])
    close(tables.alternatives(first, positions), sums.alternatives(second, positions))
    codes = torch.randint(4, (4, 5, 4), generator=generator(6))
    moved, again = tables.move(first, positions, codes), sums.move(second, positions, codes)
    assert torch.equal(moved.kinds, again.kinds)
    assert torch.equal(moved.cache, tables.chain_state(moved.kinds).cache)


def test_large_scenes_have_no_tables():
    """What would be 14 x 2^13 entries becomes a message for each edge and kind."""
    data = scenes(14, 3)
    model = model_for(data, NETWORKS[2], NOISES[2])
    batch = pack(model, data)
    found = factors_of(model, batch, cut_windows(batch))
    assert TABLE_LIMIT < 2**13
    assert isinstance(found, MessageSums)
    assert found.messages.numel() == 3 * 14 * 13 * 2 * 6 * 4


def test_chunks_change_nothing(monkeypatch):
    data = scenes(4)
    model = model_for(data, NETWORKS[0], NOISES[2])
    batch = pack(model, data)
    whole = message_sums(model, batch, cut_windows(batch))
    monkeypatch.setattr("bouncegrad.energies.message_sums.CHUNK_CELLS", 1)
    parts = message_sums(model, batch, cut_windows(batch))
    structures = model.layout(4).random(4, generator(3))
    torch.testing.assert_close(parts.messages, whole.messages)
    torch.testing.assert_close(parts(structures), whole(structures))
    assert CHUNK_CELLS > 1
