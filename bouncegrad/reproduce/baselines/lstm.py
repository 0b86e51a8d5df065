"""Recurrent networks that predict motion without relations: of all entities together, or of each entity alone.

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
"""Of what is predicted, in normalised units squared: it sets the scale of the loss (Kipf et al. 2018)."""

AT_ONCE = 500
"""Scenes that are predicted together: a joint network of five entities then takes a gigabyte."""

Memory: TypeAlias = tuple[Tensor, Tensor]
"""Hidden and cell states of all layers, ``[layer, row, hidden]``."""


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class LSTMConfig:
    """What the recurrent network is made of.

    Attributes:
        joint: all entities of a scene in one network; else each entity alone, in copies with the same weights.
        hidden: numbers for each entity in every layer.
        num_layers: of the recurrent part.

    Raises:
        ValueError: sizes that make no network.
    """

    joint: bool
    hidden: int = 256
    num_layers: int = 2

    def __post_init__(self) -> None:
        check_settings(self, counts=("hidden", "num_layers"))


class RecurrentNetwork(nn.Module):
    """Two layers for each entity, recurrent layers for all that are seen together, two layers to the change of state.

    ``e_j = relu(W2 relu(W1 x_j))``, ``h = LSTM(e_1 ... e_M)``, ``x' = x + W4 relu(W3 h)``, where M entities are seen
    together: all of a scene (joint), or one. A *row* is what is seen together: a scene, or an entity of a scene.

    Args:
        config: joint or not, and sizes.
        num_entities: of each scene.
        normalization: of the states.
        generator: draws the initial weights.
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
        """Where its weights lie, and where it computes."""
        return self.change.bias.device

    def ahead(
        self, rows: Float[Tensor, "row time member feature"], present: Float[Tensor, "row member"], num_free: int = 0
    ) -> Float[Tensor, "row step member feature"]:
        """Predict the sample after each that is given, then ``num_free`` more, each from the prediction before."""
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
    """Scenes as the network sees them.

    Attributes:
        states: ``[row, time, member, feature]``, normalised; gaps repeat what was measured last.
        mask: ``[row, time, member]``, 1 where a state was measured.
    """

    states: Float[Tensor, "row time member feature"]
    mask: Float[Tensor, "row time member"]

    @classmethod
    def of(cls, network: RecurrentNetwork, scenes: Scenes) -> Rows:
        """A row for each scene, or for each entity of each scene.

        Raises:
            DataError: another number of entities than a joint network was made for.
        """
        if network.config.joint and scenes.num_entities != network.num_members:
            raise DataError(
                f"a joint LSTM sees all entities in fixed places: expected scenes of {network.num_members}, got "
                f"{scenes.num_entities}; entities that are masked at all times fill smaller ones up"
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
    """Squared error of what is predicted over twice the variance, summed over times and features.

    ``sum_t |x_t - x'_t|^2 / (2 5e-5)``, mean over entities; samples that were not measured do not count.

    Args:
        network: what predicts.
        rows: the truth, of which it is shown all samples but the last ``horizon``.
        horizon: how many samples at the end follow each other without the truth; with 1, one step is predicted at each.
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
    """What a network that sees each entity alone keeps of its first 49 samples: the top layer's last hidden state.

    Raises:
        ValueError: a joint network, which has no states of single entities.
    """
    if network.config.joint:
        raise ValueError("the states of a joint LSTM belong to no entity: train one with joint=False")
    observed = scenes.between(0, min(OBSERVED, scenes.num_times))
    read = [network.memories(Rows.of(network, part)) for part in _parts(observed)]
    return torch.cat(read).cpu().view(scenes.num_scenes, scenes.num_entities, -1)


def _parts(scenes: Scenes) -> Iterator[Scenes]:
    """Not too many scenes at once."""
    return (scenes.at(part) for part in torch.arange(scenes.num_scenes).split(AT_ONCE))
