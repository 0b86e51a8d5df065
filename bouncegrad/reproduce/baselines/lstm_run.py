"""Training of the LSTM baselines in run folders, which can resume, and their figures."""

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
"""Settings as published (Kipf et al. 2018); settings of a search are ignored.

``horizon``: the last samples of a scene are predicted by a rollout. The released code also intends 10, but has one more
sample as input, so that its rollout has 9 steps.
"""


@dataclass(frozen=True, slots=True)
class LSTMRun:
    """Configuration of a run folder.

    Attributes:
        data: path of the scenes, a folder or a ``.npz``.
        model: architecture.
        training: settings of the training.
        minutes: training time; None: ``training.num_passes`` epochs.
        seed: seed of all randomness.
    """

    data: str
    model: LSTMConfig
    training: TrainingConfig = TRAINING
    minutes: float | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class LSTMFigures:
    """Figures of an LSTM baseline on test scenes.

    Attributes:
        mse: step -> mean squared error of the prediction from sample 49 on, in ``unit``.
        unit: name of the normalisation of errors.
        correlation_accuracy: relation accuracy of correlations of hidden states; None for a joint network and without
            labels.
        num_scenes: number of test scenes.
        num_parameters: number of parameters of the network.
    """

    mse: Mapping[int, float]
    unit: str
    correlation_accuracy: float | None
    num_scenes: int
    num_parameters: int


class RecurrentTrainer(Trainer[RecurrentNetwork, float]):
    """Training of a recurrent network; one-step prediction errors on held-out scenes select the best epoch.

    Args:
        scenes: training scenes; relations are not used.
        held_out: scenes that select the best epoch.
        model_config: architecture.
        config: settings of the training.
        seed: seed of all randomness.
        device: device of the network (:mod:`bouncegrad.devices`).

    Raises:
        ValueError: scenes no longer than the horizon, or a device that does not exist.
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
        self.ema_model.recurrent.flatten_parameters()  # contiguous memory for cuDNN; the copy of the average splits it
        self.scenes, self.held_out = scenes, Rows.of(network, held_out)

    def learn_from(self, indices: Tensor, progress: float) -> float:
        """One gradient step."""
        loss = squared_error(self.model, Rows.of(self.model, self.scenes.at(indices)), self.config.horizon)
        loss.backward()
        self.step(progress)
        return loss.item()

    @torch.no_grad()
    def finish_epoch(self, parts: Sequence[float], clock: Clock) -> EpochReport:
        """Report of the epoch, with the one-step prediction error on held-out scenes, as in the released code."""
        loss, held_out = sum(parts) / len(parts), float(squared_error(self.ema_model, self.held_out, 1))
        self.descent.finish_epoch(loss)
        self.keep_if_best(held_out)
        return EpochReport(number=self.num_passes_done, loss=loss, held_out=held_out)

    def best_network(self) -> RecurrentNetwork:
        """The network of the epoch with the smallest prediction error on held-out scenes.

        Raises:
            ValueError: the training diverged from its first epoch on.
        """
        if self.num_passes_done and self.best_score == math.inf:
            raise ValueError("no epoch had a finite loss: the training diverged; lower learning_rate or clip_norm")
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
    """Train an LSTM baseline on the scenes at ``config.data`` in the run folder ``out``; returns its figures.

    Splits, and resuming after an interrupt, are as in :func:`bouncegrad.fit.fit_folder`.

    Args:
        config: the configuration.
        out: the run folder; created where it does not exist.
        watch: called after each epoch.
        device: device of the network (:mod:`bouncegrad.devices`).

    Raises:
        DataError: unusable scenes, test scenes too short to predict, or a folder of another run.
        ValueError: scenes too short for training, a device that does not exist, or a training that diverged.
    """
    scenes, held_out = training_scenes(config.data, config.seed)
    unseen = unseen_scenes(config.data, held_out)
    trainer = RecurrentTrainer(scenes, held_out, config.model, config.training, config.seed, device)
    num_observed(unseen)  # this and the next line raise errors before the training instead of after it
    Rows.of(trainer.model, unseen.at(0))
    RunFolder(Path(out), config, fingerprint(scenes, held_out), watch).train(trainer)
    return lstm_figures(trainer.best_network(), scenes, unseen, error_unit(config.data))


def lstm_figures(
    network: RecurrentNetwork, train: Scenes, test: Scenes, unit: tuple[str, Normalization] | None = None
) -> LSTMFigures:
    """Errors of a rollout of 20 steps from the true sample 49, and relation accuracy of correlations of hidden states.

    Args:
        network: the trained network.
        train: scenes whose labels, if any, determine the threshold of the correlations.
        test: scenes of at least 23 samples.
        unit: name and normalisation of the unit of errors; by default the network's own.
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
