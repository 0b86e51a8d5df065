"""One entity of each unseen scene is covered and found again, by scenes, resumable.

    python experiments/hidden.py springs5 --model runs/fast_springs5_seed0 --data data/springs5_1000 --scenes 30
    python experiments/hidden.py springs5 --model ... --data ... --scenes 30 --count   # is anybody hidden?

writes ``experiments/results/hidden_<row>.json``: for each test scene the error of the covered entity over features and
50 samples, its relations and those of the others, whether its true states lie in the 90 % band, the same with the true
relations given, seconds; and the figures over all scenes so far. Bands are widened by what covering entities in
validation scenes says. A scene that stands in the file is not looked at again.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from bouncegrad.evaluation.metrics import RelationMatch, match_relations
from bouncegrad.fit import error_unit
from bouncegrad.hidden import count_hidden, score_hidden, widening_of
from bouncegrad.hidden.count import MARGIN
from bouncegrad.hidden.score import OBSERVED, HiddenScore, move_covered_last, reorder
from bouncegrad.inference import infer
from bouncegrad.models.checkpoint import load_model
from bouncegrad.models.model import Model
from bouncegrad.scenes import Normalization, Scenes, read_scenes

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", help="what the results are called after")
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--hide", type=int, nargs="+", default=[0], help="entities to cover")
    parser.add_argument("--scenes", type=int, default=30, help="test scenes, the first ones")
    parser.add_argument("--calibration", type=int, default=10, help="validation scenes for the width of the bands")
    parser.add_argument("--count", action="store_true", help="also ask how many are hidden: with one covered, and none")
    options = parser.parse_args()
    place = RESULTS / f"hidden_{options.row}.json"
    found = json.loads(place.read_text()) if place.exists() else begun(options)
    model, test = load_model(options.model), read_scenes(options.data, "test")
    valid = read_scenes(options.data, "valid")
    match = match_relations(infer(model, valid).relations, valid.relations, valid.present)
    question = Question(model, tuple(options.hide), error_unit(options.data), match, found["widening"])
    save(place, found)
    for index in range(min(options.scenes, test.num_scenes)):
        one, known = test.at([index]), found["scenes"].setdefault(str(index), {})
        if "mse" not in known:
            known |= figures_of(question, one)
        if options.count and "gain_complete" not in known:
            known |= gains_of(question, one)
        found["summary"] = summary(list(found["scenes"].values()))
        save(place, found)
        print(index, known, flush=True)


@dataclass(frozen=True)
class Question:
    """What is asked of each scene.

    Attributes:
        model: that is asked.
        hide: the entities to cover.
        unit: of errors.
        match: which label is which kind, from validation scenes.
        widening: of bands, likewise.
    """

    model: Model
    hide: tuple[int, ...]
    unit: tuple[str, Normalization] | None
    match: RelationMatch
    widening: float

    def score(self, one: Scenes, known: bool = False) -> HiddenScore:
        """Cover, find, compare."""
        return score_hidden(
            self.model, one, self.hide, self.unit, match=self.match, widening=self.widening, known=known
        )


def begun(options: argparse.Namespace) -> dict:
    """The head of a new file."""
    model, valid = load_model(options.model), read_scenes(options.data, "valid")
    began = time.process_time()
    widening = widening_of(model, valid.at(range(options.calibration)), tuple(options.hide))
    return {
        "model": Path(options.model).name,
        "data": Path(options.data).name,
        "hide": options.hide,
        "observed": OBSERVED,
        "calibration_scenes": options.calibration,
        "calibration_cpu_seconds": time.process_time() - began,
        "widening": widening,
        "threads": torch.get_num_threads(),
        "summary": {},
        "scenes": {},
    }


def figures_of(asked: Question, one: Scenes) -> dict:
    """One scene, its relations unknown and then given."""
    began = time.process_time()
    sought = asked.score(one)
    middle = time.process_time()
    given = asked.score(one, known=True)
    named = {f"{name}_given": value for name, value in _plain(given).items() if name in ("mse", "coverage")}
    seconds = {"cpu_seconds": middle - began, "cpu_seconds_given": time.process_time() - middle}
    return _plain(sought) | named | seconds | {"unit": sought.unit}


def _plain(score: HiddenScore) -> dict:
    assert score.right is not None
    assert score.right_seen is not None
    return {
        "touching": bool(score.touching),
        "mse": float(score.mse),
        "right": float(score.right),
        "right_seen": float(score.right_seen),
        "coverage": float(score.covered),
        "weight": float(score.posterior.weights[0, 0]),
        "spread": float(score.posterior.spreads[0, 0].mean()),
    }


def gains_of(asked: Question, one: Scenes) -> dict:
    """Nats by which hidden entities foretell better than none: with some covered, and in the complete scene."""
    observed, number = one.between(0, min(OBSERVED, one.num_times)), len(asked.hide)
    covered = reorder(move_covered_last(observed, asked.hide), range(one.num_entities - number))
    return {
        "gain_covered": float(count_hidden(asked.model, covered, (0, number)).gains[0, 1]),
        "gain_complete": float(count_hidden(asked.model, observed, (0, 1)).gains[0, 1]),
    }


def summary(scenes: list[dict]) -> dict:
    """Figures over all scenes, those in which the covered entity touches nobody apart."""
    touching = [scene for scene in scenes if scene.get("touching")]
    nobody = [scene for scene in scenes if scene.get("touching") is False]
    names = (
        "mse",
        "mse_given",
        "right",
        "right_seen",
        "coverage",
        "coverage_given",
        "cpu_seconds",
        "cpu_seconds_given",
    )
    return {
        "num_scenes": len(touching) + len(nobody),
        "num_touching": len(touching),
        "touching": {name: spread([scene[name] for scene in touching]) for name in names},
        "touching_nobody": {name: spread([scene[name] for scene in nobody]) for name in names},
        "count_right_covered": share([scene["gain_covered"] > MARGIN for scene in touching if "gain_covered" in scene]),
        "count_right_complete": share([s["gain_complete"] <= MARGIN for s in scenes if "gain_complete" in s]),
        "gains_covered": [scene["gain_covered"] for scene in touching if "gain_covered" in scene],
        "gains_covered_touching_nobody": [scene["gain_covered"] for scene in nobody if "gain_covered" in scene],
        "gains_complete": [scene["gain_complete"] for scene in scenes if "gain_complete" in scene],
    }


def share(right: list[bool]) -> float | None:
    """Of those that are right."""
    return sum(right) / len(right) if right else None


def spread(values: list[float]) -> dict | None:
    """Mean, quartiles and extremes."""
    if not values:
        return None
    numbers = torch.tensor(values, dtype=torch.float64)
    low, median, high = numbers.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
    return {
        "mean": float(numbers.mean()),
        "median": median,
        "quartiles": [low, high],
        "least": float(numbers.min()),
        "largest": float(numbers.max()),
    }


def save(place: Path, found: dict) -> None:
    """Write the file whole."""
    place.parent.mkdir(exist_ok=True)
    beside = place.with_suffix(".part")
    beside.write_text(json.dumps(found, indent=1) + "\n")
    beside.replace(place)


if __name__ == "__main__":
    main()
