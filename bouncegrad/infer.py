"""What a trained model says of scenes: who acts on whom, how surely, and what happens next."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from bouncegrad.evaluate import loss_fn, receiver_tables
from bouncegrad.graphs import Layout, to_matrix
from bouncegrad.model import Batch, Model, Windows, pack, windows
from bouncegrad.scenes import DataError, Scenes
from bouncegrad.search.kernels import gibbs
from bouncegrad.search.wrappers import BestState, best_so_far
from bouncegrad.types import FactorTables, Structures

TABLE_LIMIT = 4096
"""Joint assignments of one receiver's edges up to which tables are made; 2^12, so N = 13 at two kinds."""

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
    """

    structures: Structures
    losses: Float[Tensor, "scene"]
    marginals: Float[Tensor, "scene slot kind"]
    layout: Layout

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


def infer(model: Model, scenes: Scenes, *, horizon: int = 1, seed: int = 0) -> Posterior:
    """Infer the structure of every scene, modules fixed, all kinds equally likely beforehand.

    Up to :data:`TABLE_LIMIT` joint assignments per receiver the answer is exact, by enumeration; above, a Gibbs
    sampler draws it. The relations that ``scenes`` may carry are not looked at.

    Args:
        model: as :func:`bouncegrad.train.fit` or :func:`bouncegrad.checkpoint.load_model` return it.
        scenes: any number of entities, the features that the model was trained on.
        horizon: steps of the rollouts that are compared with the data; tables need 1.
        seed: of the sampler.

    Raises:
        ValueError: other features than the model's, or scenes too short for the horizon.
    """
    layout = model.layout(scenes.num_entities)
    exact = math.prod(layout.receiver_kinds) <= TABLE_LIMIT and model.config.network.message_steps == 1 == horizon
    parts = []
    for chunk in chunks(model, scenes, math.prod(layout.receiver_kinds) if exact else 1):
        batch = pack(model, chunk)
        stretches = windows(batch, horizon)
        if exact:
            tables = receiver_tables(model, batch, stretches)
            parts.append(read_tables(tables, layout, nats_per_loss(model, stretches, tables.energies.amin(2).sum(1))))
        else:
            parts.append(_sampled(model, batch, stretches, layout, Generator().manual_seed(seed)))
    return _joined(parts)


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


def read_tables(tables: FactorTables, layout: Layout, nats: float = 1.0) -> Posterior:
    """The exact posterior of independent receivers under a uniform prior, by look-ups."""
    probabilities = torch.softmax(-nats * tables.energies, 2)
    structures = tables.structures_of(tables.energies.argmin(2))
    marginals = probabilities.new_zeros(*structures.shape, max(tables.num_kinds))
    position = torch.arange(probabilities.shape[2], device=probabilities.device)
    kinds = position[:, None] // tables.radix() % torch.tensor(tables.num_kinds, device=position.device)
    for kind in range(max(tables.num_kinds)):
        marginals[:, tables.slots.flatten(), kind] = (probabilities @ (kinds == kind).float()).flatten(1)
    return Posterior(structures, tables(structures), marginals, layout)


def _sampled(model: Model, batch: Batch, stretches: Windows, layout: Layout, generator: Generator) -> Posterior:
    """Gibbs sampling over single slots, for graphs too large for tables."""
    target = loss_fn(model, batch, stretches)
    blocks = torch.arange(layout.num_slots)[:, None]
    kernel = best_so_far(gibbs(blocks, layout.num_kinds))
    structures = layout.random(len(batch.graph.present), generator)
    temperature = 1 / nats_per_loss(model, stretches, target(structures))
    state = kernel.init(structures, target, temperature)
    counts = torch.zeros(*structures.shape, max(layout.num_kinds))
    sweeps, burn_in = 6, 2
    for step in range(sweeps * layout.num_slots):
        state, _ = kernel.step(state, target, generator)
        if step >= burn_in * layout.num_slots:
            counts += torch.nn.functional.one_hot(state.structures, counts.shape[2])
    assert isinstance(state, BestState)
    return Posterior(state.best_structures, state.best_losses, counts / counts.sum(2, keepdim=True), layout)


def _joined(parts: list[Posterior]) -> Posterior:
    return Posterior(
        torch.cat([part.structures for part in parts]),
        torch.cat([part.losses for part in parts]),
        torch.cat([part.marginals for part in parts]),
        parts[0].layout,
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
    states, graph = batch.states, batch.graph
    inputs = model.network.edge_inputs(states.index_select(0, graph.receivers), states.index_select(0, graph.senders))
    spread = model.network.edge_modules.every_kind(inputs).flatten(1, -2).std(1).square().sum(1).sqrt()
    weakest = int(spread.argmin())
    return weakest if spread[weakest] < 0.1 * spread.max() else None
