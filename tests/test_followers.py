"""Who follows whom, from speeds alone: made-up platoons of different lengths, with gaps."""

from dataclasses import replace

from bouncegrad import fit, infer
from bouncegrad.recipes import RECIPES
from small import platoons


def test_predecessors_are_found_among_cars_that_come_and_go():
    recipe = RECIPES["leader"]
    recipe = replace(recipe, training=replace(recipe.training, num_passes=8))
    model = fit(replace(platoons(16, 0), relations=None), recipe)
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
