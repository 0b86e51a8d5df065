"""The polish: a last phase of gradient descent on rollouts, for models that learned one step at a time.

One-step errors say best who acts on whom, but modules that were trained on them alone drift when they have to go on
from their own predictions. The polish keeps the structures as the model reads them and teaches the network alone
whole-scene rollouts that grow longer, beside the single steps. Graphs are still read off single steps, and no worse:
weights under which the early samples of the held-out scenes foretell the late ones less well are refused.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from bouncegrad.energies import training_loss
from bouncegrad.energies.factors_of import halves, has_tables
from bouncegrad.energies.windows import pack, some_starts, windows
from bouncegrad.evaluation.drift import FORESIGHT, drift
from bouncegrad.inference import chunks, infer
from bouncegrad.models.model import Model
from bouncegrad.scenes import Scenes
from bouncegrad.settings import check_settings
from bouncegrad.structures.annealing import cosine
from bouncegrad.structures.calibration import Halves
from bouncegrad.structures.priors import priors_for
from bouncegrad.types import Structures

GROWING = 0.5
"""Share of the polish over which its rollouts grow to their full length."""

WARMING = 0.1
"""Share of the polish over which the learning rate rises: Adam's first steps know nothing yet and would undo much."""


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class PolishConfig:
    """How a trained model is polished.

    Attributes:
        num_passes: times that every training scene is learned from; 0 leaves the model as it is.
        horizon: steps of the longest rollouts, or as many as the scenes have.
        one_step: weight of the single steps beside the rollouts.
        learning_rate: of Adam, at its highest; it ends near 0 on a cosine.
        clip_norm: the gradient's norm is cut to this.
        batch_size: scenes in one super-graph.
        tolerance: how much worse held-out scenes may be read for a better prediction, in standard errors of their mean
            change (:attr:`Standing.reading`): less than one is chance as far as these scenes can tell.

    Raises:
        ValueError: a number that makes no polish.
    """

    num_passes: int = 20
    horizon: int = 10
    one_step: float = 1.0
    learning_rate: float = 1e-3
    clip_norm: float = 1.0
    batch_size: int = 50
    tolerance: float = 1.0

    def __post_init__(self) -> None:
        check_settings(self, counts=("horizon", "batch_size"), positive=("learning_rate", "clip_norm"))
        if self.num_passes != 0:
            check_settings(self, counts=("num_passes",))
        for name in ("one_step", "tolerance"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number, 0 or more; got {getattr(self, name)!r}")


@dataclass(frozen=True, slots=True)
class Standing:
    """How a model does on the held-out scenes.

    Attributes:
        drift: of rollouts under fixed structures (:func:`bouncegrad.evaluation.drift.drift`).
        reading: ``[scene]``, how much graphs say, one step at a time: by how many nats the early samples of a scene
            make its late ones likelier (:func:`bouncegrad.structures.calibration.Halves`), as the model reads them.
            Without a scale, or without tables: the negative loss of the most probable structure.
    """

    drift: float
    reading: Float[Tensor, "scene"]

    def reads_no_worse(self, than: Standing, tolerance: float) -> bool:
        """Whether graphs say no less on average, or less by no more than ``tolerance`` standard errors."""
        change = (self.reading - than.reading).double()
        return float(change.mean()) >= -tolerance * float(change.std(correction=0)) / math.sqrt(len(change))


def polish(model: Model, scenes: Scenes, held_out: Scenes, config: PolishConfig, seed: int = 0) -> Model:
    """Teach the network of a trained model to predict many steps, structures fixed; on the CPU repeatable to the bit.

    Args:
        model: stays as it is.
        scenes: to learn from; their structures are inferred, labels are not looked at.
        held_out: scenes by which the best pass is chosen.
        config: how.
        seed: of the order of scenes and of the starts.

    Returns:
        The weights of the pass with the least drift (:class:`Standing`) among those that read no worse than the
        model does; the model itself where no pass is better.

    Raises:
        ValueError: scenes of other features than the model's.
    """
    if not config.num_passes:
        return model
    everything = pack(model, held_out)
    structures, known = infer(model, scenes).structures, infer(model, held_out).structures
    start = least = standing(model, held_out, known, config)
    best = model
    learner = deepcopy(model).eval()
    optimizer = torch.optim.Adam(learner.network.parameters(), config.learning_rate)
    generator = Generator().manual_seed(seed)
    for number in range(config.num_passes):
        _run_pass(learner, optimizer, (scenes, structures), (config, number), generator)
        candidate = deepcopy(learner)
        candidate.network.fix_gauge(everything.inputs, everything.graph)
        found = standing(candidate, held_out, known, config)
        if found.drift < least.drift and found.reads_no_worse(start, config.tolerance):
            best, least = candidate, found
    return best


@torch.no_grad()
def standing(model: Model, held_out: Scenes, structures: Structures, config: PolishConfig) -> Standing:
    """Judge a model: its rollouts under ``structures``, and its own reading of the scenes."""
    return Standing(drift(model, held_out, structures, FORESIGHT * config.horizon), _reading(model, held_out))


def _reading(model: Model, held_out: Scenes) -> Float[Tensor, "scene"]:
    layout, enough = model.layout(held_out.num_entities), held_out.num_times - model.config.network.history >= 2
    if model.scale is None or model.config.network.message_steps > 1 or not has_tables(layout) or not enough:
        return -infer(model, held_out).losses
    priors = priors_for(layout, model.reading.weights)
    prior = priors.get(model.reading.prior, priors["none"])
    parts = chunks(model, held_out, math.prod(layout.receiver_kinds))
    early, late = halves(model, [pack(model, part) for part in parts])
    return Halves.of(prior, early, late, [model.reading.temperature]).foretold[0]


def _run_pass(
    learner: Model,
    optimizer: torch.optim.Optimizer,
    lessons: tuple[Scenes, Structures],
    when: tuple[PolishConfig, int],
    generator: Generator,
) -> None:
    """Learn once from every scene, in random order."""
    (scenes, structures), (config, number) = lessons, when
    batches = torch.randperm(scenes.num_scenes, generator=generator).split(config.batch_size)
    for place, indices in enumerate(batches):
        progress = (number + place / len(batches)) / config.num_passes
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * learning_rate_at(progress)
        optimizer.zero_grad()
        _loss(learner, scenes.at(indices), structures[indices], (config, progress), generator).backward()
        torch.nn.utils.clip_grad_norm_(learner.network.parameters(), config.clip_norm)
        optimizer.step()


def _loss(
    learner: Model, scenes: Scenes, structures: Structures, when: tuple[PolishConfig, float], generator: Generator
) -> Tensor:
    """Rollouts from about as many starts as tile the scenes once, and single steps."""
    config, progress = when
    batch = pack(learner, scenes)
    horizon = min(horizon_at(config, progress), batch.num_starts)
    whole = windows(batch, horizon)
    some = some_starts(whole, math.ceil(whole.states.shape[1] / horizon), generator)
    single = training_loss(learner, batch, windows(batch), structures)
    return training_loss(learner, batch, some, structures) + config.one_step * single


def horizon_at(config: PolishConfig, progress: float) -> int:
    """Steps of the rollouts, growing from 1 to ``config.horizon``."""
    return round(1 + (config.horizon - 1) * min(1.0, progress / GROWING))


def learning_rate_at(progress: float) -> float:
    """Share of the highest: up over the first tenth, then down to near 0 on a cosine."""
    return min(1.0, (progress + 0.005) / WARMING) * cosine(progress)
