"""Models that see several samples, among entities that are given, late or not always seen."""

import math
from dataclasses import replace

import pytest
import torch

from bouncegrad import RelationalModel, infer, predict
from bouncegrad.cli.predict import Span, predict_file
from bouncegrad.energies import loss_fn, receiver_tables, training_loss
from bouncegrad.energies.message_sums import message_sums
from bouncegrad.energies.windows import Windows, cut_windows, early_half, late_half, pack, stack_history
from bouncegrad.evaluation.score import num_observed, prediction_errors, score
from bouncegrad.hidden import find_hidden
from bouncegrad.inference import place_start, weakest_kind
from bouncegrad.model_card import Origin
from bouncegrad.models.decoder import NetworkConfig
from bouncegrad.models.model import Model, ModelConfig
from bouncegrad.models.noise import NoiseConfig
from bouncegrad.recipes import Recipe
from bouncegrad.scenes import DataError, Normalization, Scenes, read_scenes, stack_scenes, write_npz
from bouncegrad.structures.priors import PRIORS
from bouncegrad.training import TrainingConfig
from bouncegrad.training.rollout_tuning import PolishConfig
from small import untrained
from worlds import generator

NOISES = (NoiseConfig(hidden=4), NoiseConfig("shared"), NoiseConfig("none"))


def recordings(num_times: int = 9, num_entities: int = 4, num_scenes: int = 3) -> Scenes:
    """Random walks of two features without gaps."""
    steps = 0.2 * torch.randn(num_scenes, num_times, num_entities, 2, generator=generator(1), dtype=torch.float64)
    mask = torch.ones(num_scenes, num_times, num_entities, dtype=torch.bool)
    return Scenes(steps.cumsum(1), mask, 0.1, ("x", "vx"), tuple("abcdefgh"[:num_entities]))


def led_by_the_first(scenes: Scenes) -> Scenes:
    exogenous = torch.zeros(scenes.num_scenes, scenes.num_entities, dtype=torch.bool)
    exogenous[:, 0] = True
    return replace(scenes, exogenous=exogenous)


def without(scenes: Scenes, entity: int, times: slice) -> Scenes:
    mask = scenes.mask.clone()
    mask[:, times, entity] = False
    return replace(scenes, mask=mask)


def with_history(scenes: Scenes, history: int = 3, **changes: object) -> Model:
    return untrained(scenes, NetworkConfig(hidden=6, history=history, **changes))  # type: ignore[arg-type]


def test_inputs_are_the_samples_up_to_now_the_newest_last():
    scenes = recordings()
    batch = pack(with_history(scenes), scenes)
    assert batch.inputs.shape == (12, 7, 6)
    for time in range(7):
        torch.testing.assert_close(batch.inputs[:, time], batch.states[:, time : time + 3].flatten(1))
    windows = cut_windows(batch)
    assert windows.states.shape == (12, 6, 6)
    assert torch.equal(windows.targets[:, :, 0], batch.states[:, 3:])
    assert torch.equal(stack_history(batch.states, 1), batch.states)


def test_a_history_of_one_sample_is_the_state():
    scenes = recordings()
    batch = pack(with_history(scenes, 1), scenes)
    windows = cut_windows(batch, 2)
    assert torch.equal(windows.states, batch.states[:, :7])
    assert torch.equal(windows.origins[:, :, 1], batch.states[:, 1:8])


def test_every_step_sees_its_own_history():
    scenes = recordings()
    model = with_history(scenes)
    batch = pack(model, scenes)
    windows, structures = cut_windows(batch, 3), model.layout(4).random(3, generator(3))
    for step in range(3):
        torch.testing.assert_close(windows.origins[:, :, step], batch.inputs[:, step : step + windows.states.shape[1]])
    predicted = model.network.rollout(windows.states, batch.graph, structures, 3)
    shown = windows.states
    for step in range(3):
        newest = model.network.rollout(shown, batch.graph, structures, 1)[:, :, 0]
        torch.testing.assert_close(predicted[:, :, step], newest)
        shown = torch.cat([shown[..., 2:], newest], 2)


def test_what_lies_before_the_history_does_not_matter():
    scenes = recordings()
    model = with_history(scenes)
    structures = model.layout(4).random(3, generator(3))
    long = predict(model, scenes, structures, start=8, num_steps=4)
    short = predict(model, scenes.between(6, 9), structures, start=-1, num_steps=4)
    torch.testing.assert_close(long, short)
    changed = replace(scenes, states=scenes.states.clone())
    changed.states[:, 6] += 1
    assert not torch.allclose(predict(model, changed, structures, start=8, num_steps=4), long)
    with pytest.raises(DataError, match="expected a start from 2 to 8"):
        predict(model, scenes, structures, start=1, num_steps=4)


def test_a_gap_costs_every_prediction_that_would_have_to_see_it():
    scenes = without(recordings(), 1, slice(4, 5))
    batch = pack(with_history(scenes), scenes)
    weights = batch.graph.unpack_nodes(cut_windows(batch).weights[:, :, 0])
    assert weights[0, 0].tolist() == [1, 1, 0, 0, 0, 1]  # starts 2 to 7: somebody's samples 4 to 6 hang on the gap
    assert weights[0, 1].tolist() == [1, 0, 0, 0, 0, 1]  # its own target as well


def test_senders_that_were_not_seen_are_silent():
    whole = recordings()
    scenes = without(whole, 1, slice(0, 6))
    model = with_history(scenes, unseen="silent")
    batch, structures = pack(model, scenes), model.layout(4).random(3, generator(3))
    windows = cut_windows(batch)
    assert windows.sender_mask is not None
    assert batch.graph.unpack_nodes(windows.weights[:, :, 0])[0].sum(1).tolist() == [6, 0, 6, 6]
    alone = Scenes(
        whole.states[:, :, [0, 2, 3]],
        whole.mask[:, :, [0, 2, 3]],
        whole.time_step,
        whole.feature_names,
        ("a", "c", "d"),
    )
    fewer = pack(model, alone)
    kept = structures.view(3, 4, 3)[:, [0, 2, 3]][:, torch.arange(3)[:, None], torch.tensor([[1, 2], [0, 2], [0, 2]])]
    with_it = model.network.rollout(windows.states, batch.graph, structures, 1, sender_mask=windows.sender_mask)
    without_it = model.network.rollout(cut_windows(fewer).states, fewer.graph, kept.flatten(1), 1)
    rows = batch.graph.unpack_nodes(with_it)[:, [0, 2, 3]].flatten(0, 1)
    torch.testing.assert_close(rows[:, :-1], without_it[:, :-1])  # at the last start it has been seen long enough


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.scale)
@pytest.mark.parametrize("update", ["superposed", "general"])
@pytest.mark.parametrize("unseen", ["skip", "silent"])
def test_tables_sums_and_plain_losses_agree(update, unseen, noise):
    scenes = led_by_the_first(without(without(recordings(), 2, slice(0, 4)), 3, slice(8, 9)))
    model = untrained(scenes, NetworkConfig(hidden=6, history=2, update=update, unseen=unseen), noise)
    batch = pack(model, scenes)
    windows = cut_windows(batch)
    plain, structures = loss_fn(model, batch, windows), model.layout(4).random(3, generator(5))
    torch.testing.assert_close(receiver_tables(model, batch, windows)(structures), plain(structures))
    torch.testing.assert_close(message_sums(model, batch, windows)(structures), plain(structures))


def test_silence_over_several_steps_is_refused():
    scenes = recordings()
    batch = pack(with_history(scenes, unseen="silent"), scenes)
    with pytest.raises(ValueError, match="over one step only, got a horizon of 2"):
        cut_windows(batch, 2)
    model = ModelConfig(NetworkConfig(unseen="silent"))
    for wrong in ({"polish": PolishConfig(num_passes=1)}, {"training": TrainingConfig(horizon=2)}):
        with pytest.raises(ValueError, match="over one step only"):  # at once, not after the training
            Recipe(model, **wrong)


def test_nobody_asks_who_acts_on_exogenous_entities():
    scenes = led_by_the_first(recordings())
    model = with_history(scenes)
    batch = pack(model, scenes)
    tables = receiver_tables(model, batch, cut_windows(batch))
    assert not tables.energies[:, 0].any()
    assert tables.energies[:, 1:].std(2).min() > 0
    posterior = infer(model, scenes)
    assert posterior.probabilities[:, 0, 1:].sub(0.5).abs().max() < 1e-6


@pytest.mark.parametrize("rollout", ["scene", "receiver"])
def test_exogenous_entities_go_where_they_really_went(rollout):
    scenes = led_by_the_first(recordings())
    model = with_history(scenes)
    batch, structures = pack(model, scenes), model.layout(4).random(3, generator(3))
    windows = cut_windows(batch, 3, rollout=rollout)
    assert not batch.graph.unpack_nodes(windows.weights)[:, 0].any()
    if rollout == "scene":
        found = model.network.rollout(windows.states, batch.graph, structures, 3, given=windows.given)
        leaders = batch.exogenous
        assert leaders is not None
        assert torch.equal(found[leaders], windows.targets[leaders])
        assert not torch.equal(found[~leaders], windows.targets[~leaders])
    assert training_loss(model, batch, windows, structures).isfinite()


def test_a_prediction_follows_the_recording_of_the_exogenous_as_far_as_it_goes():
    scenes = led_by_the_first(without(recordings(12), 0, slice(9, 10)))
    model = with_history(scenes)
    structures = model.layout(4).random(3, generator(3))
    found = predict(model, scenes, structures, start=6, num_steps=7)
    torch.testing.assert_close(found[:, :2, 0], scenes.states[:, 7:9, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[:, 3:5, 0], scenes.states[:, 10:12, 0], rtol=1e-5, atol=1e-5)
    assert found.isfinite().all()
    free = predict(model, replace(scenes, exogenous=None), structures, start=6, num_steps=7)
    assert not torch.allclose(free[:, 1:, 1:], found[:, 1:, 1:])


def test_a_lost_guide_ends_what_can_be_judged():
    scenes = led_by_the_first(without(recordings(), 0, slice(5, 6)))
    batch = pack(with_history(scenes, 1), scenes)
    weights = batch.graph.unpack_nodes(cut_windows(batch, 3).weights)[0, 1]
    assert weights[3].tolist() == [1, 1, 0]  # from sample 3: the guide is lost at 5, and sample 6 hangs on it
    assert weights[5].tolist() == [0, 0, 0]


def test_figures_leave_the_exogenous_out():
    scenes = led_by_the_first(recordings(30))
    relations = torch.ones(3, 4, 4, dtype=torch.float64)
    model = with_history(scenes)
    found = score(model, replace(scenes, relations=relations))
    assert found.match is not None
    assert int(found.match.confusion.sum()) == 3 * 3 * 3
    ignored = replace(scenes, states=scenes.states.clone(), relations=relations)
    assert all(math.isfinite(error) for error in score(model, ignored).mse.values())


def test_too_short_for_a_history():
    scenes = recordings(4)
    batch = pack(with_history(scenes, 4), scenes)
    with pytest.raises(ValueError, match="at least 5 samples, these have 4.*or the history of 4"):
        cut_windows(batch)
    with pytest.raises(DataError, match=r"at least 26 samples \(5 to infer from"):
        score(with_history(recordings(25), 4), recordings(25))


def test_hidden_entities_are_not_sought_with_histories():
    scenes = recordings()
    with pytest.raises(ValueError, match="has history 3: fit one with history 1"):
        find_hidden(with_history(scenes), scenes)
    with pytest.raises(DataError, match="these scenes have exogenous entities"):
        find_hidden(with_history(scenes, 1), led_by_the_first(scenes))


def test_parts_keep_who_is_given_and_who_is_heard():
    scenes = led_by_the_first(without(recordings(), 2, slice(0, 4)))
    batch = pack(with_history(scenes, unseen="silent"), scenes)
    part: Windows = cut_windows(batch).at(torch.arange(4)).at_starts(slice(1, 3))
    assert part.sender_mask is not None
    assert part.given is not None
    assert part.sender_mask.shape == (4, 2)
    assert part.given.shape == (4, 2, 1, 2)


def test_the_last_sample_of_each_scene():
    whole = recordings()
    short = without(without(without(without(whole, 0, slice(6, 9)), 1, slice(6, 9)), 2, slice(6, 9)), 3, slice(6, 9))
    mixed = Scenes(
        torch.cat([whole.states, short.states]),
        torch.cat([whole.mask, short.mask]),
        0.1,
        whole.feature_names,
        whole.entity_names,
    )
    model = with_history(whole)
    structures = model.layout(4).random(6, generator(3))
    found = predict(model, mixed, structures, start=-1, num_steps=2)
    torch.testing.assert_close(found[:3], predict(model, whole, structures[:3], start=8, num_steps=2))
    torch.testing.assert_close(found[3:], predict(model, whole, structures[3:], start=5, num_steps=2))
    assert whole.ending_together() is whole
    assert mixed.ending_together().mask[3:, :3].sum() == 0


def test_halves_of_scenes_of_different_lengths():
    whole = recordings(10)
    mask = whole.mask.clone()
    mask[1, 5:] = False
    scenes = replace(whole, mask=mask)
    batch = pack(with_history(scenes, 1), scenes)
    early, late = (batch.graph.unpack_nodes(half(batch).weights[:, :, 0])[:, 0] for half in (early_half, late_half))
    assert early.sum(1).tolist() == [4, 2, 4]
    assert late.sum(1).tolist() == [5, 2, 5]
    assert torch.equal(early + late, batch.graph.unpack_nodes(cut_windows(batch).weights[:, :, 0])[:, 0])
    same = pack(with_history(whole, 1), whole)
    assert torch.equal(early_half(same).states, cut_windows(same).states[:, :4])
    assert torch.equal(late_half(same).states, cut_windows(same).states[:, 4:])


def test_exogenous_receivers_are_not_asked_about():
    scenes = led_by_the_first(recordings())
    batch = pack(with_history(scenes), scenes)
    windows, model = cut_windows(batch), with_history(scenes)
    for factors in (receiver_tables(model, batch, windows), message_sums(model, batch, windows)):
        assert factors.exist is not None
        assert factors.exist.any(2).tolist() == [[False, True, True, True]] * 3
    assert pack(model, recordings()).edge_mask is None
    posterior = PRIORS["leader"](model.layout(4)).posterior(receiver_tables(model, batch, windows), 1.0)
    assert float(posterior.usage().sum()) == pytest.approx(3 * 3)
    assert not posterior.best().view(3, 4, 3)[:, 0].any()


def test_figures_leave_out_whose_history_was_not_measured():
    scenes = recordings(30)
    model = with_history(scenes)
    start = num_observed(scenes, 3)
    gap = scenes.mask.clone()
    gap[0, start - 1, 2] = False
    lost = replace(scenes, mask=gap)
    structures = infer(model, lost.between(0, start)).structures
    predicted = predict(model, lost, structures, start=start, num_steps=5)
    others = prediction_errors(predicted[1:], lost.at([1, 2]), start, model.normalization)
    torch.testing.assert_close(prediction_errors(predicted, lost, start, model.normalization, 3), others)


def test_a_file_of_predictions_says_who_could_not_be_predicted(tmp_path):
    scenes = led_by_the_first(without(without(recordings(), 2, slice(6, 7)), 3, slice(0, 6)))
    scenes = replace(scenes, names=(("p", "q", "r", "s"),) * 3)
    write_npz(tmp_path / "scenes.npz", scenes)
    predict_file(with_history(scenes), tmp_path / "scenes.npz", "test", Span(5, 2), tmp_path / "early.npz")
    predict_file(with_history(scenes), tmp_path / "scenes.npz", "test", Span(-1, 2), tmp_path / "late.npz")
    early, late = read_scenes(tmp_path / "early.npz"), read_scenes(tmp_path / "late.npz")
    assert early.present[0].tolist() == [True, True, True, False]
    assert late.present[0].tolist() == [True, True, False, True]  # one of the last three samples of r is missing
    assert late.exogenous is not None
    assert late.exogenous[0].tolist() == [True, False, False, False]
    assert early.relations is not None
    assert early.relations[0, :3, 3].isnan().all()  # nobody had seen s


def test_no_scene_shows_what_comes_after_its_own_start():
    whole = recordings(12)
    short = replace(whole, mask=whole.mask & (torch.arange(12) < 8)[None, :, None])
    changed = short.states.clone()
    changed[:, 6:8] += 1  # the last two samples of the shorter scenes
    model = RelationalModel()
    model._learned = with_history(whole, 1), Origin()
    before = model.predict(stack_scenes([whole, short]), start=-3, num_steps=2)
    after = model.predict(stack_scenes([whole, replace(short, states=changed)]), start=-3, num_steps=2)
    assert torch.equal(before, after)
    moved, start = place_start(model.model, stack_scenes([whole, short]), -3)
    found = infer(model.model, moved.between(0, start + 1)).structures[3:]
    torch.testing.assert_close(before[3:], predict(model.model, short.between(0, 8), found, start=-3, num_steps=2))
    assert torch.equal(found, infer(model.model, short.between(0, 6)).structures)


def test_samples_that_were_not_measured_do_not_say_which_kind_is_weak():
    scenes = replace(recordings(12), states=recordings(12).states + 50)
    model = with_history(scenes, 1)
    model.normalization = Normalization((-1.0, -1.0), (1.0, 1.0))
    with torch.no_grad():
        model.network.edge_modules.biases[0][0] = -20  # kind 0 answers to distances as between 50 and 0 only
    assert weakest_kind(model, scenes) == 0
    assert weakest_kind(model, without(scenes, 1, slice(0, 6))) == 0


def test_the_gauge_is_left_alone_where_senders_may_be_silent():
    scenes = without(recordings(), 1, slice(0, 6))
    model = with_history(scenes, 1, unseen="silent")
    batch, structures = pack(model, scenes), model.layout(4).random(3, generator(3))
    windows = cut_windows(batch)
    before = model.network.rollout(windows.states, batch.graph, structures, 1, sender_mask=windows.sender_mask)
    model.network.fix_gauge(batch.inputs, batch.graph)
    after = model.network.rollout(windows.states, batch.graph, structures, 1, sender_mask=windows.sender_mask)
    torch.testing.assert_close(before, after)
