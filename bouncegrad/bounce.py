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
from bouncegrad.priors import PRIORS, GraphPrior, learned, quickly_compared
from bouncegrad.priors.temper import READING_TEMPERATURES, predictive_evidence, temperature_of_entropy
from bouncegrad.search.annealing import AnnealingState, acceptance_steered, acceptance_target, exponential
from bouncegrad.search.kernels import frozen, gibbs, metropolis
from bouncegrad.search.population import QUICK
from bouncegrad.search.proposals import node_block
from bouncegrad.settings import check_settings
from bouncegrad.sums import factors_of, has_tables
from bouncegrad.types import Factors, Kernel, Structures

HEAT_STEPS = 10_000
"""Resolution of the temperature's schedule over a training."""

MARGIN = 0.5
"""Nats per held-out scene by which another prior must be better before the bounce turns to it."""


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class BounceConfig:
    """How structures are searched.

    Attributes:
        search: "exact" draws whole graphs from their exact posterior (tables of all receivers); "metropolis"
            makes one node-block proposal per pass; "gibbs" redraws one receiver per pass; "frozen" keeps the true
            relations (a baseline that uses labels).
        prior: exact search: what is believed of graphs beforehand, a name in :data:`bouncegrad.priors.PRIORS`; "auto":
            of those in :data:`bouncegrad.priors.COMPARED` the one with the most evidence on held-out scenes, at the
            temperature at which their early samples foretell the late ones best.
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
    prior: Literal["auto", "none", "symmetric", "classes", "few", "tree", "dyads", "triads"] = "auto"
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

    def finish_pass(self, held_out: tuple[Factors, Factors] | None) -> None:
        """Learn from the pass that ends; ``held_out``: factors of held-out scenes, of their early and late samples."""
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

    def finish_pass(self, held_out: tuple[Factors, Factors] | None) -> None:
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
        auto = config.prior == "auto"
        self.priors: dict[str, GraphPrior] = (
            quickly_compared(layout, has_tables(layout)) if auto else {config.prior: PRIORS[config.prior](layout)}
        )
        self.chosen = "symmetric" if "symmetric" in self.priors else next(iter(self.priors))
        self.temperature: float | None = None
        self._forget()

    def search(
        self, target: tuple[Model, Batch, Windows], structures: Structures, progress: float, generator: Generator
    ) -> Bounced:
        """Draw a graph for each scene from the posterior under the chosen prior."""
        factors = factors_of(*target)
        self.temperature = temperature = self._next_temperature(factors, progress)
        posteriors = {name: prior.posterior(factors, temperature, QUICK) for name, prior in self.priors.items()}
        drawn = posteriors[self.chosen].draw(generator)
        self.usage = {name: self.usage[name] + posterior.usage() for name, posterior in posteriors.items()}
        return Bounced(drawn, (drawn != structures).any(1), temperature, self.chosen)

    def finish_pass(self, held_out: tuple[Factors, Factors] | None) -> None:
        """Learn every prior's weights; turn to the one with the most evidence, if it is clearly better."""
        self.priors = {name: learned(prior, self.usage[name]) for name, prior in self.priors.items()}
        if held_out is not None and len(self.priors) > 1:
            evidence = predictive_evidence(self.priors, *held_out, READING_TEMPERATURES[::4])
            best = max(evidence, key=lambda name: evidence[name])
            if evidence[best] > evidence[self.chosen] + MARGIN:
                self.chosen = best
        self._forget()

    def state(self) -> dict[str, Any]:
        """Chosen prior, temperature and weights."""
        weights = {name: prior.log_weights.tolist() for name, prior in self.priors.items()}
        return {"chosen": self.chosen, "temperature": self.temperature, "weights": weights}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""
        self.chosen, self.temperature = state["chosen"], state["temperature"]
        weights = {name: torch.tensor(values) for name, values in state["weights"].items()}
        self.priors = {name: prior.reweighted(weights[name]) for name, prior in self.priors.items()}

    def _next_temperature(self, factors: Factors, progress: float) -> float:
        if self.config.heat != "entropy":
            return scheduled_temperature(self.config, progress)
        share = self.config.entropy * max(0.0, 1 - progress / max(self.config.cooling, 1e-9))
        return temperature_of_entropy(
            self.priors[self.chosen], factors, share, self.config.coolest, guess=self.temperature
        )

    def _forget(self) -> None:
        self.usage = {name: torch.zeros_like(prior.log_weights) for name, prior in self.priors.items()}


def _kernel(config: BounceConfig, layout: Layout) -> Kernel:
    kernels: dict[str, Callable[[], Kernel]] = {
        "metropolis": lambda: metropolis(node_block(layout.receiver_slots, layout.num_kinds)),
        "gibbs": lambda: gibbs(layout.receiver_slots, layout.num_kinds),
        "frozen": frozen,
    }
    return kernels[config.search]()
