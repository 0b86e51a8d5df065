"""Hidden entities: many scenes in one call against one scene at a time, the same answers.

    python benchmarks/hidden.py --model runs/springs5 --data data/springs5 --scenes 24

Prints and writes ``benchmarks/results/hidden.json``: CPU seconds a scene of both ways and their ratio, in one run.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from bouncegrad.hidden import find_hidden
from bouncegrad.hidden.score import OBSERVED, move_covered_last, reorder
from bouncegrad.models.checkpoint import load_model
from bouncegrad.scenes import read_scenes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--scenes", type=int, default=24)
    options = parser.parse_args()
    model, scenes = load_model(options.model), read_scenes(options.data, "valid").at(range(options.scenes))
    whole = move_covered_last(scenes.between(0, min(OBSERVED, scenes.num_times)), (0,))
    seen = reorder(whole, range(whole.num_entities - 1))
    began = time.process_time()
    together = find_hidden(model, seen)
    middle = time.process_time()
    alone = [find_hidden(model, seen.at([scene])) for scene in range(seen.num_scenes)]
    ended = time.process_time()
    apart = torch.cat([one.best_tracks for one in alone]) - together.best_tracks
    found = {
        "scenes": seen.num_scenes,
        "threads": torch.get_num_threads(),
        "together_cpu_seconds": (middle - began) / seen.num_scenes,
        "one_by_one_cpu_seconds": (ended - middle) / seen.num_scenes,
        "ratio": (ended - middle) / (middle - began),
        "median_difference_of_tracks": float(apart.abs().flatten(1).amax(1).median()),
    }
    (Path(__file__).parent / "results" / "hidden.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
