"""Effect of each pair on its receiver in one step, in the units of the recording, with the states of both entities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bouncegrad.energies.windows import Batch, Windows, cut_windows, pack
from bouncegrad.inference import Posterior, chunks, chunks_with_structures, messages_by_kind
from bouncegrad.models.decoder import mask_senders
from bouncegrad.models.model import Model
from bouncegrad.scenes import Scenes
from bouncegrad.scenes.tables.columns import position_names, velocity_name


@dataclass(frozen=True, slots=True)
class Axes:
    """Which features are positions and which are velocities.

    Attributes:
        places: features that are positions, named ``x``, ``y``, ``z`` or ``x0``, ``x1``, ...
        speeds: the velocity feature of each position, the same name with a ``v`` in front; empty if one of them is
            missing.
    """

    places: tuple[int, ...]
    speeds: tuple[int, ...]

    @classmethod
    def of(cls, names: Sequence[str]) -> Axes:
        """Find the axes by the names of features.

        >>> Axes.of(("x", "y", "vx", "vy", "size"))
        Axes(places=(0, 1), speeds=(2, 3))
        """
        positions = position_names(names)
        places = tuple(names.index(name) for name in positions)
        velocities = (velocity_name(name, names) for name in positions)
        speeds = tuple(names.index(name) for name in velocities if name in names)
        return cls(places, speeds if len(speeds) == len(places) else ())

    @property
    def moved(self) -> tuple[int, ...]:
        """Features in which a push is measured: velocities, or positions where there are none."""
        return self.speeds or self.places


@dataclass(frozen=True, slots=True, eq=False)
class PairEffects:
    """Effects of senders on receivers, one item for each pair and time.

    Attributes:
        kinds: ``[item]``, edge type (kind) of the pair.
        effects: ``[item, feature]``, change of the receiver's next state by the message, in the units of the recording.
        differences: ``[item, feature]``, state of the sender minus state of the receiver.
        shares: ``[kind]``, share of all pairs that have each edge type.
        unit: ``[feature]``, standard deviation of the residuals of the linear skip, the unit in which effects are
            compared.
    """

    kinds: Int[Tensor, "item"]
    effects: Float[Tensor, "item feature"]
    differences: Float[Tensor, "item feature"]
    shares: Float[Tensor, "kind"]
    unit: Float[Tensor, "feature"]

    @classmethod
    @torch.no_grad()
    def of(cls, model: Model, scenes: Scenes, posterior: Posterior) -> PairEffects:
        """The effect of each message under the most probable structures (latent graphs).

        ``effect of e = update(x_i, sum of messages) - update(x_i, sum without m_e, and with silence in its place)``;
        where messages are superposed, this is ``unit (m_e - silence)``, whatever the other messages are. Silence is the
        message without effect. It is 0 where the model has an edge type that sends no messages. Otherwise the state
        term can cancel a constant in all messages, so silence is the mean message of the edge type whose messages vary
        least.

        With several rounds of messages: the effect of the first round.
        """
        silence = _silence(model, scenes)
        parts = [_chunk_effects(model, *chunk, silence) for chunk in chunks_with_structures(model, scenes, posterior)]
        kinds, effects, differences = (torch.cat(each) for each in zip(*parts, strict=True))
        low, high = torch.tensor([model.normalization.minimum, model.normalization.maximum], dtype=torch.float64)
        scale = 0.5 * (high - low)
        related = posterior.relations[scenes.pairs]
        counts = torch.bincount(related, minlength=model.config.network.num_edge_kinds)
        shares, unit = counts / counts.sum().clamp_min(1), model.network.unit.double() * scale
        return cls(kinds, effects * scale, differences * scale, shares, unit.clamp_min(1e-12))


def _silence(model: Model, scenes: Scenes) -> Float[Tensor, "message"]:
    """The message that stands for no effect (:meth:`PairEffects.of`)."""
    batch = pack(model, next(chunks(model, scenes, 1)))
    flat = messages_by_kind(model, batch, batch.num_starts)
    if model.config.network.silent_first:
        return torch.zeros_like(flat[0, 0])
    return flat[flat.std(1).square().sum(1).argmin()].mean(0)


def _chunk_effects(model: Model, scenes: Scenes, structures: Tensor, silence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Edge types, effects and differences of one chunk of scenes, normalised, one item per pair and time."""
    batch = pack(model, scenes)
    windows, graph, network = cut_windows(batch), batch.graph, model.network
    edge_kinds, node_kinds = graph.pack_edges(structures), graph.pack_node_kinds(structures)
    messages = network.edge_modules(network.inputs_on(graph, windows.states), edge_kinds)
    incoming = graph.incoming(mask_senders(messages, graph, windows.sender_mask))
    if model.config.network.update == "superposed":
        effects = network.unit * (messages - silence)
    else:
        receivers = graph.receivers
        states, kinds, summed = windows.states[receivers], node_kinds[receivers], incoming[receivers]
        effects = network.update(states, summed, kinds) - network.update(states, summed - messages + silence, kinds)
    newest = windows.states[..., -network.num_features :]
    differences = newest[graph.senders] - newest[graph.receivers]
    measured = _measured(batch, windows, scenes)
    kinds = edge_kinds[:, None].expand_as(measured)[measured]
    return kinds, effects[measured].double(), differences[measured].double()


def _measured(batch: Batch, windows: Windows, scenes: Scenes) -> Tensor:
    """``[edge, start]``, whether the receiver is predicted and both ends are measured, with all of their history."""
    graph, complete = batch.graph, batch.complete[:, : batch.num_starts]
    receiver_is_predicted = (windows.weights[:, :, 0] > 0) & graph.pack_nodes(scenes.predicted)[:, None] & complete
    return receiver_is_predicted[graph.receivers] & complete[graph.senders]
