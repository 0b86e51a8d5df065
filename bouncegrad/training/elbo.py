"""The ELBO of neural relational inference (NRI): encoder and decoder trained together on relaxed samples of the
structure (latent graph).

Source: Kipf, Fetaya, Wang, Welling and Zemel, 2018, "Neural relational inference for interacting systems", section 3:
a variational autoencoder whose latent variables are the edge types, sampled by the concrete distribution (Gumbel
softmax; Maddison, Mnih and Teh 2017; Jang, Gu and Poole 2017). The encoder is the model's proposal network, the decoder
its graph network. Chosen by ``bounce.search = "relaxed"``.
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
    """How relaxed structures are sampled, and the likelihood and prior of the ELBO.

    Attributes:
        temperature: temperature of the concrete distribution (Gumbel softmax); near 0 samples are one-hot, and their
            gradients noisy.
        hard: whether samples are one-hot, with the gradient of the relaxed ones (straight-through estimator).
        variance: variance of the prediction errors in the Gaussian likelihood, in the square of the normalised unit; a
            small one weighs the data more and the prior less.
        shares: prior probability of each kind (edge type); empty: all the same.

    Raises:
        ValueError: a number out of range, or shares that do not sum to 1.
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
        """Log prior probability of each edge type.

        Raises:
            ValueError: shares of another number of edge types.
        """
        if self.shares and len(self.shares) != num_kinds:
            raise ValueError(f"expected a share for each of the {num_kinds} edge types, got {len(self.shares)}")
        return torch.tensor(self.shares or [1 / num_kinds] * num_kinds).log()


def encoder_of(model: Model) -> Proposer:
    """The proposal network of a model, which gives the posterior probability of each edge type."""
    assert model.proposer is not None
    return model.proposer


def relaxed_sample(
    log_probabilities: Float[Tensor, "task slot kind"], config: RelaxationConfig, generator: Generator
) -> RelaxedStructures:
    """Sample the concrete distribution: ``softmax((log p + g) / temperature)`` with Gumbel noise ``g``."""
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
    """Kullback-Leibler divergence of the encoder's posterior from the prior, summed over all existing slots; nats."""
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
    """Add the gradient of the negative ELBO per entity to the parameters' ``grad``; returns the negative ELBO in nats.

    ``sum of squared errors / (2 variance) + divergence``, up to a constant. The decoder takes a few scenes at a time;
    the gradient with respect to the samples then goes back through the encoder at once.
    """
    layout = model.layout(batch.graph.present.shape[1])
    log_probs = encoder_of(model).from_trajectories(batch.states, batch.graph, generator)
    sample = relaxed_sample(log_probs, config, generator)
    leaf = sample.detach().requires_grad_()  # collects the decoder's gradient
    reconstruction = add_gradients(model, batch, windows, leaf, _nats(windows, config))
    penalty = divergence(log_probs, batch, layout, config) / batch.graph.num_nodes
    torch.autograd.backward([sample, penalty], [leaf.grad, None])
    return reconstruction + penalty.item()


@torch.no_grad()
def relaxed_loss(model: Model, batches: Sequence[Batch], config: RelaxationConfig) -> float:
    """Negative ELBO of scenes per entity, in nats: single steps from every sample, most probable structures."""
    total = count = 0.0
    for batch in batches:
        layout, windows = model.layout(batch.graph.present.shape[1]), cut_windows(batch)
        log_probs = encoder_of(model).from_trajectories(batch.states, batch.graph)
        reconstruction = training_loss(model, batch, windows, log_probs.argmax(2)) * _nats(windows, config)
        total += float(reconstruction) * batch.graph.num_nodes + float(divergence(log_probs, batch, layout, config))
        count += batch.graph.num_nodes
    return total / count


def _nats(windows: Windows, config: RelaxationConfig) -> float:
    """Nats per entity of a mean squared error of 1: ``number of values / (2 variance)``."""
    num_numbers = float(windows.weights.sum()) * windows.targets.shape[-1] / max(1, windows.targets.shape[0])
    return num_numbers / (2 * config.variance)
