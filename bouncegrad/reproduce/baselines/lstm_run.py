"""Training of the recurrent baselines, in run folders that resume, and their figures."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Generator, Tensor

from bouncegrad.devices import Device, device_named
from bouncegrad.evaluation.score import STEPS, num_observed, prediction_errors
from bouncegrad.fit import error_unit, training_scenes, unseen_scenes
from bouncegrad.reproduce.baselines.lstm import (
    LSTMConfig,
    RecurrentNetwork,
    Rows,
    last_memories,
    predicted,
    squared_error,
)
from bouncegrad.reproduce.baselines.simple import correlation_accuracy
from bouncegrad.scenes import Normalization, Scenes
from bouncegrad.training.config import EpochReport, TrainingConfig
from bouncegrad.training.run_folder import RunFolder, fingerprint
from bouncegrad.training.trainer import Clock, Trainer

TRAINING = TrainingConfig(
    num_passes=500,
    batch_size=128,
    learning_rate=5e-4,
    warm_up=1,
    schedule="steps",
    clip_norm=1e6,
    horizon=10,
    averaging=0.0,
)
"""As published (Kipf et al. 2018); nothing is searched, so what sets a search is not looked at.

``horizon``: the last samples of a scene are predicted without the truth. The released code means 10 as well, but shows
one sample more, so that 9 are.
"""


@dataclass(frozen=True, slots=True)
class LSTMRun:
    """What a run was asked to do.

    Attributes:
        data: where the scenes lie: a folder or a ``.npz``.
        model: joint or not, and sizes.
        training: how it is trained.
        minutes: how long; None: for ``training.num_passes`` passes.
        seed: of all randomness.
    """

    data: str
    model: LSTMConfig
    training: TrainingConfig = TRAINING
    minutes: float | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class LSTMFigures:
    """What a recurrent baseline reaches on scenes that nothing was learned from.

    Attributes:
        mse: step -> mean squared error of the prediction from sample 49 on, in ``unit``.
        unit: whose normalisation the errors are in.
        correlation_accuracy: share of relations that correlations of its states tell; None for a joint network and
            without labels.
        num_scenes: how many scenes these figures are of.
        num_parameters: of the network.
    """

    mse: Mapping[int, float]
    unit: str
    correlation_accuracy: float | None
    num_scenes: int
    num_parameters: int


class RecurrentTrainer(Trainer[RecurrentNetwork, float]):
    """A training of a recurrent network; epochs are judged by one-step predictions of the held-out scenes.

    Args:
        scenes: to learn from; relations are not looked at.
        held_out: scenes by which the best weights are chosen.
        model_config: joint or not, and sizes.
        config: how it is trained.
        seed: of all randomness.
        device: where the network computes (:mod:`bouncegrad.devices`).

    Raises:
        ValueError: scenes no longer than the horizon, or a device that is not there.
    """

    searches = False

    def __init__(
        self,
        scenes: Scenes,
        held_out: Scenes,
        model_config: LSTMConfig,
        config: TrainingConfig,
        seed: int,
        device: Device = "cpu",
    ) -> None:
        for some in (scenes, held_out):
            if some.num_times <= config.horizon:
                raise ValueError(
                    f"a rollout of {config.horizon} steps needs scenes of at least {config.horizon + 1} samples, "
                    f"these have {some.num_times}: bring longer ones, or set a shorter horizon"
                )
        generator, normalization = Generator().manual_seed(seed), Normalization.fit(scenes)
        network = RecurrentNetwork(model_config, scenes.num_entities, normalization, generator)
        network.to(device_named(device))
        super().__init__(network, scenes.num_scenes, config.batch_size, config, generator)
        self.ema_model.recurrent.flatten_parameters()  # as a GPU wants them; the average was copied one by one
        self.scenes, self.held_out = scenes, Rows.of(network, held_out)

    def learn_from(self, indices: Tensor, progress: float) -> float:
        """One gradient step."""
        loss = squared_error(self.model, Rows.of(self.model, self.scenes.at(indices)), self.config.horizon)
        loss.backward()
        self.step(progress)
        return loss.item()

    @torch.no_grad()
    def finish_epoch(self, parts: Sequence[float], clock: Clock) -> EpochReport:
        """Judge the epoch by one-step predictions, as the released code does."""
        loss, held_out = sum(parts) / len(parts), float(squared_error(self.ema_model, self.held_out, 1))
        self.descent.finish_epoch(loss)
        self.keep_if_best(held_out)
        return EpochReport(number=self.num_passes_done, loss=loss, held_out=held_out)

    def best_network(self) -> RecurrentNetwork:
        """The network of the epoch that predicted the held-out scenes best.

        Raises:
            ValueError: the training diverged from its first epoch on.
        """
        if self.num_passes_done and self.best_score == math.inf:
            raise ValueError("no pass had a finite loss: the training diverged; lower learning_rate or clip_norm")
        network = self.model
        best = RecurrentNetwork(network.config, network.num_members, network.normalization, Generator())
        best.load_state_dict(self.best_weights)
        return best.to(network.device).eval()


def run_lstm(
    config: LSTMRun,
    out: str | os.PathLike[str],
    watch: Callable[[EpochReport], None] | None = None,
    device: Device = "cpu",
) -> LSTMFigures:
    """Train a recurrent baseline on the scenes at ``config.data`` in the run folder ``out``, and say how good it is.

    Scenes are parted, and runs go on after an interruption, as in :func:`bouncegrad.fit.fit_folder`.

    Args:
        config: what to do.
        out: the run folder; made where it does not exist.
        watch: called after each epoch.
        device: where the network computes (:mod:`bouncegrad.devices`).

    Raises:
        DataError: unusable scenes, test scenes too short to predict, a folder of another run.
        ValueError: scenes too short to learn from, a device that is not there, or a training that diverged.
    """
    scenes, held_out = training_scenes(config.data, config.seed)
    unseen = unseen_scenes(config.data, held_out)
    trainer = RecurrentTrainer(scenes, held_out, config.model, config.training, config.seed, device)
    num_observed(unseen)  # this and the next line would else fail at the end of the training
    Rows.of(trainer.model, unseen.at(0))
    RunFolder(Path(out), config, fingerprint(scenes, held_out), watch).train(trainer)
    return lstm_figures(trainer.best_network(), scenes, unseen, error_unit(config.data))


def lstm_figures(
    network: RecurrentNetwork, train: Scenes, test: Scenes, unit: tuple[str, Normalization] | None = None
) -> LSTMFigures:
    """Errors of 20 free steps from the true sample 49 on, and what the states of single entities tell of relations.

    Args:
        network: trained.
        train: scenes whose labels, where there are any, choose the threshold of the correlations.
        test: scenes of at least 23 samples.
        unit: a name and the normalisation in which errors are given; by default the network's own.
    """
    start, (name, normalization) = num_observed(test), unit or ("own training set", network.normalization)
    errors = prediction_errors(predicted(network, test, start, max(STEPS)), test, start, normalization)
    labelled = not network.config.joint and train.labelled and test.labelled
    return LSTMFigures(
        mse={step: float(errors[step - 1]) for step in STEPS},
        unit=name,
        correlation_accuracy=correlation_accuracy(train, test, partial(last_memories, network)) if labelled else None,
        num_scenes=test.num_scenes,
        num_parameters=sum(parameter.numel() for parameter in network.parameters()),
    )
