"""What the proposal network thinks of scenes, at once: no rollouts, no tables.

Source: Alet et al. 2019, section 4.2 (the network); amortised inference as in Kipf et al. 2018.
"""

from __future__ import annotations

import math

import torch

from bouncegrad.energies.windows import pack
from bouncegrad.inference.posterior import Posterior, chunks, concatenate
from bouncegrad.models.model import Model
from bouncegrad.models.proposer import Proposer
from bouncegrad.scenes import Scenes


@torch.no_grad()
def amortised_posterior(model: Model, scenes: Scenes) -> Posterior:
    """The network's own probabilities, and on every slot the kind that it thinks most probable.

    Slots do not know of each other: the structure may be one that no posterior over whole graphs would call likely.
    Networks that read trajectories of one length look at the first samples of longer ones.

    Raises:
        ValueError: no network, one that sees structures only, scenes too short for it or of other features.
    """
    proposer = proposer_of(model)
    if "trajectories" not in proposer.encoders:
        raise ValueError(
            f'mode "proposal" needs a network that reads trajectories, this one sees {proposer.config.sees}: fit with '
            'training.proposer.sees "trajectories" or "both", or choose mode "both" or "search"'
        )
    layout, parts = model.layout(scenes.num_entities), []
    for chunk in chunks(model, scenes, 1, cells_read(proposer, scenes)):
        batch = pack(model, chunk)
        thoughts = proposer.from_trajectories(batch.states, batch.graph).exp().cpu()
        unknown = torch.full((chunk.num_scenes,), math.nan)
        parts.append(Posterior(thoughts.argmax(2), unknown, thoughts, layout, "proposal", unknown, mode="proposal"))
    return concatenate(parts)


def proposer_of(model: Model) -> Proposer:
    """The proposal network of a model.

    Raises:
        ValueError: it has none, or one of other kinds or features.
    """
    if model.proposer is None:
        raise ValueError(
            'this model has no proposal network: fit with the recipe "alet2019", or with training.proposer.sees '
            '"trajectories"; or choose mode "search", which needs none'
        )
    network, proposer = model.config.network, model.proposer
    shape = (network.num_edge_kinds, network.num_node_kinds), len(model.feature_names)
    if (tuple(proposer.num_kinds), proposer.num_features) != shape:
        raise ValueError(
            f"the proposal network was made for {proposer.num_kinds} kinds of edges and nodes and "
            f"{proposer.num_features} features, the model has {shape[0]} and {shape[1]}: give it the network that was "
            "trained with it"
        )
    return proposer


def cells_read(proposer: Proposer, scenes: Scenes) -> int:
    """Numbers in the largest array of the network for each scene: over edges and hidden units.

    And for convolutions over times; the last layer of the others reads four hidden layers at the most.
    """
    config = proposer.config
    layers = max(4, scenes.num_times) if config.encoder == "cnn" else 4
    return scenes.num_entities * (scenes.num_entities - 1) * max(config.hidden, config.structure_hidden) * layers
