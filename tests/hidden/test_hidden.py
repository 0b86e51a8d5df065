"""Finding what nobody sees, in a world that the model knows exactly: tracks, relations, how many, what if."""

import math
from dataclasses import replace

import pytest
import torch

from bouncegrad.hidden import (
    Effort,
    HiddenPosterior,
    count_hidden,
    find_hidden,
    score_hidden,
    widening_of,
    with_hidden,
    without_entity,
    without_relation,
)
from bouncegrad.hidden.initial_tracks import draw_given_patterns, patterns_of
from bouncegrad.hidden.score import move_covered_last, reorder
from bouncegrad.inference import predict
from bouncegrad.models.decoder import NetworkConfig
from bouncegrad.models.model import Model
from bouncegrad.models.noise import NoiseConfig
from bouncegrad.scenes import DataError, Scenes, stack_scenes
from bouncegrad.structures.layout import Layout, to_matrix, to_slots
from bouncegrad.structures.priors import PRIORS
from exact import exact_springs, moving, seen_of, truth_of
from small import springs, untrained
from worlds import generator

TOUCHED = torch.tensor([[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]])
"""Four in a ring of springs: the last touches the first and the third."""
ALONE = torch.tensor([[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
"""The last touches nobody."""
NUM_TIMES = 20


@pytest.fixture(scope="module")
def model() -> Model:
    return exact_springs()


@pytest.fixture(scope="module")
def scenes(model) -> Scenes:
    return moving(model, to_slots(torch.stack([TOUCHED, ALONE, TOUCHED])), 4, num_times=NUM_TIMES)


@pytest.fixture(scope="module")
def found(model, scenes) -> HiddenPosterior:
    return find_hidden(model, seen_of(scenes), prior="symmetric")


def relations_of(scenes: Scenes) -> torch.Tensor:
    assert scenes.relations is not None
    return to_matrix(to_slots(scenes.relations.long()), scenes.num_entities)


# one hidden entity


def test_tracks_and_relations_are_found(scenes, found):
    errors = (found.best_tracks - truth_of(scenes)).square().mean((1, 2, 3))
    assert errors[0] < 1e-6
    assert errors[2] < 1e-6
    assert torch.equal(found.relations, relations_of(scenes))
    right = found.probabilities.gather(3, relations_of(scenes).clamp_min(0)[..., None]).squeeze(3)
    assert (right[:, ~torch.eye(4, dtype=torch.bool)] > 0.9).all()


def test_the_posterior_is_one(found):
    torch.testing.assert_close(found.weights.sum(1), torch.ones(3, dtype=torch.float64))
    assert (found.weights.diff(dim=1) <= 0).all()
    assert found.probabilities.sum(3)[:, ~torch.eye(4, dtype=torch.bool)].allclose(torch.ones(3, 12))
    assert found.prior == "symmetric"
    assert found.num_hidden == 1


def test_who_touches_nobody_may_be_anywhere(scenes, found):
    """Nothing can be known of it, and the posterior says so: its band is wider than the box is high."""
    band = found.band()
    assert ((band.high - band.low)[1] > 1.5).all()
    assert ((band.high - band.low)[0] < 0.1).all()
    assert band.covers(truth_of(scenes))[1].double().mean() > 0.8


def test_the_posterior_knows_who_touches_nobody(found):
    assert found.idle(0) == pytest.approx(torch.tensor([0.0, 1.0, 0.0]), abs=1e-3)


def test_bands_hold_a_level(scenes, found):
    narrow, wide = found.band(0.5), found.band(0.99)
    assert (narrow.low > wide.low).all()
    assert (narrow.high < wide.high).all()
    single = replace(found, weights=torch.eye(found.weights.shape[1])[:1].expand(3, -1).double())
    expected = single.tracks[:, 0] + single.spreads[:, 0] * math.sqrt(2) * torch.erfinv(torch.tensor(0.9)).double()
    torch.testing.assert_close(single.band(0.9).high, expected)
    with pytest.raises(DataError, match="a level between 0 and 1, got 1.5"):
        found.band(1.5)


def test_labels_are_not_looked_at(model, scenes, found):
    labels = torch.ones(3, 3, 3, dtype=torch.float64)
    again = find_hidden(model, replace(seen_of(scenes), relations=labels), prior="symmetric")
    assert torch.equal(again.tracks, found.tracks)
    assert torch.equal(again.marginals, found.marginals)


def test_the_order_of_the_seen_does_not_matter(model, scenes, found):
    other = find_hidden(model, reorder(seen_of(scenes), [2, 0, 1]), prior="symmetric")
    assert torch.equal(other.relations[:, [1, 2, 0, 3]][:, :, [1, 2, 0, 3]], found.relations)
    torch.testing.assert_close(other.best_tracks[[0, 2]], found.best_tracks[[0, 2]], atol=1e-3, rtol=0)


def test_one_by_one_is_as_all_at_once(model, scenes, found):
    alone = find_hidden(model, seen_of(scenes).at([2]), prior="symmetric")
    assert torch.equal(alone.relations[0], found.relations[2])
    torch.testing.assert_close(alone.best_tracks[0], found.best_tracks[2], atol=1e-4, rtol=0)


def test_directions_are_told_apart(model):
    """The hidden entity pulls the first and is pulled by the second; nobody believes in symmetry."""
    directed = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 0], [0, 0, 0, 1], [0, 1, 0, 0]])
    scenes = moving(model, to_slots(directed[None]), 4, num_times=NUM_TIMES)
    found = find_hidden(model, seen_of(scenes), prior="none", effort=Effort(num_starts=4))
    assert torch.equal(found.relations, relations_of(scenes))
    assert (found.best_tracks - truth_of(scenes)).square().mean() < 1e-6


def test_known_relations_are_kept(model, scenes):
    relations = scenes.relations.long()
    found = find_hidden(model, seen_of(scenes), relations=relations)
    assert found.prior == "given"
    assert torch.equal(found.relations, relations_of(scenes))
    assert (found.best_tracks - truth_of(scenes))[[0, 2]].square().mean() < 1e-6
    with pytest.raises(DataError, match=r"\(3, 4, 4\), hidden entities last"):
        find_hidden(model, seen_of(scenes), relations=relations[:, :3, :3])


def test_widening_stops_at_what_was_believed_beforehand(model, scenes, found):
    wider = find_hidden(model, seen_of(scenes), prior="symmetric", widening=3.0)
    torch.testing.assert_close(wider.spreads[0, 0], 3 * found.spreads[0, 0])
    assert (wider.spreads[1, 0] >= found.spreads[1, 0]).all()
    assert (wider.spreads[1, 0] < 2 * found.spreads[1, 0]).all()


def test_scenes_may_have_different_numbers_of_entities(model, scenes):
    smaller = moving(model, to_slots(torch.tensor([[[0, 1, 1], [1, 0, 1], [1, 1, 0]]])), 3, num_times=NUM_TIMES)
    mixed = find_hidden(model, stack_scenes([seen_of(scenes).at([0]), seen_of(smaller)]), prior="symmetric")
    assert torch.equal(mixed.relations[0], relations_of(scenes)[0])
    assert (mixed.relations[1, :2, 3] == 1).all()
    assert (mixed.best_tracks[1] - truth_of(smaller)[0]).square().mean() < 1e-6


def test_two_hidden_entities(model):
    """Five in a row of springs; the last two, which pull at different ends of the others, are hidden."""
    pairs = torch.zeros(5, 5, dtype=torch.long)
    for one, other in ((0, 1), (1, 2), (0, 3), (2, 4)):
        pairs[one, other] = pairs[other, one] = 1
    scenes = moving(model, to_slots(pairs[None]), 5, num_times=NUM_TIMES)
    score = score_hidden(model, scenes, (3, 4), prior="symmetric", effort=Effort(num_starts=1))
    assert score.mse.item() < 1e-4
    assert torch.equal(score.posterior.relations, relations_of(scenes))


# starts


def test_patterns_are_all_or_some():
    small, large = Layout(4, 2), Layout(6, 2)
    every = patterns_of(PRIORS["none"](small), small, 1, 64, generator())
    assert every.shape == (8, 1, 3)
    assert len(every.unique(dim=0)) == 8
    some = patterns_of(PRIORS["symmetric"](large), large, 2, 16, generator())
    assert some.shape == (16, 2, 5)
    assert len(some.unique(dim=0)) == 16
    assert torch.equal(some[:, 0, 4], some[:, 1, 4])


@pytest.mark.parametrize("name", ["none", "symmetric"])
def test_structures_are_drawn_that_hold_the_pattern(name):
    layout = Layout(4, 2)
    prior = PRIORS[name](layout)
    patterns = patterns_of(prior, layout, 1, 64, generator())
    structures = draw_given_patterns(prior, layout, patterns, generator())
    matrix = to_matrix(structures, 4)
    assert torch.equal(matrix[:, 3, :3], patterns[:, 0])
    assert prior.log_probability(structures).isfinite().all()


# how many


def test_who_touches_is_counted_and_who_does_not_is_not(model, scenes):
    count = count_hidden(model, seen_of(scenes), (0, 1), prior="symmetric")
    assert count.num_hidden.tolist() == [1, 0, 1]
    assert count.gains[:, 0].tolist() == [0, 0, 0]


def test_complete_scenes_hide_nobody(model, scenes):
    assert (
        count_hidden(model, replace(scenes, relations=None), (0, 1), prior="symmetric").num_hidden.tolist() == [0] * 3
    )


# what if


def test_hidden_entities_stand_beside_the_seen(model, scenes, found):
    whole = with_hidden(seen_of(scenes), found)
    assert whole.entity_names[-1] == "hidden"
    later = predict(model, whole, found.best_structures, start=0, num_steps=NUM_TIMES - 1)
    assert (later - scenes.states[:, 1:])[0].square().mean() < 1e-5


def test_who_is_taken_away_acts_no_more(model, scenes):
    structures = to_slots(scenes.relations.long())
    gone = without_entity(model, scenes, structures, "3", start=0, num_steps=5)
    three = predict(
        model, reorder(scenes, [0, 1, 2]), to_slots(scenes.relations.long()[:, :3, :3]), start=0, num_steps=5
    )
    assert gone[:, :, 3].isnan().all()
    torch.testing.assert_close(gone[:, :, :3], three, atol=1e-5, rtol=0)
    with pytest.raises(DataError, match="there is no entity 'nobody': choose one of 0, 1, 2, 3"):
        without_entity(model, scenes, structures, "nobody", start=0, num_steps=5)


def test_a_relation_is_taken_away_in_one_direction(model, scenes):
    structures = to_slots(scenes.relations.long())
    free = without_relation(model, scenes, structures, "0", "1", start=0, num_steps=5)
    cut = scenes.relations.long().clone()
    cut[:, 0, 1] = 0
    torch.testing.assert_close(free, predict(model, scenes, to_slots(cut), start=0, num_steps=5))
    with pytest.raises(DataError, match="between two different entities"):
        without_relation(model, scenes, structures, "0", "0", start=0, num_steps=5)


# scores


def test_scores_of_covered_entities(model, scenes):
    score = score_hidden(model, scenes, (3,), prior="symmetric")
    assert score.touching.tolist() == [True, False, True]
    figures = score.to_dict()
    assert figures["hidden_mse_touching"] < 1e-6
    assert figures["hidden_mse"] > figures["hidden_mse_touching"]
    assert figures["hidden_relation_accuracy_touching"] == figures["seen_relation_accuracy"] == 1.0


def test_bands_are_widened_by_what_other_scenes_say(model, scenes):
    assert 1.0 <= widening_of(model, scenes, (3,), prior="symmetric") < 2.0
    with pytest.raises(DataError, match="in none of these scenes"):
        widening_of(model, scenes.at([1]), (3,), prior="symmetric")


@pytest.mark.parametrize("hide", [(), (4,), (0, 0), (0, 1, 2)])
def test_entities_that_cannot_be_covered(scenes, hide):
    with pytest.raises(DataError, match="different numbers of entities to cover, from 0 to 3"):
        move_covered_last(scenes, hide)


# what is refused


def test_searches_that_cannot_be(model, scenes):
    seen = seen_of(scenes)
    mask = seen.mask.clone()
    mask[1, 5, 2] = False
    with pytest.raises(DataError, match="entity '2' of scene 1 was not measured at time 5"):
        find_hidden(model, replace(seen, mask=mask))
    with pytest.raises(DataError, match="at least one hidden entity to infer, got 0"):
        find_hidden(model, seen, 0)
    with pytest.raises(DataError, match="3 observed and 20 hidden entities are too many"):
        find_hidden(model, seen, 20)
    with pytest.raises(DataError, match="6 samples or more"):
        count_hidden(model, seen.between(0, 5), (0, 1))
    with pytest.raises(DataError, match="0 or more, got"):
        count_hidden(model, seen, (-1, 0))


def test_models_without_a_scale_are_refused():
    scenes = springs(2)
    blunt = untrained(scenes, NetworkConfig(hidden=4), NoiseConfig("none"))
    with pytest.raises(ValueError, match='noise.scale "none": fit one with the recipe fast'):
        find_hidden(blunt, scenes)


def test_efforts_are_counts():
    with pytest.raises(ValueError, match="num_starts must be a whole number, 1 or more; got 0"):
        Effort(num_starts=0)
