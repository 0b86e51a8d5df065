"""The proposal network: what it says does not depend on how scenes are written down; and what is hidden from it."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bouncegrad.models.proposer import Proposer, ProposerConfig, blanked
from bouncegrad.models.super_graph import super_graph
from bouncegrad.structures.layout import Layout, to_matrix, to_slots

TIMES, FEATURES = 15, 2
CONFIGS = {
    "mlp": ProposerConfig(sees="trajectories", encoder="mlp", hidden=6, structure_hidden=5),
    "cnn": ProposerConfig(sees="trajectories", encoder="cnn", hidden=6, structure_hidden=5),
    "structures": ProposerConfig(sees="structures", hidden=6, structure_hidden=5),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def proposer_of(name: str, num_kinds: tuple[int, int] = (3, 2)) -> Proposer:
    """A network whose normalisations have seen something."""
    found = Proposer(CONFIGS[name], num_kinds, TIMES, FEATURES, generator())
    for seed in range(20, 26):
        asked(found, scenes(5, 4, num_kinds, seed), torch.ones(5, 4, dtype=torch.bool), learning=generator(seed))
    return found


def scenes(num_scenes: int, num_entities: int, num_kinds: tuple[int, int], seed: int = 1) -> tuple[Tensor, Tensor]:
    """Trajectories ``[scene, entity, time, feature]`` and structures."""
    states = torch.randn(num_scenes, num_entities, TIMES, FEATURES, generator=generator(seed))
    return states, Layout(num_entities, *num_kinds).random(num_scenes, generator(seed))


def asked(
    proposer: Proposer, told: tuple[Tensor, Tensor], present: Tensor, learning: torch.Generator | None = None
) -> Tensor:
    """What a network says of trajectories or structures, without anything hidden."""
    states, structures = told
    graph = super_graph(present)
    if "trajectories" in proposer.encoders:
        return proposer.from_trajectories(graph.pack_nodes(states), graph, learning)
    layout = Layout(present.shape[1], *proposer.num_kinds)
    return proposer.from_structures(blanked(structures, layout, open_eyed(proposer), generator()), graph, learning)


def open_eyed(proposer: Proposer) -> ProposerConfig:
    return replace(proposer.config, blanked=0.0)


def everybody(num_scenes: int, num_entities: int) -> Tensor:
    return torch.ones(num_scenes, num_entities, dtype=torch.bool)


@pytest.mark.parametrize("num_kinds", [(2, 1), (3, 2), (2, 3), (1, 4)])
@pytest.mark.parametrize("num_entities", [2, 3, 6])
@pytest.mark.parametrize("name", CONFIGS)
def test_any_number_of_entities_and_kinds(name: str, num_entities: int, num_kinds: tuple[int, int]):
    """Probabilities of the kinds that each slot takes, and of no others."""
    proposer = proposer_of(name, num_kinds)
    layout = Layout(num_entities, *num_kinds)
    said = asked(proposer, scenes(4, num_entities, num_kinds), everybody(4, num_entities))
    assert said.shape == (4, layout.num_slots, max(layout.num_kinds))
    torch.testing.assert_close(said.exp().sum(2), torch.ones(4, layout.num_slots))
    exists = torch.arange(said.shape[2]) < torch.tensor(layout.num_kinds)[:, None]
    assert torch.equal(said > -math.inf, exists.expand_as(said))


@pytest.mark.parametrize("name", CONFIGS)
def test_whoever_comes_first(name: str):
    """Entities in another order: answers about the same pairs, receiver and sender as they were."""
    proposer, order = proposer_of(name), torch.tensor([2, 0, 3, 1])
    states, structures = scenes(3, 4, (3, 2))
    matrix, nodes = to_matrix(structures, 4)[:, order][:, :, order], structures[:, 12:][:, order]
    told = states[:, order], torch.cat([to_slots(matrix), nodes], 1)
    first = asked(proposer, (states, structures), everybody(3, 4))
    second = asked(proposer, told, everybody(3, 4))
    edges, other_edges = to_matrix(first, 4, diagonal=0), to_matrix(second, 4, diagonal=0)
    torch.testing.assert_close(other_edges, edges[:, order][:, :, order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(second[:, 12:], first[:, 12:][:, order], rtol=1e-4, atol=1e-5)
    assert (edges - edges.transpose(1, 2)).abs().max() > 1e-3, "an edge is not its way back"
    assert (other_edges - edges).abs().max() > 1e-3


@pytest.mark.parametrize("name", CONFIGS)
def test_many_scenes_are_read_one_by_one(name: str):
    """Of 2 to 5 entities, in one super-graph."""
    proposer, sizes = proposer_of(name), torch.tensor([3, 5, 2, 4, 5])
    present = torch.arange(5) < sizes[:, None]
    states, structures = scenes(5, 5, (3, 2))
    together = asked(proposer, (states, structures), present)
    for scene, size in enumerate(sizes.tolist()):
        matrix, nodes = to_matrix(structures, 5)[[scene], :size, :size], structures[[scene], 20 : 20 + size]
        alone = asked(proposer, (states[[scene], :size], torch.cat([to_slots(matrix), nodes], 1)), everybody(1, size))
        there = to_matrix(together[[scene]], 5, diagonal=0)[:, :size, :size]
        torch.testing.assert_close(there, to_matrix(alone, size, diagonal=0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together[scene, 20 : 20 + size], alone[0, -size:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("learning", [None, 5])
@pytest.mark.parametrize("name", CONFIGS)
def test_absent_entities_change_nothing(name: str, learning: int | None):
    """Whatever stands where nobody is; all kinds are alike there."""
    proposer = proposer_of(name)
    present = everybody(4, 4)
    present[1, 3] = present[2, 0] = present[2, 2] = False
    states, structures = scenes(4, 4, (3, 2))
    others = torch.where(present[:, :, None, None], states, 100.0)
    pairs = present[:, :, None] & present[:, None]
    there = torch.cat([to_slots(pairs.long()).bool(), present], 1)
    filled = torch.where(there, structures, (structures + 1) % torch.tensor(Layout(4, 3, 2).num_kinds))
    first, second = (
        asked(proposer, told, present, None if learning is None else generator(learning))
        for told in ((states, structures), (others, filled))
    )
    assert torch.equal(first, second)
    kinds = torch.tensor(Layout(4, 3, 2).num_kinds)
    nobody = first.exp().masked_fill(there[:, :, None], 0).amax(2)
    torch.testing.assert_close(nobody, torch.where(there, 0.0, 1 / kinds))


def test_nodes_of_one_kind_have_no_slots():
    proposer = proposer_of("structures", (2, 1))
    said = asked(proposer, scenes(3, 4, (2, 1)), everybody(3, 4))
    assert said.shape == (3, 12, 2)
    assert "heads.structures.nodes.weight" not in proposer.state_dict()


@pytest.mark.parametrize("name", CONFIGS)
def test_the_seed_decides_the_network(name: str):
    first, again, other = (Proposer(CONFIGS[name], (2, 1), TIMES, FEATURES, generator(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_scenes_must_be_long_enough():
    for name, least in (("mlp", 15), ("cnn", 14)):
        proposer = proposer_of(name)
        proposer.check_length(least)
        with pytest.raises(ValueError, match=rf"reads at least {least} samples of a scene, these have {least - 1}"):
            proposer.check_length(least - 1)
    proposer_of("structures").check_length(1)
    with pytest.raises(ValueError, match='at least 14 samples, these have 13.*choose encoder "mlp"'):
        Proposer(CONFIGS["cnn"], (2, 1), 13, FEATURES, generator())
    with pytest.raises(ValueError, match="must see them"):
        Proposer(ProposerConfig(), (2, 1), TIMES, FEATURES, generator())


WRONG = [
    *({name: value} for name in ("dropout", "momentum", "averaging") for value in (-0.1, 1.0, math.nan)),
    *({name: value} for name in ("blanked", "label_smoothing", "floor") for value in (-0.1, 1.1, math.nan)),
    *({name: value} for name in ("hidden", "structure_hidden") for value in (0, 1.5)),
    *({"clip_norm": value} for value in (0.0, -1.0, math.nan)),
    *({"learning_rate": value} for value in (0.0, math.inf)),
    *({name: "nonsense"} for name in ("sees", "encoder", "blanking", "learn_from")),
]


@pytest.mark.parametrize("changes", WRONG, ids=str)
def test_settings_that_cannot_be(changes: dict):
    [(name, value)] = changes.items()
    with pytest.raises(ValueError, match=rf"{name} must be .*; got {value!r}"):
        ProposerConfig(**changes)


# what is hidden from an encoder of structures


LAYOUTS = [Layout(5, 2), Layout(4, 3), Layout(4, 3, 2), Layout(3, 2, 4), Layout(3, 1, 3)]


def covered(layout: Layout, blanking: str, structures: Tensor, share: float = 0.2, seed: int = 7) -> Tensor:
    """What is seen of structures."""
    config = ProposerConfig(sees="structures", blanking=blanking, blanked=share)  # pyright: ignore[reportArgumentType]
    return blanked(structures, layout, config, generator(seed))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_share_of_every_structure_is_covered_with_what_says_nothing(layout: Layout, share: float):
    structures = layout.random(50, generator())
    seen = covered(layout, "uniform", structures, share)
    counts = torch.tensor(layout.num_kinds)
    known = torch.nn.functional.one_hot(structures, int(counts.max())).float()
    nothing = (torch.arange(seen.shape[2]) < counts[:, None]) / counts[:, None]
    hidden = (seen == nothing).all(2) & (counts > 1)
    assert torch.equal(torch.where(hidden[:, :, None], known, seen), known)
    if counts.min() > 1:
        assert (hidden.sum(1) == round(share * layout.num_slots)).all()
    torch.testing.assert_close(seen.sum(2), torch.ones_like(seen[:, :, 0]))


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_flips_are_other_kinds_that_there_are(layout: Layout):
    structures = layout.random(3000, generator())
    seen = covered(layout, "flip", structures, 0.2)
    counts = torch.tensor(layout.num_kinds)
    assert torch.equal(seen.sum(2), torch.ones(structures.shape))
    kinds = seen.argmax(2)
    assert (kinds < counts).all()
    flipped = kinds != structures
    if counts.min() > 1:
        assert (flipped.sum(1) == round(0.2 * layout.num_slots)).all()
    assert not flipped[:, counts == 1].any()
    for count in set(layout.num_kinds):
        shifts = ((kinds - structures) % counts)[:, counts == count][flipped[:, counts == count]]
        shares = torch.bincount(shifts, minlength=count)[1:count] / max(1, len(shifts))
        assert (shares - 1 / max(1, count - 1)).abs().max() < 0.03 if count > 1 else not len(shifts)


@pytest.mark.parametrize("blanking", ["uniform", "flip"])
def test_every_slot_is_covered_as_often_as_any_whatever_its_kind(blanking: str):
    layout = Layout(3, 3)
    first, second = (layout.random(4000, generator(seed)) for seed in (1, 2))
    hidden = []
    for structures in (first, second):
        seen = covered(layout, blanking, structures, 0.5)
        hidden.append((seen != torch.nn.functional.one_hot(structures, 3)).any(2))
    assert torch.equal(*hidden)
    assert (hidden[0].float().mean(0) - 0.5).abs().max() < 4 * 0.5 / math.sqrt(4000)


def test_what_is_covered_comes_from_the_generator():
    layout = Layout(5, 2)
    structures = layout.random(20, generator())
    first, again, other = (covered(layout, "flip", structures, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
