"""Ways to explain what was seen by somebody who was not: tracks and structures, and what speaks for each."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bouncegrad.hidden.augmented import AugmentedScenes, Tracks, tables_with
from bouncegrad.hidden.gauss_newton import FIRST_SPREAD, energies_of, parabola, step_with_slopes
from bouncegrad.models.model import Model
from bouncegrad.structures.priors import GraphPrior
from bouncegrad.types import Structures


@dataclass(frozen=True, slots=True)
class Belief:
    """How graphs are read.

    Attributes:
        name: of the prior, or "given".
        prior: over the structures of scenes with their hidden entities.
        temperature: divides energies, and multiplies variances.
        widening: what standard deviations of tracks are multiplied by (:func:`bouncegrad.hidden.widening_of`), while
            they are below what is believed of first states; it also divides energies, as the temperature does.
        given: ``[scene, slot]``, structures that are known; None where they are sought.
    """

    name: str
    prior: GraphPrior
    temperature: float
    widening: float = 1.0
    given: Structures | None = None

    @property
    def hotter(self) -> float:
        """The temperature at which explanations are weighed.

        Where tracks are less sure than independent errors would make them, there is less that speaks for explanations
        as well. With the temperature alone entities that touch nobody are explained by spurious relations; with the
        square of the widening those that touch few are said to touch nobody.
        """
        return self.temperature * self.widening

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
class Weights:
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
def weigh(model: Model, stage: AugmentedScenes, found: Explanations, belief: Belief) -> Weights:
    """Sum over structures exactly, and over tracks as if the energy were a parabola (Laplace's method).

    The evidence is ``log sum_z p(z) exp(-E(h, z) / T) + log N(h_0) + log normalisers - log det(H / (2 pi T)) / 2``.
    """
    around = step_with_slopes(model, stage, found.tracks, found.structures)
    form = parabola(model, stage, found.tracks, around, model.noise)
    factor, numbers = form.curvature.cholesky(), form.gradient[0].numel()
    log_volume = 0.5 * (numbers * math.log(2 * math.pi * belief.hotter) - factor.log_determinant)
    log_steps = (form.gradient.shape[1] - 1) * stage.nodes.shape[1] * _log_normaliser(model)
    log_evidence, marginals = _over_structures(model, stage, found, belief)
    log_first = _log_first(found.tracks, form.gradient.shape[2])
    variances = _widened(stage.as_tracks(factor.covariances().diagonal(dim1=2, dim2=3)), belief)
    return Weights(log_evidence + log_first + log_steps + log_volume, variances, marginals)


def _widened(variances: Tracks, belief: Belief) -> Tracks:
    """With the temperature and the widening; what knows no more than where first states are is not widened."""
    wider = variances * belief.temperature * belief.widening**2
    return wider.minimum(variances.clamp_min(FIRST_SPREAD**2))


def _over_structures(
    model: Model, stage: AugmentedScenes, found: Explanations, belief: Belief
) -> tuple[Float[Tensor, "task"], Float[Tensor, "task slot kind"]]:
    if belief.given is not None:
        energies = energies_of(model, stage, found.tracks, found.structures) - _first_energy(found.tracks)
        num_kinds = max(model.layout(stage.graph.present.shape[1]).num_kinds)
        return -energies / belief.hotter, torch.nn.functional.one_hot(found.structures, num_kinds).float()
    posterior = belief.prior.posterior(tables_with(model, stage, found.tracks), belief.hotter)
    return posterior.log_evidence.double(), posterior.marginals()


def _first_energy(tracks: Tracks) -> Float[Tensor, "task"]:
    return 0.5 * (tracks[:, :, 0].double() / FIRST_SPREAD).square().sum((1, 2))


def _log_first(tracks: Tracks, size: int) -> Float[Tensor, "task"]:
    return -_first_energy(tracks) - size * math.log(FIRST_SPREAD * math.sqrt(2 * math.pi))


def _log_normaliser(model: Model) -> float:
    """What energies leave out of one step's density of a normalised state."""
    return float((model.noise.log_normaliser - model.network.unit.double().log()).sum())
