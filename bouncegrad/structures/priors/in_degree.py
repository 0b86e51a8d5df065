"""How many act where not all may: from the odds of each to the share of those who do, and back."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

LARGEST_ODDS = 30.0
"""Log odds beyond which somebody acts as good as surely."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many of some places may act at once: ``p(number) ~ ways(number) * odds ** number``.

    Attributes:
        numbers: how many act, in each case.
        log_ways: in how many ways so many can act.
        width: how many places there are.
    """

    numbers: Float[Tensor, "count"]
    log_ways: Float[Tensor, "count"]
    width: int

    def share_at(self, log_odds: float) -> float:
        """The share of places that act, under these odds of each.

        >>> import torch
        >>> one_of_three = Counts(torch.arange(2.0), torch.tensor([1.0, 3.0]).log(), 3)
        >>> round(one_of_three.share_at(0.0), 6)  # four ways, and one acts in three of them
        0.25
        """
        return float((self.log_ways + log_odds * self.numbers).softmax(0) @ self.numbers) / self.width

    def log_odds(self, share: float, within: float) -> float:
        """Log odds of each place under which that share acts; by bisection, too low by ``within`` at the most."""
        low, high = -LARGEST_ODDS, LARGEST_ODDS
        while high - low > within:
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self.share_at(middle) < share else (low, middle)
        return low
