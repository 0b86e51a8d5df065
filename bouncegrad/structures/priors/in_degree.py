"""Distribution of the number of active edges under a constraint, and the odds that give a required mean share."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

LARGEST_ODDS = 30.0
"""Bound of the log odds: an unconstrained place is then active with probability 0 or 1, up to 1e-13."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Distribution of the number of active places: ``p(number)`` proportional to ``ways(number) * odds ** number``.

    A place is an edge of a row (:mod:`bouncegrad.structures.priors.sparse`) or a receiver
    (:mod:`bouncegrad.structures.priors.single_file`).

    Attributes:
        numbers: ``[count]``, the allowed numbers of active places.
        log_ways: ``[count]``, log number of configurations with each number of active places.
        width: total number of places.
    """

    numbers: Float[Tensor, "count"]
    log_ways: Float[Tensor, "count"]
    width: int

    def share_at(self, log_odds: float) -> float:
        """The expected share of active places at these log odds.

        >>> import torch
        >>> one_of_three = Counts(torch.arange(2.0), torch.tensor([1.0, 3.0]).log(), 3)
        >>> round(one_of_three.share_at(0.0), 6)  # four configurations, three of which have one active place
        0.25
        """
        return float((self.log_ways + log_odds * self.numbers).softmax(0) @ self.numbers) / self.width

    def log_odds(self, share: float, within: float) -> float:
        """The log odds at which the expected share is ``share``, by bisection; too low by at most ``within``."""
        low, high = -LARGEST_ODDS, LARGEST_ODDS
        while high - low > within:
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self.share_at(middle) < share else (low, middle)
        return low
