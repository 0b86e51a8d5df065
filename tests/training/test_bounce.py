"""The bounce on tables: how hot it is, and what it believes."""

from typing import Any

import pytest
import torch

from bouncegrad.structures.calibration import entropy_left, mean_entropy
from bouncegrad.structures.factors import FactorTables
from bouncegrad.structures.layout import Layout, to_matrix, to_slots
from bouncegrad.training.bounce import BounceConfig, TableBounce
from bouncegrad.training.bounce import e_step as tables_module

LAYOUT = Layout(5, 2)
NO_TARGET: Any = (None, None, None)
"""The tables are given: nothing is computed from a model."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def symmetric_graphs(num_tasks: int) -> torch.Tensor:
    below = (torch.rand(num_tasks, 5, 5, generator=generator(3)) < 0.5).tril(-1)
    return to_slots((below | below.mT).long())


def tables_of(graphs: torch.Tensor, cost: float, noise: float, seed: int = 4) -> FactorTables:
    """Every wrong edge costs ``cost``; every entry is off by ``noise``."""
    blank = FactorTables(torch.zeros(len(graphs), 5, 16), LAYOUT.receiver_slots, LAYOUT.receiver_kinds)
    kinds = torch.arange(16)[:, None] // blank.radix() % 2
    wrong = (kinds != graphs[:, LAYOUT.receiver_slots][:, :, None]).sum(-1)
    energies = cost * wrong + noise * torch.randn(wrong.shape, generator=generator(seed))
    return FactorTables(energies, blank.slots, blank.num_kinds)


def halves_of(graphs: torch.Tensor, cost: float, noise: float) -> tuple[FactorTables, FactorTables]:
    return tables_of(graphs, cost, noise, 5), tables_of(graphs, cost, noise, 6)


def search(
    monkeypatch, tables: FactorTables, config: BounceConfig, progress: float, num_passes: int = 1, held_out: Any = None
):
    """Passes of one batch whose tables are given, as are those of the halves of held-out scenes."""
    monkeypatch.setattr(tables_module, "factors_of", lambda *target: tables)
    made = TableBounce(config, LAYOUT)
    structures = LAYOUT.random(len(tables.energies), generator(1))
    for _ in range(num_passes):
        found = made.search(NO_TARGET, structures, progress, generator(2))
        structures = found.structures
        made.finish_epoch(held_out)
    return made, found


@pytest.mark.parametrize("unit", [1.0, 1e4])
@pytest.mark.parametrize("progress", [0.0, 0.35, 0.7])
def test_the_entropy_falls_whatever_the_unit(monkeypatch, unit: float, progress: float):
    tables = tables_of(symmetric_graphs(40), 30 * unit, 10 * unit)
    made, found = search(monkeypatch, tables, BounceConfig(prior="symmetric"), progress)
    prior = made.priors["symmetric"]
    left = mean_entropy(prior.posterior(tables, found.temperature), tables) / entropy_left(prior, tables)
    assert left == pytest.approx(0.9 * (1 - progress / 0.7), abs=0.03)


def test_a_cold_bounce_finds_the_graphs(monkeypatch):
    graphs = symmetric_graphs(40)
    found = search(monkeypatch, tables_of(graphs, 30, 10), BounceConfig(), 1.0)[1]
    assert torch.equal(found.structures, graphs)
    assert found.temperature == 1


def test_evidence_turns_to_independent_edges_where_graphs_are_directed(monkeypatch):
    graphs = LAYOUT.random(60, generator(5))
    held_out = halves_of(graphs, 15, 7)
    made, found = search(monkeypatch, tables_of(graphs, 30, 10), BounceConfig(), 0.3, 3, held_out)
    assert made.chosen == "none"
    assert (to_matrix(graphs, 5) != to_matrix(graphs, 5).mT).any()
    assert found.prior == "none"


@pytest.mark.parametrize("progress", [0.3, 1.0])
def test_errors_of_sure_modules_do_not_speak_for_the_weakest_belief(monkeypatch, progress: float):
    """Symmetric graphs under energies that are wrong by hundreds of nats here and there, hot or cold."""
    tables = tables_of(symmetric_graphs(100), 250, 300)
    made, _ = search(monkeypatch, tables, BounceConfig(), progress, 3, halves_of(symmetric_graphs(100), 125, 212))
    assert made.chosen == "symmetric"
    cold = {name: float(p.posterior(tables, 1.0).log_evidence.mean()) for name, p in made.priors.items()}
    assert cold["none"] > cold["symmetric"], "at temperature 1 the wrong belief would have won"


def test_memory_survives(monkeypatch):
    graphs = LAYOUT.random(60, generator(5))
    tables = tables_of(graphs, 30, 10)
    made, _ = search(monkeypatch, tables, BounceConfig(), 0.3, 3, halves_of(graphs, 15, 7))
    other = TableBounce(BounceConfig(), LAYOUT)
    other.load_state(made.state())
    assert other.state() == made.state()
    assert other.chosen == "none"
