"""The proposal network as it learns: that it does, from what, and what it leaves possible."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bouncegrad.energies.windows import Batch
from bouncegrad.inference.beliefs import existing_slots, network_beliefs, network_guess, with_floor
from bouncegrad.models.proposer import blanked
from bouncegrad.structures.layout import Layout, to_matrix, to_slots
from bouncegrad.training.proposal_learner import ProposalLearner
from bouncegrad.types import Structures
from lessons import EAGER, LAYOUT, TIMES, TINY, batch_of, learner_of, lesson_of, noise, pulled, same, weights
from worlds import generator


def blank_batch(num_tasks: int) -> Batch:
    return batch_of(torch.zeros(num_tasks, 3, TIMES, 2))


def symmetric(num_tasks: int, seed: int) -> Structures:
    below = (torch.rand(num_tasks, 3, 3, generator=generator(seed)) < 0.5).tril(-1)
    return to_slots((below | below.mT).long())


def alike(num_tasks: int, seed: int) -> Structures:
    """All edges of a scene have one kind."""
    return (torch.rand(num_tasks, 1, generator=generator(seed)) < 0.5).long().expand(-1, 6).clone()


# what it learns


@pytest.mark.parametrize("encoder", ["mlp", "cnn"])
def test_relations_are_read_off_trajectories(encoder: Any):
    """Who pulls whom: from scenes that were never seen."""
    learner = learner_of(replace(EAGER, sees="trajectories", encoder=encoder))
    unseen, graphs = pulled(200, 999)
    losses = []
    for step in range(130):
        batch, structures = pulled(50, step)
        losses.append(learner.learn(batch, lesson_of(structures), generator(step)))
    assert losses[0] > 0.6
    assert losses[-1] < 0.3
    assert (learner.guess(unseen, graphs, generator()) == graphs).float().mean() > 0.97
    flipped = to_slots(to_matrix(graphs, 3).mT)
    assert (learner.guess(unseen, graphs, generator()) == flipped).float().mean() < 0.6, "and not whom who pulls"


@pytest.mark.parametrize(("graphs", "blanking"), [(symmetric, "uniform"), (alike, "flip")])
def test_structures_are_repaired_by_what_is_usual(graphs: Callable[[int, int], Structures], blanking: Any):
    """Of symmetric graphs a covered edge is known from its way back; where all edges are alike, a wrong one from the
    others. (Of two edges of a symmetric graph that contradict each other nobody knows which one is wrong.)"""
    config = replace(EAGER, sees="structures", blanking=blanking)
    learner, batch = learner_of(config), blank_batch(100)
    for step in range(60):
        learner.learn(batch, lesson_of(graphs(100, step)), generator(step))
    unseen = graphs(100, 999)
    seen = blanked(unseen, LAYOUT, config, generator(5))
    covered = (seen != torch.nn.functional.one_hot(unseen, 2)).any(2)
    with torch.no_grad():
        found = learner.proposing.from_structures(seen, batch.graph).argmax(2) == unseen
    assert covered.sum() == 100
    assert found[covered].float().mean() > 0.95
    assert found[~covered].float().mean() > 0.95


def test_an_encoder_of_structures_learns_from_what_was_there_before():
    """It is to say what the search makes of a structure: here, the opposite."""
    config = replace(EAGER, sees="structures", blanked=0.0)
    learner, batch = learner_of(config), blank_batch(50)
    for step in range(40):
        before = LAYOUT.random(50, generator(step))
        learner.learn(batch, lesson_of(1 - before, before), generator(step))
    before = LAYOUT.random(50, generator(999))
    assert (learner.guess(batch, before, generator()) == 1 - before).float().mean() > 0.95


def test_node_kinds_are_learned_as_well():
    layout = Layout(3, 2, 3)
    config = replace(EAGER, sees="trajectories")
    learner = learner_of(config, layout)
    for step in range(60):
        structures = layout.random(50, generator(step))
        states = 0.1 * torch.randn(50, 3, TIMES, 2, generator=generator(step))
        states[..., 0] += structures[:, 6:, None] * torch.linspace(0, 1, TIMES)
        learner.learn(batch := batch_of(states), lesson_of(structures), generator(step))
    guesses = learner.guess(batch, structures, generator())
    assert (guesses[:, 6:] == structures[:, 6:]).float().mean() > 0.95


# from what


@pytest.mark.parametrize("sees", ["trajectories", "structures", "both"])
def test_only_accepted_structures_teach_if_so_chosen(sees: Any):
    batch, before = noise()
    accepted = torch.arange(8) % 2 == 0
    ones, others = (LAYOUT.random(8, generator(seed)) for seed in (2, 3))
    others = torch.where(accepted[:, None], ones, others)
    for learn_from, alike in (("accepted", True), ("current", False)):
        learners = [learner_of(replace(TINY, sees=sees, learn_from=learn_from)) for _ in range(2)]
        for learner, after in zip(learners, (ones, others), strict=True):
            learner.learn(batch, lesson_of(after, before, accepted), generator(5))
        assert same(weights(learners[0]), weights(learners[1])) == alike


def test_where_nothing_is_accepted_nothing_is_learned():
    batch, structures = noise()
    learner = learner_of(replace(TINY, learn_from="accepted"))
    before, random = weights(learner), generator(5)
    assert math.isnan(learner.learn(batch, lesson_of(structures, accepted=torch.zeros(8, dtype=torch.bool)), random))
    assert same(weights(learner), before)
    assert torch.equal(random.get_state(), generator(5).get_state())


def test_few_accepted_structures_are_a_short_step():
    """As if the others had no loss: half the tasks, half the mean of theirs."""
    batch, structures = noise()
    accepted = torch.arange(8) < 2
    config = replace(TINY, sees="trajectories", dropout=0.0, learn_from="accepted")
    some = learner_of(config).learn(batch, lesson_of(structures, accepted=accepted), generator())
    said = learner_of(config).proposer.from_trajectories(batch.states, batch.graph, generator())
    per_slot = by_formula(said, structures, config.label_smoothing)
    assert some == pytest.approx(2 / 8 * per_slot[:2].mean().item(), rel=1e-5)


def by_formula(said: Tensor, structures: Structures, smoothing: float) -> Tensor:
    """``- sum_k ((1 - s) [k = kind] + s / K) log p_k`` of each slot."""
    found = torch.zeros(structures.shape)
    for task, slot in torch.cartesian_prod(*map(torch.arange, structures.shape)).tolist():
        possible = [k for k in range(said.shape[2]) if said[task, slot, k] > -math.inf]
        for kind in possible:
            share = (1 - smoothing) * (kind == structures[task, slot]) + smoothing / len(possible)
            found[task, slot] -= share * said[task, slot, kind].item()
    return found


@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("layout", [LAYOUT, Layout(3, 3, 2)])
def test_the_loss_is_the_smoothed_cross_entropy_of_the_slots_that_there_are(layout: Layout, smoothing: float):
    states = torch.randn(5, 3, TIMES, 2, generator=generator(1))
    present = torch.ones(5, 3, dtype=torch.bool)
    present[2, 1] = False
    batch, structures = batch_of(states, present), layout.random(5, generator(2))
    config = replace(TINY, sees="trajectories", dropout=0.0, label_smoothing=smoothing)
    found = learner_of(config, layout).learn(batch, lesson_of(structures), generator())
    said = learner_of(config, layout).proposer.from_trajectories(batch.states, batch.graph, generator())
    there = existing_slots(batch.graph, layout)
    assert found == pytest.approx(by_formula(said, structures, smoothing)[there].mean().item(), rel=1e-5)
    assert (~there).sum() == 4 + (layout.num_node_kinds > 1)


def test_scenes_in_which_somebody_is_alone_teach_nothing_and_break_nothing():
    learner = learner_of(TINY)
    alone = batch_of(torch.randn(1, 3, TIMES, 2, generator=generator(1)), torch.tensor([[True, False, False]]))
    assert learner.learn(alone, lesson_of(LAYOUT.random(1, generator())), generator()) == 0
    assert all(value.isfinite().all() for value in weights(learner).values())


# what keeps it upright


def test_no_step_is_longer_than_the_cut_allows():
    """By more than ``learning_rate clip_norm / (1 - momentum)`` no network moves, whatever it is told."""
    for clip_norm in (1e-3, 0.1):
        learner = learner_of(replace(TINY, clip_norm=clip_norm, learning_rate=0.5))
        for step in range(12):
            before = torch.cat([value.detach().flatten() for value in learner.proposer.parameters()])
            batch, structures = noise(seed=step)
            learner.learn(batch, lesson_of(structures), generator(step))
            after = torch.cat([value.detach().flatten() for value in learner.proposer.parameters()])
            assert (after - before).norm() <= 0.5 * clip_norm * (1 - 0.9 ** (step + 1)) / (1 - 0.9) * 1.001
    free = learner_of(replace(TINY, clip_norm=math.inf))
    free.learn(*noise()[:1], lesson_of(noise()[1]), generator())
    assert all(value.isfinite().all() for value in weights(free).values())


def test_the_network_that_proposes_is_a_moving_average():
    learner = learner_of(replace(TINY, averaging=0.8, learning_rate=0.1))
    expected: dict[str, Tensor] = {}
    for step in range(4):
        batch, structures = noise(seed=step)
        learner.learn(batch, lesson_of(structures), generator(step))
        now = {name: value.clone() for name, value in learner.proposer.state_dict().items()}
        expected = {name: 0.8 * expected[name] + 0.2 * value for name, value in now.items()} if step else now
        for name, value in learner.proposing.state_dict().items():
            torch.testing.assert_close(value.float(), expected[name].float(), rtol=1e-4, atol=1e-6)
    assert learner.proposing is not learner.proposer
    plain = learner_of(replace(TINY, averaging=0.0))
    assert plain.proposing is plain.proposer
    assert plain.final_network() is not plain.proposer
    assert not plain.final_network().training


@pytest.mark.parametrize("floor", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("layout", [LAYOUT, Layout(3, 4), Layout(3, 3, 2), Layout(3, 1, 2)], ids=str)
def test_every_kind_keeps_its_share_of_a_proposal(layout: Layout, floor: float):
    """At least ``floor / K`` of the K kinds of each slot, however sure the network is; nothing for other kinds."""
    counts = torch.tensor(layout.num_kinds)
    exists = (torch.arange(int(counts.max())) < counts[:, None]).expand(20, -1, -1)
    sure = (200 * torch.randn(exists.shape, generator=generator())).masked_fill(~exists, -math.inf).log_softmax(2)
    found = with_floor(sure, floor).exp()
    expected = ((1 - floor) * sure.exp() + floor / counts[:, None]).masked_fill(~exists, 0)
    torch.testing.assert_close(found, expected)
    assert (found >= floor / counts[:, None] * (1 - 1e-5))[exists].all()
    assert (found[~exists] == 0).all()


@pytest.mark.parametrize("sees", ["trajectories", "structures", "both"])
def test_proposals_have_that_floor(sees: Any):
    learner = learner_of(replace(TINY, sees=sees, floor=0.3))
    for head in learner.averaged.module.heads.values():
        with torch.no_grad():
            head["edges"].bias.copy_(torch.tensor([100.0, -100.0]))
    batch, structures = noise()
    said = learner.beliefs_fn(batch, generator())(generator())(structures).exp()
    torch.testing.assert_close(said, torch.tensor([0.85, 0.15]).expand_as(said))


# what it proposes


def test_both_encoders_are_heard_half_of_the_time():
    """By the toss of a coin for each task and each proposal."""
    num_tasks = 2000
    learner = learner_of(replace(TINY, blanked=0.0))
    batch, structures = noise(num_tasks)
    proposer = learner.proposing
    with torch.no_grad():
        moved = with_floor(proposer.from_trajectories(batch.states, batch.graph), TINY.floor)
        seen = blanked(structures, LAYOUT, learner.config, generator())
        stood = with_floor(proposer.from_structures(seen, batch.graph), TINY.floor)
    beliefs_fn, random = learner.beliefs_fn(batch, generator(1)), generator(2)
    sender_mask = []
    for _ in range(2):
        said = beliefs_fn(random)(structures)
        by_moves, by_structures = ((said - one).abs().amax((1, 2)) < 1e-6 for one in (moved, stood))
        assert (by_moves ^ by_structures).all()
        sender_mask.append(by_moves)
    for share in (sender_mask[0], sender_mask[1], sender_mask[0] ^ sender_mask[1]):
        assert abs(share.float().mean() - 0.5) < 4 * 0.5 / math.sqrt(num_tasks)


@pytest.mark.parametrize("averaging", [0.0, 0.9])
@pytest.mark.parametrize("sees", ["structures", "both"])
def test_the_way_back_is_judged_as_the_way_there(sees: Any, averaging: float):
    """What is covered, dropped and heard is drawn once per proposal; what is thought of a task is its own affair."""
    learner = learner_of(replace(TINY, sees=sees, averaging=averaging, dropout=0.5))
    batch, structures = noise()
    others = structures.clone()
    others[4:] = 1 - others[4:]
    before = weights(learner)
    beliefs = learner.beliefs_fn(batch, generator(1))(random := generator(2))
    later = random.get_state()
    there, aside = beliefs(structures), beliefs(others)
    assert torch.equal(beliefs(structures), there)
    assert torch.equal(aside[:4], there[:4])
    assert torch.equal(random.get_state(), later)
    assert same(weights(learner), before), "who proposes learns nothing"
    anew = learner.beliefs_fn(batch, generator(1))(random)(structures)
    assert not torch.equal(anew, there)


def test_without_averaging_the_network_proposes_as_it_learns():
    """With its dropout, anew in every batch; guesses are without."""
    config = replace(TINY, sees="trajectories", dropout=0.5)
    batch, structures = noise()
    for averaging in (0.0, 0.9):
        learner = learner_of(replace(config, averaging=averaging))
        first, again = (
            learner.beliefs_fn(batch, random)(random)(structures) for random in (generator(1), generator(2))
        )
        assert torch.equal(first, again) == bool(averaging)
        guesses = [learner.guess(batch, structures, generator(seed)) for seed in (1, 2)]
        assert torch.equal(*guesses)


def test_guesses_are_the_most_probable_kinds():
    batch, structures = noise()
    learner = learner_of(replace(TINY, floor=0.0))
    with torch.no_grad():
        moved = learner.proposing.from_trajectories(batch.states, batch.graph)
    assert torch.equal(learner.guess(batch, structures, generator()), moved.argmax(2))
    blind = learner_of(replace(TINY, sees="structures", floor=0.0, blanked=0.0))
    said = network_beliefs(blind.proposing, batch, LAYOUT)(generator())(structures)
    assert torch.equal(network_guess(blind.proposing, batch, LAYOUT, structures, generator()), said.argmax(2))


# going on


@pytest.mark.parametrize(("optimizer", "momentum"), [("momentum", 0.0), ("momentum", 0.9), ("adam", 0.9)])
@pytest.mark.parametrize("sees", ["trajectories", "structures", "both"])
@pytest.mark.parametrize("num_steps", [0, 3])
def test_an_interrupted_learning_goes_on_to_the_bit(sees: Any, optimizer: Any, momentum: float, num_steps: int):
    config = replace(TINY, sees=sees, optimizer=optimizer, momentum=momentum, learning_rate=0.1)
    whole, other = learner_of(config), learner_of(config, seed=9)
    learn(whole, range(num_steps))
    other.load_state(weights(whole))
    assert other.num_steps == num_steps
    for learner in (whole, other):
        learn(learner, range(num_steps, num_steps + 3))
    assert same(weights(whole), weights(other))
    assert whole.num_steps == num_steps + 3


def learn(learner: ProposalLearner, steps: range) -> None:
    for step in steps:
        batch, structures = noise(seed=step)
        learner.learn(batch, lesson_of(structures), generator(step))


def test_the_state_of_another_network_is_refused():
    state = weights(learner_of(replace(TINY, sees="trajectories")))
    for other in (TINY, replace(TINY, sees="trajectories", hidden=7)):
        with pytest.raises(RuntimeError):
            learner_of(other).load_state(state)
    with pytest.raises((KeyError, RuntimeError)):
        learner_of(TINY).load_state({})
