"""Mode "proposal": amortised inference by the encoder (proposal network), without rollouts or tables.

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
    """The encoder's probabilities of the edge types, and the most probable edge type of every slot.

    Slots are independent: the structure may be improbable under a posterior over whole graphs. Encoders for
    trajectories of one length read the first samples of longer ones.

    Raises:
        ValueError: a model without an encoder of trajectories, scenes too short for it, or of other features.
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
        marginals = proposer.from_trajectories(batch.states, batch.graph).exp().cpu()
        unknown = torch.full((chunk.num_scenes,), math.nan)
        parts.append(Posterior(marginals.argmax(2), unknown, marginals, layout, "proposal", unknown, mode="proposal"))
    return concatenate(parts)


def proposer_of(model: Model) -> Proposer:
    """The proposal network of a model.

    Raises:
        ValueError: it has none, or one for other numbers of edge types, node types or features.
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
    """Size of the largest array of the network for each scene: edges times hidden units times layers.

    For convolutions also times samples; the last layer of the other encoders reads at most four hidden layers.
    """
    config = proposer.config
    layers = max(4, scenes.num_times) if config.encoder == "cnn" else 4
    return scenes.num_entities * (scenes.num_entities - 1) * max(config.hidden, config.structure_hidden) * layers
