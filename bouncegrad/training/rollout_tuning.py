"""Rollout tuning ("polish"): fine-tuning of the decoder on rollouts, for models trained on single steps.

Single steps (teacher forcing) infer relations best, but modules trained on them alone drift in rollouts, where each
step starts from the model's own prediction. The tuning fixes the structures (latent graphs) that the model infers and
trains the decoder on whole-scene rollouts that grow longer, beside the single steps. Inference still uses single steps
and must not get worse: weights under which the early samples of held-out scenes predict the late ones less well are
rejected.
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
from bouncegrad.energies.windows import cut_windows, pack, sample_starts
from bouncegrad.evaluation.drift import FORESIGHT, drift
from bouncegrad.inference import chunks, infer
from bouncegrad.models.model import Model
from bouncegrad.scenes import Scenes
from bouncegrad.settings import check_settings
from bouncegrad.structures.calibration import Halves
from bouncegrad.structures.priors import priors_for
from bouncegrad.training.config import EpochReport, TrainingConfig
from bouncegrad.training.optimizer import ScheduledOptimizer, cosine
from bouncegrad.training.run_folder import InMemory, Run
from bouncegrad.training.trainer import Clock, Trainer
from bouncegrad.types import Structures

GROWING = 0.5
"""Share of the tuning over which its rollouts grow to their full length."""

WARMING = 0.1
"""Share of the tuning over which the learning rate warms up: Adam's first steps, without moments, would undo much."""


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class PolishConfig:
    """How the decoder of a trained model is tuned on rollouts.

    Attributes:
        num_passes: number of epochs; 0: no tuning.
        horizon: steps of the longest rollouts, or as many as the scenes have.
        one_step: weight of the single steps in the loss, beside the rollouts.
        learning_rate: peak learning rate of Adam; it falls to near 0 on a cosine.
        clip_norm: norm to which longer gradients are clipped.
        batch_size: scenes in one super-graph.
        tolerance: how much worse inference on the held-out scenes may get for a better prediction, in standard errors
            of the mean change (:attr:`TuningScore.reading`); below 1 the change is within chance.

    Raises:
        ValueError: a number out of range.
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
    """Quality of prediction and of inference on the held-out scenes.

    Attributes:
        drift: log error of rollouts under fixed structures (:func:`bouncegrad.evaluation.drift.drift`).
        reading: ``[scene]``, information in the inferred graphs by single steps: by how many nats the early samples of
            a scene make its late ones more probable (:func:`bouncegrad.structures.calibration.Halves`), under the
            model's prior and temperature. Without a noise scale, or without tables: the negative loss of the most
            probable structure.
    """

    drift: float
    reading: Float[Tensor, "scene"]

    def reads_no_worse(self, than: TuningScore, tolerance: float) -> bool:
        """Whether the mean reading falls by no more than ``tolerance`` standard errors of its change."""
        change = (self.reading - than.reading).double()
        return float(change.mean()) >= -tolerance * float(change.std(correction=0)) / math.sqrt(len(change))


class RolloutTuning(Trainer[Model, float]):
    """The fine-tuning of a model's decoder on rollouts, structures fixed.

    Args:
        model: a trained model; not changed.
        scenes: training scenes; their structures are inferred, labels are not used.
        held_out: scenes by which the best epoch is chosen.
        config: settings of the tuning.
        seed: seed of the order of scenes and of the starts.

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

    def optimizer_for(self, model: Model) -> ScheduledOptimizer:
        """Adam on the decoder (graph network) alone."""
        return _TuningOptimizer(model.network, self.config)

    def learn_from(self, indices: Tensor, progress: float) -> float:
        """One gradient step on rollouts of one batch; returns the loss."""
        loss = self._loss(self.scenes.at(indices), self.structures[indices], progress)
        loss.backward()
        self.step(progress)
        return loss.item()

    def _loss(self, scenes: Scenes, structures: Structures, progress: float) -> Tensor:
        """Loss of rollouts, from as many random starts as would tile the scenes once, plus that of single steps."""
        batch = pack(self.model, scenes)
        horizon = min(horizon_at(self.tuning, progress), batch.num_starts)
        whole = cut_windows(batch, horizon)
        some = sample_starts(whole, math.ceil(whole.states.shape[1] / horizon), self.generator)
        single = training_loss(self.model, batch, cut_windows(batch), structures)
        return training_loss(self.model, batch, some, structures) + self.tuning.one_step * single

    def finish_epoch(self, parts: Sequence[float], clock: Clock) -> EpochReport:
        """Keep the weights if drift is the least so far and inference no worse than before the tuning."""
        everything, candidate = pack(self.model, self.held_out), deepcopy(self.model)
        candidate.network.fix_gauge(everything.inputs, everything.graph)
        found = tuning_score(candidate, self.held_out, self.held_out_structures, self.tuning)
        if found.drift < self.best_score and found.reads_no_worse(self.score_before, self.tuning.tolerance):
            self.best_score, self.best_pass = found.drift, self.num_passes_done
            self.best_weights = {name: value.clone() for name, value in candidate.state_dict().items()}
        return EpochReport(number=self.num_passes_done, loss=sum(parts) / len(parts), held_out=found.drift)

    def best_model(self) -> Model:
        """The weights of the epoch with the least drift and no worse inference; the model before if none is better."""
        if not self.best_pass:
            return self.before
        best = deepcopy(self.before)
        best.load_state_dict(self.best_weights)
        return best


class _TuningOptimizer(ScheduledOptimizer):
    """Adam without weight decay, with the learning rate of :func:`learning_rate_at`."""

    def __init__(self, model: nn.Module, config: TrainingConfig) -> None:
        super().__init__(model, config)
        self.optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)

    def _rate(self, progress: float) -> float:
        return self.config.learning_rate * learning_rate_at(progress)


def tune_rollouts(
    model: Model, scenes: Scenes, held_out: Scenes, config: PolishConfig, seed: int = 0, run: Run | None = None
) -> Model:
    """Fine-tune the decoder of a trained model on rollouts, structures fixed; on the CPU repeatable to the bit.

    Args:
        model: a trained model; not changed.
        scenes: training scenes; their structures are inferred, labels are not used.
        held_out: scenes by which the best epoch is chosen.
        config: settings of the tuning; with 0 epochs the model is returned as it is.
        seed: seed of the order of scenes and of the starts.
        run: where the training is carried out and stored; None: in memory.

    Returns:
        A model with the weights of the epoch that has the least drift (:class:`TuningScore`) among those whose
        inference is no worse than before; the model itself where no epoch is better.

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
    """Judge a model: the drift of its rollouts under ``structures``, and the quality of its inference."""
    return TuningScore(drift(model, held_out, structures, FORESIGHT * config.horizon), _reading(model, held_out))


def _reading(model: Model, held_out: Scenes) -> Float[Tensor, "scene"]:
    """The quality of inference, :attr:`TuningScore.reading`."""
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
    """Steps of the rollouts at a progress of the tuning, growing from 1 to ``config.horizon``."""
    return round(1 + (config.horizon - 1) * min(1.0, progress / GROWING))


def learning_rate_at(progress: float) -> float:
    """Share of the peak learning rate: warm-up over the first tenth, then down to near 0 on a cosine."""
    return min(1.0, (progress + 0.005) / WARMING) * cosine(progress)
