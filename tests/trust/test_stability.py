"""Whether several fits say the same."""

import json

import pytest
import torch
from torch import Tensor

from bouncegrad.inference import Posterior
from bouncegrad.scenes import DataError
from bouncegrad.structures.layout import Layout
from bouncegrad.trust import agreement, stability
from small import springs, tiny
from worlds import generator


def answer(structures: Tensor, num_kinds: int = 2, num_entities: int = 4) -> Posterior:
    unknown = torch.zeros(len(structures))
    marginals = torch.nn.functional.one_hot(structures, num_kinds).float()
    return Posterior(structures, unknown, marginals, Layout(num_entities, num_kinds), "none", unknown)


def test_numbers_of_kinds_do_not_matter():
    structures = Layout(4, 3).random(50, generator())
    others = [torch.tensor(order)[structures] for order in ([1, 2, 0], [0, 2, 1])]
    found = agreement([answer(each, 3) for each in (structures, *others)])
    assert (found.mean, found.unanimous, found.kinds_used) == (1.0, 1.0, (3, 3, 3))
    assert found.by_chance == pytest.approx(1 / 3, abs=0.02)
    assert found.num_pairs == 600
    assert found.alike
    assert "The answers are alike" in str(found)


def test_random_answers_are_not_alike():
    found = agreement([answer(Layout(4, 2).random(200, generator(seed))) for seed in range(3)])
    assert found.mean == pytest.approx(0.5, abs=0.03)
    assert 0.2 < found.unanimous < 0.3
    assert not found.alike
    assert "do not rely on any" in str(found)


def test_one_kind_for_all_is_no_agreement():
    """Answers that say the same of all pairs agree by chance."""
    assert not agreement([answer(torch.zeros(20, 12, dtype=torch.long))] * 2).alike


def test_more_kinds_than_the_others():
    """A kind too many is wrong wherever it is used."""
    structures = Layout(4, 2).random(100, generator())
    torn = torch.where((torch.rand(structures.shape, generator=generator(1)) < 0.2) & (structures == 1), 2, structures)
    found = agreement([answer(structures), answer(torn, 3)])
    assert found.mean == pytest.approx(float((torn < 2).double().mean()))
    assert found.unanimous == pytest.approx(found.mean)
    assert found.kinds_used == (2, 3)


def test_answers_that_cannot_be_compared():
    one = answer(Layout(4, 2).random(5, generator()))
    with pytest.raises(ValueError, match="two answers or more to compare, got 1"):
        agreement([one])
    with pytest.raises(ValueError, match="answers about the same scenes"):
        agreement([one, answer(Layout(4, 2).random(6, generator()))])


def test_fits_with_other_seeds():
    found = stability(springs(20), tiny(num_passes=2), seeds=(0, 1))
    assert found.agreement.num_pairs == 4 * 6
    assert found.kinds_found == (2, 2)
    assert found.best is found.models[found.losses.index(min(found.losses))]
    assert "seed 1: 2 kinds" in str(found)
    assert json.loads(json.dumps(found.to_dict()))["seeds"] == [0, 1]
    with pytest.raises(ValueError, match="two seeds or more"):
        stability(springs(20), tiny(), seeds=(0,))
    with pytest.raises(DataError, match="5 scenes or more"):
        stability(springs(3), tiny())
