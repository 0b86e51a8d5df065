"""How right the recipe ``fast`` is, and after how long: canonical scenes, labels used by the figures only.

    python experiments/fast.py charged5 charged5_none        # train (or resume) and write the figures of these rows
    python experiments/fast.py --list                        # what rows there are

Each row and seed writes ``experiments/results/fast_<row>_seed<seed>.json``: the figures under every prior on 1,000 test
scenes, the log of the training, and what it ran on. Scenes and run folders lie in ``data/`` and ``runs/``; a row whose
run is finished is only read again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from bouncegrad.cli.evaluate import evaluate
from bouncegrad.fit import RunConfig, fit_folder
from bouncegrad.models.checkpoint import load_model
from bouncegrad.recipes import RECIPES, Recipe
from bouncegrad.scenes import read_scenes
from bouncegrad.simulate.dataset import SimulationRequest, simulate_folder
from bouncegrad.structures.priors import priors_for

RESULTS = Path(__file__).parent / "results"
NUM_TEST = 1000


@dataclass(frozen=True)
class Row:
    """One set of scenes and how it is learned from.

    Attributes:
        system: what is simulated.
        num_entities: N.
        num_scenes: to learn from.
        num_passes: over them.
        prior: under which structures are searched while learning; "auto": chosen by evidence.
        num_kinds: kinds of relation.
        options: further settings of the simulation; without any, the canonical scenes are taken.
    """

    system: str
    num_entities: int
    num_scenes: int
    num_passes: int
    prior: str = "auto"
    num_kinds: int = 2
    options: tuple[tuple[str, object], ...] = ()

    @property
    def folder(self) -> Path:
        """Where the scenes lie."""
        words = [f"{self.system}{self.num_entities}", str(self.num_scenes), *(name for name, _ in self.options)]
        return Path("data") / "_".join(words)

    def simulate(self) -> Path:
        """The scenes, simulated once."""
        if not self.folder.exists():
            counts = {"train": self.num_scenes, "valid": min(200, self.num_scenes // 4), "test": NUM_TEST}
            options = dict(self.options)
            canonical = not options and self.num_entities in (5, 10)
            request = SimulationRequest(
                self.system,
                self.num_entities,
                counts,
                canonical=canonical,
                **options,  # pyright: ignore[reportArgumentType]
            )
            simulate_folder(request, self.folder)
        return self.folder

    def recipe(self) -> Recipe:
        """The default recipe, with this row's number of passes, kinds and prior."""
        fast = RECIPES["fast"]
        network = replace(fast.model.network, num_edge_kinds=self.num_kinds)
        bounce = replace(fast.training.bounce, prior=self.prior)
        training = replace(fast.training, num_passes=self.num_passes, bounce=bounce)
        return replace(fast, model=replace(fast.model, network=network), training=training)


ROWS = {
    "charged5": Row("charged", 5, 1000, 110),
    "charged5_200": Row("charged", 5, 200, 300),
    "charged5_none": Row("charged", 5, 1000, 120, prior="none"),
    "springs5": Row("springs", 5, 1000, 40),
    "springs5_directed": Row("springs", 5, 1000, 40, options=(("directed", True),)),
    "springs5_strengths": Row("springs", 5, 1000, 50, num_kinds=3, options=(("strengths", (0.0, 0.5, 1.0)),)),
    "springs10": Row("springs", 10, 1000, 20),
    "charged10": Row("charged", 10, 1000, 80),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], help="which rows")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{name}: {row}" for name, row in ROWS.items()))
    for name in options.rows:
        work(name, ROWS[name], options.seed)


def work(name: str, row: Row, seed: int) -> None:
    """Train one row, read it under every prior, write its figures."""
    folder, run = row.simulate(), Path("runs") / f"fast_{name}_seed{seed}"
    if not (run / "summary.json").exists():
        began = time.process_time()
        fit_folder(RunConfig(str(folder), "fast", row.recipe(), None, seed), run)
        (run / "cpu_seconds.json").write_text(json.dumps(time.process_time() - began))
    model = load_model(run)
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    layout = model.layout(row.num_entities)
    reading = model.reading
    found = {
        "row": row.__dict__ | {"folder": str(row.folder)},
        "seed": seed,
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, shared",
        "seconds": log[-1]["seconds"],
        "cpu_seconds": json.loads((run / "cpu_seconds.json").read_text()),
        "trained_under": log[-1]["prior"],
        "chosen_prior": reading.prior,
        "reading_temperatures": dict(reading.temperatures),
        "held_out_evidence": dict(reading.evidence),
        "num_test": read_scenes(folder, "test").num_scenes,
        "figures": {prior: evaluate(model, folder, "test", prior).to_dict() for prior in priors_for(layout)},
        "log": log,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"fast_{name}_seed{seed}.json").write_text(json.dumps(found, indent=1) + "\n")
    print(name, seed, {prior: figures["relation_accuracy"] for prior, figures in found["figures"].items()})


if __name__ == "__main__":
    main()
