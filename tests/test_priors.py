"""Posteriors over whole graphs against enumeration of every structure."""

import math
from dataclasses import dataclass
from itertools import product

import pytest
import torch

from bouncegrad.graphs import Layout, to_matrix, to_slots
from bouncegrad.priors import PRIORS, Independent, NodeClasses, Symmetric, learned, priors_for
from bouncegrad.priors.temper import (
    evidence_at,
    foretold,
    mean_entropy,
    reading_of,
    temperature_of_entropy,
    together,
)
from bouncegrad.search.population import Ladder
from bouncegrad.types import FactorTables

LAYOUT = Layout(3, 2)
EVERY = torch.tensor(list(product(range(2), repeat=6)))
NAMES = list(PRIORS)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tables(num_tasks: int = 3, seed: int = 0, layout: Layout = LAYOUT, scale: float = 1.0) -> FactorTables:
    num_combinations = math.prod(layout.receiver_kinds)
    shape = (num_tasks, layout.num_entities, num_combinations)
    energies = scale * torch.randn(shape, generator=generator(seed))
    return FactorTables(energies, layout.receiver_slots, layout.receiver_kinds)


def log_prior_by_hand(name: str) -> torch.Tensor:
    """The probability of each of the 64 graphs, from the definition of the prior."""
    matrix = to_matrix(EVERY, 3)
    if name == "none":
        return torch.full((64,), -6 * math.log(2))
    if name == "symmetric":
        symmetric = (matrix == matrix.mT).flatten(1).all(1)
        return torch.where(symmetric, -3 * math.log(2), -math.inf)
    counts = torch.zeros(64)
    for kinds in product(range(2), repeat=4):
        for labels in product(range(2), repeat=3):
            graph = [kinds[2 * labels[i] + labels[j]] for i in range(3) for j in range(3) if i != j]
            counts[(torch.tensor(graph) == EVERY).all(1)] += 1
    return torch.log(counts / counts.sum())


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("name", NAMES)
def test_posteriors_equal_enumeration(name: str, temperature: float):
    data = tables()
    posterior = PRIORS[name](LAYOUT).posterior(data, temperature)
    losses = torch.stack([data(row.expand(3, -1)) for row in EVERY], 1)
    scores = log_prior_by_hand(name) - losses / temperature
    torch.testing.assert_close(posterior.log_evidence, torch.logsumexp(scores, 1))
    probabilities = torch.softmax(scores, 1)
    torch.testing.assert_close(posterior.best(), EVERY[probabilities.argmax(1)])
    for kind in range(2):
        torch.testing.assert_close(posterior.marginals()[:, :, kind], probabilities @ (kind == EVERY).float())


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
    better = learned(prior, prior.posterior(data, 1.0).usage())
    assert float(better.log_weights.exp()[1]) == pytest.approx(float(kinds.float().mean()), abs=0.02)
    assert better.posterior(data, 1.0).log_evidence.mean() > prior.posterior(data, 1.0).log_evidence.mean() + 1


def test_at_most_one_sender():
    posterior = Independent.of(LAYOUT, max_senders=1).posterior(tables(100), 1.0)
    assert to_matrix(posterior.draw(generator()), 3, diagonal=0).sum(2).max() == 1


def graphs_of(name: str, num_tasks: int, seed: int) -> torch.Tensor:
    """Graphs of five entities that obey the prior, drawn without its code."""
    random = torch.rand(num_tasks, 5, 5, generator=generator(seed)) < 0.5
    if name == "symmetric":
        random = random.tril(-1) | random.tril(-1).mT
    if name == "classes":
        labels = random[:, 0]
        random = labels[:, :, None] != labels[:, None, :]
    return random.long()


@pytest.mark.parametrize("name", NAMES)
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
    priors = {n: learned(p, early[n].usage()) for n, p in priors.items()}
    found = reading_of(priors, *halves)
    assert found.prior == name
    assert set(found.evidence) == set(NAMES)


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
    for prior in priors_for(LAYOUT).values():
        temperature = temperature_of_entropy(prior, data, 0.8)
        assert mean_entropy(prior.posterior(data, temperature)) == pytest.approx(0.8, abs=0.02)
        assert temperature_of_entropy(prior, data, 0.0) == 1.0


def test_unrelated_halves_foretell_nothing():
    early, late = tables(2000, 1), tables(2000, 2)
    assert float(foretold(Independent.of(LAYOUT), early, late, [1.0]).mean()) < 0.05


def test_priors_that_cannot_be():
    assert set(priors_for(Layout(10, 2))) == set(NAMES)
    assert set(priors_for(Layout(20, 2))) == {"none", "symmetric"}
    assert set(priors_for(Layout(3, 2, 2))) == {"none"}
    with pytest.raises(ValueError, match="allows 16777216 graphs of 20 entities"):
        NodeClasses.of(Layout(20, 2))
    for prior in (Symmetric, NodeClasses):
        with pytest.raises(ValueError, match="speaks of edges only"):
            prior.of(Layout(3, 2, 2))
    with pytest.raises(ValueError, match="at most 1 senders for each receiver needs tables"):
        Independent.of(LAYOUT, max_senders=1).posterior(Untabulated(tables()), 1.0)


# posteriors by samples


@dataclass(frozen=True)
class Untabulated:
    """Tables that do not say so: every prior has to sample."""

    tables: FactorTables

    def __getattr__(self, name: str):
        return getattr(self.tables, name)

    def __call__(self, structures: torch.Tensor) -> torch.Tensor:
        return self.tables(structures)


def smooth_tables(num_tasks: int, layout: Layout) -> FactorTables:
    """What a model's tables are like: each receiver has a quadratic energy in its edges, some clear, some not."""
    width, random = layout.num_entities - 1, generator(11)
    kinds = torch.tensor(list(product(range(layout.num_edge_kinds), repeat=width))).float()
    messages = torch.randn(num_tasks, layout.num_entities, width, 6, generator=random)
    goal = torch.randn(num_tasks, layout.num_entities, 1, 6, generator=random)
    energies = (kinds @ messages - goal).square().sum(3)
    return FactorTables(energies, layout.receiver_slots, layout.receiver_kinds)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("shape", [(5, 2), (6, 2), (4, 3)])
@pytest.mark.parametrize("name", ["none", "symmetric"])
def test_samples_agree_with_lists(name: str, shape: tuple[int, int], temperature: float):
    layout = Layout(*shape)
    data = smooth_tables(6, layout)
    prior = PRIORS[name](layout).reweighted(torch.log_softmax(torch.tensor([0.8, 0.0, 0.3][: shape[1]]), 0))
    exact = prior.posterior(data, temperature)
    found = prior.posterior(Untabulated(data), temperature, Ladder(512))
    assert found.temperature == pytest.approx(temperature)
    assert torch.equal(found.best(), exact.best())
    torch.testing.assert_close(found.log_evidence, exact.log_evidence, atol=0.25, rtol=0)
    torch.testing.assert_close(found.marginals(), exact.marginals(), atol=0.06, rtol=0)
    torch.testing.assert_close(found.usage(), exact.usage(), atol=0.2, rtol=0.02)
    again = prior.posterior(Untabulated(data), temperature, Ladder(512))
    assert torch.equal(again.marginals(), found.marginals())


@pytest.mark.parametrize("name", ["none", "symmetric"])
def test_draws_are_those_of_the_chains(name: str):
    data = smooth_tables(1, LAYOUT)
    many = FactorTables(data.energies.expand(4000, -1, -1), data.slots, data.num_kinds)
    prior = PRIORS[name](LAYOUT)
    drawn = prior.posterior(Untabulated(many), 1.0, Ladder(8)).draw(generator(1))
    exact = prior.posterior(data, 1.0).marginals()[0, :, 1]
    torch.testing.assert_close((drawn == 1).float().mean(0), exact, atol=0.05, rtol=0)


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_one_cooling_meets_the_entropy(share: float):
    layout = Layout(5, 2)
    data = FactorTables(30 * smooth_tables(50, layout).energies, layout.receiver_slots, layout.receiver_kinds)
    for prior in (Independent.of(layout), Symmetric.of(layout)):
        exact = temperature_of_entropy(prior, data, share)
        assert temperature_of_entropy(prior, Untabulated(data), share) == pytest.approx(exact, rel=0.15)
        assert temperature_of_entropy(prior, Untabulated(data), 0.0) == 1.0


def test_one_cooling_knows_the_evidence_at_every_temperature():
    layout = Layout(5, 2)
    data, other = smooth_tables(20, layout), tables(20, 1, layout, 0.3)
    for prior in (Independent.of(layout), Symmetric.of(layout)):
        exact = evidence_at(prior, together(data, other), [1.0, 2.0, 8.0])
        found = evidence_at(prior, together(Untabulated(data), Untabulated(other)), [1.0, 2.0, 8.0])
        assert ((found - exact).mean(1).abs() < 0.6).all()


def test_graphs_of_ten_are_found_by_samples():
    """Too many to list: every wrong edge costs something, every table entry is off by something."""
    layout = Layout(10, 2)
    below = (torch.rand(4, 10, 10, generator=generator(3)) < 0.5).tril(-1)
    graphs = to_slots((below | below.mT).long())
    blank = tables(4, 5, layout, scale=2.0)
    kinds = torch.arange(512)[:, None] // blank.radix() % 2
    wrong = (kinds != graphs[:, layout.receiver_slots][:, :, None]).sum(-1)
    data = FactorTables(blank.energies + 8.0 * wrong, blank.slots, blank.num_kinds)
    found = Symmetric.of(layout).posterior(data, 1.0)
    assert torch.equal(found.best(), graphs)
    assert torch.equal(to_matrix(found.draw(generator()), 10), to_matrix(graphs, 10))
