"""Ways to explain what was seen by somebody who was not: tracks and structures, and what speaks for each."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bouncegrad.hidden.completed import Completed, Tracks, tables_with
from bouncegrad.hidden.smoothing import FIRST_SPREAD, Step, energies_of, parabola, taken
from bouncegrad.model import Model
from bouncegrad.priors import GraphPrior
from bouncegrad.types import Structures


@dataclass(frozen=True, slots=True)
class Belief:
    """How graphs are read.

    Attributes:
        name: of the prior, or "given".
        prior: over the structures of scenes with their hidden entities.
        temperature: divides energies, and multiplies variances.
        given: ``[scene, slot]``, structures that are known; None where they are sought.
    """

    name: str
    prior: GraphPrior
    temperature: float
    given: Structures | None = None

    def at(self, scenes: Int[Tensor, "subset"]) -> Belief:
        """About some of the scenes."""
        return self if self.given is None else replace(self, given=self.given[scenes])


@dataclass(frozen=True, slots=True)
class Explanations:
    """Chains of a search, any number for each scene.

    Attributes:
        scene: ``[task]``, which scene each is about.
        tracks: normalised.
        structures: that go with them.
    """

    scene: Int[Tensor, "task"]
    tracks: Tracks
    structures: Structures

    def at(self, tasks: Tensor) -> Explanations:
        """Some of them."""
        return Explanations(self.scene[tasks], self.tracks[tasks], self.structures[tasks])


@dataclass(frozen=True, slots=True)
class Weighed:
    """What speaks for explanations, and how sure they are.

    Attributes:
        log_evidence: ``[task]``, log of all that a track leads to, structures and what is near the track summed over.
        variances: ``[task, hidden, time, feature]``, of the normalised tracks.
        marginals: ``[task, slot, kind]``.
    """

    log_evidence: Float[Tensor, "task"]
    variances: Tracks
    marginals: Float[Tensor, "task slot kind"]


@torch.no_grad()
def weighed(model: Model, stage: Completed, found: Explanations, belief: Belief) -> Weighed:
    """Sum over structures exactly, and over tracks as if the energy were a parabola (Laplace's method).

    The evidence is ``log sum_z p(z) exp(-E(h, z) / T) + log N(h_0) + log normalisers - log det(H / (2 pi T)) / 2``.
    Variances are those of the parabola whose errors are as large as they add up to (:func:`persistence`).
    """
    around = taken(model, stage, found.tracks, found.structures)
    degrees = model.config.noise.degrees_of_freedom
    form = parabola(model, stage, found.tracks, around, degrees)
    log_determinant, numbers = form.curvature.factored().log_determinant, form.gradient[0].numel()
    log_volume = 0.5 * (numbers * math.log(2 * math.pi * belief.temperature) - log_determinant)
    log_steps = (form.gradient.shape[1] - 1) * stage.nodes.shape[1] * _log_normaliser(model)
    log_evidence, marginals = _over_structures(model, stage, found, belief)
    log_first = _log_first(found.tracks, form.gradient.shape[2])
    wider = _wider(stage, around, belief.temperature * persistence(stage, around, degrees))
    curvature = parabola(model, stage, found.tracks, wider, degrees).curvature
    variances = stage.as_tracks(curvature.factored().covariances().diagonal(dim1=2, dim2=3))
    return Weighed(log_evidence + log_first + log_steps + log_volume, variances, marginals)


def persistence(stage: Completed, around: Step, degrees: float | None) -> Float[Tensor, "task"]:
    """By how much the errors of the seen entities add up over time more than independent ones would, 1 or more.

    Modules that are a little wrong are so in the same way from one sample to the next: with errors ``z_t`` in units of
    their scale, the mean over entities and features of ``(z_1 + ... + z_n)^2 / n``. Tracks are the less sure by it.
    """
    pulls = (around.residuals * around.precisions(degrees) * torch.exp(around.log_scales)).double()
    sums = stage.graph.unpack_nodes(pulls.sum(1).square().mean(1) / pulls.shape[1])
    seen = stage.graph.present[:, : -stage.nodes.shape[1]]
    return (sums[:, : seen.shape[1]].sum(1) / seen.sum(1).clamp_min(1)).clamp_min(1.0)


def _wider(stage: Completed, around: Step, factors: Float[Tensor, "task"]) -> Step:
    """The step with variances multiplied by a factor of each task."""
    of_nodes = stage.graph.pack_nodes(factors[:, None].expand(stage.graph.present.shape)).log()
    return replace(around, log_scales=around.log_scales + 0.5 * of_nodes[:, None, None].to(around.log_scales.dtype))


def _over_structures(
    model: Model, stage: Completed, found: Explanations, belief: Belief
) -> tuple[Float[Tensor, "task"], Float[Tensor, "task slot kind"]]:
    if belief.given is not None:
        energies = energies_of(model, stage, found.tracks, found.structures) - _first_energy(found.tracks)
        num_kinds = max(model.layout(stage.graph.present.shape[1]).num_kinds)
        return -energies / belief.temperature, torch.nn.functional.one_hot(found.structures, num_kinds).float()
    posterior = belief.prior.posterior(tables_with(model, stage, found.tracks), belief.temperature)
    return posterior.log_evidence.double(), posterior.marginals()


def _first_energy(tracks: Tracks) -> Float[Tensor, "task"]:
    return 0.5 * (tracks[:, :, 0].double() / FIRST_SPREAD).square().sum((1, 2))


def _log_first(tracks: Tracks, size: int) -> Float[Tensor, "task"]:
    return -_first_energy(tracks) - size * math.log(FIRST_SPREAD * math.sqrt(2 * math.pi))


def _log_normaliser(model: Model) -> float:
    """What :func:`bouncegrad.noise.negative_log_likelihood` leaves out of one step's density of a normalised state."""
    degrees = model.config.noise.degrees_of_freedom
    constant = -0.5 * math.log(2 * math.pi)
    if degrees is not None:
        constant = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - 0.5 * math.log(degrees * math.pi)
    return float((constant - model.network.unit.double().log()).sum())
