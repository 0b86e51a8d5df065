"""The models that ship with the package: those that the recipe fast-forecast learns from a thousand canonical scenes.

bouncegrad reproduce table1 --rows fast-forecast --work runs/reproduce
python experiments/pretrained.py --runs runs/reproduce/small
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bouncegrad.model_card import Origin, save_pretrained
from bouncegrad.models.checkpoint import PRETRAINED, load_model

SCENES = {
    "springs5": "five particles in a box, some of them joined by springs",
    "charged5": "five charged particles in a box, which attract or repel each other",
}


def origin_of(run: Path, scenes: str) -> Origin:
    summary = json.loads((run / "summary.json").read_text())
    errors = {f"mean squared error, {steps} steps ahead": error for steps, error in summary["mse"].items()}
    versions = json.loads((run / "versions.json").read_text())
    return Origin(
        recipe="fast-forecast",
        seed=0,
        scenes=scenes,
        num_scenes=1000,
        num_entities=5,
        num_times=49,
        time_step=0.1,
        figures={
            "share of relations right": summary["relation_accuracy"],
            "calibration error": summary["calibration_error"],
            **errors,
        },
        figures_of=f"the first {summary['num_scenes']} canonical test scenes (Kipf et al. 2018)",
        licence="mit",
        versions={name: versions[name] for name in ("bouncegrad", "torch")},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs of springs5 and charged5")
    runs = parser.parse_args().runs
    for name, scenes in SCENES.items():
        run = runs / f"{name}_fast-forecast_1000_seed0" / "run"
        save_pretrained(PRETRAINED / name, load_model(run), origin_of(run, scenes))
        print(PRETRAINED / name)


if __name__ == "__main__":
    main()
