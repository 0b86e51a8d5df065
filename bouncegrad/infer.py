"""What a trained model says of scenes: who acts on whom, how surely, and what happens next."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from bouncegrad.evaluate import loss_fn
from bouncegrad.graphs import Layout, to_matrix
from bouncegrad.model import Batch, Model, Windows, pack, windows
from bouncegrad.priors import PRIORS, GraphPrior, Independent, learned, least_losses, priors_for
from bouncegrad.scenes import DataError, Scenes
from bouncegrad.search.annealing import exponential
from bouncegrad.search.kernels import gibbs
from bouncegrad.search.population import QUICK
from bouncegrad.search.wrappers import BestState, best_so_far
from bouncegrad.sums import TABLE_LIMIT, factors_of, has_tables
from bouncegrad.types import Factors, Structures

SHARE_STEPS = 2
"""Times that sampled scenes teach the prior their shares of kinds before they are read."""

SWEEPS = (6, 6)
"""Sweeps over all slots that the sampler of long rollouts cools for, and then samples for."""

CELL_BUDGET = 40_000_000
"""Numbers that one chunk of scenes may hold in its largest array; 160 MB in single precision."""


@dataclass(frozen=True, slots=True)
class Posterior:
    """Relations as inferred for each scene.

    Attributes:
        structures: ``[scene, slot]``, the most probable structure.
        losses: ``[scene]``, what it costs.
        marginals: ``[scene, slot, kind]``, the probability of each kind on each slot.
        layout: which slots there are.
        prior: what was believed of graphs beforehand.
        log_evidence: ``[scene]``, how well that prior foresaw the scene, nats at the reading temperature; NaN for
            rollouts of several steps, where nobody knows.
    """

    structures: Structures
    losses: Float[Tensor, "scene"]
    marginals: Float[Tensor, "scene slot kind"]
    layout: Layout
    prior: str
    log_evidence: Float[Tensor, "scene"]

    @property
    def relations(self) -> Int[Tensor, "scene receiver sender"]:
        """The most probable kind of every ordered pair: row = who is acted on, column = who acts; diagonal -1."""
        return to_matrix(self.structures, self.layout.num_entities)

    @property
    def probabilities(self) -> Float[Tensor, "scene receiver sender kind"]:
        """The probability of each kind for every ordered pair; zeros on the diagonal."""
        marginals = self.marginals[:, : self.layout.num_edge_slots, : self.layout.num_edge_kinds]
        return to_matrix(marginals, self.layout.num_entities, diagonal=0)

    @property
    def node_kinds(self) -> Int[Tensor, "scene entity"]:
        """The most probable kind of every entity; zeros where the model knows one kind only."""
        if self.layout.num_node_kinds == 1:
            return self.structures.new_zeros(len(self.structures), self.layout.num_entities)
        return self.structures[:, self.layout.num_edge_slots :]


def infer(model: Model, scenes: Scenes, *, prior: str = "auto", horizon: int = 1, seed: int = 0) -> Posterior:
    """Infer the structure of every scene, modules fixed.

    At one step, each receiver's energy depends on its own edges only, and posteriors are read at the temperature that
    held-out scenes chose: exactly where tables can be made and graphs listed, else from chains of structures that are
    cooled from the prior (:mod:`bouncegrad.search.population`), whose shares of kinds the scenes adapt first. Longer
    rollouts take a slow Gibbs sampler over whole losses. The relations that ``scenes`` may carry are not looked at.

    Args:
        model: as :func:`bouncegrad.recipes.fit` or :func:`bouncegrad.checkpoint.load_model` return it.
        scenes: any number of entities, the features that the model was trained on.
        prior: a name in :data:`bouncegrad.priors.PRIORS`; "auto": the one that held-out scenes of the training had the
            most evidence for, or "none" where scenes of this size cannot have it.
        horizon: steps of the rollouts that are compared with the data, of each entity alone among others that are where
            they really were (:class:`bouncegrad.model.Windows`); with several rounds of messages, of whole scenes. Each
            sample is then predicted from as many starts, so the temperature is multiplied by it.
        seed: of the sampler for rollouts of whole scenes; all else depends on the scenes alone.

    Raises:
        ValueError: other features than the model's, scenes too short for the horizon, or a prior that there is not or
            that these scenes cannot have.
    """
    layout = model.layout(scenes.num_entities)
    alone = model.config.network.message_steps == 1
    tabulated = alone and has_tables(layout)
    factored = tabulated or (alone and horizon == 1)
    name, believed = _believed(model, layout, prior, factored)
    parts = []
    for chunk in chunks(model, scenes, math.prod(layout.receiver_kinds) if tabulated else 1):
        batch = pack(model, chunk)
        stretches = windows(batch, horizon, rollout="receiver" if alone else "scene")
        if factored:
            factors = factors_of(model, batch, stretches)
            nats = 1.0 if model.scale is not None else nats_per_loss(model, stretches, least_losses(factors, layout))
            temperature = horizon * model.reading.temperature_under(name) / nats
            found = _at_home(believed, factors, temperature).posterior(factors, temperature)
            best = found.best()
            parts.append(Posterior(best, factors(best), found.marginals(), layout, name, found.log_evidence))
        else:
            parts.append(_sampled(model, batch, stretches, layout, Generator().manual_seed(seed)))
    return _joined(parts)


def _believed(model: Model, layout: Layout, name: str, factored: bool) -> tuple[str, GraphPrior]:
    """The prior to read under, with the weights that the training gave it."""
    if name != "auto" and name not in PRIORS:
        raise ValueError(f"there is no prior {name!r}: choose auto or one of {', '.join(PRIORS)}")
    if not factored and name not in ("auto", "none"):
        raise ValueError(
            f"the prior {name!r} needs one round of messages, and horizon 1 where one entity's edges have more than "
            f"{TABLE_LIMIT} joint assignments, here {math.prod(layout.receiver_kinds)}: choose none"
        )
    if name == "auto" and not factored:
        return "none", Independent.of(layout)
    if name == "auto":
        name = model.reading.prior if model.reading.prior in priors_for(layout, model.reading.weights) else "none"
    prior = PRIORS[name](layout)
    weights = model.reading.weights.get(name)
    return name, prior if weights is None else prior.reweighted(torch.tensor(weights))


def _at_home(prior: GraphPrior, factors: Factors, temperature: float) -> GraphPrior:
    """Where posteriors are sampled, the prior with the shares of kinds that these scenes themselves speak for.

    Large graphs are sparser than those a model was trained on, and with many senders the shares decide much.
    """
    if prior.cooling(factors, temperature, QUICK) is None:
        return prior
    for _ in range(SHARE_STEPS):
        prior = learned(prior, prior.posterior(factors, temperature, QUICK).usage())
    return prior


def chunks(model: Model, scenes: Scenes, num_combinations: int) -> Iterator[Scenes]:
    """Parts of ``scenes`` whose largest arrays stay within :data:`CELL_BUDGET`."""
    pairs = max(num_combinations, (scenes.num_entities - 1) * model.config.network.num_edge_kinds)
    cells = scenes.num_entities * pairs * scenes.num_times * model.config.network.hidden
    for indices in torch.arange(scenes.num_scenes).split(max(1, CELL_BUDGET // cells)):
        yield scenes.at(indices)


def nats_per_loss(model: Model, stretches: Windows, losses: Float[Tensor, "task"]) -> float:
    """What turns losses into nats: 1 with a learned scale; else ``count / (2 sigma^2)``.

    Without a scale of its own, the mean squared error of the best structures stands in for ``sigma^2``; ``count`` is
    how many numbers of a scene were predicted.
    """
    if model.scale is not None:
        return 1.0
    count = float(stretches.weights.sum()) * model.network.num_features / max(1, len(losses))
    return 0.5 * count / max(float(losses.mean()), 1e-12)


def _sampled(model: Model, batch: Batch, stretches: Windows, layout: Layout, generator: Generator) -> Posterior:
    """Gibbs sampling, cooled from where random structures differ, for rollouts that depend on the whole graph.

    Two slots of one receiver are redrawn together: to exchange one sender for another by single slots would lead
    through structures that have both or neither, which a good model finds all but impossible.
    """
    target = loss_fn(model, batch, stretches)
    kernel = best_so_far(gibbs(_pairs_of_slots(layout), layout.num_kinds))
    structures = layout.random(len(batch.graph.present), generator)
    losses = target(structures)
    coolest = stretches.horizon * model.reading.temperature_under("none") / nats_per_loss(model, stretches, losses)
    cooling = exponential(max(coolest, float(losses.std(correction=0))), coolest, SWEEPS[0] * layout.num_slots)
    state = kernel.init(structures, target, cooling(0))
    counts = torch.zeros(*structures.shape, max(layout.num_kinds))
    for step in range(sum(SWEEPS) * layout.num_slots):
        state, _ = kernel.step(replace(state, temperature=cooling(step)), target, generator)
        if step >= SWEEPS[0] * layout.num_slots:
            counts += torch.nn.functional.one_hot(state.structures, counts.shape[2])
    assert isinstance(state, BestState)
    marginals = counts / counts.sum(2, keepdim=True)
    unknown = torch.full_like(state.best_losses, math.nan)
    return Posterior(state.best_structures, state.best_losses, marginals, layout, "none", unknown)


def _pairs_of_slots(layout: Layout) -> Int[Tensor, "block two"]:
    """All pairs of slots that decide about the same receiver; the slots themselves where there are no pairs."""
    slots = layout.receiver_slots
    if slots.shape[1] < 2:
        return slots
    return torch.cat([torch.combinations(block, 2) for block in slots])


def _joined(parts: list[Posterior]) -> Posterior:
    return Posterior(
        torch.cat([part.structures for part in parts]),
        torch.cat([part.losses for part in parts]),
        torch.cat([part.marginals for part in parts]),
        parts[0].layout,
        parts[0].prior,
        torch.cat([part.log_evidence for part in parts]),
    )


@torch.no_grad()
def predict(
    model: Model, scenes: Scenes, structures: Structures, *, start: int, num_steps: int
) -> Float[Tensor, "scene step entity feature"]:
    """Roll on from the true states at ``start``: the next ``num_steps`` samples, in the units of the scenes.

    Only the states at ``start`` are read: what lies behind them cannot leak into the prediction. Entities that were
    not measured then neither act nor move: their prediction means nothing.

    Args:
        model: the trained model.
        scenes: where to start from.
        structures: ``[scene, slot]``, as :func:`infer` found them.
        start: index of the sample to start at, from 0; -1 is the last one.
        num_steps: how far to predict.

    Raises:
        DataError: ``start`` outside the scenes, no step to predict, or structures of other scenes.
    """
    if not -scenes.num_times <= start < scenes.num_times or num_steps < 1:
        raise DataError(
            f"expected a start from 0 to {scenes.num_times - 1} and at least one step, "
            f"got start {start} and {num_steps} steps"
        )
    layout = model.layout(scenes.num_entities)
    if tuple(structures.shape) != (scenes.num_scenes, layout.num_slots):
        raise DataError(
            f"expected structures [scene, slot] = {(scenes.num_scenes, layout.num_slots)}, "
            f"got {tuple(structures.shape)}: infer them from these scenes"
        )
    at_start = [start, start]  # one time is no recording
    batch = pack(model, replace(scenes, states=scenes.states[:, at_start], mask=scenes.mask[:, at_start]))
    predicted = model.network.rollout(batch.states[:, 0], batch.graph, structures, num_steps)
    return model.normalization.undo(batch.graph.unpack_nodes(predicted).transpose(1, 2))


@torch.no_grad()
def weakest_kind(model: Model, scenes: Scenes) -> int | None:
    """The edge kind that does nothing, as far as the modules say; None where every kind acts.

    A kind does nothing where its messages vary less than a tenth as much over the pairs of ``scenes`` as those of the
    strongest kind do. A constant message is no action: the state term can take it over.
    """
    batch = pack(model, scenes.at(range(min(50, scenes.num_scenes))))
    inputs = model.network.inputs_on(batch.graph, batch.states)
    spread = model.network.edge_modules.every_kind(inputs).flatten(1, -2).std(1).square().sum(1).sqrt()
    weakest = int(spread.argmin())
    return weakest if spread[weakest] < 0.1 * spread.max() else None
