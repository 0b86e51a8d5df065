"""Posteriors over whole graphs against enumeration of every structure."""

import math
from dataclasses import replace
from itertools import product
from typing import get_args, get_type_hints

import pytest
import torch

from bouncegrad.structures.calibration import Halves, mean_entropy, reading_of, temperature_of_entropy
from bouncegrad.structures.factors import FactorTables
from bouncegrad.structures.layout import Layout, to_matrix, to_slots
from bouncegrad.structures.priors import (
    COMPARED,
    PRIORS,
    BlockModel,
    Dyads,
    Independent,
    Leader,
    SingleFile,
    SpanningTree,
    Sparse,
    Symmetric,
    Triads,
    fast_priors,
    fit_weights,
    priors_for,
)
from bouncegrad.training.bounce import BounceConfig

LAYOUT = Layout(3, 2)
EVERY = torch.tensor(list(product(range(2), repeat=6)))
NAMES = list(PRIORS)
MIXTURES = ("few", "tree")
"""Their best structure is the best for one empty kind, which is the best of all as soon as the data say something."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tables(num_tasks: int = 3, seed: int = 0, layout: Layout = LAYOUT, scale: float = 1.0) -> FactorTables:
    num_combinations = math.prod(layout.receiver_kinds)
    shape = (num_tasks, layout.num_entities, num_combinations)
    energies = scale * torch.randn(shape, generator=generator(seed))
    return FactorTables(energies, layout.receiver_slots, layout.receiver_kinds)


def acts_of(empty: int) -> torch.Tensor:
    """``[graph, receiver, sender]``, who acts on whom if ``empty`` means nobody."""
    return to_matrix(EVERY, 3, diagonal=empty) != empty


def is_tree(acts: torch.Tensor) -> bool:
    """Whether everybody but one has one sender, and following senders ends at the one who has none."""
    senders = [row.nonzero().flatten().tolist() for row in acts]
    roots = [entity for entity in range(len(senders)) if not senders[entity]]
    if len(roots) != 1 or any(len(row) > 1 for row in senders):
        return False
    places = list(range(len(senders)))
    for _ in senders:
        places = [senders[place][0] if senders[place] else place for place in places]
    return set(places) == set(roots)


def log_shares(counts: torch.Tensor) -> torch.Tensor:
    return torch.log(counts / counts.sum())


def log_prior_by_hand(name: str) -> torch.Tensor:
    """The probability of each of the 64 graphs, from the definition of the prior, all its choices alike."""
    matrix = to_matrix(EVERY, 3)
    if name in ("none", "dyads"):
        return torch.full((64,), -6 * math.log(2))
    if name in ("symmetric", "triads"):
        return log_shares((matrix == matrix.mT).flatten(1).all(1).float())
    if name == "few":
        allowed = torch.stack([(acts_of(empty).sum(2) <= 1).all(1).float() for empty in range(2)])
        return log_shares(allowed.sum(0))
    if name == "leader":
        return log_shares(((matrix == 1).sum(2) <= 1).all(1).float())
    if name == "file":
        acts = matrix == 1
        weights = (acts.sum(2) <= 1).all(1) & (acts.sum(1) <= 1).all(1)
        return log_shares(weights.float())
    if name == "tree":
        allowed = torch.stack([torch.tensor([float(is_tree(acts)) for acts in acts_of(empty)]) for empty in range(2)])
        assert allowed.sum(1).tolist() == [9.0, 9.0]
        return log_shares(allowed.sum(0))
    counts = torch.zeros(64)
    for kinds in product(range(2), repeat=4):
        for labels in product(range(2), repeat=3):
            graph = [kinds[2 * labels[i] + labels[j]] for i in range(3) for j in range(3) if i != j]
            counts[(torch.tensor(graph) == EVERY).all(1)] += 1
    return log_shares(counts)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("name", NAMES)
def test_posteriors_equal_enumeration(name: str, temperature: float):
    data = tables()
    posterior = PRIORS[name](LAYOUT).posterior(data, temperature)
    losses = torch.stack([data(row.expand(3, -1)) for row in EVERY], 1)
    scores = log_prior_by_hand(name) - losses / temperature
    torch.testing.assert_close(posterior.log_evidence, torch.logsumexp(scores, 1))
    probabilities = torch.softmax(scores, 1)
    if name not in MIXTURES:
        torch.testing.assert_close(posterior.best(), EVERY[probabilities.argmax(1)])
    for kind in range(2):
        torch.testing.assert_close(posterior.marginals()[:, :, kind], probabilities @ (kind == EVERY).float())


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_of_structures(name: str):
    log_probabilities = PRIORS[name](LAYOUT).log_probability(EVERY)
    torch.testing.assert_close(log_probabilities, log_prior_by_hand(name))
    assert float(log_probabilities.exp().sum()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_learned_priors_are_normalised_and_keep_to_their_posterior(name: str):
    """Weights that were learned, three kinds: log probabilities, evidence and usage still fit together."""
    layout = Layout(3, 3)
    every = torch.tensor(list(product(range(3), repeat=6)))
    data = tables(2, 1, layout, scale=2.0)
    prior = PRIORS[name](layout)
    random = 3 * torch.randn(prior.log_weights.shape, generator=generator(5))
    prior = prior.with_weights(random.log_softmax(0))
    log_probabilities = prior.log_probability(every)
    assert float(log_probabilities.exp().sum()) == pytest.approx(1.0, abs=1e-4)
    scores = log_probabilities - torch.stack([data(row.expand(2, -1)) for row in every], 1)
    posterior = prior.posterior(data, 1.0)
    torch.testing.assert_close(posterior.log_evidence, torch.logsumexp(scores, 1), atol=1e-4, rtol=1e-4)
    probabilities = torch.softmax(scores, 1)
    for kind in range(3):
        expected = probabilities @ (kind == every).float()
        torch.testing.assert_close(posterior.marginals()[:, :, kind], expected, atol=1e-4, rtol=0)
    found = posterior.best()
    margin = math.log(3) if name in MIXTURES else 1e-3
    assert (prior.log_probability(found) - data(found) >= scores.amax(1) - margin).all()
    assert prior.log_probability(posterior.draw(generator())).isfinite().all()
    assert posterior.usage().shape == prior.log_weights.shape


@pytest.mark.parametrize("name", NAMES)
def test_learning_does_not_lower_the_evidence(name: str):
    layout = Layout(4, 2)
    data = tables(40, 2, layout, scale=4.0)
    prior = PRIORS[name](layout)
    better = fit_weights(prior, prior.posterior(data, 1.0).usage(), pseudo_count=1e-3)
    before, after = (float(each.posterior(data, 1.0).log_evidence.mean()) for each in (prior, better))
    assert after > before - 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_draws_follow_the_posterior(name: str):
    data = tables(1)
    many = FactorTables(data.energies.expand(20_000, -1, -1), data.slots, data.num_kinds)
    posterior = PRIORS[name](LAYOUT).posterior(many, 1.0)
    shares = (posterior.draw(generator(1)) == 1).float().mean(0)
    torch.testing.assert_close(shares, posterior.marginals()[0, :, 1], atol=0.015, rtol=0)


def test_symmetric_graphs_are_symmetric():
    matrix = to_matrix(Symmetric.of(Layout(4, 3)).posterior(tables(50, layout=Layout(4, 3)), 1.0).draw(generator()), 4)
    assert torch.equal(matrix, matrix.mT)


def test_weights_follow_what_was_used():
    """Edges of kind 1 are rare here: the learned prior says so and foresees such graphs better."""
    energies = torch.full((200, 3, 4), 50.0)
    kinds = (torch.rand(200, 3, 2, generator=generator()) < 0.1).long()
    energies.scatter_(2, (kinds * torch.tensor([2, 1])).sum(2, keepdim=True), 0.0)
    data = FactorTables(energies, LAYOUT.receiver_slots, LAYOUT.receiver_kinds)
    prior = Independent.of(LAYOUT)
    better = fit_weights(prior, prior.posterior(data, 1.0).usage())
    assert float(better.log_weights.exp()[1]) == pytest.approx(float(kinds.float().mean()), abs=0.02)
    assert better.posterior(data, 1.0).log_evidence.mean() > prior.posterior(data, 1.0).log_evidence.mean() + 1


def tables_around(truth: torch.Tensor, layout: Layout, seed: int = 0) -> FactorTables:
    """Noisy energies, lower where edges are as in the true structures."""
    blank = tables(len(truth), seed, layout, scale=1.0)
    digits = torch.arange(blank.energies.shape[2])[:, None] // blank.radix() % layout.num_edge_kinds
    wrong = digits != truth[:, layout.receiver_slots][:, :, None]
    return FactorTables(blank.energies + 3.0 * wrong.sum(-1), blank.slots, blank.num_kinds)


def relearned(name: str, data: FactorTables, layout: Layout):
    prior = PRIORS[name](layout)
    for _ in range(4):
        prior = fit_weights(prior, prior.posterior(data, 1.0).usage())
    return prior


def evidence(name: str, data: FactorTables, layout: Layout) -> float:
    return float(relearned(name, data, layout).posterior(data, 1.0).log_evidence.mean())


def test_balance_is_discovered():
    """Products of signs, as in charged scenes: the triads that cannot be are found out, and foresee the data best."""
    layout = Layout(5, 2)
    signs = (torch.rand(200, 5, generator=generator(1)) < 0.5).long()
    truth = to_slots((signs[:, :, None] != signs[:, None]).long())
    data = tables_around(truth, layout)
    prior = relearned("triads", data, layout)
    shares = prior.log_weights.exp()
    assert shares[1] + shares[3] < 0.03  # one repulsion among two attractions, and three of a sort that cannot be
    assert evidence("triads", data, layout) > evidence("symmetric", data, layout) + 1


def test_reciprocity_is_discovered():
    """Who acts is never acted on by the same one: neither independent nor symmetric."""
    layout = Layout(4, 2)
    directed = (torch.rand(200, 4, 4, generator=generator(1)) < 0.5).tril(-1).long()
    truth = to_slots(directed + (1 - directed).tril(-1).mT)
    data = tables_around(truth, layout)
    table = relearned("dyads", data, layout).log_weights.exp()
    torch.testing.assert_close(table, torch.tensor([0.0, 0.5, 0.5, 0.0]), atol=0.02, rtol=0)
    assert evidence("dyads", data, layout) > evidence("none", data, layout) + 1


@pytest.mark.parametrize(("name", "empty"), [("few", 0), ("few", 1), ("tree", 0), ("tree", 1)])
def test_the_empty_kind_is_found_out(name: str, empty: int):
    layout = Layout(5, 2)
    followed = torch.stack([(torch.rand(100, generator=generator(i)) * max(1, i)).long() for i in range(5)], 1)
    acts = torch.zeros(100, 5, 5, dtype=torch.long).scatter(2, followed[:, :, None], 1)
    acts[:, 0] = 0
    truth = to_slots(acts if empty == 0 else 1 - acts)
    data = tables_around(truth, layout)
    prior = relearned(name, data, layout)
    assert int(prior.log_weights.view(2, 2).logsumexp(1).argmax()) == empty
    right, plain = (each.posterior(data, 1.0).best() == truth for each in (prior, relearned("none", data, layout)))
    assert right.float().mean() > plain.float().mean()
    assert evidence(name, data, layout) > evidence("none", data, layout) + 1


def test_how_many_may_act():
    for most in (1, 2):
        drawn = Sparse.of(Layout(4, 3), most).posterior(tables(200, layout=Layout(4, 3)), 1.0).draw(generator())
        matrix = to_matrix(drawn, 4)
        degrees = torch.stack([((matrix != empty) & (matrix >= 0)).sum(2).amax(1) for empty in range(3)], 1)
        assert int(degrees.amin(1).max()) == most
    with pytest.raises(ValueError, match="at least one sender"):
        Sparse.of(LAYOUT, 0)


def test_trees_of_any_weights():
    """Weights thousands of nats apart, and receivers that would rather follow each other in a circle."""
    layout = Layout(4, 2)
    data = tables(20, 3, layout, scale=3000.0)
    posterior = SpanningTree.of(layout).posterior(data, 1.0)
    every = torch.tensor(list(product(range(2), repeat=12)))
    scores = SpanningTree.of(layout).log_probability(every) - torch.stack(
        [data(row.expand(20, -1)) for row in every], 1
    )
    torch.testing.assert_close(posterior.log_evidence, torch.logsumexp(scores, 1), rtol=1e-5, atol=1e-2)
    assert torch.equal(posterior.best(), every[scores.argmax(1)])
    assert posterior.marginals().isfinite().all()


def test_limits_of_dyads():
    """A diagonal table is a symmetric prior, a table of rank one an independent one."""
    data = tables(5)
    weights = torch.tensor([0.3, 0.7]).log()
    for table, other in [
        (torch.diag(weights.exp()), Symmetric.of(LAYOUT)),
        (torch.outer(weights.exp(), weights.exp()), Independent.of(LAYOUT)),
    ]:
        found = Dyads.of(LAYOUT).with_weights(table.flatten().log()).posterior(data, 2.0)
        expected = other.with_weights(weights).posterior(data, 2.0)
        torch.testing.assert_close(found.log_evidence, expected.log_evidence)
        torch.testing.assert_close(found.marginals(), expected.marginals())


def test_triads_have_the_shares_that_were_learned():
    layout = Layout(4, 2)
    shares = torch.tensor([0.1, 0.5, 0.2, 0.2])
    prior = Triads.of(layout).with_weights(shares.log())
    blank = FactorTables(torch.zeros(1, 4, 8), layout.receiver_slots, layout.receiver_kinds)
    torch.testing.assert_close(prior.posterior(blank, 1.0).usage() / 4, shares, atol=1e-3, rtol=0)


def graphs_of(name: str, num_tasks: int, seed: int) -> torch.Tensor:
    """Graphs of five entities that obey the prior, drawn without its code."""
    random = torch.rand(num_tasks, 5, 5, generator=generator(seed)) < 0.5
    if name == "symmetric":
        random = random.tril(-1) | random.tril(-1).mT
    if name == "classes":
        labels = random[:, 0]
        random = labels[:, :, None] != labels[:, None, :]
    return random.long()


@pytest.mark.parametrize("name", COMPARED)
def test_evidence_finds_the_prior_that_made_the_graphs(name: str):
    """Noisy energies of graphs that obey one of the priors: it wins, also in temperature-blind units."""
    layout = Layout(5, 2)
    truth = to_slots(graphs_of(name, 150, 3))
    halves = []
    for seed in (1, 2):
        blank = tables(150, seed, layout, scale=3.0)
        at = blank.combinations_of(truth)
        wrong = torch.arange(16)[:, None] // blank.radix() % 2 != truth[:, layout.receiver_slots][:, :, None]
        energies = blank.energies + 4.0 * wrong.sum(-1)
        assert torch.equal(wrong.sum(-1).argmin(2), at)
        halves.append(FactorTables(energies, blank.slots, blank.num_kinds))
    priors = priors_for(layout)
    early = {n: p.posterior(halves[0], 3.0) for n, p in priors.items()}
    priors = {n: fit_weights(p, early[n].usage()) for n, p in priors.items()}
    found = reading_of(priors, *halves)
    assert found.prior == name
    assert set(found.evidence) == set(COMPARED)


def test_the_reading_temperature_undoes_overconfidence():
    """Energies that claim five times too much are read about five times hotter than the same ones in nats."""
    layout = Layout(4, 2)

    def halves(exaggeration: float) -> list[FactorTables]:
        structures = layout.random(400, generator(9))
        found = []
        for seed in (1, 2):
            observed = structures[:, :, None] * 2.0 - 1 + 2.0 * torch.randn(400, 12, 3, generator=generator(seed))
            nats = (observed.sum(2) / 4.0)[:, layout.receiver_slots]
            kinds = torch.tensor(list(product(range(2), repeat=3))) * 2.0 - 1
            energies = -torch.einsum("tfw,cw->tfc", nats, kinds)
            found.append(FactorTables(exaggeration * energies, layout.receiver_slots, layout.receiver_kinds))
        return found

    only = {"none": Independent.of(layout)}
    honest, loud = (reading_of(only, *halves(exaggeration)).temperature for exaggeration in (1.0, 5.0))
    assert honest <= 1.5
    assert 3.5 <= loud <= 8


def test_entropy_sets_the_temperature():
    data = tables(30, scale=40.0)
    for name in NAMES:
        prior = PRIORS[name](LAYOUT)
        temperature = temperature_of_entropy(prior, data, 0.8)
        assert mean_entropy(prior.posterior(data, temperature), data) == pytest.approx(0.8, abs=0.025)
        assert temperature_of_entropy(prior, data, 0.0) == 1.0


def test_unrelated_halves_foretell_nothing():
    early, late = tables(2000, 1), tables(2000, 2)
    assert Halves.of(Independent.of(LAYOUT), early, late, [1.0]).foretold.mean() < 0.05


def test_predictive_evidence_is_what_one_half_says_of_the_other():
    """By hand: ``log p(late | early)`` is an average over the graphs that the early half leaves probable."""
    early, late = tables(4, 1), tables(4, 2)
    prior = Symmetric.of(LAYOUT)
    total = torch.zeros(())
    for one, other in ((early, late), (late, early)):
        graphs = EVERY[torch.isfinite(prior.log_probability(EVERY))]
        each = torch.stack([torch.exp(-one(graph.expand(4, -1))) for graph in graphs], 1)
        seen = torch.stack([torch.exp(-other(graph.expand(4, -1))) for graph in graphs], 1)
        total = total + ((each * seen).sum(1) / each.sum(1)).log().mean() / 2
    assert float(Halves.of(prior, early, late, [1.0]).predictive.mean()) == pytest.approx(float(total), abs=1e-4)


def test_priors_that_cannot_be():
    assert list(priors_for(Layout(10, 2))) == list(COMPARED)
    assert set(priors_for(Layout(20, 2))) == {"none", "symmetric"}
    assert set(priors_for(Layout(3, 2, 2))) == {"none"}
    with pytest.raises(ValueError, match="allows 35184372088832 graphs.*too many to sum over"):
        Triads.of(Layout(10, 2))
    with pytest.raises(ValueError, match="expected 2 kinds or more"):
        SpanningTree.of(Layout(3, 1))
    with pytest.raises(ValueError, match="needs three entities or more, got 2"):
        Triads.of(Layout(2, 2))
    assert list(priors_for(LAYOUT)) == list(COMPARED)
    assert list(priors_for(LAYOUT, {"tree": [0.0] * 4})) == [*COMPARED, "tree"]
    assert list(fast_priors(Layout(8, 2))) == list(COMPARED)
    assert list(fast_priors(Layout(9, 2))) == ["none", "classes"]
    assert list(fast_priors(Layout(14, 2))) == ["none"]
    assert get_args(get_type_hints(BounceConfig)["prior"]) == ("auto", *PRIORS)
    with pytest.raises(ValueError, match="allows 16777216 graphs of 20 entities"):
        BlockModel.of(Layout(20, 2))
    for prior in (Symmetric, BlockModel):
        with pytest.raises(ValueError, match="covers edges only"):
            prior.of(Layout(3, 2, 2))


def test_nobody_follows_who_is_not_there():
    """Entity 3 of the second task is absent: as if that task had three entities."""
    layout, smaller = Layout(4, 3), Layout(3, 3)
    energies = torch.randn(2, 4, 27, generator=generator(4))
    exist = torch.ones(2, 4, 3, dtype=torch.bool)
    exist[1, :3, 2] = exist[1, 3] = False
    rows = energies.view(2, 4, 3, 3, 3)
    rows[1, :3] = rows[1, :3, :, :, :1]
    rows[1, 3] = 0
    data = FactorTables(energies, layout.receiver_slots, layout.receiver_kinds, exist)
    prior = Leader(layout, torch.tensor([0.3, 0.5, 0.2]).log())
    posterior = prior.posterior(data, 0.7)
    alone = FactorTables(rows[1:, :3, :, :, 0].flatten(2), smaller.receiver_slots, smaller.receiver_kinds)
    same = Leader(smaller, prior.log_weights).posterior(alone, 0.7)
    torch.testing.assert_close(posterior.log_evidence[1], same.log_evidence[0])
    there = layout.receiver_slots[:3, :2].flatten()
    torch.testing.assert_close(posterior.marginals()[1, there], same.marginals()[0])
    assert posterior.marginals()[1, :, 1:].sum() == pytest.approx(float(same.marginals()[0, :, 1:].sum()))
    drawn = torch.stack([posterior.draw(generator(seed)) for seed in range(50)])
    assert not drawn[:, 1, layout.receiver_slots[3]].any()
    assert mean_entropy(posterior, data) > mean_entropy(posterior, replace(data, exist=None))
    first = prior.posterior(replace(data, energies=energies[:1], exist=None), 0.7)
    torch.testing.assert_close(posterior.usage(), first.usage() + same.usage())  # who is not there follows nobody


def test_a_file_of_those_who_are_there():
    layout = Layout(4, 2)
    exist = torch.ones(1, 4, 3, dtype=torch.bool)
    exist[0, :3, 2] = exist[0, 3] = False
    energies = 4 * torch.randn(1, 4, 8, generator=generator(4))
    posterior = SingleFile.of(layout).posterior(FactorTables(energies, layout.receiver_slots, (2, 2, 2), exist), 1.0)
    acting = to_matrix(posterior.marginals()[..., 1], 4, diagonal=0)[0]
    assert not acting[3].any()
    assert not acting[:, 3].any()
    assert acting.isfinite().all()
    assert acting.sum(0).max() <= 1 + 1e-6
    assert acting.sum(1).max() <= 1 + 1e-6
    with pytest.raises(ValueError, match="at most 13 entities, got 14: use 'leader'"):
        SingleFile.of(Layout(14, 2))


def test_nobody_to_ask_about():
    layout = Layout(3, 2)
    data = tables(1, 1, layout, scale=2.0)
    data = replace(data, energies=0 * data.energies, exist=torch.zeros(1, 3, 2, dtype=torch.bool))
    for name in ("none", "leader", "file"):
        prior = PRIORS[name](layout)
        assert mean_entropy(prior.posterior(data, 1.0), data) == 0
        assert temperature_of_entropy(prior, data, 0.3, 2.0) == 2
