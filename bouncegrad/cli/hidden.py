"""The verb ``hidden``: infer entities that were not observed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from bouncegrad.cli.options import DRAWN, Verb, add_data, add_json, add_model, add_picture, add_split, first_scenes
from bouncegrad.cli.text import hidden_table, posterior_table
from bouncegrad.fit import error_unit
from bouncegrad.hidden import HiddenPosterior, HiddenScore, find_hidden, score_hidden, widening_of, with_hidden
from bouncegrad.hidden.score import OBSERVED, move_covered_last, reorder
from bouncegrad.inference import infer, predict, weakest_kind
from bouncegrad.models.checkpoint import load_model
from bouncegrad.models.model import Model
from bouncegrad.plots import Unseen, draw_unseen
from bouncegrad.scenes import DataError, Scenes, has_split, read_scenes

CALIBRATED = 20
"""Scenes in which entities are covered to see how wide bands must be."""


def _add_options(parser: ArgumentParser) -> None:
    add_model(parser)
    add_data(parser)
    add_split(parser)
    parser.add_argument("--hide", type=int, nargs="+", help="entities to cover, counted from 0 (default: none)")
    parser.add_argument("--number", type=int, default=1, help="how many to look for where none are covered")
    parser.add_argument("--scenes", type=int, help="look at so many scenes, the first ones (default: all)")
    parser.add_argument(
        "--calibration",
        type=int,
        help="cover an entity in so many scenes of the split valid and widen the bands until they hold there; 0: as "
        f"wide as the modules say, which is too narrow (default: {CALIBRATED} where a folder has them)",
    )
    add_json(parser)
    add_picture(parser, "what is predicted without and with them")


def _run(options: Namespace) -> None:
    model, hide = load_model(options.model), tuple(options.hide or ())
    request = HiddenRequest(options.data, options.split, hide, options.number, options.scenes, options.calibration)
    if hide:
        score = score_covered(model, request)
        found, figures, text = score.posterior, score.to_dict(), hidden_table(score)
    else:
        found = find_hidden_file(model, request)
        figures, text = hidden_summary(model, request, found), posterior_table(found)
    print(json.dumps(figures) if options.json else text)
    if options.picture:
        draw_hidden(model, request, found, options.picture)


@dataclass(frozen=True, slots=True)
class HiddenRequest:
    """Whom to look for in which scenes.

    Attributes:
        data: a folder or a ``.npz``.
        part: the split of a folder.
        hide: entities of the data to cover, by their numbers; empty: none.
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
        return first_scenes(self.data, self.part, self.first)

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
            if self.calibration is None:  # the option was not given
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
    whole = move_covered_last(scenes.between(0, min(OBSERVED, scenes.num_times)), request.hide)
    return reorder(whole, range(scenes.num_entities - len(request.hide)))


def draw_hidden(model: Model, request: HiddenRequest, found: HiddenPosterior, picture: str) -> None:
    """Draw three scenes: predicted from their first states without the hidden entities and with them."""
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


VERB = Verb(
    name="hidden",
    summary="find entities that were not observed",
    description=(
        "Find entities that were never seen by what they do to those that were: their tracks, with bands, and their\n"
        "relations. With --hide an entity of the data is covered, found, and compared with what it really did.\n\n"
        "Examples:\n"
        "  bouncegrad hidden --model runs/springs5 --data data/springs5 --hide 0 --scenes 20 --picture hidden.png\n"
        "  bouncegrad hidden --model runs/springs5 --data data/four.npz --json > hidden.json"
    ),
    add_options=_add_options,
    run=_run,
)
