"""Mode "search": posteriors over structures (latent graphs), modules fixed; exact where graphs can be listed, else
sampled by population annealing or, for losses that do not factor over receivers, by Gibbs sampling."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from bouncegrad.energies import loss_fn
from bouncegrad.energies.factors_of import factors_of
from bouncegrad.energies.windows import Batch, Windows, cut_windows, pack
from bouncegrad.inference.posterior import Posterior, chunks, concatenate
from bouncegrad.models.model import Model
from bouncegrad.scenes import Scenes
from bouncegrad.structures.annealing import exponential
from bouncegrad.structures.factors import Factors
from bouncegrad.structures.kernel_wrappers import BestState, best_so_far
from bouncegrad.structures.layout import TABLE_LIMIT, Layout
from bouncegrad.structures.mcmc import gibbs
from bouncegrad.structures.population_annealing import QUICK
from bouncegrad.structures.priors import PRIORS, GraphPrior, Independent, fit_weights, least_losses, priors_for

SHARE_STEPS = 2
"""Rounds in which the prior's edge-type frequencies are fitted to the scenes, where posteriors are sampled."""

SWEEPS = (6, 6)
"""Sweeps over all slots of the Gibbs sampler for long rollouts: while it cools, and then while it samples."""


def search_posterior(model: Model, scenes: Scenes, prior: str, horizon: int, seed: int) -> Posterior:
    """The posterior under a prior; arguments and errors as in :func:`bouncegrad.inference.infer`, mode "search"."""
    layout = model.layout(scenes.num_entities)
    alone = model.config.network.message_steps == 1  # then a receiver's energy depends on its own edges only
    tabulated = alone and layout.fits_tables
    factored = tabulated or (alone and horizon == 1)
    name, trained = prior_for_reading(model, layout, prior, factored)
    parts = []
    for chunk in chunks(model, scenes, layout.num_assignments if tabulated else 1):
        batch = pack(model, chunk)
        windows = cut_windows(batch, horizon, rollout="receiver" if alone else "scene")
        if factored:
            factors = factors_of(model, batch, windows)
            nats = 1.0 if model.noise.in_nats else loss_to_nats(model, windows, least_losses(factors, layout))
            temperature = horizon * model.reading.temperature_under(name) / nats
            found = _with_scene_shares(trained, factors, temperature).posterior(factors, temperature)
            best = found.best()
            parts.append(Posterior(best, factors(best), found.marginals(), layout, name, found.log_evidence))
        else:
            parts.append(_sampled(model, batch, windows, layout, Generator().manual_seed(seed)))
    return concatenate(parts)


def check_prior(name: str) -> None:
    """Refuse unknown names of priors.

    Raises:
        ValueError: neither "auto" nor a name in :data:`bouncegrad.structures.priors.PRIORS`.
    """
    if name != "auto" and name not in PRIORS:
        raise ValueError(f"there is no prior {name!r}: choose auto or one of {', '.join(PRIORS)}")


def prior_for_reading(model: Model, layout: Layout, name: str, factored: bool) -> tuple[str, GraphPrior]:
    """Name and prior of an inference, with the weights that the training learned.

    Raises:
        ValueError: an unknown name, or a prior over graphs where the energies do not factor over receivers.
    """
    check_prior(name)
    if not factored and name not in ("auto", "none"):
        raise ValueError(
            f"the prior {name!r} needs one round of messages, and horizon 1 where one entity's edges have more than "
            f"{TABLE_LIMIT} joint assignments, here {layout.num_assignments}: choose none"
        )
    if name == "auto" and not factored:
        return "none", Independent.of(layout)
    if name == "auto":
        name = model.reading.prior if model.reading.prior in priors_for(layout, model.reading.weights) else "none"
    return name, trained_prior(model, layout, name)


def trained_prior(model: Model, layout: Layout, name: str) -> GraphPrior:
    """A prior with the weights that the training learned, or with those that it starts from."""
    prior, weights = PRIORS[name](layout), model.reading.weights.get(name)
    return prior if weights is None else prior.with_weights(torch.tensor(weights))


def _with_scene_shares(prior: GraphPrior, factors: Factors, temperature: float) -> GraphPrior:
    """Where posteriors are sampled, the prior with edge-type frequencies fitted to these scenes.

    Large graphs are sparser than those of the training, and with many senders the frequencies matter much.
    """
    if prior.cooling(factors, temperature, QUICK) is None:
        return prior
    for _ in range(SHARE_STEPS):
        prior = fit_weights(prior, prior.posterior(factors, temperature, QUICK).usage())
    return prior


def loss_to_nats(model: Model, windows: Windows, losses: Float[Tensor, "task"]) -> float:
    """Factor from losses to nats: 1 with a learned noise scale; else ``count / (2 sigma^2)``.

    Without a learned scale, ``sigma^2`` is the mean squared error of the best structures; ``count`` is the number of
    predicted values per scene. 1 where nothing is predicted.
    """
    if model.noise.in_nats:
        return 1.0
    count = float(windows.weights.sum()) * model.network.num_features / max(1, len(losses))
    return 0.5 * count / max(float(losses.mean()), 1e-12) if count else 1.0


def _sampled(model: Model, batch: Batch, windows: Windows, layout: Layout, generator: Generator) -> Posterior:
    """Gibbs sampling with annealing, for rollouts that depend on the whole graph.

    Two slots of one receiver are redrawn together: to exchange one sender for another by single slots would lead
    through structures that have both or neither, which are all but impossible under a good model.
    """
    target = loss_fn(model, batch, windows)
    kernel = best_so_far(gibbs(_pairs_of_slots(layout), layout.num_kinds))
    structures = layout.random(len(batch.graph.present), generator)
    losses = target(structures)
    # start at the spread of the losses of random structures, where they are about equally probable
    coolest = windows.horizon * model.reading.temperature_under("none") / loss_to_nats(model, windows, losses)
    cooling = exponential(max(coolest, float(losses.std(correction=0))), coolest, SWEEPS[0] * layout.num_slots)
    state = kernel.init(structures, target, cooling(0))
    counts = torch.zeros(*structures.shape, max(layout.num_kinds))
    for step in range(sum(SWEEPS) * layout.num_slots):
        state, _ = kernel.step(replace(state, temperature=cooling(step)), target, generator)
        if step >= SWEEPS[0] * layout.num_slots:  # marginals from the sweeps after cooling only
            counts += torch.nn.functional.one_hot(state.structures, counts.shape[2])
    assert isinstance(state, BestState)
    marginals = counts / counts.sum(2, keepdim=True)
    unknown = torch.full_like(state.best_losses, math.nan)
    return Posterior(state.best_structures, state.best_losses, marginals, layout, "none", unknown)


def _pairs_of_slots(layout: Layout) -> Int[Tensor, "block two"]:
    """All pairs of slots of the same receiver; the single slots where a receiver has only one."""
    slots = layout.receiver_slots
    if slots.shape[1] < 2:
        return slots
    return torch.cat([torch.combinations(block, 2) for block in slots])
