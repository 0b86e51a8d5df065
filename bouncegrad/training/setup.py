"""Set-up of a training: batch sizes that fit into memory, windows to learn from, checks, and labels as structures."""

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
"""Activations of one layer over all edges and starts of a batch: about 1 GB with those that the gradient needs."""


def training_windows(config: TrainingConfig, batch: Batch) -> Windows:
    """The windows of a batch in whose loss structures are searched (E-step) and modules are trained (M-step)."""
    return cut_windows(batch, config.horizon, config.stride, _rollout(config), partial=config.partial)


def _rollout(config: TrainingConfig) -> Rollout:
    """Tables need rollouts of one receiver with teacher forcing of the others; kernels allow those of whole scenes."""
    return "receiver" if config.bounce.search == "exact" else "scene"


def affordable_batch_size(config: TrainingConfig, model_config: ModelConfig, scenes: Scenes) -> int:
    """The configured batch size, or as many scenes as fit into :data:`CELL_BUDGET`."""
    num_edges, num_starts = scenes.num_entities * (scenes.num_entities - 1), scenes.num_times // config.stride
    cells = num_edges * num_starts * model_config.network.hidden
    return max(1, min(config.batch_size, CELL_BUDGET // max(1, cells)))


def fit_skip(model: Model, windows: Windows) -> None:
    """Fit the network's linear skip (its prediction without modules) to the first steps of the windows.

    Raises:
        ValueError: no window has a first step.
    """
    if int((windows.weights > 0).sum()) < 2:
        raise ValueError(
            "there is nothing to learn from: no scene has all its entities measured at one sample and one of them "
            "at the next; bring scenes with fewer gaps"
        )
    if model.config.network.skip:
        measured = windows.weights[:, :, 0] > 0
        model.network.fit_skip(windows.states[measured], windows.targets[:, :, 0][measured])


def new_proposer(config: TrainingConfig, model: Model, scenes: Scenes, generator: Generator) -> Proposer:
    """A new proposal network (encoder) for a model and scenes like these, on the model's device."""
    network = model.config.network
    kinds = network.num_edge_kinds, network.num_node_kinds
    proposer = Proposer(config.proposer, kinds, scenes.num_times, len(scenes.feature_names), generator)
    return proposer.to(model.device)


def check_search(config: TrainingConfig, model_config: ModelConfig) -> None:
    """Refuse settings that do not go together, before the training starts.

    Raises:
        ValueError: merged kinds with ``silent_first``, search "relaxed" with a learned noise scale, or search "exact"
            with several rounds of messages.
    """
    if config.merge_kinds and model_config.network.silent_first:
        raise ValueError(
            "edge types are merged only where each of them may act, and here kind 0 never does (silent_first): leave "
            "--kinds out, and set the number of edge types with --settings.model.network.num_edge_kinds"
        )
    if config.bounce.search == "relaxed" and model_config.noise.scale != "none":
        raise ValueError(
            f'search "relaxed" has its variance in relaxation.variance: set noise.scale to "none", not '
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
    """The labels as structures; pairs with absent entities get kind 0.

    Raises:
        ValueError: scenes without relations, more labels than edge types, or unknown labels.
    """
    if scenes.relations is None:
        raise ValueError('search "frozen" keeps the true relations, but these scenes have none: choose another search')
    kinds, labels = relation_kinds(scenes.relations)
    if len(labels) > layout.num_edge_kinds:
        raise ValueError(
            f'search "frozen" needs an edge type for each of the {len(labels)} labels, got {layout.num_edge_kinds} '
            f"edge types: set num_edge_kinds to {len(labels)}"
        )
    if (kinds[scenes.pairs] < 0).any():
        raise ValueError(
            'search "frozen" keeps the true relations, but some of them are unknown (NaN): label them, '
            "leave those scenes out or choose another search"
        )
    return to_slots(kinds).clamp_min(0)
