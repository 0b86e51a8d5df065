"""Small exact worlds: every structure can be listed, so every probability is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import product

import torch
from scipy.stats import chisquare
from torch import Generator, Tensor

from bouncegrad.structures.factors import FactorTables
from bouncegrad.types import LogPrior, Losses, LossFn, Structures
from points import FOUR_SLOTS, one_task

ROUGHNESS = 0.4
"""Standard deviation of the energies: even at temperature 0.6 searches mix fast, and no structure is too rare."""


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@dataclass(frozen=True, slots=True)
class World:
    """A search target whose structures can all be listed. All tasks share it: many tasks are many parallel chains.

    Attributes:
        num_kinds: ``[slot]``, how many kinds each slot takes.
        loss_fn: the same losses for all tasks.
    """

    num_kinds: tuple[int, ...]
    loss_fn: LossFn

    @property
    def structures(self) -> Structures:
        """Every structure once, the first slot most significant."""
        return every_structure(self.num_kinds)

    @property
    def losses(self) -> Losses:
        """The loss of every structure, infinite where there is none."""
        return evaluate_all(self.loss_fn, self.structures)

    def probabilities(self, temperature: float, log_prior: LogPrior | None = None) -> Tensor:
        """``p(s) = exp(-loss(s) / temperature + log_prior(s)) / Z`` for every structure, 0 where there is no loss."""
        scores = -self.losses.double() / temperature
        if log_prior is not None:
            scores = scores + log_prior(self.structures)
        return torch.softmax(scores, 0)

    def counts(self, structures: Structures) -> Tensor:
        """How many tasks hold each structure."""
        return torch.bincount(number_of(structures, self.num_kinds), minlength=math.prod(self.num_kinds))

    def random(self, num_tasks: int, generator: Generator) -> Structures:
        """Uniform structures."""
        return self.structures[torch.randint(math.prod(self.num_kinds), (num_tasks,), generator=generator)]

    def p_value(self, structures: Structures, temperature: float, log_prior: LogPrior | None = None) -> float:
        """Chi-square test that independent ``structures`` come from the world's distribution; 0 for impossible ones."""
        expected = self.probabilities(temperature, log_prior) * len(structures)
        possible, counts = expected > 0, self.counts(structures)
        assert expected[possible].min() > 5, "chi-square needs more tasks"
        if counts[~possible].any():
            return 0.0
        return float(chisquare(counts[possible].numpy(), expected[possible].numpy()).pvalue)


def canonical() -> World:
    """THE world: 4 binary slots, 16 structures, fixed random energies with 4 local minima."""
    return tabulated((2, 2, 2, 2), seed=20)


def unequal() -> World:
    """Up to three kinds, another number of them on every slot; one slot without a choice."""
    return tabulated((3, 1, 2, 3), seed=28)


def factored() -> World:
    """4 slots with 2 or 3 kinds, whose loss is two look-ups; slots and kinds of a factor are out of order."""
    tables = factor_tables(torch.tensor([[2, 0], [1, 3]]), (3, 2))
    return World((2, 3, 3, 2), tables)


def diverged() -> World:
    """The canonical world, where some structures have no loss (diverged rollouts); structure 0 is all but shut in."""
    energies = canonical().losses.clone()
    energies[[0, 1, 2, 4, 13]] = torch.tensor([math.nan, math.inf, math.nan, math.inf, math.nan])
    return World((2, 2, 2, 2), lambda structures: energies[number_of(structures, (2, 2, 2, 2))])


def diverged_factors() -> World:
    """The factored world, where both factors have an assignment without a loss."""
    world = factored()
    assert isinstance(world.loss_fn, FactorTables)
    energies = world.loss_fn.energies.clone()
    energies[:, 0, 1], energies[:, 1, 4] = math.nan, math.inf
    return World(world.num_kinds, FactorTables(energies, world.loss_fn.slots, world.loss_fn.num_kinds))


@cache
def composed_energies(name: str) -> Tensor:
    """The losses of all structures of a composition, from 0, in the unit in which they spread as all energies here."""
    losses = one_task(name, 16).loss_fn()(every_structure((2, 2, 2, 2)))
    return ROUGHNESS * (losses - losses.min()) / losses.std()


def composed(name: str) -> World:
    """Four slots of functions: the losses are those of the points that are given of one task."""
    energies = composed_energies(name)
    return World((2, 2, 2, 2), lambda structures: energies[number_of(structures, (2, 2, 2, 2))])


WORLDS = {
    "canonical": canonical,
    "unequal": unequal,
    "factored": factored,
    "diverged": diverged,
    "diverged factors": diverged_factors,
    **{name: partial(composed, name) for name in FOUR_SLOTS},
}


def tabulated(num_kinds: Sequence[int], seed: int = 0) -> World:
    """A world with one random number as the loss of each structure."""
    energies = ROUGHNESS * torch.randn(math.prod(num_kinds), generator=generator(seed))
    return World(tuple(num_kinds), lambda structures: energies[number_of(structures, num_kinds)])


def factor_tables(slots: Tensor, num_kinds: tuple[int, ...], num_tasks: int = 1, seed: int = 0) -> FactorTables:
    """Tables of random numbers."""
    energies = ROUGHNESS * torch.randn(num_tasks, len(slots), math.prod(num_kinds), generator=generator(seed))
    return FactorTables(energies, slots, num_kinds)


def for_tasks(loss_fn: LossFn, num_tasks: int) -> LossFn:
    """The same target for ``num_tasks`` tasks: tables hold one row for each task."""
    if not isinstance(loss_fn, FactorTables):
        return loss_fn
    return FactorTables(loss_fn.energies[:1].expand(num_tasks, -1, -1), loss_fn.slots, loss_fn.num_kinds)


def evaluate_all(loss_fn: LossFn, structures: Structures) -> Losses:
    """The losses of structures that are tasks of one world, infinite where there is none."""
    return for_tasks(loss_fn, len(structures))(structures).nan_to_num(nan=math.inf, posinf=math.inf)


def every_structure(num_kinds: Sequence[int]) -> Structures:
    return torch.tensor(list(product(*(range(count) for count in num_kinds))))


def number_of(structures: Structures, num_kinds: Sequence[int]) -> Tensor:
    """The row of :func:`every_structure` that each structure equals."""
    numbers = torch.zeros(len(structures), dtype=torch.long)
    for slot, count in enumerate(num_kinds):
        numbers = numbers * count + structures[:, slot]
    return numbers


class Counting:
    """A loss that counts how often it is asked, and remembers what it was asked last."""

    def __init__(self, loss_fn: LossFn) -> None:
        self.loss_fn = loss_fn
        self.asked: list[Structures] = []

    def __call__(self, structures: Structures) -> Losses:
        self.asked.append(structures.clone())
        return self.loss_fn(structures)
