"""Relaxed structures: what a decoder makes of them, how they are drawn, and what goes back to the encoder."""

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor
from torch.nn.functional import one_hot

from bouncegrad.energies import energies, training_loss
from bouncegrad.energies.windows import Batch, Windows, cut_windows, pack
from bouncegrad.evaluation.metrics import match_relations
from bouncegrad.fit import fit
from bouncegrad.inference import infer
from bouncegrad.models.decoder import NetworkConfig
from bouncegrad.models.model import Model
from bouncegrad.models.noise import NoiseConfig
from bouncegrad.models.proposer import Proposer, ProposerConfig
from bouncegrad.recipes import RECIPES, Recipe
from bouncegrad.training import BounceGrad
from bouncegrad.training.elbo import RelaxationConfig, add_relaxed_gradients, divergence, relaxed_loss, relaxed_sample
from small import springs, tiny, untrained, without_labels
from worlds import generator

PLAIN = NoiseConfig(scale="none", degrees_of_freedom=None)
DECODERS = [
    NetworkConfig(hidden=6, update="general", inputs="absolute", skip=False, edge_layers=2),
    NetworkConfig(hidden=6, update="general", edge_layers=2, silent_first=True),
    NetworkConfig(hidden=6, num_edge_kinds=3, num_node_kinds=2),
]


def small_nri(**changes: Any) -> Recipe:
    """The recipe in small, with the decoder that learns fastest."""
    recipe = RECIPES["nri"]
    network = NetworkConfig(hidden=16, silent_first=True)
    proposer = replace(recipe.training.proposer, hidden=32)
    settings = {"num_passes": 3, "batch_size": 10, "learning_rate": 5e-3, "proposer": proposer, **changes}
    return replace(recipe, model=replace(recipe.model, network=network), training=replace(recipe.training, **settings))


def setting(network: NetworkConfig = DECODERS[0], num_scenes: int = 5) -> tuple[Model, Batch, Windows]:
    """A model nobody trained, with an encoder, and scenes of which one lacks an entity."""
    scenes = springs(num_scenes)
    mask = scenes.mask.clone()
    mask[1, :, 2] = False
    scenes = replace(scenes, mask=mask, relations=None)
    model = untrained(scenes, network, PLAIN)
    kinds = network.num_edge_kinds, network.num_node_kinds
    model.proposer = Proposer(ProposerConfig("trajectories", hidden=8, dropout=0.0), kinds, 49, 4, generator(3))
    batch = pack(model, scenes)
    return model, batch, cut_windows(batch, 10, 10, partial=True)


def gradients(model: Model) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]


# decoders


@pytest.mark.parametrize("network", DECODERS)
def test_one_hot_structures_are_structures(network: NetworkConfig):
    model, batch, windows = setting(network)
    layout = model.layout(3)
    structures = layout.random(5, generator())
    relaxed = one_hot(structures, max(layout.num_kinds)).float()
    for graph_of in (structures, relaxed):
        assert batch.graph.pack_edges(graph_of).shape[0] == len(batch.graph.senders)
    with torch.no_grad():
        expected = model.network.rollout(windows.states, batch.graph, structures, 3)
        torch.testing.assert_close(model.network.rollout(windows.states, batch.graph, relaxed, 3), expected)


def test_half_a_relation_sends_half_a_message():
    model, batch, _ = setting(replace(DECODERS[1], update="superposed"))
    states = batch.states[:, 0]

    def predicted(share: float) -> Tensor:
        relaxed = torch.tensor([1 - share, share]).expand(5, 6, 2)
        return model.network.rollout(states, batch.graph, relaxed, 1)

    with torch.no_grad():
        torch.testing.assert_close(predicted(0.5), (predicted(0.0) + predicted(1.0)) / 2)


def test_a_silent_kind_is_no_relation():
    """Entities do not feel each other through it, and all do through the other."""
    model, batch, _ = setting(DECODERS[1])
    states = batch.states[:, 0].clone()
    moved = states.clone()
    moved[1] += 0.1
    with torch.no_grad():
        for kind, felt in ((0, False), (1, True)):
            structures = torch.full((5, 6), kind)
            change = model.network.rollout(moved, batch.graph, structures, 1)
            change = change - model.network.rollout(states, batch.graph, structures, 1)
            assert change[0].any() == felt
            assert change[1].any()
            assert not change[3:].any(), "other scenes"


# samples


def test_samples_have_the_kinds_that_are_probable():
    shares = torch.tensor([0.6, 0.3, 0.1])
    sample = relaxed_sample(shares.log().expand(3000, 1, 3), RelaxationConfig(), generator())
    torch.testing.assert_close(sample.sum(2), torch.ones(3000, 1))
    counts = torch.bincount(sample.argmax(2).flatten(), minlength=3)
    assert chisquare(counts.numpy(), (3000 * shares.double() / shares.double().sum()).numpy()).pvalue > 1e-3


def test_cold_samples_are_nearly_one_hot_and_hard_ones_are():
    beliefs = torch.zeros(500, 2, 2).log_softmax(2)
    warm, cold = (relaxed_sample(beliefs, RelaxationConfig(heat), generator()).amax(2).mean() for heat in (5.0, 0.05))
    assert warm < 0.65
    assert cold > 0.97
    hard = relaxed_sample(beliefs.requires_grad_(), RelaxationConfig(hard=True), generator())
    assert set(hard.unique().tolist()) == {0.0, 1.0}
    (hard[..., 0] ** 2).sum().backward()
    assert beliefs.grad is not None
    assert beliefs.grad.abs().sum() > 0, "the gradient of the soft sample passes"


def test_kinds_that_a_slot_does_not_take_are_never_drawn():
    beliefs = torch.tensor([0.0, 0.0, -math.inf]).log_softmax(0).expand(50, 4, 3).clone().requires_grad_()
    sample = relaxed_sample(beliefs, RelaxationConfig(), generator())
    sample[..., 0].sum().backward()
    assert not sample[..., 2].any()
    assert beliefs.grad is not None
    assert beliefs.grad.isfinite().all()


# the bound


def test_divergence_by_hand():
    model, batch, _ = setting()
    layout, uniform = model.layout(3), torch.full((5, 6, 2), 0.5).log()
    assert divergence(uniform, batch, layout, RelaxationConfig()) == pytest.approx(0, abs=1e-5)
    sure = torch.tensor([0.9, 0.1]).log().expand(5, 6, 2)
    each = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    num_pairs = 4 * 6 + 2  # one scene lacks an entity
    assert float(divergence(sure, batch, layout, RelaxationConfig())) == pytest.approx(num_pairs * each, rel=1e-5)
    believed = RelaxationConfig(shares=(0.9, 0.1))
    assert float(divergence(sure, batch, layout, believed)) == pytest.approx(0, abs=1e-5)
    with pytest.raises(ValueError, match="a share for each of the 3"):
        believed.log_shares(3)


@pytest.mark.parametrize("network", DECODERS)
def test_parts_and_the_whole_have_one_gradient(network: NetworkConfig, monkeypatch):
    """Decoder and encoder learn as if the bound were differentiated in one piece."""
    monkeypatch.setattr(energies, "CHUNK_CELLS", 200)
    model, batch, windows = setting(network)
    other, config, layout = copy.deepcopy(model), RelaxationConfig(variance=0.01), model.layout(3)
    loss = add_relaxed_gradients(model, batch, windows, config, generator(7))

    noise = generator(7)
    assert other.proposer is not None
    said = other.proposer.from_trajectories(batch.states, batch.graph, noise)
    squares = training_loss(other, batch, windows, relaxed_sample(said, config, noise))
    numbers = windows.weights.sum() * 4 / batch.graph.num_nodes
    bound = squares * numbers / 0.02 + divergence(said, batch, layout, config) / batch.graph.num_nodes
    bound.backward()
    assert loss == pytest.approx(bound.item(), rel=1e-5)
    for one, whole in zip(gradients(model), gradients(other), strict=True):
        assert (one - whole).abs().max() <= 1e-3 * whole.abs().max()
    assert any(p.grad is not None and p.grad.any() for p in model.proposer.parameters())


def test_the_bound_of_scenes_does_not_depend_on_batches():
    model, _, _ = setting()
    scenes = springs(6)
    whole = relaxed_loss(model, [pack(model, scenes)], RelaxationConfig())
    parts = relaxed_loss(model, [pack(model, scenes.at(part)) for part in ([0, 1], [2, 3, 4, 5])], RelaxationConfig())
    assert parts == pytest.approx(whole, rel=1e-5)


# training


def test_springs_are_learned_without_labels():
    recipe = small_nri(num_passes=40, horizon=1, stride=1, relaxation=RelaxationConfig(variance=1e-6))
    model = fit(without_labels(springs(150)), recipe)
    unseen = springs(100, seed=1)
    found = infer(model, unseen, mode="proposal")
    assert match_relations(found.relations, unseen.relations).accuracy > 0.8


def test_it_goes_on_to_the_bit():
    scenes, recipe = springs(16), small_nri(num_passes=4)
    whole, first, second = (BounceGrad(scenes, scenes, recipe.model, recipe.training, seed) for seed in (0, 0, 9))
    reports = list(whole.passes())
    for _ in range(2):
        first.run_epoch()
    tensors, meta = first.state()
    second.load_state({name: value.clone() for name, value in tensors.items()}, meta)
    assert [report.loss for report in second.passes()] == [report.loss for report in reports[2:]]
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True))
    best, again = whole.best_model(), second.best_model()
    assert best.proposer is not None
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in best.state_dict().items())


def test_the_pass_that_foretold_held_out_scenes_best_is_kept():
    scenes, recipe = springs(16), small_nri(num_passes=6)
    trainer = BounceGrad(scenes, springs(8, seed=2), recipe.model, recipe.training, 0)
    reports = list(trainer.passes())
    kept = relaxed_loss(trainer.best_model(), trainer.held_out.batches, recipe.training.relaxation)
    assert kept == pytest.approx(min(report.held_out for report in reports), rel=1e-5)


def test_labels_are_not_looked_at():
    scenes = springs(12)
    one, other = (fit(version, small_nri()) for version in (scenes, without_labels(scenes)))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_the_encoder_that_is_taught():
    """Beside a decoder on the true relations."""
    recipe = RECIPES["nri-true"]
    network = replace(recipe.model.network, hidden=8)
    proposer = replace(recipe.training.proposer, hidden=32, learning_rate=5e-3, averaging=0.8, dropout=0.1)
    training = replace(recipe.training, num_passes=12, batch_size=10, horizon=1, stride=5, proposer=proposer)
    model = fit(springs(150), replace(recipe, model=replace(recipe.model, network=network), training=training))
    unseen = springs(100, seed=1)
    found = infer(model, unseen, mode="proposal")
    assert match_relations(found.relations, unseen.relations).accuracy > 0.8


def test_one_kind_needs_no_labels():
    recipe = RECIPES["nri-full"]
    network = replace(recipe.model.network, hidden=8)
    training = replace(recipe.training, num_passes=2, batch_size=8)
    chosen = replace(recipe, model=replace(recipe.model, network=network), training=training)
    model = fit(without_labels(springs(12)), chosen)
    assert not infer(model, springs(3)).structures.any()


# settings


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"temperature": 0.0}, "temperature must be a finite number above 0"),
        ({"variance": -1.0}, "variance must be a finite number above 0"),
        ({"shares": (0.5, 0.6)}, "sum to 1"),
        ({"shares": (1.0, 0.0)}, "above 0"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        RelaxationConfig(**changes)


def test_what_does_not_go_together():
    scenes = springs(6)
    with pytest.raises(ValueError, match='set noise.scale to "none"'):
        BounceGrad(scenes, scenes, tiny().model, small_nri().training, 0)
    with pytest.raises(ValueError, match='needs proposer.sees "trajectories"'):
        small_nri(proposer=ProposerConfig())
    silent = replace(tiny(merge_kinds=True).model, network=DECODERS[1])
    with pytest.raises(ValueError, match="silent_first"):
        BounceGrad(scenes, scenes, silent, tiny(merge_kinds=True).training, 0)
