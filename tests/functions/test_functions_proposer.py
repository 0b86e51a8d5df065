"""The proposal network of point sets: what it may see, what it learns, and what never matters to it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bouncegrad.functions import PointLearner, PointProposer, PointSets
from bouncegrad.functions.compositions import Chain, Sum
from bouncegrad.functions.proposer import beliefs_of, side_by_side
from bouncegrad.models.proposer import Proposer, ProposerConfig
from bouncegrad.training.proposal_learner import SearchOutcome
from bouncegrad.types import Structures
from points import COMPOSITIONS, Product, library, ragged, with_other_padding
from worlds import generator

SMALL = ProposerConfig(sees="points", hidden=12, dropout=0.1, optimizer="adam", learning_rate=1e-2)
EAGER = replace(SMALL, hidden=24, dropout=0.0, averaging=0.9)


def proposer_of(name: str, points: PointSets, config: ProposerConfig = SMALL) -> PointLearner:
    """A network that has seen a little, so that its statistics are not those it was made with."""
    model = library(COMPOSITIONS[name], points)
    learner = PointLearner(PointProposer(config, model, generator()), model)
    for seed in range(3):
        structures = model.space.random(points.num_tasks, generator(seed))
        learner.learn(points, lesson_of(structures), generator(seed))
    return learner


def lesson_of(structures: Structures) -> SearchOutcome:
    return SearchOutcome(structures, structures, torch.ones(len(structures), dtype=torch.bool))


def beliefs(learner: PointLearner, points: PointSets) -> Tensor:
    return beliefs_of(learner.proposing, learner.model, points)


def shuffled(points: PointSets) -> PointSets:
    """The points of each task in another order."""
    order = torch.rand(points.given.shape, generator=generator(8)).argsort(1)
    there = {name: getattr(points, name).gather(1, order) for name in ("given", "asked")}
    inputs, outputs = (
        values.gather(1, order[:, :, None].expand_as(values)) for values in (points.inputs, points.outputs)
    )
    return PointSets(inputs, outputs, **there, names=points.names)


def waves(num_tasks: int, seed: int) -> tuple[PointSets, Structures]:
    """``y = a sin 3x + c``: slot 0 says what a is, slot 1 what c is."""
    random = generator(seed)
    structures = torch.randint(3, (num_tasks, 2), generator=random)
    inputs = 2 * torch.rand(num_tasks, 12, 1, generator=random) - 1
    size, shift = (structures - 1).float()[:, :, None, None].unbind(1)
    given = (torch.arange(12) < 6).expand(num_tasks, -1)
    return PointSets(inputs, size * torch.sin(3 * inputs) + shift, given, ~given, ("",) * num_tasks), structures


# What never matters


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_the_order_of_points_never_matters(name: str):
    points = ragged()
    learner = proposer_of(name, points)
    torch.testing.assert_close(beliefs(learner, shuffled(points)), beliefs(learner, points), rtol=1e-4, atol=1e-5)


def test_padding_and_asked_points_never_matter():
    points = ragged()
    learner = proposer_of("chain", points)
    spoiled = replace(points, outputs=torch.where(points.given[:, :, None], points.outputs, 30.0))
    for other in (with_other_padding(points), spoiled, points.only_given()):
        torch.testing.assert_close(beliefs(learner, other), beliefs(learner, points))


def test_padding_never_matters_while_it_learns():
    points = ragged()
    states = [proposer_of("chain", padded).state() for padded in (points, with_other_padding(points))]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_other_tasks_of_a_batch_never_matter():
    points = ragged()
    learner = proposer_of("chain", points)
    torch.testing.assert_close(beliefs(learner, points.at([3])), beliefs(learner, points)[3:4])


def test_given_points_do_matter():
    points = ragged()
    learner = proposer_of("chain", points)
    moved = replace(points, outputs=-points.outputs)
    assert not torch.allclose(beliefs(learner, moved), beliefs(learner, points), atol=1e-3)


# What is said of slots


def test_slots_that_can_be_swapped_are_told_the_same():
    points = ragged()
    said = beliefs(proposer_of("sum", points), points)
    assert torch.equal(said[:, 0], said[:, 1])
    assert torch.equal(said[:, 0], said[:, 2])


@pytest.mark.parametrize("name", ["chain", "wide chain", "product"])
def test_slots_that_cannot_be_swapped_are_told_apart(name: str):
    points = ragged()
    said = beliefs(proposer_of(name, points), points)
    for slot in range(1, said.shape[1]):
        assert not torch.allclose(said[:, 0], said[:, slot], atol=1e-3)


def test_swappable_slots_of_two_libraries_are_told_apart_by_library():
    class Swappable(Product):
        interchangeable = True

    points = ragged()
    model = library(Swappable(), points)
    said = beliefs_of(PointProposer(SMALL, model, generator()), model, points)
    assert torch.equal(said[:, 0], said[:, 1])
    assert torch.equal(said[:, 2], said[:, 3])
    assert not torch.allclose(said[:, 0], said[:, 2], atol=1e-3)


def test_beliefs_are_log_probabilities_with_a_floor():
    points = ragged()
    model = library(Chain(3), points)
    network = PointProposer(replace(SMALL, floor=0.3), model, generator())
    head = network.heads[0]
    assert isinstance(head, torch.nn.Linear)
    with torch.no_grad():
        head.bias.copy_(torch.tensor([50.0, 0.0, -50.0]))
    said = beliefs_of(network, model, points).exp()
    torch.testing.assert_close(said.sum(2), torch.ones(5, 3))
    assert said.min() >= 0.1 - 1e-6
    torch.testing.assert_close(said[:, 0], torch.tensor([[0.8, 0.1, 0.1]]).expand(5, -1), atol=1e-3, rtol=0)


def test_points_are_read_in_the_unit_of_the_model():
    points = ragged()
    far = replace(points, inputs=3 * points.inputs - 7, outputs=1000 * points.outputs)
    here, there = (library(Sum(3), each) for each in (points, far))
    torch.testing.assert_close(side_by_side(here, points), side_by_side(there, far), atol=1e-4, rtol=1e-4)


# Learning


def test_it_learns_what_tasks_are_made_of():
    """And tells it of tasks that it never saw, by six points of each."""
    points, structures = waves(150, seed=1)
    model = library(Chain(2), points)
    learner, random = PointLearner(PointProposer(EAGER, model, generator(2)), model), generator(3)
    for _ in range(120):
        learner.learn(points, lesson_of(structures), random)
    unseen, truth = waves(200, seed=4)
    assert (learner.guess(unseen, truth, random) == truth).float().mean() > 0.95
    assert (beliefs(learner, unseen).gather(2, truth[:, :, None]).exp() > 0.5).float().mean() > 0.9


@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_proposals_are_noisy_only_where_the_network_is_no_average(averaging: float):
    points = ragged()
    learner = proposer_of("chain", points, replace(SMALL, dropout=0.5, averaging=averaging))
    structures, once, again = torch.zeros(5, 3).long(), generator(1), generator(2)
    said = [learner.beliefs_fn(points, drawn)(drawn)(structures) for drawn in (once, again)]
    assert torch.equal(*said) == bool(averaging)


def test_a_batch_of_one_task_is_learned_from():
    points = ragged()
    learner = proposer_of("chain", points)
    assert learner.learn(points.at([2]), lesson_of(torch.zeros(1, 3).long()), generator()) > 0
    assert beliefs(learner, points).isfinite().all()


def test_it_learns_from_points_drawn_anew():
    """Also from those that are asked: it is to tell structures by any points of a task."""
    points = ragged()
    seen: list[Tensor] = []
    learner = proposer_of("chain", points)
    learner.proposer.register_forward_pre_hook(lambda network, inputs: seen.append(inputs[1]))
    for seed in range(40):
        learner.learn(points, lesson_of(torch.zeros(5, 3).long()), generator(seed))
    assert all(torch.equal(given.sum(1), points.given.sum(1)) for given in seen)
    assert torch.equal(torch.stack(seen).any(0), points.given | points.asked)


# Errors


@pytest.mark.parametrize("sees", ["nothing", "trajectories", "structures", "both"])
def test_networks_of_points_see_points(sees: str):
    model = library(Sum(3), ragged())
    with pytest.raises(ValueError, match=f'of point sets sees "points"; got sees {sees!r}'):
        PointProposer(ProposerConfig(sees=sees), model, generator())  # type: ignore[arg-type]


def test_networks_of_scenes_see_no_points():
    with pytest.raises(ValueError, match='"trajectories", "structures" or "both", not \'points\''):
        Proposer(SMALL, (2, 1), 20, 4, generator())
