"""No single batch ruins a proposal network, and what would without each of the mechanisms. Larger:
``experiments/stability.py``."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bouncegrad.energies.windows import Batch
from bouncegrad.models.proposer import FARTHEST, ProposerConfig
from bouncegrad.training.proposal_learner import ProposalLearner
from bouncegrad.types import Structures
from lessons import EAGER, LAYOUT, learner_of, lesson_of, pulled
from worlds import generator

DEFAULT = ProposerConfig(sees="trajectories", hidden=EAGER.hidden, dropout=0.0)
NOTHING = {"clip_norm": math.inf, "label_smoothing": 0.0, "averaging": 0.0, "floor": 0.0}
BOLD = 0.1
BOLDER = 0.2
FEW_POINTS = 0.03

Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def taught() -> Weights:
    """A network that reads nearly every relation."""
    learner = learner_of(replace(EAGER, sees="trajectories"))
    for step in range(150):
        batch, structures = pulled(50, step)
        learner.learn(batch, lesson_of(structures), generator(step))
    assert accuracy(learner) > 0.99
    return learner.proposing.state_dict()


def accuracy(learner: ProposalLearner) -> float:
    """Of what the proposing network thinks of scenes that it never learned from."""
    batch, structures = pulled(200, 999)
    return float((learner.guess(batch, structures, generator()) == structures).float().mean())


def going_on(taught: Weights, config: ProposerConfig, surer: float = 1.0) -> ProposalLearner:
    """A learner with this network, perhaps surer of what it says."""
    learner = learner_of(config)
    learner.proposer.load_state_dict(taught)
    with torch.no_grad():
        for parameter in learner.proposer.heads.parameters():
            parameter.mul_(surer)
    return learner


def told(learner: ProposalLearner, lies: list[str], every: int = 1, first: int = 1000) -> list[float]:
    """The accuracy after each batch, or after some: of the truth, or what is said instead."""
    found = []
    for step, lie in enumerate(lies):
        batch, structures = pulled(50, first + step)
        batch, structures = changed(batch, structures, lie)
        learner.learn(batch, lesson_of(structures), generator(step))
        found += [accuracy(learner)] if (step + 1) % every == 0 else []
    return found


def changed(batch: Batch, structures: Structures, lie: str) -> tuple[Batch, Structures]:
    if lie == "swapped":
        return batch, 1 - structures
    if lie == "random":
        return batch, LAYOUT.random(len(structures), generator(1))
    if lie.startswith("outlier"):
        states = batch.states.clone()
        states[7] *= float(lie.removeprefix("outlier "))
        return replace(batch, states=states), structures
    return batch, structures


def fall(taught: Weights, lie: str, first: int = 1000, **changes: Any) -> float:
    """By how much the accuracy falls at most, from just before one such batch to 15 batches behind it."""
    lies = ["truth"] * 4 + [lie] + ["truth"] * 15
    found = told(going_on(taught, replace(DEFAULT, **changes)), lies, first=first)
    return found[3] - min(found[4:])


def mean_fall(taught: Weights, **changes: Any) -> float:
    """Over four sets of batches: one alone falls by more or less, depending on the last digits of a machine's sums."""
    return sum(fall(taught, "swapped", first, **changes) for first in (1000, 2000, 3000, 4000)) / 4


@pytest.mark.parametrize("learning_rate", [DEFAULT.learning_rate, BOLD])
@pytest.mark.parametrize("lie", ["swapped", "random", "outlier 1e3", "outlier 1e30"])
def test_no_single_batch_moves_the_network_that_proposes(taught: Weights, lie: str, learning_rate: float):
    assert fall(taught, lie, learning_rate=learning_rate) < FEW_POINTS


def test_at_the_default_rate_nothing_of_it_is_needed(taught: Weights):
    assert fall(taught, "swapped", **NOTHING) < FEW_POINTS


def test_at_a_bold_rate_the_cut_of_the_gradient_and_averaging_are_needed(taught: Weights):
    without_cut = mean_fall(taught, learning_rate=BOLDER, clip_norm=math.inf)
    without_averaging = mean_fall(taught, learning_rate=BOLDER, averaging=0.0)
    assert mean_fall(taught, learning_rate=BOLDER) < FEW_POINTS
    assert min(without_cut, without_averaging) > 0.15
    assert mean_fall(taught, learning_rate=BOLDER, **NOTHING) > max(without_cut, without_averaging, 0.4)


def test_who_is_told_the_opposite_for_long_believes_it_and_recovers(taught: Weights):
    """Twenty batches, at a bold rate; at the default one these are few."""
    learner = going_on(taught, replace(DEFAULT, learning_rate=BOLD))
    found = told(learner, ["swapped"] * 20 + ["truth"] * 200, every=10)
    assert min(found) < 0.6
    assert found[-1] > 0.97
    assert min(told(going_on(taught, DEFAULT), ["swapped"] * 20 + ["truth"] * 20, every=5)) > 1 - FEW_POINTS


def test_without_a_cut_one_trajectory_takes_over_what_normalises_all(taught: Weights, monkeypatch):
    """Its labels are right; it is the gathered statistics that it moves."""
    before = {name: value for name, value in taught.items() if "running_var" in name}
    moved = []
    for farthest in (FARTHEST, math.inf):
        monkeypatch.setattr("bouncegrad.models.proposer.FARTHEST", farthest)
        learner = going_on(taught, DEFAULT)
        told(learner, ["outlier 1e4"])
        after = learner.proposing.state_dict()
        moved.append(max(float((after[name] / value).max()) for name, value in before.items()))
    assert moved[0] < 3
    assert moved[1] > 1e4


class ByProbabilities(ProposalLearner):
    """Learns by the binary cross entropy of probabilities, as the released code of Alet et al. 2019 does."""

    def _loss(self, said: Tensor, there: Tensor, labels: Structures, chosen: Tensor) -> Tensor:
        return functional.binary_cross_entropy(said.exp()[:, :, 1], labels.float())


def test_a_sure_network_is_lost_by_probabilities_and_kept_by_their_logarithms(taught: Weights):
    """Half of the slots are so sure that 1 - p is 0 in single precision: with p in its denominator the gradient is a
    thousand times what it should be, and one batch is enough. Nothing else keeps either network."""
    accuracies = []
    for learns in (ByProbabilities, ProposalLearner):
        learner = going_on(taught, replace(DEFAULT, **NOTHING), surer=3.0)
        learner.__class__ = learns
        accuracies.append(told(learner, ["truth"] * 4 + ["swapped"] + ["truth"] * 5))
    assert accuracies[0][3] == accuracies[1][3] > 0.99
    assert accuracies[0][5] < 0.7
    assert min(accuracies[1]) > 1 - FEW_POINTS


@pytest.mark.parametrize("surer", [1.0, 3.0, 1e3])
def test_a_slot_pulls_by_no_more_than_its_share(taught: Weights, surer: float):
    """However wrong and however sure: by the logarithm, the gradient at what is said is within 1 of every slot."""
    learner = going_on(taught, replace(DEFAULT, **NOTHING), surer)
    batch, structures = pulled(50, 1)
    with torch.no_grad():
        said = learner.proposer.from_trajectories(batch.states, batch.graph)
    free = said.clone().requires_grad_()
    chosen = torch.ones(50, dtype=torch.bool)
    learner._loss(free.log_softmax(2), learner.slot_mask(batch), 1 - structures, chosen).backward()
    assert free.grad is not None
    assert free.grad.abs().max() * structures.numel() <= 1 + 1e-5


def test_smoothed_labels_bound_how_sure_a_network_gets(taught: Weights):
    """The best answer to a kind that is always right is ``1 - s / 2``; without smoothing there is no end."""
    sure = []
    for smoothing in (DEFAULT.label_smoothing, 0.0):
        learner = going_on(taught, replace(DEFAULT, learning_rate=BOLD, label_smoothing=smoothing))
        told(learner, ["truth"] * 60, every=60)
        batch, _ = pulled(200, 999)
        with torch.no_grad():
            said = learner.proposing.from_trajectories(batch.states, batch.graph)
        sure.append(float((said[:, :, 0] - said[:, :, 1]).abs().median()))
    most = math.log((1 - DEFAULT.label_smoothing / 2) / (DEFAULT.label_smoothing / 2))
    assert sure[0] == pytest.approx(most, abs=1)
    assert sure[1] > sure[0] + 0.5
