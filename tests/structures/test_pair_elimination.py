"""Sums over one kind for each pair, entity by entity, against lists of all graphs."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from bouncegrad.structures.factors import FactorTables
from bouncegrad.structures.layout import Layout, to_slots
from bouncegrad.structures.priors import pair_elimination
from bouncegrad.structures.priors.pair_elimination import PairElimination, digits_of, elimination_cells, number_of

SIZES = [(2, 3), (3, 2), (4, 2), (4, 3), (5, 2)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def every_graph(num_entities: int, num_kinds: int) -> Tensor:
    pairs = torch.combinations(torch.arange(num_entities), 2)
    kinds = torch.tensor(list(product(range(num_kinds), repeat=len(pairs))))
    matrix = torch.zeros(len(kinds), num_entities, num_entities, dtype=torch.long)
    matrix[:, pairs[:, 0], pairs[:, 1]] = kinds
    return matrix + matrix.mT


def scores_of(num_entities: int, num_kinds: int, num_tasks: int = 3, scale: float = 2.0) -> Tensor:
    shape = (num_tasks, num_entities, num_kinds ** (num_entities - 1))
    return scale * torch.randn(shape, generator=generator(), dtype=torch.float64)


def totals_by_hand(scores: Tensor, graphs: Tensor, num_kinds: int) -> Tensor:
    """``[task, graph]``."""
    layout = Layout(graphs.shape[1], num_kinds)
    tables = FactorTables(scores, layout.receiver_slots, layout.receiver_kinds)
    return torch.stack([tables(row.expand(len(scores), -1)) for row in to_slots(graphs)], 1)


@pytest.mark.parametrize(("num_entities", "num_kinds"), SIZES)
def test_elimination_sums_over_all_graphs(num_entities: int, num_kinds: int):
    graphs = every_graph(num_entities, num_kinds)
    scores = scores_of(num_entities, num_kinds)
    totals = totals_by_hand(scores, graphs, num_kinds)
    elimination = PairElimination.of(scores, num_kinds)
    torch.testing.assert_close(elimination.log_total, totals.logsumexp(1))
    assert torch.equal(elimination.best(), graphs[totals.argmax(1)])
    probabilities = totals.softmax(1)
    for kind in range(num_kinds):
        expected = torch.einsum("tg,gij->tij", probabilities, (graphs == kind).double())
        off = ~torch.eye(num_entities, dtype=torch.bool)
        torch.testing.assert_close(elimination.marginals()[:, off, kind], expected[:, off])


def test_scores_of_any_size_do_not_underflow():
    """Receivers that contradict each other by thousands of nats, as those of a confident model do."""
    graphs, scores = every_graph(4, 2), scores_of(4, 2, scale=3000.0)
    elimination = PairElimination.of(scores, 2)
    torch.testing.assert_close(elimination.log_total, totals_by_hand(scores, graphs, 2).logsumexp(1))
    assert elimination.marginals().isfinite().all()


def test_draws_follow_the_marginals():
    elimination = PairElimination.of(scores_of(4, 2, 1).expand(20_000, -1, -1), 2)
    drawn = elimination.draw(generator(1))
    assert torch.equal(drawn, drawn.mT)
    torch.testing.assert_close(drawn.double().mean(0), elimination.marginals()[0, :, :, 1], atol=0.015, rtol=0)


def test_chunks_change_nothing(monkeypatch):
    scores = scores_of(5, 2, 7)
    whole = PairElimination.of(scores, 2)
    monkeypatch.setattr(pair_elimination, "CHUNK_CELLS", 2 * elimination_cells(5, 2))
    parts = PairElimination.of(scores, 2)
    torch.testing.assert_close(parts.log_total, whole.log_total)
    torch.testing.assert_close(parts.marginals(), whole.marginals())


def test_the_largest_step():
    assert elimination_cells(5, 3) == 3**8
    assert elimination_cells(6, 2) == 2**11
    assert elimination_cells(8, 2) == 2**19
    for num_entities, num_kinds in SIZES[1:]:
        largest = max(
            state.shape[1] * state.shape[2] * num_kinds ** (num_entities - 2 - place)
            for place, state in enumerate(PairElimination.of(scores_of(num_entities, num_kinds), num_kinds).states)
        )
        assert largest == elimination_cells(num_entities, num_kinds)


def test_digits():
    numbers = torch.arange(27)
    assert torch.equal(number_of(digits_of(numbers, 3, 3), 3), numbers)
    assert digits_of(torch.tensor(5), 2, 4).tolist() == [0, 1, 0, 1]
    assert digits_of(torch.tensor([0]), 2, 0).shape == (1, 0)
    assert number_of(torch.zeros(2, 0, dtype=torch.long), 2).tolist() == [0, 0]
    assert math.isfinite(float(PairElimination.of(scores_of(2, 2), 2).log_total.sum()))
