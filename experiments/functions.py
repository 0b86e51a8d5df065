"""The four algorithms of modular meta-learning on sums of functions and on sines, and what goes beyond them.

    python experiments/functions.py --out experiments/results/functions

80 points a task, 20 % of them given. Every row is trained once and kept as JSON; what is there is not done again. Then
the table and the figure are made anew from all rows.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib.figure import Figure

from bouncegrad.functions import (
    FUNCTION_RECIPES,
    PARTS,
    FunctionModel,
    FunctionTraining,
    MetaSplits,
    recovered_functions,
    score_functions,
    sines,
    sums_of_functions,
)
from bouncegrad.functions.compositions import Chain, Composition, Sum
from bouncegrad.reproduce.result import hardware
from bouncegrad.training.run_folder import versions

matplotlib.use("Agg")

NUM_SINES = 300
PASSES = {"sums": 600, "sines": 200}
"""Three batches of 32 sums, and eight of sines, in each."""

SEEDS = (0, 1, 2)
FOUR = ("pooled", "maml", "bouncegrad", "moma")
BEYOND = ("bouncegrad-learned", "bouncegrad-exact")


@dataclass(frozen=True, slots=True)
class Row:
    """One algorithm on one family of tasks, with one seed of tasks, points and weights."""

    tasks: str
    recipe: str
    seed: int
    passes: int

    @property
    def name(self) -> str:
        return f"{self.tasks}_{self.recipe}_{self.passes}_seed{self.seed}"

    def splits(self) -> MetaSplits:
        return sums_of_functions(self.seed) if self.tasks == "sums" else sines(NUM_SINES, self.seed)

    def composition(self) -> Composition:
        """One module where there is one; else a sum of two, and for sines, as held-out ones prefer, a chain of two.

        With adaptation they prefer the choice of a single module: on the sines of seed 1, 0.17 beside 0.23.
        """
        if self.recipe in ("pooled", "maml") or (self.tasks, self.recipe) == ("sines", "moma"):
            return Chain(1)
        return Sum(2) if self.tasks == "sums" else Chain(2)


SEARCHES, OTHERS = ("bouncegrad", *BEYOND), (200, 2000)
"""What finds structures, and passes of other trainings: a search must cool, so each length is one of its own."""

ROWS = [
    *(Row("sums", recipe, seed, PASSES["sums"]) for seed in SEEDS for recipe in (*FOUR, *BEYOND)),
    *(Row("sines", recipe, seed, PASSES["sines"]) for seed in SEEDS for recipe in FOUR),
    *(Row("sums", recipe, seed, passes) for passes in OTHERS for seed in SEEDS for recipe in SEARCHES),
]


def done(row: Row) -> dict[str, Any]:
    """Train and score one row."""
    torch.set_num_threads(1)
    recipe = FUNCTION_RECIPES[row.recipe]
    recipe = replace(recipe, training=replace(recipe.training, num_passes=row.passes))
    splits, started = row.splits(), time.process_time()
    training = FunctionTraining(splits.train, splits.valid, row.composition(), recipe, row.seed)
    curve = [
        {"pass": report.number, "held_out": report.held_out, "cpu_seconds": round(time.process_time() - started, 2)}
        for report in training.passes()
    ]
    spent, model = time.process_time() - started, training.best_model()
    scores = {part: score_functions(model, getattr(splits, part)) for part in ("train", "valid", "test")}
    return {
        "row": asdict(row),
        "recipe": repr(recipe),
        "composition": str(row.composition()),
        "error": {part: found.error for part, found in scores.items()},
        "median": {part: float(found.errors.median()) for part, found in scores.items()},
        "proposal_error": score_functions(model, splits.test, "proposal").error if model.proposer else None,
        "recovered": recovered(model) if row.tasks == "sums" and model.config.num_modules >= len(PARTS) else None,
        "cpu_seconds": round(spent, 1),
        "curve": curve[19::20],
        "hardware": hardware(),
        "versions": versions(),
    }


def recovered(model: FunctionModel) -> dict[str, float]:
    """How much of each half function the module says that is most like it."""
    halves = {name: lambda x, part=part: part(x) / 2 for name, part in PARTS.items()}
    found = recovered_functions(model, halves, torch.linspace(-1, 1, 400)[:, None])
    return {name: round(each.explained, 4) for name, each in found.items()}


def read(place: Path) -> dict[Row, dict[str, Any]]:
    """All rows that were done."""
    found = [json.loads(path.read_text()) for path in sorted(place.glob("*_seed*.json"))]
    return {Row(**each["row"]): each for each in found}


def table(found: dict[Row, dict[str, Any]]) -> str:
    """Errors of unseen tasks, mean and range over seeds."""
    lines = [
        "| tasks | algorithm | passes | seeds | test error | of each seed | parts recovered | CPU s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for tasks, passes in [*PASSES.items(), *(("sums", passes) for passes in OTHERS)]:
        for recipe in (*FOUR, *BEYOND):
            rows = _rows(found, tasks, recipe, passes)
            if not rows:
                continue
            errors = [row["error"]["test"] for row in rows]
            parts = [sum(share >= 0.95 for share in row["recovered"].values()) for row in rows if row["recovered"]]
            lines.append(
                f"| {tasks} | `{recipe}` | {passes} | {len(rows)} | {sum(errors) / len(errors):.2g} | "
                f"{', '.join(f'{error:.2g}' for error in errors)} | {', '.join(map(str, parts)) or '-'} | "
                f"{sum(row['cpu_seconds'] for row in rows) / len(rows):.0f} |"
            )
    return "\n".join(lines) + "\n"


def _rows(found: dict[Row, dict[str, Any]], tasks: str, recipe: str, passes: int) -> list[dict[str, Any]]:
    """One algorithm with all its seeds."""
    asked = (tasks, recipe, passes)
    return [each for row, each in found.items() if (row.tasks, row.recipe, row.passes) == asked]


def draw(found: dict[Row, dict[str, Any]], place: Path) -> None:
    """Error of the tasks to choose by against passes and against seconds, on sums."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for axes, word in zip(figure.subplots(1, 2, sharey=True), ("pass", "cpu_seconds"), strict=True):
        for number, recipe in enumerate((*FOUR, *BEYOND)):
            rows = [each["curve"] for each in _rows(found, "sums", recipe, PASSES["sums"])]
            for curve in rows:
                label = recipe if curve is rows[0] else None
                held_out = [point["held_out"] for point in curve]
                axes.plot([point[word] for point in curve], held_out, color=f"C{number}", label=label, linewidth=1)
        axes.set(xlabel={"pass": "passes", "cpu_seconds": "CPU seconds"}[word], yscale="log")
    figure.axes[0].set_ylabel("error of unseen sums, normalised")
    figure.axes[1].legend(fontsize=7)
    figure.savefig(place / "functions.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    parser.add_argument("--tasks", nargs="*", default=tuple(PASSES))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for row in ROWS:
        path = given.out / f"{row.name}.json"
        if row.seed in given.seeds and row.tasks in given.tasks and not path.exists():
            path.write_text(json.dumps(done(row), indent=1) + "\n")
            print(path, flush=True)
    found = read(given.out)
    (given.out / "table.md").write_text(table(found))
    draw(found, given.out)
    print(table(found))


if __name__ == "__main__":
    main()
