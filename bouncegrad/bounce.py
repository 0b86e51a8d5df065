"""The bounce: search the structures of a batch of scenes while the modules stand still."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Generator, Tensor

from bouncegrad.evaluate import loss_fn
from bouncegrad.graphs import Layout
from bouncegrad.model import Batch, Model, Windows
from bouncegrad.priors import PRIORS, GraphPosterior, GraphPrior, learned, priors_for
from bouncegrad.priors.temper import temperature_of_entropy
from bouncegrad.search.annealing import AnnealingState, acceptance_steered, acceptance_target, exponential
from bouncegrad.search.kernels import frozen, gibbs, metropolis
from bouncegrad.search.population import QUICK
from bouncegrad.search.proposals import node_block
from bouncegrad.settings import check_settings
from bouncegrad.sums import factors_of
from bouncegrad.types import Factors, Kernel, Structures

HEAT_STEPS = 10_000
"""Resolution of the temperature's schedule over a training."""

MARGIN = 0.5
"""Nats per scene by which another prior must be better before the bounce turns to it."""

UNDECIDED = 0.9
"""Share of the cooling during which priors are compared. Later the prior stays: energies of modules that are not quite
right are too sure of themselves, and near temperature 1 their errors speak for the prior that forbids least."""


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class BounceConfig:
    """How structures are searched.

    Attributes:
        search: "exact" draws whole graphs from their posterior (horizon 1), exactly from tables of all receivers while
            these and the graphs can be listed, else from chains of structures that are cooled anew; "metropolis" makes
            one node-block proposal per pass; "gibbs" redraws one receiver per pass; "frozen" keeps the true relations
            (a baseline that uses labels).
        prior: exact search: what is believed of graphs beforehand, a name in :data:`bouncegrad.priors.PRIORS`; "auto":
            the one with the most evidence at the temperature of the moment, as long as much is undecided.
        heat: "entropy": as hot as it takes to leave the structures undecided to a falling degree, whatever the unit of
            the energies (exact search only); "scheduled": falls geometrically from hottest to coolest; "steered": the
            share of worse moves that are accepted follows ``exp(-5 progress)`` (Alet et al. 2019), for searches that
            propose.
        entropy: share of the structures' entropy at the start, from where it falls linearly to 0.
        hottest: scheduled and steered temperature at the start.
        coolest: temperature at the end of cooling, and the least there is; 1 means samples from the posterior.
        cooling: share of the training over which it cools.

    Raises:
        ValueError: a number or word that makes no search.
    """

    search: Literal["exact", "metropolis", "gibbs", "frozen"] = "exact"
    prior: Literal["auto", "none", "symmetric", "classes"] = "auto"
    heat: Literal["entropy", "scheduled", "steered"] = "entropy"
    entropy: float = 0.9
    hottest: float = 60.0
    coolest: float = 1.0
    cooling: float = 0.7

    def __post_init__(self) -> None:
        check_settings(self, positive=("hottest", "coolest"))
        for name in ("cooling", "entropy"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be a share, from 0 to 1; got {getattr(self, name)}")
        if self.heat == "entropy" and self.search not in ("exact", "frozen"):
            raise ValueError('heat "entropy" needs search "exact": choose "scheduled" or "steered" with a kernel')


@dataclass(frozen=True, slots=True)
class Bounced:
    """What a bounce found.

    Attributes:
        structures: ``[task, slot]``.
        changed: ``[task]``, whose structure is another one than before.
        temperature: of the search.
        prior: the prior it believed in.
    """

    structures: Structures
    changed: Tensor
    temperature: float
    prior: str


class Bounce(Protocol):
    """A way to search, with memory from batch to batch."""

    def search(
        self, target: tuple[Model, Batch, Windows], structures: Structures, progress: float, generator: Generator
    ) -> Bounced:
        """Search the structures of one batch."""
        ...

    def finish_pass(self) -> None:
        """Learn from the pass that ends."""
        ...

    def state(self) -> dict[str, Any]:
        """The memory, as JSON."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""
        ...


def make_bounce(config: BounceConfig, layout: Layout) -> Bounce:
    """The search that a configuration names."""
    return TableBounce(config, layout) if config.search == "exact" else KernelBounce(config, layout)


def scheduled_temperature(config: BounceConfig, progress: float) -> float:
    """The geometric fall from hottest to coolest."""
    cooling = exponential(config.hottest, config.coolest, max(1, round(HEAT_STEPS * config.cooling)))
    return cooling(round(HEAT_STEPS * progress))


class KernelBounce:
    """One step of a search kernel per batch.

    Args:
        config: which kernel and heat.
        layout: the slots.
    """

    def __init__(self, config: BounceConfig, layout: Layout) -> None:
        self.config = config
        self.kernel = _kernel(config, layout)
        self.heat = AnnealingState(0, config.hottest, 1.0)

    def search(
        self, target: tuple[Model, Batch, Windows], structures: Structures, progress: float, generator: Generator
    ) -> Bounced:
        """One step of the kernel from the structures as they are."""
        losses = loss_fn(*target)
        steered = self.config.heat == "steered"
        temperature = self.heat.temperature if steered else scheduled_temperature(self.config, progress)
        state = self.kernel.init(structures, losses, temperature)
        state, info = self.kernel.step(state, losses, generator)
        if steered:
            share = acceptance_target(HEAT_STEPS)(round(HEAT_STEPS * progress))
            self.heat = acceptance_steered(share, self.config.hottest).next(self.heat, info)
        return Bounced(state.structures, info.changed, temperature, "none")

    def finish_pass(self) -> None:
        """Nothing to learn."""

    def state(self) -> dict[str, Any]:
        """The steered heat."""
        return {"heat": asdict(self.heat)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""
        self.heat = AnnealingState(**state["heat"])


class TableBounce:
    """Draws of whole graphs under a prior, whose weights and choice are learned on the way.

    Args:
        config: which prior and heat.
        layout: the slots.

    Raises:
        ValueError: a prior that scenes of this size cannot have.
    """

    def __init__(self, config: BounceConfig, layout: Layout) -> None:
        self.config = config
        named = {config.prior: PRIORS[config.prior](layout)} if config.prior != "auto" else priors_for(layout)
        self.priors: dict[str, GraphPrior] = named
        self.chosen = "symmetric" if "symmetric" in named else next(iter(named))
        self._forget()

    def search(
        self, target: tuple[Model, Batch, Windows], structures: Structures, progress: float, generator: Generator
    ) -> Bounced:
        """Draw a graph for each scene from the posterior under the chosen prior."""
        factors = factors_of(*target)
        temperature = self._temperature(self.priors[self.chosen], factors, progress)
        posteriors = {name: prior.posterior(factors, temperature, QUICK) for name, prior in self.priors.items()}
        drawn = posteriors[self.chosen].draw(generator)
        self._remember(posteriors, len(drawn), choosing=progress < UNDECIDED * self.config.cooling)
        return Bounced(drawn, (drawn != structures).any(1), temperature, self.chosen)

    def finish_pass(self) -> None:
        """Turn to the prior with the most evidence, if it is clearly better; learn every prior's weights."""
        best = max(self.evidence, key=lambda name: self.evidence[name])
        if self.evidence[best] > self.evidence[self.chosen] + MARGIN * self.num_tasks:
            self.chosen = best
        self.priors = {name: learned(prior, self.usage[name]) for name, prior in self.priors.items()}
        self._forget()

    def state(self) -> dict[str, Any]:
        """Chosen prior and weights."""
        weights = {name: prior.log_weights.tolist() for name, prior in self.priors.items()}
        return {"chosen": self.chosen, "weights": weights}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""
        self.chosen = state["chosen"]
        weights = {name: torch.tensor(values) for name, values in state["weights"].items()}
        self.priors = {name: prior.reweighted(weights[name]) for name, prior in self.priors.items()}

    def _temperature(self, prior: GraphPrior, factors: Factors, progress: float) -> float:
        if self.config.heat != "entropy":
            return scheduled_temperature(self.config, progress)
        share = self.config.entropy * max(0.0, 1 - progress / max(self.config.cooling, 1e-9))
        return temperature_of_entropy(prior, factors, share, self.config.coolest)

    def _remember(self, posteriors: Mapping[str, GraphPosterior], num_tasks: int, *, choosing: bool) -> None:
        self.num_tasks += num_tasks
        for name, posterior in posteriors.items():
            self.evidence[name] += float(posterior.log_evidence.sum()) if choosing else 0.0
            self.usage[name] = self.usage[name] + posterior.usage()

    def _forget(self) -> None:
        self.num_tasks = 0
        self.evidence = dict.fromkeys(self.priors, 0.0)
        self.usage = {name: torch.zeros_like(prior.log_weights) for name, prior in self.priors.items()}


def _kernel(config: BounceConfig, layout: Layout) -> Kernel:
    kernels: dict[str, Callable[[], Kernel]] = {
        "metropolis": lambda: metropolis(node_block(layout.receiver_slots, layout.num_kinds)),
        "gibbs": lambda: gibbs(layout.receiver_slots, layout.num_kinds),
        "frozen": frozen,
    }
    return kernels[config.search]()
