"""Hidden entities by shooting, as published, beside the smoother: the same model, scenes, energies and relations given.

    python experiments/shooting.py --model runs/fast_springs5_seed0 --data data/springs5_1000 --scenes 20

Shooting (Alet et al. 2019, section 5.2): only the first state of the hidden entity is unknown; from many random ones it
is rolled out among the seen entities, and Adam lowers the energy of what these did; every 50 steps the worse half
begins again near the better one. Writes ``experiments/results/hidden_shooting.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from torch import Generator, Tensor

from bouncegrad.evaluation.metrics import RelationMatch, match_relations
from bouncegrad.fit import error_unit
from bouncegrad.hidden import score_hidden
from bouncegrad.hidden.augmented import complete
from bouncegrad.hidden.gauss_newton import energies_of
from bouncegrad.hidden.initial_tracks import random_states, roll_out_hidden
from bouncegrad.hidden.score import OBSERVED, move_covered_last, reorder
from bouncegrad.inference import infer
from bouncegrad.models.checkpoint import load_model
from bouncegrad.models.model import Model
from bouncegrad.scenes import Scenes, read_scenes
from bouncegrad.structures.layout import to_slots

RESULTS = Path(__file__).parent / "results"
NUM_STARTS, NUM_STEPS, RATE = 64, 300, 0.02
RESAMPLED_EVERY, JITTER = 50, 0.05
HIDE = (0,)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--scenes", type=int, default=20)
    options = parser.parse_args()
    model, test, valid = (
        load_model(options.model),
        read_scenes(options.data, "test"),
        read_scenes(options.data, "valid"),
    )
    match = match_relations(infer(model, valid).relations, valid.relations, valid.present)
    unit = error_unit(options.data)
    assert unit is not None
    rows = []
    for index in range(options.scenes):
        one = test.at([index])
        began = time.process_time()
        track, truth = shot(model, one, match)
        middle = time.process_time()
        smoothed = score_hidden(model, one, HIDE, unit, match=match, known=True)
        ended = time.process_time()
        error = (unit[1].apply(track, torch.float64) - unit[1].apply(truth, torch.float64)).square().mean()
        rows.append(
            {
                "scene": index,
                "touching": bool(smoothed.touching),
                "shooting": {"mse": float(error), "cpu_seconds": middle - began},
                "smoother": {"mse": float(smoothed.mse), "cpu_seconds": ended - middle},
            }
        )
        print(rows[-1], flush=True)
        settings = {"starts": NUM_STARTS, "steps": NUM_STEPS, "rate": RATE, "resampled_every": RESAMPLED_EVERY}
        found = {"settings": settings, "summary": summary(rows), "scenes": rows}
        (RESULTS / "hidden_shooting.json").write_text(json.dumps(found, indent=1) + "\n")


def shot(model: Model, one: Scenes, match: RelationMatch) -> tuple[Tensor, Tensor]:
    """The best track ``[time, feature]`` of the covered entity and its true one, in the units of the scene."""
    whole = move_covered_last(one.between(0, OBSERVED), HIDE)
    assert whole.relations is not None
    structures = to_slots(match.true_kinds(whole.relations)).expand(NUM_STARTS, -1)
    seen = reorder(whole, range(whole.num_entities - 1))
    stage, generator = complete(model, seen.at([0] * NUM_STARTS), 1), Generator().manual_seed(0)
    states = random_states(NUM_STARTS, 1, whole.num_features, generator).requires_grad_()
    optimizer = torch.optim.Adam([states], RATE)
    for step in range(NUM_STEPS):
        energies = energies_of(model, stage, roll_out_hidden(model, stage, states, structures), structures)
        optimizer.zero_grad()
        energies.nan_to_num(0.0, 0.0, 0.0).sum().backward()
        optimizer.step()
        if step % RESAMPLED_EVERY == RESAMPLED_EVERY - 1 and step < NUM_STEPS - RESAMPLED_EVERY:
            resample(states, energies.detach(), generator)
    with torch.no_grad():
        tracks = roll_out_hidden(model, stage, states, structures)
        best = int(energies_of(model, stage, tracks, structures).nan_to_num(torch.inf).argmin())
    return model.normalization.undo(tracks[best, 0][None])[0], whole.states[0, :, -1]


@torch.no_grad()
def resample(states: Tensor, energies: Tensor, generator: Generator) -> None:
    """Put the worse half near the better one."""
    order, half = energies.nan_to_num(torch.inf).argsort(), len(energies) // 2
    better = states[order[:half]]
    states[order[half : 2 * half]] = better + JITTER * torch.randn(better.shape, generator=generator)


def summary(rows: list[dict]) -> dict:
    """Mean and median over the scenes in which the covered entity touches somebody."""
    touching = [row for row in rows if row["touching"]]
    found = {}
    for way in ("shooting", "smoother"):
        errors = torch.tensor([row[way]["mse"] for row in touching], dtype=torch.float64)
        seconds = torch.tensor([row[way]["cpu_seconds"] for row in touching], dtype=torch.float64)
        middle = {"mean": float(errors.mean()), "median": float(errors.median()), "worst": float(errors.max())}
        found[way] = {**middle, "cpu_seconds": float(seconds.mean()), "num_scenes": len(touching)}
    return found


if __name__ == "__main__":
    main()
