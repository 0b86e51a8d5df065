"""How right the recipe ``fast`` is, and after how long: canonical scenes, labels used by the figures only.

    python experiments/fast.py --system charged --scenes 1000 --minutes 12

writes ``experiments/results/fast_charged5_1000_seed0.json``: the figures under every prior on the first 1,000 canonical
test scenes, the log of the training, and what it ran on. Data and run folders lie in ``data/`` and ``runs/``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import replace
from pathlib import Path

import torch

from bouncegrad.checkpoint import load_model
from bouncegrad.priors import priors_for
from bouncegrad.recipes import RECIPES
from bouncegrad.run import RunConfig, fit_folder
from bouncegrad.scenes import read_scenes
from bouncegrad.stages import SimulationRequest, evaluate, simulate_folder

RESULTS = Path(__file__).parent / "results"
NUM_TEST = 1000


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", choices=["springs", "charged"], required=True)
    parser.add_argument("--entities", type=int, default=5)
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--update", choices=["superposed", "general"], default="superposed")
    return parser.parse_args()


def data_folder(options: argparse.Namespace) -> Path:
    folder = Path("data") / f"{options.system}{options.entities}_{options.scenes}"
    if not folder.exists():
        counts = {"train": options.scenes, "valid": 200, "test": NUM_TEST}
        simulate_folder(SimulationRequest(options.system, options.entities, counts, canonical=True), folder)
    return folder


def main() -> None:
    options = arguments()
    folder = data_folder(options)
    recipe = RECIPES["fast"]
    network = replace(recipe.model.network, update=options.update)
    recipe = replace(recipe, model=replace(recipe.model, network=network))
    name = f"fast_{options.system}{options.entities}_{options.scenes}_seed{options.seed}"
    name += "" if options.update == "superposed" else f"_{options.update}"
    run = Path("runs") / name
    fit_folder(RunConfig(str(folder), "fast", recipe, options.minutes, options.seed), run)
    model = load_model(run)
    layout = model.layout(read_scenes(folder, "test").num_entities)
    found = {
        "asked": vars(options),
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, shared",
        "chosen_prior": model.reading.prior,
        "reading_temperature": model.reading.temperature,
        "held_out_evidence": dict(model.reading.evidence),
        "figures": {prior: evaluate(model, folder, "test", prior).to_dict() for prior in priors_for(layout)},
        "log": [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    print({prior: figures["relation_accuracy"] for prior, figures in found["figures"].items()})


if __name__ == "__main__":
    main()
