"""Proposals and priors."""

import torch

from bouncegrad.structures.proposals import block_proposal, slot_proposal, uniform_beliefs, without_correction
from kernels import BLOCKS, first_of, independent, skewed
from worlds import WORLDS, canonical, generator


def test_proposals_change_what_they_say():
    structures = WORLDS["unequal"]().random(2000, generator())
    num_kinds = WORLDS["unequal"]().num_kinds
    changed = slot_proposal(uniform_beliefs(num_kinds), 4)(structures, generator(1)).structures != structures
    assert (changed.sum(1) == 1).all()
    assert changed.any(0).tolist() == [True, False, True, True]
    in_block = block_proposal(uniform_beliefs(num_kinds), BLOCKS)(structures, generator(1)).structures != structures
    assert not (in_block[:, :2].any(1) & in_block[:, 2:].any(1)).any()
    assert in_block.any(0).tolist() == [True, False, True, True]


def test_without_correction_changes_nothing_but_the_ratio():
    structures = canonical().random(50, generator())
    right = skewed((2, 2, 2, 2))(structures, generator(3))
    wrong = without_correction(skewed((2, 2, 2, 2)))(structures, generator(3))
    assert torch.equal(right.structures, wrong.structures)
    assert right.log_ratio.any()
    assert not wrong.log_ratio.any()


def test_priors_are_what_they_say():
    structures = first_of(canonical())
    by_kind = torch.tensor([0.2, 0.8]).log()
    expected = structures.sum(1) * by_kind[1] + (4 - structures.sum(1)) * by_kind[0]
    torch.testing.assert_close(independent(by_kind)(structures), expected)
    by_slot = torch.randn(4, 2, generator=generator())
    expected = torch.stack([by_slot[slot, structures[:, slot]] for slot in range(4)]).sum(0)
    torch.testing.assert_close(independent(by_slot)(structures), expected)
