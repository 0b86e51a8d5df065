import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from bouncegrad.structures.factors import FactorTables
from worlds import every_structure, factor_tables, generator

kinds = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)
seeds = st.integers(0, 10_000)


def shuffled_tables(num_kinds: tuple[int, ...], num_factors: int, seed: int, num_tasks: int = 5) -> FactorTables:
    """Factors that see their slots in random order."""
    slots = torch.randperm(num_factors * len(num_kinds), generator=generator(seed)).reshape(num_factors, -1)
    return factor_tables(slots, num_kinds, num_tasks, seed)


def random_combinations(tables: FactorTables, seed: int) -> torch.Tensor:
    num_tasks, num_factors, num_combinations = tables.energies.shape
    return torch.randint(num_combinations, (num_tasks, num_factors), generator=generator(seed))


@given(kinds, st.integers(1, 4), seeds)
def test_combinations_and_structures_are_inverse(num_kinds: tuple[int, ...], num_factors: int, seed: int):
    tables = shuffled_tables(num_kinds, num_factors, seed)
    combinations = random_combinations(tables, seed)
    structures = tables.structures_of(combinations)
    assert torch.equal(tables.combinations_of(structures), combinations)
    assert torch.equal(tables.structures_of(tables.combinations_of(structures)), structures)
    for position, count in enumerate(num_kinds):
        on_slots = structures[:, tables.slots[:, position]]
        assert ((on_slots >= 0) & (on_slots < count)).all()


@given(kinds)
def test_combinations_are_counted_with_the_first_slot_most_significant(num_kinds: tuple[int, ...]):
    tables = factor_tables(torch.arange(len(num_kinds))[None], num_kinds)
    numbers = tables.combinations_of(every_structure(num_kinds))[:, 0]
    assert numbers.tolist() == list(range(math.prod(num_kinds)))


def test_combinations_of_a_written_out_example():
    """3, 2 and 4 kinds: the digits weigh 8, 4 and 1. The factors see slots (5, 0, 2) and (1, 3, 4)."""
    tables = factor_tables(torch.tensor([[5, 0, 2], [1, 3, 4]]), (3, 2, 4))
    structure = torch.tensor([[1, 0, 3, 1, 2, 2]])
    assert tables.radix().tolist() == [8, 4, 1]
    assert tables.combinations_of(structure).tolist() == [[2 * 8 + 1 * 4 + 3, 0 * 8 + 1 * 4 + 2]]


@given(kinds, st.integers(1, 4), seeds)
def test_the_loss_is_the_plain_sum_of_what_the_factors_say(num_kinds: tuple[int, ...], num_factors: int, seed: int):
    tables = shuffled_tables(num_kinds, num_factors, seed)
    structures = tables.structures_of(random_combinations(tables, seed))
    assignments = every_structure(num_kinds).tolist()
    for task, structure in enumerate(structures.tolist()):
        seen = [[structure[slot] for slot in slots] for slots in tables.slots.tolist()]
        terms = [tables.energies[task, factor, assignments.index(row)] for factor, row in enumerate(seen)]
        torch.testing.assert_close(tables(structures)[task], torch.stack(terms).sum())
