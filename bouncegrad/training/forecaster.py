"""The forecaster: a second decoder, trained on rollouts under the structures (latent graphs) that the model infers.

Modules trained on the likelihood of single steps infer relations best, but where small errors grow (entities that
bounce, or pass each other closely) their rollouts drift. A forecaster is trained on the mean squared error of whole
rollouts, by the same loop, with the structures fixed to those that the model infers. It only predicts: inference keeps
using the model's own modules.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass

from bouncegrad.evaluation.drift import FORESIGHT, drift, drift_of_rest
from bouncegrad.inference import infer
from bouncegrad.models.decoder import NetworkConfig
from bouncegrad.models.model import Model, ModelConfig
from bouncegrad.models.noise import NoiseConfig
from bouncegrad.scenes import Scenes
from bouncegrad.settings import check_settings
from bouncegrad.training import BounceGrad, TrainingConfig
from bouncegrad.training.bounce import BounceConfig
from bouncegrad.training.run_folder import InMemory, Run
from bouncegrad.types import Structures


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class ForecasterConfig:
    """How a forecaster is trained.

    Attributes:
        num_passes: number of epochs; 0: no forecaster.
        horizon: steps of the rollouts, or as many as the scenes have.
        hidden: width of all hidden layers.
        batch_size: scenes in one super-graph.
        learning_rate: peak learning rate of Adam; it falls to near 0 on a cosine.
        enough: no forecaster is trained if the error of the model's own rollouts is below this share of the error of a
            prediction that every entity stays where it is.

    Raises:
        ValueError: a number out of range.
    """

    num_passes: int = 0
    horizon: int = 10
    hidden: int = 64
    batch_size: int = 12
    learning_rate: float = 3e-3
    enough: float = 0.01

    def __post_init__(self) -> None:
        check_settings(self, counts=("horizon", "hidden", "batch_size"), positive=("learning_rate",))
        if self.num_passes != 0:
            check_settings(self, counts=("num_passes",))
        if not 0 <= self.enough < math.inf:
            raise ValueError(f"enough must be a finite share, 0 or more; got {self.enough!r}")


def add_forecaster(
    model: Model, scenes: Scenes, held_out: Scenes, config: ForecasterConfig, seed: int, run: Run | None = None
) -> Model:
    """A copy of the model with a forecaster, or the model itself if none is asked for or needed, or if it is no better.

    Args:
        model: a trained model; not changed.
        scenes: training scenes; labels are not used.
        held_out: scenes that decide whether a forecaster is needed, and whether it is better.
        config: settings of the forecaster.
        seed: seed of all randomness.
        run: where the training is carried out and stored; None: in memory.
    """
    if not config.num_passes:
        return model
    structures = infer(model, held_out).structures
    if _drifts_little(model, held_out, structures, config):
        return model
    training = forecaster_training(model, scenes, held_out, config, seed)
    (run or InMemory()).train(training)
    return with_forecaster(model, training.best_model(), held_out, structures, config)


def forecaster_training(
    model: Model, scenes: Scenes, held_out: Scenes, config: ForecasterConfig, seed: int = 0
) -> BounceGrad:
    """The training of a forecaster, not yet started; its structures are fixed to those that the model infers.

    Args:
        model: a trained model; not changed.
        scenes: training scenes; labels are not used.
        held_out: scenes that choose between epochs.
        config: settings of the forecaster.
        seed: seed of all randomness.

    Raises:
        ValueError: scenes of other features than the model's.
    """
    shape = model.config.network
    network = NetworkConfig(
        num_edge_kinds=shape.num_edge_kinds,
        num_node_kinds=shape.num_node_kinds,
        hidden=config.hidden,
        inputs="absolute",
        update="general",
        skip=False,
        silent_first=shape.silent_first,
        history=shape.history,
    )
    horizon = min(config.horizon, scenes.num_times - shape.history)
    training = TrainingConfig(
        num_passes=config.num_passes,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        horizon=horizon,
        stride=horizon,
        partial=True,
        starts_per_step=scenes.num_times,
        averaging=0.0,
        bounce=BounceConfig(search="frozen"),
    )
    structures = infer(model, scenes).structures
    model_config = ModelConfig(network, NoiseConfig("none", None))
    return BounceGrad(scenes, held_out, model_config, training, seed, structures, model.device)


def with_forecaster(
    model: Model, forecaster: Model, held_out: Scenes, structures: Structures, config: ForecasterConfig
) -> Model:
    """A copy of a model with a forecaster, or the model itself where its own held-out rollouts drift less.

    Args:
        model: a trained model; not changed.
        forecaster: a trained forecaster.
        held_out: scenes to compare on.
        structures: ``[scene, slot]``, those that the model infers for these scenes.
        config: settings of the forecaster.
    """
    horizon = FORESIGHT * config.horizon
    if not drift(forecaster, held_out, structures, horizon) < drift(model, held_out, structures, horizon):
        return model
    found = deepcopy(model)
    found.forecaster = forecaster
    return found


def _drifts_little(model: Model, held_out: Scenes, structures: Structures, config: ForecasterConfig) -> bool:
    """Whether the model's own rollouts are so good that no forecaster is needed (:attr:`ForecasterConfig.enough`)."""
    horizon = FORESIGHT * config.horizon
    limit = math.log(max(config.enough, 1e-300)) + drift_of_rest(model, held_out, horizon)
    return drift(model, held_out, structures, horizon) < limit
