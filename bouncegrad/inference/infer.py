"""Three ways to infer structures: search for them, ask the proposal network, or search where it points."""

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
    """Infer the structure of every scene, modules fixed.

    "search": at one step, each receiver's energy depends on its own edges only, and posteriors are read at the
    temperature that held-out scenes chose: exactly where tables can be made and graphs listed, else from chains of
    structures that are cooled from the prior (:mod:`bouncegrad.structures.population_annealing`), whose shares of kinds
    the scenes adapt first. Longer rollouts take a slow Gibbs sampler over whole losses.

    "proposal": what the model's proposal network thinks of every slot, slot by slot, from one look at the trajectories
    (:mod:`bouncegrad.inference.amortised`). Fast, and no better than the network has learned to be.

    "both": a search that starts where the network points, takes its proposals from it and ends after a fixed number of
    them (:mod:`bouncegrad.inference.guided`), at any horizon and with any number of rounds of messages.

    The relations that ``scenes`` may carry are not looked at.

    Args:
        model: as :func:`bouncegrad.fit.fit` or :func:`bouncegrad.models.checkpoint.load_model` return it.
        scenes: any number of entities, the features that the model was trained on.
        prior: a name in :data:`bouncegrad.structures.priors.PRIORS`; "auto": the one that held-out scenes of the
            training had the most evidence for, or "none" where scenes of this size cannot have it. In the modes
            "proposal" and "both" there is none.
        horizon: steps of the rollouts that are compared with the data, of each entity alone among others that are where
            they really were (:class:`bouncegrad.energies.windows.Windows`); with several rounds of messages, of whole
            scenes. Each sample is then predicted from as many starts, so the temperature is multiplied by it. Mode
            "proposal" compares nothing.
        mode: "search", "proposal" or "both".
        seed: of mode "both", and in mode "search" of the sampler for rollouts of whole scenes; all else depends on the
            scenes alone.

    Raises:
        ValueError: other features than the model's, scenes too short for the horizon or for the network, a prior that
            there is not or that these scenes or this mode cannot have, no such mode, or no network for it.
    """
    if mode not in MODES:
        raise ValueError(f"there is no mode {mode!r}: choose one of {', '.join(MODES)}")
    if mode == "search":
        return search_posterior(model, scenes, prior, horizon, seed)
    _check_no_prior(prior, mode)
    return amortised_posterior(model, scenes) if mode == "proposal" else guided_posterior(model, scenes, horizon, seed)


def _check_no_prior(name: str, mode: Mode) -> None:
    """Refuse priors where a network speaks.

    It says what it thinks of single slots, under no prior; and most priors rule out so many graphs that a search that
    changes one receiver at a time could not get from one that is allowed to another.
    """
    check_prior(name)
    if name not in ("auto", "none"):
        raise ValueError(
            f'mode "{mode}" reads under no prior, but the prior {name!r} was asked for: leave it at auto, or choose '
            'mode "search"'
        )
