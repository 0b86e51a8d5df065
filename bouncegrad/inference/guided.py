"""Mode "both": MCMC guided by the encoder (proposal network), which gives the initial structure and the proposals.

Source: Alet et al. 2019, section 4.2, here with the Hastings correction, at the temperature of inference.
"""

from __future__ import annotations

import math

import torch
from torch import Generator
from torch.nn.functional import one_hot

from bouncegrad.energies import loss_fn, receiver_tables
from bouncegrad.energies.message_sums import message_sums
from bouncegrad.energies.windows import Batch, Windows, cut_windows, pack
from bouncegrad.inference.amortised import cells_read, proposer_of
from bouncegrad.inference.beliefs import existing_slots, network_beliefs, network_guess
from bouncegrad.inference.posterior import Posterior, chunks, concatenate
from bouncegrad.inference.search import loss_to_nats, trained_prior
from bouncegrad.models.model import Model
from bouncegrad.scenes import Scenes
from bouncegrad.structures.kernel_interface import Kernel
from bouncegrad.structures.kernel_wrappers import BestState, best_so_far, mixture
from bouncegrad.structures.layout import Layout
from bouncegrad.structures.mcmc import metropolis
from bouncegrad.structures.proposals import Beliefs, BeliefsFn, block_proposal, slot_proposal
from bouncegrad.types import LogPrior, Losses, LossFn, Structures

PROPOSALS = 20
"""Proposals for each entity of a scene: half of them to find the best structure, half to sample the posterior."""


@torch.no_grad()
def guided_posterior(model: Model, scenes: Scenes, horizon: int, seed: int) -> Posterior:
    """Marginals from the second half of the steps, and the most probable of all structures that were evaluated.

    The prior is "none", with independent slots and the edge-type frequencies that the training learned.

    Raises:
        ValueError: a model without proposal network, scenes too short for it or for the horizon, or of other features.
    """
    proposer, layout = proposer_of(model), model.layout(scenes.num_entities)
    rows = layout.num_assignments if _are_few(layout) else 1
    parts = []
    for chunk in chunks(model, scenes, rows, cells_read(proposer, scenes)):
        batch = pack(model, chunk)
        alone = model.config.network.message_steps == 1
        windows = cut_windows(batch, horizon, rollout="receiver" if alone else "scene")
        parts.append(_guided_search(model, batch, windows, layout, Generator().manual_seed(seed)))
    return concatenate(parts)


def _guided_search(model: Model, batch: Batch, windows: Windows, layout: Layout, generator: Generator) -> Posterior:
    """Two Markov chains in a row: the first finds a good structure, which sets the temperature of the second."""
    losses, log_prior = _losses(model, batch, windows, layout), trained_prior(model, layout, "none").log_probability
    kernel = best_so_far(_kernel(model, batch, layout))
    random = layout.random(len(batch.graph.present), generator)
    guess = network_guess(proposer_of(model), batch, layout, random, generator)
    current = best = guess * existing_slots(batch.graph, layout).cpu()
    counts, num_steps = torch.zeros(()), PROPOSALS * layout.num_entities // 2
    for _ in range(2):
        temperature = _temperature(model, windows, losses(best))
        target = _with_prior(losses, log_prior, temperature)
        state, counts = kernel.init(current, target, temperature), torch.zeros(())
        for _ in range(num_steps):
            state, _ = kernel.step(state, target, generator)
            counts = counts + one_hot(state.structures, max(layout.num_kinds))
        assert isinstance(state, BestState)
        current, best = state.structures, _better(target, best, state.best_structures)
    # counts are those of the second chain
    unknown = torch.full((len(best),), math.nan)
    return Posterior(best, losses(best), counts / num_steps, layout, "none", unknown, mode="both")


def _kernel(model: Model, batch: Batch, layout: Layout) -> Kernel:
    """Metropolis steps, half of which redraw all slots of one receiver, half change one slot, likely wrong ones first.

    The former move fast where the network is unsure; the latter correct a slot of which the network is wrongly sure,
    which a redrawn block hardly ever does.
    """
    beliefs_fn = _with_absent_fixed(network_beliefs(proposer_of(model), batch, layout), batch, layout)
    block = metropolis(block_proposal(beliefs_fn, layout.receiver_slots))
    slot = metropolis(slot_proposal(beliefs_fn, layout.num_slots))
    return mixture([(1.0, block), (1.0, slot)])


def _with_absent_fixed(beliefs_fn: BeliefsFn, batch: Batch, layout: Layout) -> BeliefsFn:
    """The same log probabilities, with kind 0 for certain on slots of absent entities, which are thus never changed."""
    exist = existing_slots(batch.graph, layout).cpu()[:, :, None]
    kind_0 = torch.full((max(layout.num_kinds),), -math.inf)
    kind_0[0] = 0

    def circumstances(generator: Generator) -> Beliefs:
        beliefs = beliefs_fn(generator)
        return lambda structures: torch.where(exist, beliefs(structures), kind_0)

    return circumstances


def _losses(model: Model, batch: Batch, windows: Windows, layout: Layout) -> LossFn:
    """The losses, computed by tables if these are small, else for single steps by message sums, else by rollouts."""
    if windows.rollout == "receiver" and _are_few(layout):
        return receiver_tables(model, batch, windows)
    if windows.rollout == "receiver" and windows.horizon == 1:
        return message_sums(model, batch, windows)
    return loss_fn(model, batch, windows)


def _are_few(layout: Layout) -> bool:
    """Whether a table has no more rows than there are proposals."""
    return layout.num_assignments <= PROPOSALS * layout.num_entities


def _temperature(model: Model, windows: Windows, losses: Losses) -> float:
    """The temperature of inference, as in mode "search"; losses of rollouts that diverged are left out."""
    typical = losses.where(losses.isfinite(), math.nan).nanmean().nan_to_num(1.0)
    nats = loss_to_nats(model, windows, typical.expand(len(losses)))
    return windows.horizon * model.reading.temperature_under("none") / nats


def _with_prior(losses: LossFn, log_prior: LogPrior, temperature: float) -> LossFn:
    """Losses with the prior, least for the most probable structure: ``loss - temperature * log_prior``.

    Infinite where a rollout diverged.
    """

    def target(structures: Structures) -> Losses:
        found = losses(structures) - temperature * log_prior(structures)
        return found.nan_to_num(nan=math.inf, posinf=math.inf)

    return target


def _better(target: LossFn, one: Structures, other: Structures) -> Structures:
    """The structure of smaller loss, task by task."""
    return torch.where((target(other) < target(one))[:, None], other, one)
