"""Settings and result of the E-step (bounce), and the protocol of its implementations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from jaxtyping import Bool
from torch import Generator, Tensor

from bouncegrad.settings import check_settings
from bouncegrad.structures.factors import Factors
from bouncegrad.types import Structures


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class BounceConfig:
    """How the E-step infers structures (latent graphs).

    Attributes:
        search: the algorithm of the E-step. "exact": draws of whole graphs from their posterior (tables of all
            receivers); "metropolis": one Metropolis proposal per epoch; "gibbs": a Gibbs draw of one receiver per
            epoch; "relaxed": no search: the encoder (proposal network) gives the posterior and is trained by the ELBO
            (Kipf et al. 2018; :mod:`bouncegrad.training.elbo`); "frozen": no search: the true relations, a baseline
            that uses labels.
        prior: prior over graphs for exact search, a name in :data:`bouncegrad.structures.priors.PRIORS`; "auto": of
            those in :data:`bouncegrad.structures.priors.COMPARED` the one with the most evidence on held-out scenes, at
            the temperature at which their early samples best predict the late ones.
        proposals: source of the proposals of search "metropolis". "uniform": all kinds (edge types) equally probable;
            "learned": the proposal network of the training; "none": no proposals, structures stay as they are drawn at
            random.
        block: slots that one proposal changes: "node", all that determine how one random entity moves (its incoming
            edges; blocked Gibbs); or "edge", one slot.
        flip: whether each slot of a proposal must get another kind (edge type) than it has.
        corrected: whether learned proposals are accepted with the Hastings correction, so that the search samples from
            the posterior; without it (Alet et al. 2019) structures that the network favours are too frequent.
        heat: rule of the temperature. "entropy": the temperature at which the entropy of the posterior is a falling
            share of its maximum, whatever the unit of the energies (exact search only); "scheduled": falls
            geometrically from hottest to coolest; the others are for searches by proposals. "steered": the share of
            worse moves that are accepted follows ``acceptance exp(-5 progress / cooling)``, by a moving average that
            cannot get stuck; "stepped": likewise, by the rule of the released code of Alet et al. 2019 (a tenth up or
            down at each epoch); "automatic": that code's other schedule, from the size of the residuals and their
            autocorrelation.
        entropy: initial entropy of the posterior for "entropy", from where it falls linearly to 0, as a share of the
            entropy of the named prior, or under "auto" of the greatest possible entropy.
        hottest: initial temperature of all rules but "entropy" and "automatic".
        coolest: least temperature of "entropy" and "scheduled", at the end of cooling; at 1 the search samples the
            posterior.
        cooling: share of the training over which the temperature falls.
        acceptance: initial share of worse moves that are accepted, for "steered" and "stepped".

    Raises:
        ValueError: a number out of range, or heat "entropy" without exact search.
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
    """Result of the E-step on one batch.

    Attributes:
        structures: ``[task, slot]``, the new structures.
        changed: ``[task]``, whether the structure differs from the one before.
        accepted: ``[task]``, whether the proposal was accepted, also where it equals the structure before.
        proposed: ``[task]``, whether the proposal differs from the structure before.
        temperature: temperature of the search.
        prior: name of the prior.
        guess: ``[task, slot]``, the most probable structures by the proposal network; None where it is not evaluated.
    """

    structures: Structures
    changed: Bool[Tensor, "task"]
    accepted: Bool[Tensor, "task"]
    proposed: Bool[Tensor, "task"]
    temperature: float
    prior: str
    guess: Structures | None = None


class Bounce(Protocol):
    """An algorithm of the E-step, with a state that lasts from batch to batch (temperature, weights of priors)."""

    def search(self, target: Any, structures: Structures, progress: float, generator: Generator) -> BounceResult:
        """Search the structures of one batch, ``target``, from the current ones, at this share of the training."""
        ...

    def finish_epoch(self, held_out: tuple[Factors, Factors] | None) -> None:
        """Update the state after an epoch; ``held_out``: factors of held-out scenes, early and late samples."""
        ...

    def state(self) -> dict[str, Any]:
        """The state, as JSON."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state` returned."""
        ...
