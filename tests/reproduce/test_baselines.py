"""Baselines: worlds in which they are known to be right or wrong, and what they must not depend on."""

import json
import math
from dataclasses import replace
from functools import cache, partial

import pytest
import torch

from bouncegrad.cli.progress import describe
from bouncegrad.reproduce.baselines.lstm import (
    LSTMConfig,
    RecurrentNetwork,
    Rows,
    last_memories,
    predicted,
    squared_error,
)
from bouncegrad.reproduce.baselines.lstm_run import TRAINING, LSTMRun, RecurrentTrainer, lstm_figures, run_lstm
from bouncegrad.reproduce.baselines.simple import (
    best_threshold,
    correlation_accuracy,
    correlations,
    last_measured,
    path_features,
    static_errors,
)
from bouncegrad.scenes import DataError, Normalization, Scenes, stack_scenes, write_folder
from bouncegrad.settings import is_positive
from bouncegrad.training.run_folder import CHECKPOINT, LOG
from small import springs as simulated
from small import without_labels
from worlds import generator

NAMES = ("x", "y", "vx", "vy")
SMALL = replace(TRAINING, num_passes=3, batch_size=8, learning_rate=3e-3, horizon=4)
UNIT = Normalization((-1.0,) * 4, (1.0,) * 4)


@cache
def recorded(num_entities: int) -> Scenes:
    return simulated(120, num_entities=num_entities, num_steps=7100)


def springs(num_scenes: int, num_entities: int = 3, first: int = 0, num_times: int = 49) -> Scenes:
    """Some of scenes that are simulated once."""
    return recorded(num_entities).at(range(first, first + num_scenes)).between(0, num_times)


def made_of(states: torch.Tensor, mask: torch.Tensor | None = None, relations: torch.Tensor | None = None) -> Scenes:
    mask = torch.ones(states.shape[:3], dtype=torch.bool) if mask is None else mask
    return Scenes(states, mask, 0.1, NAMES, tuple("abcdefgh"[: states.shape[2]]), relations)


def network_of(scenes: Scenes, joint: bool, hidden: int = 4) -> RecurrentNetwork:
    config = LSTMConfig(joint, hidden)
    return RecurrentNetwork(config, scenes.num_entities, Normalization.fit(scenes), generator(1))


def trainer_of(scenes: Scenes, joint: bool, seed: int = 0) -> RecurrentTrainer:
    return RecurrentTrainer(scenes, scenes, LSTMConfig(joint, hidden=4), SMALL, seed)


# static


def test_static_errors_of_even_motion():
    """One of four features moves by 0.01 each sample, half a range is 2: the k-th error is ``(0.01 k / 2)^2 / 4``."""
    states = torch.zeros(2, 99, 2, 4, dtype=torch.float64)
    states[..., 0] = 0.01 * torch.arange(99, dtype=torch.float64)[:, None]
    found = static_errors(made_of(states), replace(UNIT, minimum=(-2.0,) * 4, maximum=(2.0,) * 4))
    expected = (torch.arange(1, 21).double() * 0.01 / 2).square() / 4
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


def test_static_starts_at_sample_49():
    states = torch.zeros(2, 99, 2, 4, dtype=torch.float64)
    states[:, :49] = 100
    states[:, 70:] = 100
    states[:, 49:70] = 0.5
    assert static_errors(made_of(states), UNIT).tolist() == [0] * 20


def test_static_leaves_out_what_nobody_measured():
    scenes = springs(4, num_times=70)
    mask = scenes.mask.clone()
    mask[0, 50:, 0] = mask[1, 49, 1] = False
    whole, found = static_errors(scenes, UNIT), static_errors(replace(scenes, mask=mask), UNIT)
    without = static_errors(scenes.at([2, 3]), UNIT)
    assert not torch.equal(whole, found)
    differences = (scenes.states[:, 50:70] - scenes.states[:, 49:50]).square().mean(-1)
    expected = (differences[0, :, 1:].sum(1) + differences[2:].sum((0, 2))) / (2 + 6)
    torch.testing.assert_close(found, expected)
    assert without.shape == (20,)


def test_static_needs_something_to_predict():
    with pytest.raises(DataError, match="at least 23 samples"):
        static_errors(springs(2).between(0, 22), UNIT)


# correlations


def test_correlations_by_hand():
    features = torch.randn(3, 4, 50, generator=generator())
    expected = torch.stack([torch.corrcoef(scene.double()) for scene in features])
    torch.testing.assert_close(correlations(features), expected)


def test_correlations_do_not_depend_on_place_and_size():
    features = torch.randn(3, 4, 50, generator=generator(), dtype=torch.float64)
    torch.testing.assert_close(correlations(7 * features + 3), correlations(features))


def test_what_is_constant_correlates_with_nothing():
    features = torch.randn(1, 3, 196, generator=generator())
    features[:, 0], features[:, 1] = 0.1, 0.7
    assert correlations(features)[0, 0, 1:].abs().max() < 1e-3


def related(num_scenes: int, sign: int) -> tuple[Scenes, torch.Tensor]:
    """Two of four entities share a feature vector, up to noise; ``sign`` turns the meaning of the labels round."""
    order = torch.rand(num_scenes, 4, generator=generator(2)).argsort(1)
    shared = torch.randn(num_scenes, 1, 60, generator=generator(3))
    features = torch.randn(num_scenes, 4, 60, generator=generator(4))
    related = (order < 2).float()
    features += 2 * related[:, :, None] * shared
    labels = sign * related[:, :, None] * related[:, None, :]
    return made_of(torch.zeros(num_scenes, 5, 4, 4), relations=labels.double()), features


@pytest.mark.parametrize("sign", [1, -1])
def test_related_entities_that_correlate_are_told(sign):
    scenes, features = related(60, sign)
    train, test = scenes.at(range(30)), scenes.at(range(30, 60))
    features_of = {id(train): features[:30], id(test): features[30:]}
    assert 0.3 < best_threshold(features[:30], train) < 0.7
    assert correlation_accuracy(train, test, lambda some: features_of[id(some)]) == 1


def test_the_threshold_is_the_best_there_is():
    scenes, features = related(40, 1)
    assert scenes.relations is not None
    noisy = features + 4 * torch.randn(features.shape, generator=generator(5))
    found, values = best_threshold(noisy, scenes), correlations(noisy)[scenes.pairs]
    labels = scenes.relations[scenes.pairs] > 0
    shares = [float(((values > bound) == labels).double().mean()) for bound in torch.linspace(-1, 1, 999)]
    share = float(((values > found) == labels).double().mean())
    assert share >= max(max(shares), 1 - min(shares)) - 1e-9
    assert share < 1


def test_thresholds_need_two_labels():
    scenes, features = related(4, 1)
    with pytest.raises(DataError, match="these scenes have none"):
        best_threshold(features, without_labels(scenes))
    three = replace(scenes, relations=torch.arange(4 * 16).double().view(4, 4, 4) % 3)
    with pytest.raises(DataError, match="there are 3 labels"):
        best_threshold(features, three)


def test_paths_are_the_first_49_states():
    scenes = springs(3, num_times=70)
    changed = scenes.states.clone()
    changed[:, 49:] = 7
    found = path_features(scenes, UNIT)
    assert found.shape == (3, 3, 49 * 4)
    assert torch.equal(found, path_features(replace(scenes, states=changed), UNIT))
    torch.testing.assert_close(found[1, 2, 4:8], scenes.states[1, 1, 2])


def test_correlations_of_springs_say_little():
    unit = Normalization.fit(springs(2))
    features_fn = partial(path_features, unit=unit)
    assert 0.45 < correlation_accuracy(springs(60), springs(60, first=60), features_fn) < 0.75


def test_gaps_repeat_what_was_measured_last():
    states = torch.arange(1, 6).double().view(1, 5, 1, 1).expand(1, 5, 2, 4) / 10
    mask = torch.tensor([[0, 1, 0, 0, 1], [1, 1, 1, 1, 1]]).bool().T[None]
    found = last_measured(made_of(states, mask), UNIT)
    torch.testing.assert_close(found[0, :, :, 0].T, torch.tensor([[0, 0.2, 0.2, 0.2, 0.5], [0.1, 0.2, 0.3, 0.4, 0.5]]))


# recurrent networks: what they compute


@pytest.mark.parametrize("joint", [True, False])
def test_sequences_at_once_are_step_by_step(joint):
    scenes = springs(3)
    network = network_of(scenes, joint)
    rows = Rows.of(network, scenes)
    whole = network.ahead(rows.states[:, :20], rows.present, 5)
    states, memory, found = rows.states[:, :1], None, []
    for time in range(25):
        states = rows.states[:, time : time + 1] if time < 20 else found[-1]
        step, memory = network._read(states, rows.present, memory)
        found.append(step)
    torch.testing.assert_close(whole, torch.cat(found, 1))


def test_the_loss_by_hand():
    scenes = springs(3)
    network = network_of(scenes, joint=True)
    rows = Rows.of(network, scenes)
    ahead = network.ahead(rows.states[:, :39], rows.present, 9)
    expected = (ahead - rows.states[:, 1:]).square().sum((1, 3)).mean() / 1e-4
    assert squared_error(network, rows, 10).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("joint", [True, False])
def test_who_sees_whom(joint):
    scenes = springs(4)
    states = scenes.states.clone()
    states[:, :, 0] += 1
    network = network_of(scenes, joint)
    before, after = (predicted(network, some, 20, 5) for some in (scenes, replace(scenes, states=states)))
    assert before.shape == (4, 5, 3, 4)
    assert not torch.allclose(before[:, :, 0], after[:, :, 0])
    assert torch.allclose(before[:, :, 1:], after[:, :, 1:], atol=1e-9) != joint


def test_a_prediction_knows_nothing_of_the_future():
    scenes = springs(4)
    states = scenes.states.clone()
    states[:, 21:] = 0
    network = network_of(scenes, joint=True)
    assert torch.equal(predicted(network, scenes, 20, 5), predicted(network, replace(scenes, states=states), 20, 5))


def test_a_network_that_changes_nothing_predicts_the_last_state():
    scenes = springs(4, num_times=70)
    network = network_of(scenes, joint=False)
    with torch.no_grad():
        for parameter in network.change.parameters():
            parameter.zero_()
    figures = lstm_figures(network, scenes, scenes, ("one", UNIT))
    expected = static_errors(scenes, UNIT)
    assert figures.mse == pytest.approx({step: float(expected[step - 1]) for step in (1, 10, 20)}, rel=1e-4)
    assert figures.unit == "one"
    assert figures.num_scenes == 4


def test_absent_entities_change_nothing():
    scenes, pair = springs(4), springs(4, num_entities=2)
    padded = stack_scenes([scenes, pair]).at(range(4, 8))
    network = network_of(scenes, joint=False)
    torch.testing.assert_close(predicted(network, padded, 20, 5)[:, :, :2], predicted(network, pair, 20, 5))
    torch.testing.assert_close(last_memories(network, padded)[:, :2], last_memories(network, pair))
    losses = [squared_error(network, Rows.of(network, some), 10).item() for some in (padded, pair)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("joint", [True, False])
def test_gaps_and_absent_entities_carry_no_weight(joint):
    """What would have been measured there moves neither the loss nor its gradient."""
    scenes = springs(3)
    mask = scenes.mask.clone()
    mask[0, :, 2] = mask[1, 30:40, 0] = False
    network = network_of(scenes, joint)
    found = []
    for offset in (0, 5):
        rows = Rows.of(network, replace(scenes, mask=mask))
        rows = replace(rows, states=torch.where(_seen(rows, joint), rows.states, rows.states + offset))
        ahead = network.ahead(rows.states[:, :30], rows.present)
        found.append(ahead[_seen(rows, joint)[:, :30].expand_as(ahead)])
    torch.testing.assert_close(found[0], found[1])


def _seen(rows: Rows, joint: bool) -> torch.Tensor:
    """All but the entity that is absent."""
    return (rows.present > 0)[:, None, :, None].expand_as(rows.states)


# recurrent networks: training


@pytest.mark.parametrize("joint", [True, False])
def test_motion_is_learned_better_than_static(joint):
    train, test = springs(60, num_entities=2), springs(40, num_entities=2, first=80, num_times=70)
    config = replace(TRAINING, num_passes=25, batch_size=10, learning_rate=4e-3, warm_up=20)
    trainer = RecurrentTrainer(train, springs(20, num_entities=2, first=60), LSTMConfig(joint, 16), config, 0)
    reports = list(trainer.passes())
    assert reports[-1].loss < reports[0].loss / 5
    figures = lstm_figures(trainer.best_network(), train, test, ("one", UNIT))
    static = static_errors(test, UNIT)
    assert all(figures.mse[step] < float(static[step - 1]) / 2 for step in (1, 10, 20))
    assert (figures.correlation_accuracy is None) == joint


@pytest.mark.parametrize("joint", [True, False])
def test_training_goes_on_to_the_bit(joint):
    scenes = springs(12)
    whole, resumed = trainer_of(scenes, joint), trainer_of(without_labels(scenes), joint, seed=5)
    whole.run_epoch()
    tensors, meta = whole.state()
    resumed.load_state({name: value.clone() for name, value in tensors.items()}, json.loads(json.dumps(meta)))
    assert whole.run_epoch() == resumed.run_epoch()
    ours, theirs = whole.state()[0], resumed.state()[0]
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_the_best_pass_is_kept():
    trainer = trainer_of(springs(12), joint=False)
    reports = list(trainer.passes())
    rows, best = trainer.held_out, min(report.held_out for report in reports)
    assert squared_error(trainer.best_network(), rows, 1).item() == pytest.approx(best)


def test_a_pass_says_what_there_is_to_say():
    report = trainer_of(springs(12), joint=False).run_epoch()
    assert report.temperature is None
    assert describe(report) == f"epoch 1  loss {report.loss:.4g}  held out {report.held_out:.5g}"
    assert is_positive(report.loss)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    place = tmp_path_factory.mktemp("data")
    splits = {"train": springs(12), "valid": springs(6, first=12), "test": springs(8, first=20, num_times=70)}
    write_folder(place, splits, "springs3", {"normalization": UNIT.to_dict()})
    return str(place)


def test_a_run_resumes_to_the_bit(folder, tmp_path):
    config = LSTMRun(folder, LSTMConfig(joint=False, hidden=4), SMALL)
    whole = run_lstm(config, tmp_path / "whole")

    def interrupted(report):
        if report.number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_lstm(config, tmp_path / "parts", interrupted)
    seen: list[int] = []
    again = run_lstm(config, tmp_path / "parts", lambda report: seen.append(report.number))
    assert seen == [3]
    assert again == whole
    assert (tmp_path / "parts" / CHECKPOINT).exists()
    assert len((tmp_path / "parts" / LOG).read_text().splitlines()) == 3
    assert run_lstm(config, tmp_path / "parts", lambda report: seen.append(report.number)) == whole
    assert seen == [3], "a finished run has nothing left to learn"
    assert whole.unit == "canonical training set"
    assert whole.correlation_accuracy is not None
    with pytest.raises(DataError, match="another configuration"):
        run_lstm(replace(config, seed=1), tmp_path / "parts")


def test_joint_networks_have_their_size(folder, tmp_path):
    joint = run_lstm(LSTMRun(folder, LSTMConfig(joint=True, hidden=4), SMALL), tmp_path / "joint")
    recurrent = 2 * (4 * 12 * (12 + 12) + 2 * 4 * 12)
    assert joint.num_parameters == (4 * 4 + 4) + (4 * 4 + 4) + recurrent + (12 * 12 + 12) + (12 * 12 + 12)
    assert joint.correlation_accuracy is None


# what they refuse


def test_joint_networks_see_all_in_fixed_places():
    network = network_of(springs(2), joint=True)
    with pytest.raises(DataError, match="expected scenes of 3, got 2"):
        predicted(network, springs(2, num_entities=2), 20, 5)
    with pytest.raises(ValueError, match="belong to no entity"):
        last_memories(network, springs(2))


def test_scenes_no_longer_than_the_horizon():
    with pytest.raises(ValueError, match="of at least 5 samples, these have 4"):
        trainer_of(springs(4).between(0, 4), joint=False)


def test_a_diverged_training_is_no_network():
    trainer = RecurrentTrainer(
        springs(8), springs(8), LSTMConfig(joint=False, hidden=4), replace(SMALL, learning_rate=1e30), 0
    )
    list(trainer.passes())
    assert math.isinf(trainer.best_score) or math.isnan(trainer.best_score)
    with pytest.raises(ValueError, match="the training diverged"):
        trainer.best_network()


@pytest.mark.parametrize("name", ["hidden", "num_layers"])
def test_sizes_that_make_no_network(name):
    with pytest.raises(ValueError, match=f"{name} must be a whole number"):
        LSTMConfig(**{"joint": True, name: 0})
