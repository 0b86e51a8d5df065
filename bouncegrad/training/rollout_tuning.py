"""The polish: a last phase of gradient descent on rollouts, for models that learned one step at a time.

One-step errors say best who acts on whom, but modules that were trained on them alone drift when they have to go on
from their own predictions. The polish keeps the structures as the model reads them and teaches the network alone
whole-scene rollouts that grow longer, beside the single steps. Graphs are still read off single steps, and no worse:
weights under which the early samples of the held-out scenes foretell the late ones less well are refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from bouncegrad.energies import training_loss
from bouncegrad.energies.factors_of import halves
from bouncegrad.energies.windows import cut_windows, pack, some_starts
from bouncegrad.evaluation.drift import FORESIGHT, drift
from bouncegrad.inference import chunks, infer
from bouncegrad.models.model import Model
from bouncegrad.scenes import Scenes
from bouncegrad.settings import check_settings
from bouncegrad.structures.calibration import Halves
from bouncegrad.structures.priors import priors_for
from bouncegrad.training.config import EpochReport, TrainingConfig
from bouncegrad.training.optimizer import Descent, cosine
from bouncegrad.training.run_folder import InMemory, Run
from bouncegrad.training.trainer import Clock, Trainer
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
            change (:attr:`TuningScore.reading`): less than one is chance as far as these scenes can tell.

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
class TuningScore:
    """How good a model is on the held-out scenes.

    Attributes:
        drift: of rollouts under fixed structures (:func:`bouncegrad.evaluation.drift.drift`).
        reading: ``[scene]``, how much information the inferred graphs hold, one step at a time: by how many nats the
            early samples of a scene make its late ones more probable
            (:func:`bouncegrad.structures.calibration.Halves`), under the model's prior and temperature. Without a
            scale, or without tables: the negative loss of the most probable structure.
    """

    drift: float
    reading: Float[Tensor, "scene"]

    def reads_no_worse(self, than: TuningScore, tolerance: float) -> bool:
        """Whether the mean reading falls by no more than ``tolerance`` standard errors of its change."""
        change = (self.reading - than.reading).double()
        return float(change.mean()) >= -tolerance * float(change.std(correction=0)) / math.sqrt(len(change))


class RolloutTuning(Trainer[Model, float]):
    """The training of a trained model's network on rollouts, structures fixed.

    Args:
        model: trained; not changed.
        scenes: to learn from; their structures are inferred, labels are not looked at.
        held_out: scenes by which the best epoch is chosen.
        config: settings of the tuning.
        seed: of the order of scenes and of the starts.

    Raises:
        ValueError: scenes of other features than the model's.
    """

    searches = False

    def __init__(self, model: Model, scenes: Scenes, held_out: Scenes, config: PolishConfig, seed: int) -> None:
        self.before, self.scenes, self.held_out, self.tuning = model, scenes, held_out, config
        self.structures = infer(model, scenes).structures
        self.held_out_structures = infer(model, held_out).structures
        self.score_before = tuning_score(model, held_out, self.held_out_structures, config)
        training = TrainingConfig(
            num_passes=config.num_passes,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            warm_up=1,
            clip_norm=config.clip_norm,
            averaging=0.0,
        )
        generator = Generator().manual_seed(seed)
        super().__init__(deepcopy(model).eval(), scenes.num_scenes, config.batch_size, training, generator)
        self.best_score = self.score_before.drift

    def optimizer_for(self, model: Model) -> Descent:
        """Adam on the network alone."""
        return _TuningDescent(model.network, self.config)

    def learn_from(self, indices: Tensor, progress: float) -> float:
        """One gradient step on rollouts of some scenes."""
        loss = self._loss(self.scenes.at(indices), self.structures[indices], progress)
        loss.backward()
        self.step(progress)
        return loss.item()

    def _loss(self, scenes: Scenes, structures: Structures, progress: float) -> Tensor:
        """Rollouts from about as many starts as tile the scenes once, and single steps."""
        batch = pack(self.model, scenes)
        horizon = min(horizon_at(self.tuning, progress), batch.num_starts)
        whole = cut_windows(batch, horizon)
        some = some_starts(whole, math.ceil(whole.states.shape[1] / horizon), self.generator)
        single = training_loss(self.model, batch, cut_windows(batch), structures)
        return training_loss(self.model, batch, some, structures) + self.tuning.one_step * single

    def finish_epoch(self, parts: Sequence[float], clock: Clock) -> EpochReport:
        """Keep the weights if rollouts drift less than ever and graphs are read no worse than before the tuning."""
        everything, candidate = pack(self.model, self.held_out), deepcopy(self.model)
        candidate.network.fix_gauge(everything.inputs, everything.graph)
        found = tuning_score(candidate, self.held_out, self.held_out_structures, self.tuning)
        if found.drift < self.best_score and found.reads_no_worse(self.score_before, self.tuning.tolerance):
            self.best_score, self.best_pass = found.drift, self.num_passes_done
            self.best_weights = {name: value.clone() for name, value in candidate.state_dict().items()}
        return EpochReport(number=self.num_passes_done, loss=sum(parts) / len(parts), held_out=found.drift)

    def best_model(self) -> Model:
        """The model with the least drift among those that read no worse; the model before if no epoch was better."""
        if not self.best_pass:
            return self.before
        best = deepcopy(self.before)
        best.load_state_dict(self.best_weights)
        return best


class _TuningDescent(Descent):
    """Adam without weight decay on the learning rate of :func:`learning_rate_at`."""

    def __init__(self, model: nn.Module, config: TrainingConfig) -> None:
        super().__init__(model, config)
        self.optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)

    def _rate(self, progress: float) -> float:
        return self.config.learning_rate * learning_rate_at(progress)


def tune_rollouts(
    model: Model, scenes: Scenes, held_out: Scenes, config: PolishConfig, seed: int = 0, run: Run | None = None
) -> Model:
    """Teach the network of a trained model to predict many steps, structures fixed; on the CPU repeatable to the bit.

    Args:
        model: trained; not changed.
        scenes: to learn from; their structures are inferred, labels are not looked at.
        held_out: scenes by which the best epoch is chosen.
        config: settings of the tuning; with 0 epochs the model is returned as it is.
        seed: of the order of scenes and of the starts.
        run: how it is trained; None: in memory.

    Returns:
        The weights of the epoch with the least drift (:class:`TuningScore`) among those that read no worse than the
        model does; the model itself where no epoch is better.

    Raises:
        ValueError: scenes of other features than the model's.
    """
    if not config.num_passes:
        return model
    training = RolloutTuning(model, scenes, held_out, config, seed)
    (run or InMemory()).train(training)
    return training.best_model()


@torch.no_grad()
def tuning_score(model: Model, held_out: Scenes, structures: Structures, config: PolishConfig) -> TuningScore:
    """Judge a model: its rollouts under ``structures``, and its own reading of the scenes."""
    return TuningScore(drift(model, held_out, structures, FORESIGHT * config.horizon), _reading(model, held_out))


def _reading(model: Model, held_out: Scenes) -> Float[Tensor, "scene"]:
    layout, enough = model.layout(held_out.num_entities), held_out.num_times - model.config.network.history >= 2
    tabulated = model.config.network.message_steps == 1 and layout.fits_tables
    if not (model.noise.in_nats and tabulated and enough):
        return -infer(model, held_out).losses
    priors = priors_for(layout, model.reading.weights)
    prior = priors.get(model.reading.prior, priors["none"])
    parts = chunks(model, held_out, layout.num_assignments)
    early, late = halves(model, [pack(model, part) for part in parts])
    return Halves.of(prior, early, late, [model.reading.temperature]).foretold[0]


def horizon_at(config: PolishConfig, progress: float) -> int:
    """Steps of the rollouts, growing from 1 to ``config.horizon``."""
    return round(1 + (config.horizon - 1) * min(1.0, progress / GROWING))


def learning_rate_at(progress: float) -> float:
    """Share of the highest: up over the first tenth, then down to near 0 on a cosine."""
    return min(1.0, (progress + 0.005) / WARMING) * cosine(progress)
