"""Training: what it learns from, what it never looks at, and that it learns."""

import json
import math
import warnings
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks.super_graph import SHAPES, compared, measured
from bouncegrad.evaluation.metrics import match_relations
from bouncegrad.fit import fit
from bouncegrad.inference import infer
from bouncegrad.models.checkpoint import CheckpointError
from bouncegrad.models.decoder import NetworkConfig
from bouncegrad.models.model import Model, ModelConfig
from bouncegrad.models.noise import NoiseConfig
from bouncegrad.recipes import RECIPES, Recipe
from bouncegrad.scenes import Normalization, Scenes, relation_kinds, stack_scenes
from bouncegrad.structures import layout as layouts
from bouncegrad.structures.layout import to_slots
from bouncegrad.structures.priors import COMPARED
from bouncegrad.training import BounceGrad, EpochReport, TrainingConfig
from bouncegrad.training.bounce import BounceConfig
from bouncegrad.training.restarts import NUM_ATTEMPTS
from small import QUICK, same, springs, tiny, without_labels


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trainer_of(scenes: Scenes, recipe: Recipe, seed: int = 0, held_out: Scenes | None = None) -> BounceGrad:
    return BounceGrad(scenes, held_out or scenes, recipe.model, recipe.training, seed)


# what it learns


def test_springs_are_learned(springs_model):
    unseen = springs(100, seed=1)
    assert match_relations(infer(springs_model, unseen).relations, unseen.relations).accuracy > 0.95


def test_true_graphs_can_be_kept():
    """The baseline that learns only the modules, from labels."""
    training = replace(QUICK.training, bounce=BounceConfig("frozen"), num_passes=15)
    model = fit(springs(150), replace(QUICK, training=training))
    unseen = springs(100, seed=1)
    assert match_relations(infer(model, unseen).relations, unseen.relations).accuracy > 0.95


@pytest.mark.parametrize("heat", ["scheduled", "steered"])
def test_the_annealing_recipe_lowers_its_loss(heat):
    chosen = RECIPES["alet2019-small"]
    bounce = replace(chosen.training.bounce, heat=heat)
    training = replace(chosen.training, num_passes=12, batch_size=10, bounce=bounce)
    assert (bounce.search, training.horizon, chosen.model.network.update) == ("metropolis", 10, "general")
    reports = list(trainer_of(springs(40), replace(chosen, training=training)).passes())
    assert [report.number for report in reports] == list(range(1, 13))
    assert reports[-1].loss < 0.5 * reports[0].loss
    assert 0 < sum(report.acceptance for report in reports) < len(reports)


@pytest.mark.parametrize("search", ["exact", "gibbs", "metropolis", "frozen"])
def test_every_search_trains(search):
    reports = list(trainer_of(springs(16), tiny(search=search, num_passes=3)).passes())
    assert all(math.isfinite(report.loss) for report in reports)
    assert json.loads(json.dumps([report.loss for report in reports]))


# what it depends on


def test_the_seed_decides_the_model():
    scenes = springs(20)
    first, again, other = (fit(scenes, tiny(), seed=seed) for seed in (3, 3, 4))
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.parametrize("search", ["exact", "metropolis", "gibbs"])
def test_labels_are_not_learned_from(search):
    scenes = springs(20)
    assert scenes.relations is not None
    shuffled = scenes.relations[torch.randperm(20, generator=generator())]
    nobody_knows = torch.full_like(scenes.relations, math.nan)
    versions = [without_labels(scenes), *(replace(scenes, relations=r) for r in (shuffled, nobody_knows))]
    versions += [replace(scenes, relations=1e6 * torch.rand(20, 3, 3, generator=generator(), dtype=torch.float64))]
    model = fit(scenes, tiny(search=search))
    for version in versions:
        assert same(fit(version, tiny(search=search)), model)


def test_held_out_scenes_do_not_move_the_normalisation():
    scenes = springs(16)
    far = replace(springs(6, seed=1), states=100 * springs(6, seed=1).states)
    trainer = trainer_of(scenes, tiny(prior="none"), held_out=far)
    list(trainer.passes())
    assert trainer.best_model().normalization == Normalization.fit(scenes)
    assert same(trainer.model, _trained(trainer_of(scenes, tiny(prior="none"))))


def _trained(trainer: BounceGrad) -> Model:
    list(trainer.passes())
    return trainer.model


def test_the_best_pass_is_kept():
    trainer = trainer_of(springs(16), tiny(num_passes=6), held_out=springs(6, seed=1))
    weights, losses = [], []
    for report in trainer.passes():
        weights.append({name: value.clone() for name, value in trainer.ema_model.state_dict().items()})
        losses.append(report.held_out)
    best = weights[losses.index(min(losses))]
    assert all(torch.equal(value, best[name]) for name, value in trainer.best_weights.items())


def test_scenes_with_fewer_entities_train_beside_others():
    scenes = stack_scenes([springs(8), springs(8, num_entities=2)])
    reports = list(trainer_of(scenes, tiny(num_passes=12)).passes())
    assert reports[-1].loss < reports[0].loss


# learned proposals


def proposing(sees: str = "trajectories", **bounce: Any) -> Recipe:
    """``alet2019-small`` with next to nothing in it, for scenes of three entities and 15 samples."""
    chosen = RECIPES["alet2019-small"]
    network = replace(chosen.model.network, hidden=4)
    proposer = replace(chosen.training.proposer, sees=sees, hidden=4, structure_hidden=4, learning_rate=0.1)
    training = replace(
        chosen.training,
        num_passes=2,
        batch_size=6,
        horizon=2,
        stride=6,
        bounce=replace(chosen.training.bounce, **bounce),
        proposer=proposer,
    )
    return replace(chosen, model=replace(chosen.model, network=network), training=training)


def assert_same_state(one: BounceGrad, other: BounceGrad) -> None:
    (tensors, meta), (other_tensors, other_meta) = one.state(), other.state()
    assert meta == other_meta
    assert tensors.keys() == other_tensors.keys()
    assert all(torch.equal(value, other_tensors[name]) for name, value in tensors.items())


@pytest.fixture(scope="module")
def short_scenes() -> Scenes:
    return springs(6, num_steps=1600)


def test_only_scenes_that_were_reached_count_as_guessed():
    scenes = springs(40)
    trainer = trainer_of(scenes, proposing("trajectories"))
    assert scenes.relations is not None
    trainer.structures = to_slots(relation_kinds(scenes.relations)[0])
    report = trainer.run_epoch(lambda by_passes: 1e9 * by_passes)  # ends after the first batch
    assert report.relation_accuracy is not None
    assert report.relation_accuracy > 0.9
    assert report.proposal_accuracy is not None
    assert report.proposal_accuracy < 0.9


@pytest.mark.parametrize("sees", ["trajectories", "structures", "both"])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("block", ["node", "edge"])
@pytest.mark.parametrize("proposals", ["uniform", "learned", "none"])
def test_every_search_by_proposals_goes_on_to_the_bit(short_scenes, proposals, block, flip, sees):
    """A second pass after an interruption is the second pass; and nobody needs labels."""
    recipe = proposing(sees, proposals=proposals, block=block, flip=flip)
    whole = trainer_of(short_scenes, recipe)
    first = whole.run_epoch()
    tensors, meta = whole.state()
    tensors, meta = {name: value.clone() for name, value in tensors.items()}, json.loads(json.dumps(meta))
    second = whole.run_epoch()
    resumed = trainer_of(without_labels(short_scenes), recipe, seed=9)
    resumed.load_state(tensors, meta)
    again = resumed.run_epoch()
    assert again == replace(second, relation_accuracy=None, proposal_accuracy=None)
    assert_same_state(whole, resumed)
    for report in (first, second):
        assert math.isfinite(report.loss)
        assert report.relation_accuracy is not None
        assert report.proposal_accuracy is not None
        assert 0 <= report.acceptance <= report.proposed <= 1
    if proposals == "none" or flip:
        assert first.proposed == (proposals != "none")
    if proposals == "none":
        assert torch.equal(whole.structures, trainer_of(short_scenes, recipe).structures)


def test_labels_do_not_move_a_search_by_proposals(short_scenes):
    scenes = short_scenes
    wrong = replace(scenes, relations=torch.arange(54, dtype=torch.float64).view(6, 3, 3) % 2)
    trainers = [trainer_of(version, proposing("both")) for version in (scenes, wrong, without_labels(scenes))]
    reports = [[trainer.run_epoch(), trainer.run_epoch()] for trainer in trainers]
    for trainer, found in zip(trainers[1:], reports[1:], strict=True):
        assert_same_state(trainer, trainers[0])
        assert [report.loss for report in found] == [report.loss for report in reports[0]]
    assert {report.relation_accuracy for report in reports[2]} == {None}
    assert {report.proposal_accuracy for report in reports[2]} == {None}
    accuracies = [[(each.relation_accuracy, each.proposal_accuracy) for each in found] for found in reports[:2]]
    assert accuracies[0] != accuracies[1], "which are only compared with"


@pytest.mark.parametrize("heat", ["steered", "stepped", "automatic", "scheduled"])
@pytest.mark.parametrize("learn_from", ["current", "accepted"])
def test_every_heat_goes_on_to_the_bit(short_scenes, heat, learn_from):
    recipe = proposing("both", heat=heat)
    proposer = replace(recipe.training.proposer, learn_from=learn_from, averaging=0.0)
    recipe = replace(recipe, training=replace(recipe.training, proposer=proposer, batch_size=2))
    whole, resumed = trainer_of(short_scenes, recipe), trainer_of(short_scenes, recipe, seed=9)
    whole.run_epoch()
    tensors, meta = whole.state()
    resumed.load_state({name: value.clone() for name, value in tensors.items()}, json.loads(json.dumps(meta)))
    assert whole.run_epoch() == resumed.run_epoch()
    assert_same_state(whole, resumed)


def test_learned_proposals_need_something_to_see():
    with pytest.raises(ValueError, match='need a network: set proposer.sees to its input, not to "nothing"'):
        TrainingConfig(bounce=BounceConfig("metropolis", proposals="learned", heat="steered"))


def test_a_network_learns_beside_any_search(short_scenes):
    """Of exact draws as well; it then comes with the model."""
    recipe = tiny(num_passes=3)
    proposer = proposing("trajectories").training.proposer
    trainer = trainer_of(short_scenes, replace(recipe, training=replace(recipe.training, proposer=proposer)))
    reports = list(trainer.passes())
    assert all(report.proposal_accuracy is not None for report in reports)
    assert trainer.learner is not None
    assert trainer.learner.num_steps == 3
    best = trainer.best_model()
    assert best.proposer is not None
    assert best.proposer is not trainer.learner.proposing
    assert not best.proposer.training
    plain = trainer_of(short_scenes, recipe)
    list(plain.passes())
    assert plain.best_model().proposer is None


# what it refuses


def test_true_graphs_need_labels():
    with pytest.raises(ValueError, match="these scenes have none: choose another search"):
        fit(without_labels(springs(12)), tiny(search="frozen"))


def test_true_graphs_need_all_labels():
    scenes = springs(12)
    assert scenes.relations is not None
    relations = scenes.relations.clone()
    relations[5, 0, 2] = math.nan
    with pytest.raises(ValueError, match=r"some of them are unknown \(NaN\)"):
        trainer_of(replace(scenes, relations=relations), tiny(search="frozen"))


def test_true_graphs_may_lack_the_labels_of_absent_entities():
    list(trainer_of(stack_scenes([springs(4), springs(4, num_entities=2)]), tiny(search="frozen")).passes())


def test_true_graphs_need_a_kind_for_each_label():
    scenes = springs(12)
    recipe = replace(tiny(search="frozen"), model=ModelConfig(NetworkConfig(num_edge_kinds=1)))
    with pytest.raises(ValueError, match="each of the 2 labels, got 1 edge types: set num_edge_kinds to 2"):
        trainer_of(scenes, recipe)


def test_scenes_shorter_than_the_horizon():
    with pytest.raises(ValueError, match="a rollout of 10 steps needs scenes of at least 11 samples, these have 10"):
        trainer_of(springs(4).between(0, 10), RECIPES["alet2019-small"])


@pytest.mark.parametrize("num_entities", [2, 4])
def test_held_out_scenes_of_another_size_choose_no_prior(num_entities):
    """But they choose between passes, and where there is one prior only it is not theirs to choose."""
    held_out = springs(4, num_entities=num_entities, seed=1)
    with pytest.raises(ValueError, match=f"between priors over graphs of 3 entities, but they have {num_entities}"):
        trainer_of(springs(8), tiny(), held_out=held_out)
    list(trainer_of(springs(8), tiny(num_passes=1, prior="symmetric"), held_out=held_out).passes())
    list(trainer_of(springs(8), tiny(num_passes=1, search="gibbs"), held_out=held_out).passes())


def test_tables_need_one_round():
    with pytest.raises(ValueError, match='search "exact" needs one round of messages, got message_steps 2'):
        trainer_of(springs(4), replace(tiny(), model=ModelConfig(NetworkConfig(message_steps=2))))


def test_tables_are_made_of_longer_rollouts_too():
    reports = list(trainer_of(springs(16), tiny(horizon=3)).passes())
    assert reports[-1].loss < reports[0].loss


def test_learning_without_tables(monkeypatch):
    """The whole way with sampled posteriors, in batches that fit into memory; repeatable to the bit."""
    monkeypatch.setattr(layouts, "TABLE_LIMIT", 1)
    monkeypatch.setattr("bouncegrad.training.setup.CELL_BUDGET", 7000)
    first, again = (trainer_of(springs(6), tiny()) for _ in range(2))
    assert first.batch_size == 2
    reports = [[replace(report, seconds=0.0) for report in trainer.passes()] for trainer in (first, again)]
    assert reports[0] == reports[1]
    assert math.isfinite(reports[0][-1].held_out)
    assert set(first.best_model().reading.evidence) == set(COMPARED)


def test_scenes_that_are_all_gaps():
    scenes = springs(4)
    mask = torch.zeros_like(scenes.mask)
    mask[:, ::2] = True
    with pytest.raises(ValueError, match="nothing to learn from.*fewer gaps"):
        trainer_of(replace(scenes, mask=mask), tiny())


def test_a_diverged_training_is_no_model():
    with pytest.raises(ValueError, match="the training diverged; lower learning_rate or clip_norm"):
        fit(springs(12), tiny(learning_rate=1e30))


@pytest.mark.parametrize("minutes", [0.0, -1.0, math.nan, math.inf])
def test_impossible_minutes(minutes):
    with pytest.raises(ValueError, match="positive, finite number of minutes"):
        fit(springs(12), tiny(), minutes=minutes)


def test_a_state_of_other_scenes_is_refused():
    trainer = trainer_of(springs(12), tiny())
    tensors, meta = trainer.state()
    for other in (trainer_of(springs(13), tiny()), trainer_of(springs(12), QUICK)):
        with pytest.raises(CheckpointError, match="does not fit this model and these scenes"):
            other.load_state(tensors, meta)
    for broken in ({}, {**meta, "bounce": 3}):
        with pytest.raises(CheckpointError, match="does not fit"):
            trainer.load_state(tensors, broken)


WRONG = [
    *(
        (TrainingConfig, {name: value})
        for name in ("num_passes", "batch_size", "horizon", "stride")
        for value in (0, -1)
    ),
    *((TrainingConfig, {"learning_rate": value}) for value in (0, -1e-3, math.nan, math.inf)),
    *((TrainingConfig, {name: 0.0}) for name in ("clip_norm", "starts")),
    (TrainingConfig, {"weight_decay": -1.0}),
    (TrainingConfig, {"weight_decay": math.inf}),
    *((BounceConfig, {name: 0.0}) for name in ("hottest", "coolest")),
    *((BounceConfig, {name: value}) for name in ("cooling", "entropy") for value in (-0.1, 1.1, math.nan)),
    *((BounceConfig, {name: "nonsense"}) for name in ("search", "heat", "prior")),
    (TrainingConfig, {"starts": 1.1}),
    (TrainingConfig, {"num_passes": 2.5}),
    (TrainingConfig, {"num_passes": True}),
    *((NetworkConfig, {name: 0}) for name in ("hidden", "num_edge_kinds", "num_node_kinds", "message_steps")),
    (NetworkConfig, {"inputs": "nonsense"}),
    (NetworkConfig, {"update": "nonsense"}),
    (NoiseConfig, {"scale": "nonsense"}),
    (NoiseConfig, {"hidden": 0}),
    *((NoiseConfig, {"degrees_of_freedom": value}) for value in (0.0, -1.0, math.nan)),
]


@pytest.mark.parametrize(("settings", "changes"), WRONG, ids=lambda part: str(getattr(part, "__name__", part)))
def test_settings_that_cannot_be(settings, changes):
    [(name, value)] = changes.items()
    with pytest.raises(ValueError, match=rf"{name} must be .*; got {value!r}"):
        settings(**changes)


def test_entropy_steers_tables_only():
    with pytest.raises(ValueError, match='heat "entropy" needs search "exact"'):
        BounceConfig(search="metropolis", heat="entropy")


# many at once


@pytest.mark.parametrize("shape", SHAPES)
def test_one_super_graph_gives_the_numbers_of_its_scenes(shape):
    found = compared(SHAPES[shape], num_tasks=6)
    assert found.losses < 1e-4
    assert found.gradients < 1e-3


def test_the_benchmark_measures():
    figures = measured("fast", num_tasks=4, repeats=1)
    assert {"shape", "ratio", "together_seconds", "one_by_one_seconds", "max_loss_difference"} <= figures.keys()


def test_reports_are_passed_on():
    seen: list[EpochReport] = []
    fit(springs(12), tiny(), watch=seen.append)
    assert [report.number for report in seen] == [1, 2, 3, 4]
    assert seen[-1].progress == 1


def test_a_training_that_finds_nothing_starts_over(monkeypatch):
    monkeypatch.setattr("bouncegrad.training.restarts.TEST_AFTER_STEPS", 1)
    meant = iter([0.0, 0.0, 1.0])
    monkeypatch.setattr(BounceGrad, "_meaning", lambda self, factors: next(meant))
    trainer = trainer_of(springs(16), tiny(num_passes=4))
    first = trainer.model
    reports = list(trainer.passes())
    assert trainer.restarts.num_attempts == 3
    assert len(reports) == 2 + 4
    assert [report.progress for report in reports] == [0, 0, 0.25, 0.5, 0.75, 1]
    assert trainer.model is not first
    assert torch.equal(trainer.model.network.skip_weight, first.network.skip_weight)


def test_a_training_goes_on_in_its_last_attempt_and_warns(monkeypatch):
    monkeypatch.setattr("bouncegrad.training.restarts.TEST_AFTER_STEPS", 1)
    monkeypatch.setattr(BounceGrad, "_meaning", lambda self, factors: 0.01)
    trainer = trainer_of(springs(16), tiny(num_passes=3))
    list(trainer.passes())
    assert trainer.restarts.num_attempts == NUM_ATTEMPTS
    with pytest.warns(UserWarning, match="training collapsed.*attempts: 4"):
        trainer.best_model()


def held_outs(monkeypatch, losses: list[float], meant: float = 0.3) -> None:
    """What passes are judged by, one after the other; structures begin to mean something, but not much."""
    monkeypatch.setattr("bouncegrad.training.restarts.TEST_AFTER_STEPS", 1)
    left = iter(losses)
    monkeypatch.setattr(BounceGrad, "_held_out", lambda self, factors, otherwise: next(left))
    monkeypatch.setattr(BounceGrad, "_meaning", lambda self, factors: meant)


def test_a_training_that_goes_astray_starts_over(monkeypatch):
    held_outs(monkeypatch, [1.0, 2.0, 3.0, *range(9, 1, -1)])
    trainer = trainer_of(springs(16), tiny(num_passes=8))
    reports = list(trainer.passes())
    assert [report.progress for report in reports] == [0.125, 0.25, 0, *(number / 8 for number in range(1, 9))]
    assert trainer.restarts.num_attempts == 2
    assert (trainer.best_pass, trainer.best_score) == (11, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer.best_model()


def test_a_training_that_is_sure_of_its_structures_goes_on(monkeypatch):
    held_outs(monkeypatch, [1.0, *range(2, 9)], meant=0.6)
    trainer = trainer_of(springs(16), tiny(num_passes=8))
    assert len(list(trainer.passes())) == 8
    assert trainer.restarts.num_attempts == 1


def test_where_time_is_short_a_training_that_goes_astray_goes_on_and_warns(monkeypatch):
    held_outs(monkeypatch, [1.0, *range(2, 9)])
    trainer = trainer_of(springs(16), tiny(num_passes=8))
    for _ in range(8):
        trainer.run_epoch(lambda by_passes: 0.6)
    assert trainer.restarts.num_attempts == 1
    with pytest.warns(UserWarning, match="overfits: over its last 88%.*ever worse.*30.0%"):
        trainer.best_model()


def test_a_training_goes_astray_so_many_times_only(monkeypatch):
    held_outs(monkeypatch, [1.0, 2.0, 3.0] * NUM_ATTEMPTS + [4.0] * 5)
    trainer = trainer_of(springs(16), tiny(num_passes=8))
    assert len(list(trainer.passes())) == 3 * (NUM_ATTEMPTS - 1) + 8
    assert trainer.restarts.num_attempts == NUM_ATTEMPTS


def decay(trainer: BounceGrad) -> float:
    return trainer.descent.optimizer.param_groups[0]["weight_decay"]


def test_after_learning_by_heart_attempts_decay_their_weights_in_turn(monkeypatch):
    held_outs(monkeypatch, [1.0, 2.0, 3.0] * NUM_ATTEMPTS + [4.0] * 5)
    trainer = trainer_of(springs(16), tiny(num_passes=8, weight_decay=0.5))
    found = [decay(trainer)]
    found += [decay(trainer) for _ in trainer.passes()]
    assert found == [0.5] * 3 + [1.0] * 3 + [0.0] * 3 + [5.0] * 9


def test_decayed_weights_are_small():
    def size(weight_decay: float) -> float:
        trainer = trainer_of(springs(16), tiny(num_passes=8, weight_decay=weight_decay))
        list(trainer.passes())
        return float(sum(weight.square().sum() for weight in trainer.model.network.edge_modules.weights))

    assert size(50.0) < 0.5 * size(0.0)


def test_of_attempts_that_went_astray_the_one_that_means_most_is_kept(monkeypatch):
    held_outs(monkeypatch, [1.0, 2.0, 3.0] * NUM_ATTEMPTS + [4.0] * 5)
    monkeypatch.setattr(BounceGrad, "_meaning", lambda self, factors: (0.2, 0.4, 0.3, 0.1)[self.restarts.num_overfits])
    trainer = trainer_of(springs(16), tiny(num_passes=8))
    passes = [deepcopy(trainer.ema_model.state_dict()) for _ in trainer.passes()]
    assert trainer.restarts.kept is not None
    assert trainer.restarts.kept.meaning == 0.4
    with pytest.warns(UserWarning, match="overfits.*predicts only 40.0%"):
        best = trainer.best_model()
    assert same(best, trainer._model_of(passes[3]))
    tensors, meta = trainer.state()
    other = trainer_of(springs(16), tiny(num_passes=8))
    other.load_state({name: value.clone() for name, value in tensors.items()}, json.loads(json.dumps(meta)))
    assert decay(other) == 5.0
    with pytest.warns(UserWarning, match="predicts only 40.0%"):
        assert same(other.best_model(), best)


def test_the_best_pass_survives_an_interruption(monkeypatch):
    losses = [1.0, 2.0, 3.0, *range(9, 1, -1)]
    held_outs(monkeypatch, losses)
    whole, other = (trainer_of(springs(16), tiny(num_passes=8)) for _ in range(2))
    for _ in range(2):
        whole.run_epoch()
    tensors, meta = whole.state()
    other.load_state({name: value.clone() for name, value in tensors.items()}, json.loads(json.dumps(meta)))
    for trainer in (whole, other):
        held_outs(monkeypatch, losses[2:])
        assert len(list(trainer.passes())) == 9
        assert trainer.restarts.num_attempts == 2
    assert same(whole.model, other.model)


def test_attempts_survive_an_interruption(monkeypatch):
    monkeypatch.setattr("bouncegrad.training.restarts.TEST_AFTER_STEPS", 1)
    monkeypatch.setattr(BounceGrad, "_meaning", lambda self, factors: float(self.restarts.num_attempts > 1))
    whole, other = (trainer_of(springs(16), tiny(num_passes=3)) for _ in range(2))
    next(whole.passes())
    tensors, meta = whole.state()
    other.load_state({name: value.clone() for name, value in tensors.items()}, meta)
    list(whole.passes())
    list(other.passes())
    assert other.restarts.num_attempts == 2
    assert same(whole.model, other.model)


def test_structures_that_mean_something_are_told_from_those_that_do_not(springs_model):
    trainer = trainer_of(springs(30), tiny(num_passes=1))
    assert trainer._meaning(trainer.held_out.factors(trainer.ema_model)) < 0.3
    trainer = BounceGrad(springs(30), springs(30, seed=4), springs_model.config, tiny().training, 0)
    assert trainer._meaning(trainer.held_out.factors(springs_model)) > 0.8
