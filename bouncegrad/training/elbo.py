"""Structures as an encoder's samples, relaxed so that the loss itself teaches the encoder.

Source: Kipf, Fetaya, Wang, Welling and Zemel, 2018, "Neural relational inference for interacting systems", section 3:
a variational autoencoder whose latent variables are the kinds of the edges, sampled by the concrete distribution
(Maddison, Mnih and Teh 2017; Jang, Gu and Poole 2017). The encoder is the model's proposal network, the decoder its
graph network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional

from bouncegrad.energies import add_gradients, training_loss
from bouncegrad.energies.windows import Batch, Windows, cut_windows
from bouncegrad.inference.beliefs import existing_slots
from bouncegrad.models.model import Model
from bouncegrad.models.proposer import Proposer
from bouncegrad.settings import check_settings
from bouncegrad.structures.layout import Layout
from bouncegrad.types import RelaxedStructures


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class RelaxationConfig:
    """How relaxed structures are drawn and what they are worth.

    Attributes:
        temperature: of the concrete distribution: near 0 samples are one-hot, and their gradients noisy.
        hard: draw one-hot samples and take the gradient of the relaxed ones (straight through).
        variance: of the errors of the prediction, in the square of the normalised unit; small values make the data
            count more beside the prior.
        shares: of the edge kinds a priori; empty: all alike.

    Raises:
        ValueError: a number that cannot be.
    """

    temperature: float = 0.5
    hard: bool = False
    variance: float = 5e-5
    shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_settings(self, positive=("temperature", "variance"))
        if self.shares and not (min(self.shares) > 0 and math.isclose(sum(self.shares), 1, abs_tol=1e-6)):
            raise ValueError(f"shares must be above 0 and sum to 1, or be left out; got {self.shares}")

    def log_shares(self, num_kinds: int) -> Float[Tensor, "kind"]:
        """Of each kind.

        Raises:
            ValueError: shares of another number of kinds.
        """
        if self.shares and len(self.shares) != num_kinds:
            raise ValueError(f"expected a share for each of the {num_kinds} edge kinds, got {len(self.shares)}")
        return torch.tensor(self.shares or [1 / num_kinds] * num_kinds).log()


def encoder_of(model: Model) -> Proposer:
    """The network that says how probable each kind is."""
    assert model.proposer is not None
    return model.proposer


def relaxed_sample(
    log_probabilities: Float[Tensor, "task slot kind"], config: RelaxationConfig, generator: Generator
) -> RelaxedStructures:
    """Draw from the concrete distribution: ``softmax((log p + g) / temperature)`` with Gumbel noise ``g``."""
    uniform = torch.rand(log_probabilities.shape, generator=generator).to(log_probabilities.device)
    noise = -torch.log(-torch.log(uniform.clamp(1e-10, 1 - 1e-7)))
    soft = ((log_probabilities + noise) / config.temperature).softmax(2)
    if not config.hard:
        return soft
    one_hot = functional.one_hot(soft.argmax(2), soft.shape[2]).to(soft.dtype)
    return one_hot + (soft - soft.detach())


def divergence(
    log_probabilities: Float[Tensor, "task slot kind"], batch: Batch, layout: Layout, config: RelaxationConfig
) -> Float[Tensor, ""]:
    """Kullback-Leibler divergence from the prior, summed over the slots of all entities that are there; nats."""
    possible = log_probabilities > -math.inf
    finite = log_probabilities.masked_fill(~possible, 0)
    prior = -possible.sum(2, keepdim=True).log().expand_as(finite).clone()
    edges = slice(0, layout.num_edge_slots)
    prior[:, edges, : layout.num_edge_kinds] = config.log_shares(layout.num_edge_kinds).to(prior)
    each = (log_probabilities.exp() * (finite - prior)).sum(2)
    return (each * existing_slots(batch.graph, layout)).sum()


def add_relaxed_gradients(
    model: Model, batch: Batch, windows: Windows, config: RelaxationConfig, generator: Generator
) -> float:
    """Add the gradient of the negative evidence bound, per entity, to what all parameters hold; returns it in nats.

    ``sum of squared errors / (2 variance) + divergence``, up to a constant. The decoder works through some scenes at a
    time; what it says of the samples then goes back through the encoder at once.
    """
    layout = model.layout(batch.graph.present.shape[1])
    said = encoder_of(model).from_trajectories(batch.states, batch.graph, generator)
    sample = relaxed_sample(said, config, generator)
    seen = sample.detach().requires_grad_()
    surprise = add_gradients(model, batch, windows, seen, _nats(windows, config))
    penalty = divergence(said, batch, layout, config) / batch.graph.num_nodes
    torch.autograd.backward([sample, penalty], [seen.grad, None])
    return surprise + penalty.item()


@torch.no_grad()
def relaxed_loss(model: Model, batches: Sequence[Batch], config: RelaxationConfig) -> float:
    """The negative evidence bound of scenes, per entity: one step from every sample, the most probable structures."""
    total = count = 0.0
    for batch in batches:
        layout, windows = model.layout(batch.graph.present.shape[1]), cut_windows(batch)
        said = encoder_of(model).from_trajectories(batch.states, batch.graph)
        surprise = training_loss(model, batch, windows, said.argmax(2)) * _nats(windows, config)
        total += float(surprise) * batch.graph.num_nodes + float(divergence(said, batch, layout, config))
        count += batch.graph.num_nodes
    return total / count


def _nats(windows: Windows, config: RelaxationConfig) -> float:
    """Nats per entity that a mean squared error of 1 stands for."""
    num_numbers = float(windows.weights.sum()) * windows.targets.shape[-1] / max(1, windows.targets.shape[0])
    return num_numbers / (2 * config.variance)
