"""Posteriors by samples, against the same ones by enumeration."""

from dataclasses import dataclass
from itertools import product

import pytest
import torch

from bouncegrad.structures.calibration import evidence_at, temperature_of_entropy
from bouncegrad.structures.factors import Factors, FactorTables, SummedFactors
from bouncegrad.structures.layout import Layout, to_matrix, to_slots
from bouncegrad.structures.population_annealing import Ladder
from bouncegrad.structures.priors import PRIORS, Independent, Leader, Sparse, Symmetric

LAYOUT = Layout(3, 2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tables(num_tasks: int, seed: int, layout: Layout, scale: float) -> FactorTables:
    shape = (num_tasks, layout.num_entities, layout.num_edge_kinds ** (layout.num_entities - 1))
    return FactorTables(
        scale * torch.randn(shape, generator=generator(seed)), layout.receiver_slots, layout.receiver_kinds
    )


@dataclass(frozen=True)
class Untabulated:
    """Tables that do not say so: every prior has to sample."""

    tables: FactorTables

    def __getattr__(self, name: str):
        return getattr(self.tables, name)

    def __call__(self, structures: torch.Tensor) -> torch.Tensor:
        return self.tables(structures)

    def tabulated(self) -> None:
        return None

    def plus(self, other: Factors) -> SummedFactors:
        return SummedFactors(self, other)


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
    prior = PRIORS[name](layout).with_weights(torch.log_softmax(torch.tensor([0.8, 0.0, 0.3][: shape[1]]), 0))
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
        exact = evidence_at(prior, data.plus(other), [1.0, 2.0, 8.0])
        found = evidence_at(prior, Untabulated(data).plus(Untabulated(other)), [1.0, 2.0, 8.0])
        assert ((found - exact).mean(1).abs() < 0.6).all()


def test_sums_of_tables_are_tables():
    layout = Layout(4, 2)
    data, other, structures = tables(5, 0, layout, 1.0), tables(5, 1, layout, 1.0), layout.random(5, generator())
    expected = data(structures) + other(structures)
    for one, two, tabulated in [
        (data, other, True),
        (data, Untabulated(other), False),
        (Untabulated(data), other, False),
        (data.plus(Untabulated(other)), tables(5, 0, layout, 0.0), False),
    ]:
        total = one.plus(two)
        assert (total.tabulated() is total) == tabulated
        assert (total.tabulated() is None) != tabulated
        torch.testing.assert_close(total(structures), expected)


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


def test_other_priors_say_that_they_need_tables():
    with pytest.raises(ValueError, match="this prior needs tables"):
        Sparse.of(LAYOUT).posterior(Untabulated(tables(2, 0, LAYOUT, 1.0)), 1.0)


def test_leaders_need_no_tables():
    layout = Layout(4, 3)
    data = FactorTables(torch.randn(2, 4, 27, generator=generator(4)), layout.receiver_slots, layout.receiver_kinds)
    one, other = (Leader.of(layout).posterior(factors, 1.0) for factors in (data, Untabulated(data)))
    torch.testing.assert_close(one.log_probabilities, other.log_probabilities)
    with pytest.raises(ValueError, match="needs an edge type for no edge and one for an edge"):
        Leader.of(Layout(4, 1))
