"""Explanations of observed scenes by hidden entities: tracks with structures (latent graphs), and their evidence."""

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
    """Prior over structures with its temperature, and the widening of tracks.

    Attributes:
        name: name of the prior, or "given".
        prior: prior over the structures of scenes with their hidden entities.
        temperature: divides energies and multiplies variances.
        widening: factor on the standard deviations of tracks (:func:`bouncegrad.hidden.widening_of`), up to the
            standard deviation of the prior on first states; it also divides energies, as the temperature does.
        given: ``[scene, slot]``, known structures; None where they are inferred.
    """

    name: str
    prior: GraphPrior
    temperature: float
    widening: float = 1.0
    given: Structures | None = None

    @property
    def hotter(self) -> float:
        """Temperature at which explanations are weighted: ``temperature * widening``.

        Where tracks are less certain than under independent errors, differences in evidence count less too. With the
        temperature alone, entities without relations are explained by spurious relations; with the square of the
        widening, entities with few relations are inferred to have none.
        """
        return self.temperature * self.widening

    def at(self, scenes: Int[Tensor, "subset"]) -> Belief:
        """Restrict given structures to some of the scenes."""
        return self if self.given is None else replace(self, given=self.given[scenes])


@dataclass(frozen=True, slots=True)
class Explanations:
    """Chains of a search, any number per scene, each with one guess of tracks and structure.

    Attributes:
        scene: ``[task]``, index of the scene that each chain explains.
        tracks: normalised tracks of the hidden entities.
        structures: the structures that go with them.
    """

    scene: Int[Tensor, "task"]
    tracks: Tracks
    structures: Structures

    def at(self, tasks: Tensor) -> Explanations:
        """Select some of the chains."""
        return Explanations(self.scene[tasks], self.tracks[tasks], self.structures[tasks])


@dataclass(frozen=True, slots=True)
class Weights:
    """Evidence of explanations, and the uncertainty of each.

    Attributes:
        log_evidence: ``[task]``, log evidence of each explanation: summed over structures, integrated over tracks near
            its own.
        variances: ``[task, hidden, time, feature]``, variances of the normalised tracks.
        marginals: ``[task, slot, kind]``, posterior probability of each kind on each slot, given the tracks.
    """

    log_evidence: Float[Tensor, "task"]
    variances: Tracks
    marginals: Float[Tensor, "task slot kind"]


@torch.no_grad()
def weigh(model: Model, stage: AugmentedScenes, found: Explanations, belief: Belief) -> Weights:
    """Evidence, variances and marginals: an exact sum over structures, Laplace's approximation over tracks.

    The evidence is ``log sum_z p(z) exp(-E(h, z) / T) + log N(h_0) + log normalisers - log det(H / (2 pi T)) / 2``,
    with ``H`` the Gauss-Newton curvature and ``T`` the temperature :attr:`Belief.hotter`.
    """
    around = step_with_slopes(model, stage, found.tracks, found.structures)
    form = parabola(model, stage, found.tracks, around, model.noise)
    factor, numbers = form.curvature.cholesky(), form.gradient[0].numel()
    log_volume = 0.5 * (numbers * math.log(2 * math.pi * belief.hotter) - factor.log_determinant)
    log_steps = (form.gradient.shape[1] - 1) * stage.nodes.shape[1] * _log_normaliser(model)
    log_evidence, marginals = _over_structures(model, stage, found, belief)
    log_first = _log_first(found.tracks, form.gradient.shape[2])
    variances = _widen(stage.as_tracks(factor.covariances().diagonal(dim1=2, dim2=3)), belief)
    return Weights(log_evidence + log_first + log_steps + log_volume, variances, marginals)


def _widen(variances: Tracks, belief: Belief) -> Tracks:
    """Variances times temperature and squared widening, limited by the prior variance of first states."""
    wider = variances * belief.temperature * belief.widening**2
    return wider.minimum(variances.clamp_min(FIRST_SPREAD**2))


def _over_structures(
    model: Model, stage: AugmentedScenes, found: Explanations, belief: Belief
) -> tuple[Float[Tensor, "task"], Float[Tensor, "task slot kind"]]:
    """Log evidence summed over structures, and marginals; of the given structure alone where it is known."""
    if belief.given is not None:
        energies = energies_of(model, stage, found.tracks, found.structures) - _first_energy(found.tracks)
        num_kinds = max(model.layout(stage.graph.present.shape[1]).num_kinds)
        return -energies / belief.hotter, torch.nn.functional.one_hot(found.structures, num_kinds).float()
    posterior = belief.prior.posterior(tables_with(model, stage, found.tracks), belief.hotter)
    return posterior.log_evidence.double(), posterior.marginals()


def _first_energy(tracks: Tracks) -> Float[Tensor, "task"]:
    """Negative log prior of first states, without its normaliser."""
    return 0.5 * (tracks[:, :, 0].double() / FIRST_SPREAD).square().sum((1, 2))


def _log_first(tracks: Tracks, size: int) -> Float[Tensor, "task"]:
    """Log prior density of first states, with its normaliser for ``size`` numbers."""
    return -_first_energy(tracks) - size * math.log(FIRST_SPREAD * math.sqrt(2 * math.pi))


def _log_normaliser(model: Model) -> float:
    """Log normaliser of one step's density of a normalised state, which energies leave out."""
    return float((model.noise.log_normaliser - model.network.unit.double().log()).sum())
