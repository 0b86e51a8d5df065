"""One proposal for each task: what it costs, what is accepted, and what is drawn in the long run."""

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from bouncegrad.energies import loss_fn
from bouncegrad.energies.windows import Batch, Windows, cut_windows, pack
from bouncegrad.models.decoder import NetworkConfig
from bouncegrad.models.model import Model, ModelConfig
from bouncegrad.models.noise import NoiseConfig
from bouncegrad.models.proposer import Proposer, ProposerConfig
from bouncegrad.models.super_graph import super_graph
from bouncegrad.scenes import Normalization
from bouncegrad.structures.layout import Layout
from bouncegrad.training.bounce import BounceConfig, ProposalBounce, SceneTarget, make_bounce
from bouncegrad.training.bounce import target as target_module
from bouncegrad.training.bounce.config import BounceResult
from bouncegrad.training.proposal_learner import ProposalLearner
from bouncegrad.types import LossFn, Structures
from small import springs
from worlds import Counting, canonical, generator

LAYOUT = Layout(3, 2)
NETWORK = ProposerConfig(sees="both", hidden=6, structure_hidden=6, dropout=0.5)


def config_of(temperature: float = 1.0, **changes: Any) -> BounceConfig:
    fixed = {"heat": "scheduled", "hottest": temperature, "coolest": temperature}
    return BounceConfig(search="metropolis", **{**fixed, **changes})


def learner_of(layout: Layout, num_times: int, num_features: int, config: ProposerConfig = NETWORK) -> ProposalLearner:
    """A network of strong opinions."""
    kinds = layout.num_edge_kinds, layout.num_node_kinds
    proposer = Proposer(config, kinds, num_times, num_features, generator(3))
    with torch.no_grad():
        for parameter in proposer.heads.parameters():
            parameter.mul_(2)
    return ProposalLearner(proposer, layout)


def target_of(num_scenes: int = 30) -> SceneTarget:
    """Scenes of springs, under modules that know nothing of them."""
    scenes = springs(num_scenes, num_steps=1100)
    config = ModelConfig(NetworkConfig(hidden=6, skip=False), NoiseConfig("none", None))
    model = Model(config, Normalization.fit(scenes), scenes.feature_names, generator())
    batch = pack(model, scenes)
    return SceneTarget(model, batch, cut_windows(batch, 5, 5))


def counted(monkeypatch, evaluations: list[int]) -> None:
    """Count for how many tasks a loss is asked."""

    def counting(model: Model, batch: Batch, windows: Windows) -> LossFn:
        plain = loss_fn(model, batch, windows)

        def losses(structures: Structures) -> Tensor:
            evaluations.append(len(structures))
            return plain(structures)

        return losses

    monkeypatch.setattr(target_module, "loss_fn", counting)


def searched(config: BounceConfig, target: SceneTarget, structures: Structures, seed: int = 4) -> BounceResult:
    learner = learner_of(LAYOUT, target[1].states.shape[1], 4) if config.proposals == "learned" else None
    return make_bounce(config, LAYOUT, learner).search(target, structures, 0.5, generator(seed))


# what it costs


@pytest.mark.parametrize("proposals", ["uniform", "learned"])
def test_unchanged_proposals_are_accepted_and_cost_nothing(monkeypatch, proposals: Any):
    target, structures = target_of(100), LAYOUT.random(100, generator(1))
    evaluations: list[int] = []
    counted(monkeypatch, evaluations)
    found = searched(config_of(proposals=proposals, block="edge"), target, structures)
    assert 25 < found.proposed.sum() < 75
    assert evaluations == [int(found.proposed.sum())] * 2, "what is there and what is proposed, of these tasks only"
    assert found.accepted[~found.proposed].all()
    assert not found.changed[~found.proposed].any()
    assert torch.equal(found.structures[~found.changed], structures[~found.changed])
    assert torch.equal(found.changed, found.proposed & found.accepted)
    assert ((found.structures != structures).sum(1) == found.changed).all()


@pytest.mark.parametrize("config", [config_of(proposals="none"), BounceConfig("frozen")])
def test_where_nothing_is_proposed_nothing_is_computed(monkeypatch, config: BounceConfig):
    target, structures = target_of(), LAYOUT.random(30, generator(1))
    evaluations: list[int] = []
    counted(monkeypatch, evaluations)
    found = searched(config, target, structures)
    assert evaluations == []
    assert torch.equal(found.structures, structures)
    assert found.accepted.all()
    assert not (found.proposed | found.changed).any()


@pytest.mark.parametrize("proposals", ["uniform", "learned"])
@pytest.mark.parametrize("block", ["node", "edge"])
def test_flips_propose_something_else_for_every_task(block: Any, proposals: Any):
    target, structures = target_of(), LAYOUT.random(30, generator(1))
    found = searched(config_of(1e9, block=block, flip=True, proposals=proposals), target, structures)
    assert found.proposed.all()
    assert found.changed.float().mean() > 0.9, "in this heat everything is accepted"
    others = (found.structures != structures)[found.changed]
    assert (others.sum(1) == (2 if block == "node" else 1)).all()
    receivers = others.view(len(others), 3, 2).any(2)
    assert (receivers.sum(1) == 1).all()


# what is accepted


@pytest.mark.parametrize("proposals", ["uniform", "learned"])
def test_a_cold_search_never_loses(proposals: Any):
    """Every task is judged by its own loss, in a batch of which only some propose something new."""
    target, structures = target_of(), LAYOUT.random(30, generator(1))
    losses, num_improved = loss_fn(*target), 0
    for seed in range(5):
        found = searched(config_of(1e-12, proposals=proposals), target, structures, seed)
        before, after = losses(structures), losses(found.structures)
        torch.testing.assert_close(after[~found.changed], before[~found.changed])
        assert (after <= before)[found.changed].all()
        num_improved += int(found.changed.sum())
        structures = found.structures
    assert num_improved > 10


# what is drawn


def world_target(num_tasks: int) -> SceneTarget:
    """Tasks of two entities with two kinds of edges and two of nodes: the four slots of the canonical world."""
    states = torch.randn(1, 4, 3, generator=generator(5)).expand(num_tasks, -1, -1).reshape(-1, 2, 3)[: 2 * num_tasks]
    graph = super_graph(torch.ones(num_tasks, 2, dtype=torch.bool))
    batch = Batch(states, torch.ones(2 * num_tasks, 2, dtype=torch.bool), graph)
    return SceneTarget(cast(Model, None), batch, cut_windows(batch))


def long_run(monkeypatch, config: BounceConfig, network: ProposerConfig, num_steps: int, num_tasks: int) -> Structures:
    world, layout = canonical(), Layout(2, 2, 2)
    monkeypatch.setattr(target_module, "loss_fn", lambda model, batch, windows: world.loss_fn)
    target, random = world_target(num_tasks), generator(7)
    bounce = ProposalBounce(config, layout, learner_of(layout, 2, 3, network))
    structures = layout.random(num_tasks, generator(6))
    for _ in range(num_steps):
        structures = bounce.search(target, structures, 0.5, random).structures
    return structures


@pytest.mark.parametrize(
    ("block", "flip", "sees", "averaging"),
    [
        ("node", False, "trajectories", 0.9),
        ("node", False, "structures", 0.9),
        ("node", False, "both", 0.0),
        ("edge", True, "structures", 0.0),
        ("edge", True, "both", 0.9),
        ("edge", False, "both", 0.9),
    ],
)
def test_corrected_proposals_sample_from_the_posterior(monkeypatch, block: Any, flip: bool, sees: Any, averaging):
    """``exp(-loss / T)``, whatever the network believes; also where it proposes with its dropout."""
    network = replace(NETWORK, sees=sees, averaging=averaging, blanked=0.5)
    config = config_of(0.7, proposals="learned", corrected=True, block=block, flip=flip)
    structures = long_run(monkeypatch, config, network, 40, 1500)
    assert canonical().p_value(structures, 0.7) > 1e-3


def test_without_correction_what_the_network_likes_is_found_too_often(monkeypatch):
    network = replace(NETWORK, sees="trajectories")
    config = config_of(0.7, proposals="learned", block="node")
    structures = long_run(monkeypatch, config, network, 40, 1500)
    assert canonical().p_value(structures, 0.7) < 1e-6


def test_uniform_proposals_need_no_network(monkeypatch):
    world = canonical()
    counting = Counting(world.loss_fn)
    monkeypatch.setattr(target_module, "loss_fn", lambda model, batch, windows: counting)
    bounce = ProposalBounce(config_of(0.7), Layout(2, 2, 2))
    target, structures, random = world_target(2000), Layout(2, 2, 2).random(2000, generator(6)), generator(7)
    for _ in range(40):
        structures = bounce.search(target, structures, 0.5, random).structures
    assert world.p_value(structures, 0.7) > 1e-3
    assert len(counting.asked) == 80
