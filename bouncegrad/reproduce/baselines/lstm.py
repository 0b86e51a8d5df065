"""LSTM baselines, which predict motion without relations: for all entities jointly, or for each entity separately.

Source: Kipf, Fetaya, Wang, Welling and Zemel, 2018, "Neural relational inference for interacting systems", section 5.1
("LSTM (joint)", "LSTM (single)"), appendix, and released code.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias, cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from bouncegrad.evaluation.score import OBSERVED
from bouncegrad.models.encoders import linear
from bouncegrad.reproduce.baselines.simple import last_measured
from bouncegrad.scenes import DataError, Normalization, Scenes
from bouncegrad.settings import check_settings

VARIANCE = 5e-5
"""Variance of the Gaussian likelihood, in normalised units squared, which scales the loss (Kipf et al. 2018)."""

AT_ONCE = 500
"""Number of scenes of a batch in predictions: a joint network of five entities then needs 1 GB."""

Memory: TypeAlias = tuple[Tensor, Tensor]
"""Hidden and cell states of all layers, ``[layer, row, hidden]``."""


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class LSTMConfig:
    """Architecture of the recurrent network.

    Attributes:
        joint: True: one network for all entities of a scene; False: each entity separately, with shared weights.
        hidden: hidden units per entity in every layer.
        num_layers: number of recurrent layers.

    Raises:
        ValueError: a size below 1.
    """

    joint: bool
    hidden: int = 256
    num_layers: int = 2

    def __post_init__(self) -> None:
        check_settings(self, counts=("hidden", "num_layers"))


class RecurrentNetwork(nn.Module):
    """Two layers per entity, recurrent layers for a row of entities, and two layers for the change of state.

    ``e_j = relu(W2 relu(W1 x_j))``, ``h = LSTM(e_1 ... e_M)``, ``x' = x + W4 relu(W3 h)``, where M is the number of
    entities of a *row*: a whole scene (joint), or one entity of a scene.

    Args:
        config: architecture.
        num_entities: entities of each scene.
        normalization: normalisation of the states.
        generator: source of randomness of the initial weights.
    """

    def __init__(
        self, config: LSTMConfig, num_entities: int, normalization: Normalization, generator: Generator
    ) -> None:
        super().__init__()
        self.config, self.normalization = config, normalization
        self.num_members = num_entities if config.joint else 1
        num_features, hidden, width = len(normalization.minimum), config.hidden, config.hidden * self.num_members
        self.embed = nn.ModuleList([linear(num_features, hidden, generator), linear(hidden, hidden, generator)])
        self.recurrent = _recurrent(width, config.num_layers, generator)
        self.decide = linear(width, width, generator)
        self.change = linear(width, self.num_members * num_features, generator)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.change.bias.device

    def ahead(
        self, rows: Float[Tensor, "row time member feature"], present: Float[Tensor, "row member"], num_free: int = 0
    ) -> Float[Tensor, "row step member feature"]:
        """Predict the sample after each given one, then ``num_free`` more by a rollout."""
        known, memory = self._read(rows, present, None)
        predicted = [known]
        for _ in range(num_free):
            one, memory = self._read(predicted[-1][:, -1:], present, memory)
            predicted.append(one)
        return torch.cat(predicted, 1)

    def memories(self, rows: Rows) -> Float[Tensor, "row hidden"]:
        """The last hidden state of the top layer."""
        return self.recurrent(self._embedded(rows.states, rows.present))[1][0][-1]

    def _read(self, rows: Tensor, present: Tensor, memory: Memory | None) -> tuple[Tensor, Memory]:
        hidden, memory = self.recurrent(self._embedded(rows, present), memory)
        return rows + self.change(self.decide(hidden).relu()).view_as(rows), cast(Memory, memory)

    def _embedded(self, rows: Tensor, present: Tensor) -> Float[Tensor, "row time width"]:
        hidden = rows
        for layer in self.embed:
            hidden = layer(hidden).relu()
        return (hidden * present[:, None, :, None]).flatten(2)


@torch.no_grad()
def _recurrent(width: int, num_layers: int, generator: Generator) -> nn.LSTM:
    """Recurrent layers with weights and biases uniform within ``1 / sqrt(width)``, the default of PyTorch."""
    recurrent = nn.LSTM(width, width, num_layers, batch_first=True, device="meta").to_empty(device="cpu")
    for parameter in recurrent.parameters():
        parameter.uniform_(-1 / math.sqrt(width), 1 / math.sqrt(width), generator=generator)
    return recurrent


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Scenes as rows, the input of the network.

    Attributes:
        states: ``[row, time, member, feature]``, normalised; gaps repeat the last measured state.
        mask: ``[row, time, member]``, 1 where a state was measured.
    """

    states: Float[Tensor, "row time member feature"]
    mask: Float[Tensor, "row time member"]

    @classmethod
    def of(cls, network: RecurrentNetwork, scenes: Scenes) -> Rows:
        """A row for each scene, or for each entity of each scene.

        Raises:
            DataError: the number of entities differs from that of a joint network.
        """
        if network.config.joint and scenes.num_entities != network.num_members:
            raise DataError(
                f"a joint LSTM has an input for each entity: expected scenes of {network.num_members}, got "
                f"{scenes.num_entities}; pad smaller scenes with entities that are masked at all times"
            )
        states, mask = last_measured(scenes, network.normalization), scenes.mask.float()
        if not network.config.joint:
            states, mask = (values.transpose(1, 2).flatten(0, 1).unsqueeze(2) for values in (states, mask))
        return cls(states.to(network.device), mask.to(network.device))

    @property
    def present(self) -> Float[Tensor, "row member"]:
        """1 for members that were measured at least once."""
        return self.mask.amax(1)


def squared_error(network: RecurrentNetwork, rows: Rows, horizon: int) -> Float[Tensor, ""]:
    """Squared error of predictions over twice the variance, summed over times and features.

    ``sum_t |x_t - x'_t|^2 / (2 5e-5)``, mean over entities; samples that were not measured do not count.

    Args:
        network: the network.
        rows: true states; all samples but the last ``horizon`` are inputs.
        horizon: steps of the rollout at the end of a scene; 1: teacher forcing at all samples.
    """
    predicted = network.ahead(rows.states[:, :-horizon], rows.present, horizon - 1)
    squares = (predicted - rows.states[:, 1:]).square().sum(-1) * rows.mask[:, 1:]
    return squares.sum() / (2 * VARIANCE * rows.present.sum())


@torch.no_grad()
def predicted(
    network: RecurrentNetwork, scenes: Scenes, start: int, num_steps: int
) -> Float[Tensor, "scene step entity feature"]:
    """The states after sample ``start``, in the units of the recording, from all samples up to it."""
    parts = []
    for part in _parts(scenes.between(0, start + 1)):
        rows = Rows.of(network, part)
        ahead = network.ahead(rows.states, rows.present, num_steps - 1)[:, start:]
        by_entity = ahead.transpose(1, 2).reshape(part.num_scenes, part.num_entities, num_steps, -1)
        parts.append(network.normalization.undo(by_entity.transpose(1, 2).cpu()))
    return torch.cat(parts)


@torch.no_grad()
def last_memories(network: RecurrentNetwork, scenes: Scenes) -> Float[Tensor, "scene entity hidden"]:
    """Last hidden state of the top layer after the first 49 samples of each entity, for a network that is not joint.

    Raises:
        ValueError: a joint network, which has no states of single entities.
    """
    if network.config.joint:
        raise ValueError("the states of a joint LSTM belong to no entity: train one with joint=False")
    observed = scenes.between(0, min(OBSERVED, scenes.num_times))
    read = [network.memories(Rows.of(network, part)) for part in _parts(observed)]
    return torch.cat(read).cpu().view(scenes.num_scenes, scenes.num_entities, -1)


def _parts(scenes: Scenes) -> Iterator[Scenes]:
    """Batches of at most :data:`AT_ONCE` scenes."""
    return (scenes.at(part) for part in torch.arange(scenes.num_scenes).split(AT_ONCE))
