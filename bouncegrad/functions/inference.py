"""Inference of the structures of new tasks from their given points, modules fixed (E-step), and its score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from bouncegrad.functions.adaptation import adapted, mean_squares
from bouncegrad.functions.model import FunctionModel
from bouncegrad.functions.points import PointSets
from bouncegrad.functions.proposer import PointProposer, beliefs_of
from bouncegrad.functions.target import PointTarget, tables_of
from bouncegrad.structures.annealing import anneal, exponential, schedule_annealing
from bouncegrad.structures.kernel_wrappers import BestState, best_so_far
from bouncegrad.structures.mcmc import gibbs
from bouncegrad.types import Structures

NUM_CHAINS, NUM_SWEEPS = 8, 12
"""Parallel chains of each task, and sweeps over all slots in simulated annealing."""

COOLEST = 1e-3
"""Last temperature of simulated annealing, relative to the first."""


@dataclass(frozen=True, slots=True)
class FunctionScore:
    """Errors of inferred functions on the asked points.

    Attributes:
        errors: ``[task]``, mean squared error of the asked points after search and adaptation, in the square of the
            user's unit.
        structures: ``[task, slot]``, inferred structures.
        predictions: ``[task, point, out]``, predicted outputs of all points, in the user's unit.
    """

    errors: Float[Tensor, "task"]
    structures: Structures
    predictions: Float[Tensor, "task point out"]

    @property
    def error(self) -> float:
        """Mean of the errors over tasks."""
        return float(self.errors.mean())


@torch.no_grad()
def infer_functions(
    model: FunctionModel, points: PointSets, mode: Literal["search", "proposal"] = "search", seed: int = 0
) -> Structures:
    """The structure of each task with the smallest loss of its given points.

    All structures are enumerated where there are up to :data:`bouncegrad.structures.layout.TABLE_LIMIT` of them; else
    several chains of simulated annealing redraw one slot after the other (Gibbs sampling).

    Args:
        model: the library of modules.
        points: the tasks; only their given points are used.
        mode: "search", as above; or "proposal", the most probable structures by the proposal network, without a search.
        seed: seed of simulated annealing.

    Raises:
        ValueError: another mode, or mode "proposal" for a model without a proposal network.
    """
    if mode not in ("search", "proposal"):
        raise ValueError(f'mode must be "search" or "proposal"; got {mode!r}')
    if mode == "search":
        return found_structures(PointTarget(model, points), Generator().manual_seed(seed))
    if not isinstance(model.proposer, PointProposer):
        raise ValueError('this library was trained without a proposal network: infer with mode "search"')
    return beliefs_of(model.proposer, model, points).argmax(2)


def score_functions(
    model: FunctionModel, points: PointSets, mode: Literal["search", "proposal"] = "search", seed: int = 0
) -> FunctionScore:
    """Infer structures and adapt weights by the given points, then compute errors on the asked points.

    Args:
        model: the library of modules.
        points: the tasks.
        mode: how structures are inferred (:func:`infer_functions`).
        seed: seed of the search.
    """
    structures = infer_functions(model, points, mode, seed)
    with torch.no_grad():
        weights = adapted(model, structures, points)
        outputs = model.outputs(weights, model.normalized_inputs(points.inputs))
    predictions = outputs * model.scale_out
    return FunctionScore(mean_squares(predictions, points.outputs, points.asked), structures, predictions)


def found_structures(target: PointTarget, generator: Generator) -> Structures:
    """The structure of each task with the smallest loss: by enumeration, else by simulated annealing."""
    space = target.model.space
    if space.num_structures == 1:
        return torch.zeros(target.batch.num_tasks, space.num_slots, dtype=torch.long)
    if space.fits_tables:
        tables = tables_of(target)
        return tables.structures_of(tables.energies.nan_to_num(nan=torch.inf).argmin(2))
    return _annealed(target, generator)


def _annealed(target: PointTarget, generator: Generator) -> Structures:
    """The best of several chains, each annealed from the standard deviation of the losses of random structures."""
    space, num_tasks = target.model.space, target.batch.num_tasks
    chains = target.at(torch.arange(num_tasks).repeat_interleave(NUM_CHAINS))
    structures = space.random(num_tasks * NUM_CHAINS, generator)
    losses = chains.loss_fn()
    hottest = max(1e-12, float(losses(structures).nan_to_num(posinf=0.0).std()))
    slots = torch.arange(space.num_slots)[:, None]
    kernel, num_steps = best_so_far(gibbs(slots, space.num_kinds)), NUM_SWEEPS * space.num_slots
    cooling = schedule_annealing(exponential(hottest, hottest * COOLEST, num_steps))
    state, _ = anneal(kernel, cooling, losses, structures, num_steps, generator)
    assert isinstance(state, BestState)
    best = state.best_losses.view(num_tasks, NUM_CHAINS).argmin(1)
    return state.best_structures.view(num_tasks, NUM_CHAINS, -1)[torch.arange(num_tasks), best]
