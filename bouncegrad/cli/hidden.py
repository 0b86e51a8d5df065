"""The verb ``hidden``: infer unobserved entities from their effect on the observed ones."""

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
"""Default number of scenes for the calibration of bands: in these, observed entities are covered and inferred."""


def _add_options(parser: ArgumentParser) -> None:
    add_model(parser)
    add_data(parser)
    add_split(parser)
    parser.add_argument("--hide", type=int, nargs="+", help="entities to cover, numbered from 0 (default: none)")
    parser.add_argument("--number", type=int, default=1, help="number of hidden entities where none are covered")
    parser.add_argument("--scenes", type=int, help="use only the first so many scenes (default: all)")
    parser.add_argument(
        "--calibration",
        type=int,
        help="number of scenes of the split valid in which an entity is covered to calibrate the width of the bands; "
        f"0: no calibration, bands are too narrow (default: {CALIBRATED} where a folder has them)",
    )
    add_json(parser)
    add_picture(parser, "predictions without and with the hidden entities")


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
    """Which hidden entities to infer, in which scenes.

    Attributes:
        data: a folder or a ``.npz``.
        part: the split of a folder.
        hide: numbers of the entities of the data to cover; empty: none.
        number: number of hidden entities where none are covered.
        first: number of scenes, from the first on; None: all.
        calibration: number of scenes of the split ``valid`` in which entities are covered to calibrate the width of
            bands; 0: no calibration; None: :data:`CALIBRATED` where a folder has that split.
    """

    data: str
    part: str
    hide: tuple[int, ...] = ()
    number: int = 1
    first: int | None = None
    calibration: int | None = None

    def scenes(self) -> Scenes:
        """The scenes of the request.

        Raises:
            DataError: the request has fewer than one scene.
        """
        return first_scenes(self.data, self.part, self.first)

    def widening(self, model: Model) -> float:
        """Factor by which calibration multiplies the standard deviations of tracks.

        Raises:
            DataError: a negative number of scenes, or a ``.npz``, which has no split ``valid``.
        """
        if self.calibration == 0 or (self.calibration is None and not has_split(self.data, "valid")):
            return 1.0
        asked = CALIBRATED if self.calibration is None else self.calibration
        if asked < 0 or not Path(self.data).is_dir():
            raise DataError(
                f"bands are calibrated on one or more scenes of the split valid of a folder, got {self.calibration} "
                f"and {self.data}: leave --calibration out, or bring a folder"
            )
        valid = read_scenes(self.data, "valid")
        chosen = valid.at(range(min(asked, valid.num_scenes)))
        try:
            return widening_of(model, chosen, self.hide or tuple(range(self.number)))
        except DataError:
            if self.calibration is None:  # calibration is the default here, not a request
                return 1.0
            raise


def score_covered(model: Model, request: HiddenRequest) -> HiddenScore:
    """Cover entities, infer them, and compare with the truth; errors are in the unit that the data specify."""
    widening = request.widening(model)
    return score_hidden(model, request.scenes(), request.hide, error_unit(request.data), widening=widening)


def find_hidden_file(model: Model, request: HiddenRequest) -> HiddenPosterior:
    """Infer entities that are not in the data."""
    return find_hidden(model, request.scenes(), request.number, widening=request.widening(model))


def hidden_summary(model: Model, request: HiddenRequest, found: HiddenPosterior) -> dict[str, object]:
    """Posterior of hidden entities per scene, as plain JSON: weights, tracks with bands, edge type probabilities."""
    band, none_kind = found.band(), weakest_kind(model, _seen(request))
    idle = None if none_kind is None else found.idle(none_kind)
    return {
        "num_hidden": found.num_hidden,
        "prior": found.prior,
        "none_kind": none_kind,
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
    """The scenes without the covered entities: what inference observes."""
    scenes = request.scenes()
    if not request.hide:
        return scenes
    whole = move_covered_last(scenes.between(0, min(OBSERVED, scenes.num_times)), request.hide)
    return reorder(whole, range(scenes.num_entities - len(request.hide)))


def draw_hidden(model: Model, request: HiddenRequest, found: HiddenPosterior, picture: str) -> None:
    """Draw up to :data:`DRAWN` scenes: rollouts from the first states without the hidden entities and with them."""
    seen, scenes = _seen(request), request.scenes()
    chosen = range(min(DRAWN, seen.num_scenes))
    some, steps = seen.at(chosen), seen.num_times - 1
    without = predict(model, some, infer(model, some).structures, start=0, num_steps=steps)
    everybody = with_hidden(seen, found).at(chosen)
    structures = found.best_structures[: len(chosen)]
    beside = predict(model, everybody, structures, start=0, num_steps=steps)
    truth = scenes.states[: len(chosen), : seen.num_times, list(request.hide)].transpose(1, 2) if request.hide else None
    tracks, spreads = found.best_tracks[: len(chosen)], found.spreads[: len(chosen), 0]
    draw_unseen(some, Unseen(without, beside, tracks, spreads, truth), picture)


VERB = Verb(
    name="hidden",
    summary="infer unobserved entities",
    description=(
        "Infer unobserved entities from their effect on observed ones: their tracks, with bands, and their relations.\n"
        "With --hide an entity of the data is covered, inferred, and compared with its true track.\n\n"
        "Examples:\n"
        "  bouncegrad hidden --model runs/springs5 --data data/springs5 --hide 0 --scenes 20 --picture hidden.png\n"
        "  bouncegrad hidden --model runs/springs5 --data data/four.npz --json > hidden.json"
    ),
    add_options=_add_options,
    run=_run,
)
