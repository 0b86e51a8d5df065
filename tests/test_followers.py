"""Who follows whom, from speeds alone: made-up platoons of different lengths, with gaps."""

from dataclasses import replace

import torch
from torch import Generator

from bouncegrad import fit, infer
from bouncegrad.recipes import RECIPES
from bouncegrad.scenes import Scenes


def platoons(num_scenes: int, seed: int) -> Scenes:
    """Three to five cars in random order; each closes the gap in speed to the one before, with a lag and with noise."""
    generator = Generator().manual_seed(seed)
    num_times, size = 120, 5
    states = torch.zeros(num_scenes, num_times, size, 1, dtype=torch.float64)
    mask = torch.zeros(num_scenes, num_times, size, dtype=torch.bool)
    relations = torch.zeros(num_scenes, size, size, dtype=torch.float64)
    exogenous = torch.zeros(num_scenes, size, dtype=torch.bool)
    for scene in range(num_scenes):
        order = torch.randperm(3 + scene % 3, generator=generator)
        kicks = 0.3 * torch.randn(num_times, len(order), generator=generator, dtype=torch.float64)
        speeds = torch.full((num_times, len(order)), 10.0, dtype=torch.float64)
        for time in range(2, num_times):
            pull = 0.35 * (speeds[time - 2, :-1] - speeds[time - 1, 1:])
            speeds[time, 1:] = speeds[time - 1, 1:] + pull + 0.2 * kicks[time, 1:]
            speeds[time, 0] = speeds[time - 1, 0] + 0.05 * (10 - speeds[time - 1, 0]) + kicks[time, 0]
        states[scene, :, order, 0] = speeds
        mask[scene, :, order] = True
        relations[scene, order[1:], order[:-1]] = 1
        exogenous[scene, order[0]] = True
        mask[scene, 40:70, order[1]] = scene % 4 > 0
    return Scenes(states, mask, 1.0, ("speed",), tuple("abcde"), relations, exogenous)


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
