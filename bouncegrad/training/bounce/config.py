"""What can be said of a search: its settings, what it finds, and what every way to search can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from jaxtyping import Bool
from torch import Generator, Tensor

from bouncegrad.settings import check_settings
from bouncegrad.structures.annealing import exponential
from bouncegrad.structures.factors import Factors
from bouncegrad.types import Structures

HEAT_STEPS = 10_000
"""Resolution of the temperature's schedule over a training."""


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class BounceConfig:
    """How structures are searched.

    Attributes:
        search: "exact" draws whole graphs from their exact posterior (tables of all receivers); "metropolis" makes one
            proposal per pass; "gibbs" redraws one receiver per pass; "relaxed" does not search: the proposal network
            says what it thinks, and learns from the loss itself (Kipf et al. 2018; :mod:`bouncegrad.training.elbo`);
            "frozen" keeps the true relations (a baseline that uses labels).
        prior: exact search: what is believed of graphs beforehand, a name in
            :data:`bouncegrad.structures.priors.PRIORS`; "auto": of those in
            :data:`bouncegrad.structures.priors.COMPARED` the one with the most evidence on held-out scenes, at the
            temperature at which their early samples foretell the late ones best.
        proposals: search "metropolis": where proposals come from. "uniform": all kinds alike; "learned": from the
            proposal network of the training; "none": there are none, structures stay as random as they were drawn.
        block: what a proposal changes: "node", all that decides about one random entity (its incoming edges; blocked
            Gibbs); or "edge", one slot.
        flip: every slot that a proposal concerns gets another kind than it has.
        corrected: accept with the Hastings term of learned proposals, so that the search samples from the posterior;
            without it (Alet et al. 2019) structures that the network likes are found more often than they deserve.
        heat: "entropy": as hot as it takes to leave the structures undecided to a falling degree, whatever the unit of
            the energies (exact search only); "scheduled": falls geometrically from hottest to coolest; the others are
            for searches that propose. "steered": the share of worse moves that are accepted follows ``acceptance
            exp(-5 progress / cooling)``, by a moving average that cannot get stuck; "stepped": likewise, by the rule of
            the released code of Alet et al. 2019 (a tenth up or down at each pass); "automatic": that code's other
            schedule, from the size of the residuals and their autocorrelation.
        entropy: share of the structures' entropy at the start, from where it falls linearly to 0; of all that a named
            prior leaves undecided, or under "auto" of what is possible.
        hottest: the first temperature of all but "entropy" and "automatic".
        coolest: the least temperature of "entropy" and "scheduled", at the end of cooling; 1 means samples from the
            posterior.
        cooling: share of the training over which it cools.
        acceptance: share of worse moves that is accepted at first, for "steered" and "stepped".

    Raises:
        ValueError: a number or word that makes no search.
    """

    search: Literal["exact", "metropolis", "gibbs", "relaxed", "frozen"] = "exact"
    prior: Literal["auto", "none", "symmetric", "classes", "few", "leader", "file", "tree", "dyads", "triads"] = "auto"
    proposals: Literal["uniform", "learned", "none"] = "uniform"
    block: Literal["node", "edge"] = "node"
    flip: bool = False
    corrected: bool = False
    heat: Literal["entropy", "scheduled", "steered", "stepped", "automatic"] = "entropy"
    entropy: float = 0.9
    hottest: float = 60.0
    coolest: float = 1.0
    cooling: float = 0.7
    acceptance: float = 1.0

    def __post_init__(self) -> None:
        check_settings(self, positive=("hottest", "coolest"), shares=("cooling", "entropy", "acceptance"))
        if self.heat == "entropy" and self.search not in ("exact", "frozen"):
            raise ValueError('heat "entropy" needs search "exact": choose "scheduled" or "steered" with a kernel')


@dataclass(frozen=True, slots=True)
class BounceResult:
    """What a bounce found.

    Attributes:
        structures: ``[task, slot]``.
        changed: ``[task]``, whose structure is another one than before.
        accepted: ``[task]``, where what was proposed was taken, even if it was the structure that was there.
        proposed: ``[task]``, where another structure was proposed.
        temperature: of the search.
        prior: the prior it believed in.
        guess: ``[task, slot]``, what those think most probable who proposed; None where nobody was asked.
    """

    structures: Structures
    changed: Bool[Tensor, "task"]
    accepted: Bool[Tensor, "task"]
    proposed: Bool[Tensor, "task"]
    temperature: float
    prior: str
    guess: Structures | None = None


class Bounce(Protocol):
    """A way to search, with memory from batch to batch."""

    def search(self, target: Any, structures: Structures, progress: float, generator: Generator) -> BounceResult:
        """Search the structures of one batch."""
        ...

    def finish_epoch(self, held_out: tuple[Factors, Factors] | None) -> None:
        """Learn from the pass that ends; ``held_out``: factors of held-out scenes, of their early and late samples."""
        ...

    def state(self) -> dict[str, Any]:
        """The memory, as JSON."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""
        ...


def scheduled_temperature(config: BounceConfig, progress: float) -> float:
    """The geometric fall from hottest to coolest."""
    cooling = exponential(config.hottest, config.coolest, max(1, round(HEAT_STEPS * config.cooling)))
    return cooling(round(HEAT_STEPS * progress))
