"""Inference of structures (latent graphs) in three modes: search, amortised by the encoder, or search guided by it."""

from __future__ import annotations

from bouncegrad.inference.amortised import amortised_posterior
from bouncegrad.inference.guided import guided_posterior
from bouncegrad.inference.posterior import MODES, Mode, Posterior
from bouncegrad.inference.search import check_prior, search_posterior
from bouncegrad.models.model import Model
from bouncegrad.scenes import Scenes


def infer(
    model: Model, scenes: Scenes, *, prior: str = "auto", horizon: int = 1, mode: Mode = "search", seed: int = 0
) -> Posterior:
    """Infer the posterior over the structure (latent graph) of every scene, modules fixed: an E-step on new scenes.

    "search": under teacher forcing the energy of each receiver depends on its own edges only. The posterior, at the
    temperature that held-out scenes chose, is exact where tables can be made and graphs listed; else it is sampled by
    population annealing from the prior (:mod:`bouncegrad.structures.population_annealing`), whose edge-type frequencies
    are first fitted to the scenes. Longer rollouts without tables, and several rounds of messages, take a slow Gibbs
    sampler.

    "proposal": amortised inference: the probabilities of every slot, independently, from one pass of the encoder
    (proposal network) over the trajectories (:mod:`bouncegrad.inference.amortised`). Fast, and as good as the encoder
    was trained to be.

    "both": a search that starts at the encoder's most probable structure, takes its proposals from the encoder and ends
    after a fixed number of them (:mod:`bouncegrad.inference.guided`), at any horizon and with any number of rounds of
    messages.

    Relations in ``scenes`` are not used.

    Args:
        model: a model from :func:`bouncegrad.fit.fit` or :func:`bouncegrad.models.checkpoint.load_model`.
        scenes: scenes with the features that the model was trained on, of any number of entities.
        prior: a name in :data:`bouncegrad.structures.priors.PRIORS`; "auto": the prior with the most evidence on the
            held-out scenes of the training, or "none" where it is not defined for scenes of this size. The modes
            "proposal" and "both" have none.
        horizon: steps of the rollouts that are compared with the data, of each receiver among true senders (teacher
            forcing, :class:`bouncegrad.energies.windows.Windows`); with several rounds of messages, of whole scenes.
            Each sample is then predicted from ``horizon`` starts, so the temperature is multiplied by it. Mode
            "proposal" does not use it.
        mode: "search", "proposal" or "both".
        seed: seed of mode "both", and of the Gibbs sampler in mode "search"; all else is deterministic.

    Raises:
        ValueError: other features than the model's, scenes too short for the horizon or for the encoder, an unknown
            prior or one that these scenes or this mode do not allow, an unknown mode, or a model without the encoder
            that the mode needs.
    """
    if mode not in MODES:
        raise ValueError(f"there is no mode {mode!r}: choose one of {', '.join(MODES)}")
    if mode == "search":
        return search_posterior(model, scenes, prior, horizon, seed)
    _check_no_prior(prior, mode)
    return amortised_posterior(model, scenes) if mode == "proposal" else guided_posterior(model, scenes, horizon, seed)


def _check_no_prior(name: str, mode: Mode) -> None:
    """Refuse priors in the modes that use the encoder.

    The encoder gives probabilities of single slots, without a prior over graphs; and most priors exclude so many graphs
    that a search that changes one receiver at a time could not move from one allowed graph to another.

    Raises:
        ValueError: an unknown prior, or any but "auto" and "none".
    """
    check_prior(name)
    if name not in ("auto", "none"):
        raise ValueError(
            f'mode "{mode}" reads under no prior, but the prior {name!r} was asked for: leave it at auto, or choose '
            'mode "search"'
        )
