"""What a training is set up with: batches that memory holds, stretches to learn from, and the labels as structures."""

from __future__ import annotations

from torch import Generator

from bouncegrad.energies.windows import Batch, Rollout, Windows, cut_windows
from bouncegrad.models.model import Model, ModelConfig
from bouncegrad.models.proposer import Proposer
from bouncegrad.scenes import Scenes, relation_kinds
from bouncegrad.structures.layout import Layout, to_slots
from bouncegrad.training.config import TrainingConfig
from bouncegrad.types import Structures

CELL_BUDGET = 40_000_000
"""Hidden numbers of one layer over all edges and starts of a batch: about 1 GB with those that the gradient needs."""


def training_windows(config: TrainingConfig, batch: Batch) -> Windows:
    """The stretches that are searched and learned on."""
    return cut_windows(batch, config.horizon, config.stride, _rollout(config), partial=config.partial)


def _rollout(config: TrainingConfig) -> Rollout:
    """Tables are made of receivers that roll out alone; kernels see losses only, so they can have whole scenes."""
    return "receiver" if config.bounce.search == "exact" else "scene"


def affordable(config: TrainingConfig, model_config: ModelConfig, scenes: Scenes) -> int:
    """The batch size, or what fits into :data:`CELL_BUDGET`."""
    num_edges, num_starts = scenes.num_entities * (scenes.num_entities - 1), scenes.num_times // config.stride
    cells = num_edges * num_starts * model_config.network.hidden
    return max(1, min(config.batch_size, CELL_BUDGET // max(1, cells)))


def fit_skip(model: Model, windows: Windows) -> None:
    """Fit what the network predicts without its modules to the first steps of the stretches.

    Raises:
        ValueError: there are none.
    """
    if int((windows.weights > 0).sum()) < 2:
        raise ValueError(
            "there is nothing to learn from: no scene has all its entities measured at one sample and one of them "
            "at the next; bring scenes with fewer gaps"
        )
    if model.config.network.skip:
        seen = windows.weights[:, :, 0] > 0
        model.network.fit_skip(windows.states[seen], windows.targets[:, :, 0][seen])


def new_proposer(config: TrainingConfig, model: Model, scenes: Scenes, generator: Generator) -> Proposer:
    """A proposal network for a model and scenes like these, where the model computes."""
    network = model.config.network
    kinds = network.num_edge_kinds, network.num_node_kinds
    proposer = Proposer(config.proposer, kinds, scenes.num_times, len(scenes.feature_names), generator)
    return proposer.to(model.device)


def check_search(config: TrainingConfig, model_config: ModelConfig) -> None:
    """Refuse what cannot be done before anything is written or waited for."""
    if config.merge_kinds and model_config.network.silent_first:
        raise ValueError(
            "kinds are merged only where every kind may act, and here kind 0 never does (silent_first): leave --kinds "
            "out, and ask for more kinds with --settings.model.network.num_edge_kinds"
        )
    if config.bounce.search == "relaxed" and model_config.noise.scale != "none":
        raise ValueError(
            f'search "relaxed" weighs errors by relaxation.variance: set noise.scale to "none", not '
            f"{model_config.noise.scale!r}"
        )
    if config.bounce.search != "exact":
        return
    if model_config.network.message_steps != 1:
        raise ValueError(
            f'search "exact" needs one round of messages, got message_steps {model_config.network.message_steps}: '
            'choose search "metropolis" or "gibbs", or set message_steps to 1'
        )


def true_structures(scenes: Scenes, layout: Layout) -> Structures:
    """The labels as structures; pairs with absent entities get kind 0."""
    if scenes.relations is None:
        raise ValueError('search "frozen" keeps the true relations, but these scenes have none: choose another search')
    kinds, labels = relation_kinds(scenes.relations)
    if len(labels) > layout.num_edge_kinds:
        raise ValueError(
            f'search "frozen" needs a kind for each of the {len(labels)} labels, got {layout.num_edge_kinds} edge '
            f"kinds: set num_edge_kinds to {len(labels)}"
        )
    if (kinds[scenes.pairs] < 0).any():
        raise ValueError(
            'search "frozen" keeps the true relations, but some of them are unknown (NaN): label them, '
            "leave those scenes out or choose another search"
        )
    return to_slots(kinds).clamp_min(0)
