"""Models that have only seen five entities, read on four and on ten, without learning anything more.

    python experiments/transfer.py charged5 springs5

takes the finished runs of ``experiments/fast.py`` (seed 0) and writes ``experiments/results/transfer_<row>.json``: the
figures under every prior that is compared, on 200 unseen scenes of each size (those of ten are the canonical ones).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from fast import RESULTS, ROWS

from bouncegrad.cli.evaluate import evaluate
from bouncegrad.models.checkpoint import load_model
from bouncegrad.models.model import Model
from bouncegrad.simulate.dataset import SimulationRequest, simulate_folder
from bouncegrad.structures.priors import priors_for

SIZES = (4, 10)
NUM_TEST = 200


def scenes_of(system: str, num_entities: int) -> Path:
    """Unseen scenes, simulated once."""
    folder = Path("data") / f"{system}{num_entities}_transfer"
    if not folder.exists():
        request = SimulationRequest(system, num_entities, {"test": NUM_TEST}, canonical=num_entities == 10)
        simulate_folder(request, folder)
    return folder


def figures(model: Model, system: str, num_entities: int) -> dict[str, object]:
    """Prior -> what the model finds under it."""
    found: dict[str, object] = {}
    for prior in priors_for(model.layout(num_entities)):
        began = time.process_time()
        found[prior] = evaluate(model, scenes_of(system, num_entities), "test", prior).to_dict()
        print(system, num_entities, prior, found[prior]["relation_accuracy"], time.process_time() - began, flush=True)  # pyright: ignore[reportIndexIssue]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", choices=[name for name, row in ROWS.items() if row.num_entities == 5])
    for name in parser.parse_args().rows:
        model = load_model(Path("runs") / f"fast_{name}_seed0")
        found = {
            "trained_on": {"row": name, "num_entities": 5, "seed": 0},
            "chosen_prior": model.reading.prior,
            "num_test": NUM_TEST,
            "figures": {str(size): figures(model, ROWS[name].system, size) for size in SIZES},
        }
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"transfer_{name}.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
