"""Who follows whom, from speeds alone: made-up platoons of different lengths, with gaps."""

from dataclasses import replace

import pytest

from bouncegrad import fit, infer
from bouncegrad.models.model import Model
from bouncegrad.recipes import RECIPES
from bouncegrad.trust import null_test
from small import platoons


@pytest.fixture(scope="module")
def model() -> Model:
    recipe = RECIPES["leader"]
    recipe = replace(recipe, training=replace(recipe.training, num_passes=8))
    return fit(replace(platoons(16, 0), relations=None), recipe)


def test_predecessors_are_found_among_cars_that_come_and_go(model: Model):
    unseen = platoons(12, 1)
    acting = infer(model, unseen).probabilities[..., 1:].sum(3)
    known = unseen.known_relations
    assert known is not None
    asked = (known == 1).any(2)
    guess = acting.masked_fill(~unseen.pairs, -1).argmax(2)
    right = (guess == known.nan_to_num().argmax(2))[asked]
    assert int(asked.sum()) == 36
    assert float(right.double().mean()) >= 0.95
    assert model.reading.prior == "file"


def test_followers_are_told_from_strangers(model: Model):
    assert null_test(model, platoons(9, 2), num_shuffles=19).p_value == pytest.approx(0.05)
