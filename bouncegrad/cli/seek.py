"""The stage that looks for hidden entities in files: what the verb ``hidden`` does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bouncegrad.fit import error_unit
from bouncegrad.hidden import HiddenPosterior, HiddenScore, find_hidden, score_hidden, widening_of, with_hidden
from bouncegrad.hidden.score import OBSERVED, covered_last, reordered
from bouncegrad.inference import infer, predict, weakest_kind
from bouncegrad.models.model import Model
from bouncegrad.plots import Unseen, draw_unseen
from bouncegrad.scenes import DataError, Scenes, has_split, read_part, read_scenes

DRAWN = 3
"""Scenes on a picture."""


CALIBRATED = 20
"""Scenes in which entities are covered to see how wide bands must be."""


@dataclass(frozen=True, slots=True)
class HiddenRequest:
    """Whom to look for in which scenes.

    Attributes:
        data: a folder or a ``.npz``.
        part: the split of a folder.
        hide: entities of the data to cover, by their numbers; nobody where none are named.
        number: how many to look for where none are covered.
        first: so many of the scenes, from the first on; all if None.
        calibration: cover entities in so many scenes of the split ``valid``, to see how wide bands must be; 0: none;
            None: in :data:`CALIBRATED` where a folder has them.
    """

    data: str
    part: str
    hide: tuple[int, ...] = ()
    number: int = 1
    first: int | None = None
    calibration: int | None = None

    def scenes(self) -> Scenes:
        """The scenes to look at.

        Raises:
            DataError: no scene asked for.
        """
        scenes = read_part(self.data, self.part)
        if self.first is None:
            return scenes
        if self.first < 1:
            raise DataError(f"expected one scene or more, got {self.first}")
        return scenes.at(range(min(self.first, scenes.num_scenes)))

    def widening(self, model: Model) -> float:
        """What the spreads of tracks are multiplied by.

        Raises:
            DataError: a negative number of scenes, or a ``.npz``, which has no scenes beside.
        """
        if self.calibration == 0 or (self.calibration is None and not has_split(self.data, "valid")):
            return 1.0
        asked = CALIBRATED if self.calibration is None else self.calibration
        if asked < 0 or not Path(self.data).is_dir():
            raise DataError(
                f"bands are calibrated on one scene or more of the split valid of a folder, got {self.calibration} and "
                f"{self.data}: leave --calibration out, or bring a folder"
            )
        valid = read_scenes(self.data, "valid")
        chosen = valid.at(range(min(asked, valid.num_scenes)))
        try:
            return widening_of(model, chosen, self.hide or tuple(range(self.number)))
        except DataError:
            if self.calibration is None:  # nobody asked for it
                return 1.0
            raise


def score_covered(model: Model, request: HiddenRequest) -> HiddenScore:
    """Cover entities, find them, and compare; errors are in the unit that the data name."""
    widening = request.widening(model)
    return score_hidden(model, request.scenes(), request.hide, error_unit(request.data), widening=widening)


def find_hidden_file(model: Model, request: HiddenRequest) -> HiddenPosterior:
    """Look for entities that the data do not have."""
    return find_hidden(model, request.scenes(), request.number, widening=request.widening(model))


def hidden_summary(model: Model, request: HiddenRequest, found: HiddenPosterior) -> dict[str, object]:
    """What was found, scene by scene, as plain JSON: weights, tracks with their bands, probabilities of relations."""
    band, nothing = found.band(), weakest_kind(model, _seen(request))
    idle = None if nothing is None else found.idle(nothing)
    return {
        "num_hidden": found.num_hidden,
        "prior": found.prior,
        "none_kind": nothing,
        "scenes": [
            {
                "weights": found.weights[scene].tolist(),
                "acts_on_nobody": None if idle is None else float(idle[scene]),
                "tracks": found.best_tracks[scene].tolist(),
                "band_low": band.low[scene].tolist(),
                "band_high": band.high[scene].tolist(),
                "relations": found.relations[scene].tolist(),
                "probabilities": found.probabilities[scene].tolist(),
            }
            for scene in range(len(found.weights))
        ],
    }


def _seen(request: HiddenRequest) -> Scenes:
    """What the search saw."""
    scenes = request.scenes()
    if not request.hide:
        return scenes
    whole = covered_last(scenes.between(0, min(OBSERVED, scenes.num_times)), request.hide)
    return reordered(whole, range(scenes.num_entities - len(request.hide)))


def draw_hidden(model: Model, request: HiddenRequest, found: HiddenPosterior, picture: str) -> None:
    """Draw three scenes: foretold from their first states without the hidden entities and with them."""
    seen, scenes = _seen(request), request.scenes()
    chosen = range(min(DRAWN, seen.num_scenes))
    some, steps = seen.at(chosen), seen.num_times - 1
    alone = predict(model, some, infer(model, some).structures, start=0, num_steps=steps)
    everybody = with_hidden(seen, found).at(chosen)
    structures = found.best_structures[: len(chosen)]
    beside = predict(model, everybody, structures, start=0, num_steps=steps)
    truth = scenes.states[: len(chosen), : seen.num_times, list(request.hide)].transpose(1, 2) if request.hide else None
    tracks, spreads = found.best_tracks[: len(chosen)], found.spreads[: len(chosen), 0]
    draw_unseen(some, Unseen(alone, beside, tracks, spreads, truth), picture)
