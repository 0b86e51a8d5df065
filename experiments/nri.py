"""Our NRI beside the released one (Kipf et al. 2018), both trained on the same scenes for the same number of epochs.

    python experiments/nri.py --log train.log --run runs/nri_springs5 --data data/springs5_1000

``--log`` is what the released ``train.py`` printed (with its options as they are, on the folder's ``.npy`` files),
``--run`` the run folder of ``bouncegrad fit --recipe nri`` on the same folder. Writes
``experiments/results/nri_<folder of the scenes>.json``: relation accuracy on the test scenes, error of one step on the
validation scenes, and errors at 1, 10 and 20 steps on the test scenes, all normalised by the scenes learned from, as
the released code prints them.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import torch

from bouncegrad.energies import step_errors
from bouncegrad.energies.windows import cut_windows, pack
from bouncegrad.evaluation.score import score
from bouncegrad.models.checkpoint import load_model
from bouncegrad.models.model import Model
from bouncegrad.scenes import read_scenes

RESULTS = Path(__file__).parent / "results"
NUMBER = r"(-?[\d.e+-]+)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("log", "run", "data"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    released, ours = released_figures(options.log.read_text()), our_figures(options.run, options.data)
    found = {"scenes": options.data.name, "released": released, "ours": ours, "compared": compared(released, ours)}
    (RESULTS / f"nri_{options.data.name}.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["compared"], indent=1))


def released_figures(log: str) -> dict[str, Any]:
    """Read off the log of the released code: its best epoch by validation, and its test."""
    every = re.findall(rf"^Epoch: (\d+) .*mse_val: {NUMBER} acc_val: {NUMBER} time", log, re.MULTILINE)
    best = int(re.findall(r"Best Epoch: (\d+)", log)[-1])
    _, error, right = next(epoch for epoch in every if int(epoch[0]) == best)
    steps = [float(word) for word in re.findall(r"MSE: \[(.*)\]", log)[-1].split(",")]
    return {
        "epochs": len(every),
        "best_epoch": best + 1,
        "valid_error": float(error),
        "valid_accuracy": float(right),
        "relation_accuracy": float(re.findall(rf"acc_test: {NUMBER}", log)[-1]),
        "mse": {str(step): steps[step - 1] for step in (1, 10, 20)},
    }


def our_figures(run: Path, data: Path) -> dict[str, Any]:
    """The same of a run."""
    model = load_model(run)
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    found = score(model, read_scenes(data, "test"), mode="proposal").to_dict()
    return {
        "epochs": len(log),
        "best_epoch": 1 + min(range(len(log)), key=lambda number: log[number]["held_out"]),
        "valid_error": one_step_error(model, data),
        "relation_accuracy": found["relation_accuracy"],
        "mse": found["mse"],
    }


@torch.no_grad()
def one_step_error(model: Model, data: Path) -> float:
    """Of all validation scenes, from every sample."""
    assert model.proposer is not None
    batch = pack(model, read_scenes(data, "valid"))
    guess = model.proposer.from_trajectories(batch.states, batch.graph).argmax(2)
    return float(step_errors(model, batch, cut_windows(batch), guess)[0])


def compared(released: dict[str, Any], ours: dict[str, Any]) -> dict[str, float]:
    """Points of accuracy between them, and how many times the released error ours is."""
    ratios = {f"error_{step}": ours["mse"][step] / released["mse"][step] for step in released["mse"]}
    points = 100 * (ours["relation_accuracy"] - released["relation_accuracy"])
    return {"points": points, "valid_error": ours["valid_error"] / released["valid_error"], **ratios}


if __name__ == "__main__":
    main()
