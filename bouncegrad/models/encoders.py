"""Encoders: networks from trajectories, or from a structure that may be wrong, to embeddings of edges and nodes.

Source: Kipf, Fetaya, Wang, Welling and Zemel, 2018, "Neural relational inference for interacting systems", section 3.1
and appendix B (both trajectory encoders); Alet et al. 2019, section 4.2 and released code (the structure encoder).
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional

from bouncegrad.models.super_graph import SuperGraph

FIRST_BIAS = 0.1
"""Initial bias of linear and convolutional layers, as in Kipf et al. 2018."""

SHORTEST = 14
"""Least number of samples of the convolutions: two of width 5 with max pooling by 2 between them."""


class Perceptron(nn.Module):
    """Two layers with ELU, dropout between them and batch normalisation after them: ``BN(elu(W2 drop(elu(W1 x))))``.

    Args:
        size_in: width of the input.
        size: width of both layers.
        dropout: probability of dropping a hidden unit in training.
        generator: draws the initial weights.
    """

    def __init__(self, size_in: int, size: int, dropout: float, generator: Generator) -> None:
        super().__init__()
        self.layers = nn.ModuleList([linear(size_in, size, generator), linear(size, size, generator)])
        self.norm = nn.BatchNorm1d(size)
        self.dropout = dropout

    def forward(self, inputs: Float[Tensor, "item in"], learning: Generator | None) -> Float[Tensor, "item out"]:
        """Apply both layers; ``learning`` draws the dropout mask in training, None in evaluation.

        Running statistics of the batch normalisation are updated only in training and while gradients are recorded.
        """
        hidden = functional.elu(self.layers[0](inputs))
        hidden = functional.elu(self.layers[1](dropout(hidden, self.dropout, learning)))
        return batch_norm(self.norm, hidden, learning)


class MLPEncoder(nn.Module):
    """The MLP encoder of Kipf et al. 2018: reads whole trajectories of one length.

    ``h_j = f1(x_j)``, ``e_ij = f2(h_i, h_j)``, ``g_i = f3(mean_j e_ij)``, and per edge ``f4(g_i, g_j, e_ij)``.

    Args:
        num_times: samples of each trajectory.
        num_features: numbers in each sample.
        hidden: width of all layers.
        dropout: probability of dropping a hidden unit in training.
        generator: draws the initial weights.
    """

    def __init__(self, num_times: int, num_features: int, hidden: int, dropout: float, generator: Generator) -> None:
        super().__init__()
        self.num_times = num_times
        self.embed = Perceptron(num_times * num_features, hidden, dropout, generator)
        self.relate = Perceptron(2 * hidden, hidden, dropout, generator)
        self.gather = Perceptron(hidden, hidden, dropout, generator)
        self.decide = Perceptron(3 * hidden, hidden, dropout, generator)

    def forward(
        self, states: Float[Tensor, "node time feature"], graph: SuperGraph, learning: Generator | None
    ) -> tuple[Float[Tensor, "edge hidden"], Float[Tensor, "node hidden"]]:
        """Embeddings of edges and of nodes, from the first ``num_times`` samples of each trajectory."""
        nodes = self.embed(states[:, : self.num_times].flatten(1), learning)
        edges = self.relate(graph.ends(nodes), learning)
        nodes = self.gather(graph.mean_incoming(edges), learning)
        return self.decide(torch.cat([graph.ends(nodes), edges], 1), learning), nodes


class CNNEncoder(nn.Module):
    """The CNN encoder of Kipf et al. 2018: convolutions over time with attention on each pair, for any length.

    Args:
        num_features: numbers in each sample.
        hidden: width of all layers.
        dropout: probability of dropping a hidden unit in training.
        generator: draws the initial weights.
    """

    def __init__(self, num_features: int, hidden: int, dropout: float, generator: Generator) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            [convolution(2 * num_features, hidden, 5, generator), convolution(hidden, hidden, 5, generator)]
        )
        self.norms = nn.ModuleList([nn.BatchNorm1d(hidden), nn.BatchNorm1d(hidden)])
        self.predict, self.attend = convolution(hidden, hidden, 1, generator), convolution(hidden, 1, 1, generator)
        self.relate = Perceptron(hidden, hidden, dropout, generator)
        self.gather = Perceptron(hidden, hidden, dropout, generator)
        self.decide = Perceptron(3 * hidden, hidden, dropout, generator)
        self.dropout = dropout

    def forward(
        self, states: Float[Tensor, "node time feature"], graph: SuperGraph, learning: Generator | None
    ) -> tuple[Float[Tensor, "edge hidden"], Float[Tensor, "node hidden"]]:
        """Embeddings of edges and of nodes, from at least :data:`SHORTEST` samples."""
        edges = self.relate(self._summaries(graph.ends(states).transpose(1, 2), learning), learning)
        nodes = self.gather(graph.mean_incoming(edges), learning)
        return self.decide(torch.cat([graph.ends(nodes), edges], 1), learning), nodes

    def _summaries(self, pairs: Float[Tensor, "edge channel time"], learning: Generator | None) -> Tensor:
        hidden = batch_norm(self.norms[0], torch.relu(self.convolutions[0](pairs)), learning)
        hidden = functional.max_pool1d(dropout(hidden, self.dropout, learning), 2)
        hidden = batch_norm(self.norms[1], torch.relu(self.convolutions[1](hidden)), learning)
        return (self.predict(hidden) * self.attend(hidden).softmax(2)).mean(2)


class StructureEncoder(nn.Module):
    """Encodes a structure (latent graph), given as probabilities of the edge types and node types.

    ``e = f1(edge)``, ``h_i = f2(mean_j e_ij, node i)``, ``s_ij = [f3(h_i, h_j), e_ij]``, ``g_i = f4(mean_j s_ij)``, and
    per edge ``f5(g_i, g_j, s_ij)``.

    Args:
        num_edge_kinds: number of edge types, the size of the input of each edge.
        num_node_kinds: number of node types, the size of the input of each node.
        hidden: width of all layers.
        dropout: probability of dropping a hidden unit in training.
        generator: draws the initial weights.
    """

    def __init__(
        self, num_edge_kinds: int, num_node_kinds: int, hidden: int, dropout: float, generator: Generator
    ) -> None:
        super().__init__()
        self.embed = Perceptron(num_edge_kinds, hidden, dropout, generator)
        self.meet = Perceptron(hidden + num_node_kinds, hidden, dropout, generator)
        self.relate = Perceptron(2 * hidden, hidden, dropout, generator)
        self.gather = Perceptron(2 * hidden, hidden, dropout, generator)
        self.decide = Perceptron(4 * hidden, hidden, dropout, generator)

    def forward(
        self,
        edges: Float[Tensor, "edge kind"],
        nodes: Float[Tensor, "node node_kind"],
        graph: SuperGraph,
        learning: Generator | None,
    ) -> tuple[Float[Tensor, "edge hidden"], Float[Tensor, "node hidden"]]:
        """Embeddings of edges and of nodes."""
        first = self.embed(edges, learning)
        hidden = self.meet(torch.cat([graph.mean_incoming(first), nodes], 1), learning)
        messages = torch.cat([self.relate(graph.ends(hidden), learning), first], 1)
        hidden = self.gather(graph.mean_incoming(messages), learning)
        return self.decide(torch.cat([graph.ends(hidden), messages], 1), learning), hidden


def dropout(values: Tensor, share: float, learning: Generator | None) -> Tensor:
    """Dropout (Srivastava et al. 2014): zero a share of the values, scale up the others; none without a generator."""
    if learning is None or share == 0:
        return values
    kept = (torch.rand(values.shape, generator=learning) >= share).to(values.device)
    return values * kept / (1 - share)


def batch_norm(norm: Any, values: Tensor, learning: Generator | None) -> Tensor:
    """Batch normalisation (Ioffe and Szegedy 2015): batch statistics in training, running statistics otherwise.

    Training means a generator ``learning`` and recorded gradients. A batch of one value per channel has no variance,
    so it is normalised by the running statistics, too.
    """
    learns = learning is not None and torch.is_grad_enabled() and values.numel() > values.shape[1]
    return functional.batch_norm(
        values,
        norm.running_mean,
        norm.running_var,
        norm.weight,
        norm.bias,
        training=learns,
        momentum=norm.momentum,
        eps=norm.eps,
    )


@torch.no_grad()
def linear(size_in: int, size_out: int, generator: Generator) -> nn.Linear:
    """A linear layer with normal initial weights of variance ``2 / (in + out)`` (Glorot and Bengio 2010)."""
    layer = cast(nn.Linear, nn.utils.skip_init(nn.Linear, size_in, size_out))
    layer.weight.normal_(0, math.sqrt(2 / (size_in + size_out)), generator=generator)
    layer.bias = nn.Parameter(torch.full((size_out,), FIRST_BIAS))
    return layer


@torch.no_grad()
def convolution(size_in: int, size_out: int, width: int, generator: Generator) -> nn.Conv1d:
    """A convolution over time with normal initial weights of variance ``2 / (width out)`` (He et al. 2015)."""
    layer = cast(nn.Conv1d, nn.utils.skip_init(nn.Conv1d, size_in, size_out, width))
    layer.weight.normal_(0, math.sqrt(2 / (width * size_out)), generator=generator)
    layer.bias = nn.Parameter(torch.full((size_out,), FIRST_BIAS))
    return layer
