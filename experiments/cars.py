"""Who follows whom on the road, from speeds alone: real cars in platoons (OpenACC, European Commission).

Learns from two thirds of the recordings, drawn at random, without labels; reads the rest, gaps included. The truth is
the car before each in the platoon, as far as it was recorded. Beside it: what the question is worth with positions,
what a linear screen of single partners finds, how long one has to watch, and what is foretold ten seconds ahead.

    python experiments/cars.py --data openacc.parquet --out experiments/results/cars.json
    python experiments/cars.py --data openacc.parquet --part 1 --out experiments/results/cars_part1.json

Source of the data: OpenACC, Joint Research Centre of the European Commission, reuse with acknowledgement.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from bouncegrad import RelationalModel, TableColumns, read_table
from bouncegrad.recipes import RECIPES, Recipe
from bouncegrad.reproduce.result import hardware
from bouncegrad.scenes import Scenes
from bouncegrad.training.run_folder import versions
from bouncegrad.trust import describe_kinds

COLUMNS = TableColumns("scene", "time", "agent", ("speed",), exogenous=("position", "min"))
STEP, GAP = 1.0, 2
"""Seconds of a sample, which is the mean of ten; samples of a gap that is bridged."""

PAST, AHEAD = 5, 10
"""Samples that the linear fits see, and seconds that are foretold."""

SECONDS = (1, 3, 10, 30, 100, 300)
"""How long one watches."""


def recordings(path: Path) -> Scenes:
    """Speeds, with the true predecessors as labels."""
    cars = pl.read_parquet(path).group_by("scene", "agent").agg(pl.col("position").first()).sort("scene", "position")
    before = pl.col("agent").shift(1).over("scene")
    pairs = cars.with_columns(sender=before).drop_nulls("sender").rename({"agent": "receiver"})
    everyone = cars.join(cars, on="scene").filter(pl.col("agent") != pl.col("agent_right"))
    every = everyone.select("scene", receiver="agent", sender="agent_right")
    known = pairs.select("scene", "receiver", "sender", relation=pl.lit(1))
    relations = every.join(known, on=["scene", "receiver", "sender"], how="left").with_columns(
        pl.col("relation").fill_null(0)
    )
    return read_table(path, COLUMNS, relations=relations, time_step=STEP, resample="mean", interpolate=GAP)


def parted(scenes: Scenes, seed: int) -> tuple[Scenes, Scenes]:
    """Two thirds and one third at random."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(scenes.num_scenes))
    num_test = scenes.num_scenes // 3
    return scenes.at(order[num_test:]), scenes.at(order[:num_test])


def predecessors(scenes: Scenes) -> Tensor:
    """``[scene, receiver]``, the true sender; -1 where nobody is followed."""
    relations = scenes.known_relations
    assert relations is not None
    found = (relations == 1).double()
    return torch.where(found.any(2), found.argmax(2), -1)


def share_right(probabilities: Tensor, scenes: Scenes) -> tuple[int, int]:
    """How many followers' likeliest senders are right, and of how many; the probabilities of acting on them."""
    truth = predecessors(scenes)
    asked = truth >= 0
    guess = probabilities.masked_fill(~scenes.pairs, -1.0).argmax(2)
    return int((guess == truth)[asked].sum()), int(asked.sum())


def acting(model: RelationalModel, scenes: Scenes) -> Tensor:
    """``[scene, receiver, sender]``, the probability that the sender is followed."""
    return model.infer(scenes).probabilities[..., 1:].sum(3)


# what is known beforehand


def chance(scenes: Scenes) -> float:
    """Of a guess among all other cars."""
    counts = scenes.present.sum(1) - 1
    asked = predecessors(scenes) >= 0
    return float((asked.sum(1) / counts).sum() / asked.sum())


def nearest_ahead(path: Path, names: Sequence[str]) -> float:
    """With positions the question is trivial: the car that is most often the nearest one ahead."""
    right = total = 0
    table = pl.read_parquet(path)
    for name in names:
        rows = table.filter(pl.col("scene") == name).sort("position", "time")
        places = rows.partition_by("position", maintain_order=True)
        xy = np.stack([part.select("x", "y").to_numpy() for part in places], 1).astype(float)[::10]
        heading = np.gradient(xy, axis=0)
        heading /= np.linalg.norm(heading, axis=2, keepdims=True) + 1e-9
        away = xy[:, None] - xy[:, :, None]
        ahead = (away * heading[:, :, None]).sum(3) > 0
        distance = np.where(ahead, np.linalg.norm(away, axis=3), np.inf)
        distance[:, np.arange(len(places)), np.arange(len(places))] = np.inf
        seen = np.isfinite(np.nan_to_num(distance, nan=np.inf)).any(2)
        nearest = np.where(seen, np.nan_to_num(distance, nan=np.inf).argmin(2), -1)
        for follower in range(1, len(places)):
            votes = nearest[nearest[:, follower] >= 0, follower]
            right += int(len(votes) > 0 and np.bincount(votes).argmax() == follower - 1)
            total += 1
    return right / total


def _histories(speeds: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``[start, entity, past]``, what follows, and where both were measured."""
    past = speeds.unfold(0, PAST, 1)[:-1]
    seen = mask.unfold(0, PAST, 1).all(2)[:-1] & mask[PAST:]
    return past, speeds[PAST:] - speeds[PAST - 1 : -1], seen


def _fit(inputs: Tensor, targets: Tensor) -> Tensor:
    ones = torch.ones(len(inputs), 1, dtype=inputs.dtype)
    return torch.linalg.lstsq(torch.cat([inputs, ones], 1), targets[:, None], driver="gelsd").solution[:, 0]


def linear_screen(scenes: Scenes) -> tuple[int, int, int]:
    """For each follower the one partner whose speed helps a linear prediction most; also: is it a neighbour?"""
    right = near = total = 0
    truth = predecessors(scenes)
    for scene in range(scenes.num_scenes):
        past, change, seen = _histories(scenes.states[scene, :, :, 0], scenes.mask[scene])
        for receiver in (truth[scene] >= 0).nonzero().flatten().tolist():
            gains = torch.full((scenes.num_entities,), -torch.inf, dtype=torch.float64)
            for sender in scenes.pairs[scene, receiver].nonzero().flatten().tolist():
                both = seen[:, receiver] & seen[:, sender]
                if int(both.sum()) <= 3 * PAST:
                    continue
                own, theirs, target = past[both, receiver], past[both, sender], change[both, receiver]
                alone, together = _left(own, target), _left(torch.cat([own, theirs - own], 1), target)
                gains[sender] = torch.log(alone / together)
            guess = int(gains.argmax())
            right += guess == int(truth[scene, receiver])
            near += guess == int(truth[scene, receiver]) or int(truth[scene, guess]) == receiver
            total += 1
    return right, near, total


def _left(inputs: Tensor, targets: Tensor) -> Tensor:
    weights = _fit(inputs, targets)
    return (targets - inputs @ weights[:-1] - weights[-1]).square().mean()


# how long one has to watch


def windows(scenes: Scenes, length: int, most: int) -> Iterator[Scenes]:
    """Up to ``most`` stretches of each recording, evenly spread, in which every car is seen all the time."""
    for scene in range(scenes.num_scenes):
        one = scenes.at(scene)
        measured = (one.mask | ~one.present[:, None])[0].all(1).nonzero().flatten()
        if not len(measured):
            continue
        last = int(measured[-1]) - length + 1
        starts = np.unique(np.linspace(int(measured[0]), max(int(measured[0]), last), most).astype(int))
        for start in starts.tolist():
            if start + length > one.num_times:
                continue
            part = one.between(start, start + length)
            if bool((part.mask | ~one.present[:, None]).all()):
                yield part


def against_seconds(model: RelationalModel, scenes: Scenes, most: int = 5) -> dict[str, Any]:
    """Share of predecessors found in so many seconds of a recording."""
    history, found = model.model.config.network.history, {}
    for seconds in SECONDS:
        length = round(seconds / STEP)
        if length <= history:
            found[str(seconds)] = {"right": None, "why": f"the modules see {history} s before they foretell anything"}
            continue
        counts = [share_right(acting(model, part), part) for part in windows(scenes, length, most)]
        right, total = (sum(count) for count in zip(*counts, strict=True)) if counts else (0, 0)
        found[str(seconds)] = {"right": right / max(1, total), "followers": total}
    return found


# what happens next


@dataclass
class Errors:
    """Of speeds and travelled distances, ``AHEAD`` seconds on."""

    speeds: list[Tensor]
    ways: list[Tensor]

    def add(self, predicted: Tensor, truth: Tensor) -> None:
        """Both ``[step, follower]``."""
        away = predicted - truth
        self.speeds.append(away[-1])
        self.ways.append(away.sum(0) * STEP)

    def to_dict(self) -> dict[str, float]:
        """Root mean square and median size."""
        speed, way = torch.cat(self.speeds), torch.cat(self.ways)
        return {
            "speed_rms": float(speed.square().mean().sqrt()),
            "speed_median": float(speed.abs().median()),
            "distance_rms": float(way.square().mean().sqrt()),
            "distance_median": float(way.abs().median()),
        }


def car_following(train: Scenes) -> Tensor:
    """A linear law of all followers, given the true predecessor: next change from both histories."""
    inputs, targets, truth = [], [], predecessors(train)
    for scene in range(train.num_scenes):
        past, change, seen = _histories(train.states[scene, :, :, 0], train.mask[scene])
        for receiver in (truth[scene] >= 0).nonzero().flatten().tolist():
            sender = int(truth[scene, receiver])
            both = seen[:, receiver] & seen[:, sender]
            own, theirs = past[both, receiver], past[both, sender]
            inputs.append(torch.cat([own, theirs - own], 1))
            targets.append(change[both, receiver])
    return _fit(torch.cat(inputs), torch.cat(targets))


def foretold(model: RelationalModel, train: Scenes, test: Scenes, every: int = 15) -> dict[str, Any]:
    """Ten seconds ahead in the second halves, relations read off the first; the leader's motion is given."""
    law, errors = car_following(train), {name: Errors([], []) for name in ("model", "constant", "linear")}
    for number in range(test.num_scenes):
        scene = test.at(number)
        length = int(scene.mask[0].any(1).nonzero().max()) + 1
        half, truth = length // 2, predecessors(scene)[0]
        if half <= 2 * PAST:
            continue
        structures = model.infer(scene.between(0, half)).structures
        complete = (scene.mask | ~scene.present[:, None])[0].all(1)
        followers = (truth >= 0).nonzero().flatten()
        for start in range(half, length - AHEAD, every):
            if not bool(complete[start - PAST + 1 : start + AHEAD + 1].all()):
                continue
            speeds = scene.states[0, :, :, 0]
            real = speeds[start + 1 : start + AHEAD + 1][:, followers]
            said = model.predict(scene, start=start, num_steps=AHEAD, structures=structures)[0, :, :, 0]
            errors["model"].add(said[:, followers], real)
            errors["constant"].add(speeds[start, followers].expand(AHEAD, -1), real)
            errors["linear"].add(_rolled(law, speeds, truth, start)[:, followers], real)
    count = sum(map(len, errors["model"].speeds))
    return {"seconds": AHEAD, "predictions": count} | {name: found.to_dict() for name, found in errors.items()}


def _rolled(law: Tensor, speeds: Tensor, truth: Tensor, start: int) -> Tensor:
    known = speeds[start - PAST + 1 : start + 1].clone()
    for step in range(AHEAD):
        past = known[-PAST:].T
        change = torch.cat([past, past[truth.clamp_min(0)] - past], 1) @ law[:-1] + law[-1]
        known = torch.cat([known, torch.where(truth >= 0, known[-1] + change, speeds[start + 1 + step])[None]])
    return known[PAST:]


def held_out_nats(model: RelationalModel, scenes: Scenes, skip: int) -> float:
    """Mean log evidence of recordings, less their first ``skip`` samples that a shorter history could have used."""
    history = model.model.config.network.history
    return float(model.infer(scenes.between(skip - history, scenes.num_times)).log_evidence.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/openacc.parquet"))
    parser.add_argument("--part", type=int, default=0, help="which random third is read")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--passes", type=int)
    parser.add_argument("--kinds", type=int)
    parser.add_argument("--histories", type=int, nargs="*", help="compare these on a part of the scenes learned from")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    recipe = RECIPES["leader"]
    if options.passes:
        recipe = replace(recipe, training=replace(recipe.training, num_passes=options.passes))
    if options.kinds:
        recipe = _with_network(recipe, num_edge_kinds=options.kinds)
    train, test = parted(recordings(options.data), options.part)
    if options.histories:
        print(json.dumps(_compared(recipe, train, options.histories, options.seed), indent=2))
        return
    started = time.process_time()
    model = RelationalModel(recipe, seed=options.seed).fit(
        replace(train, relations=None), watch=lambda report: print(report.number, report.held_out, flush=True)
    )
    seconds = time.process_time() - started
    right, followers = share_right(acting(model, test), test)
    screened, near, _ = linear_screen(test)
    result = {
        "experiment": "real cars, from speeds alone",
        "source": "OpenACC, Joint Research Centre of the European Commission",
        "recordings": {"train": train.num_scenes, "test": test.num_scenes},
        "test_recordings": [test.scene_name(number) for number in range(test.num_scenes)],
        "part": options.part,
        "seed": options.seed,
        "passes": recipe.training.num_passes,
        "kinds": recipe.model.network.num_edge_kinds,
        "history": recipe.model.network.history,
        "cpu_seconds": round(seconds, 1),
        "followers": followers,
        "predecessors_right": right / followers,
        "chance": chance(test),
        "nearest_ahead": nearest_ahead(options.data, [test.scene_name(number) for number in range(test.num_scenes)]),
        "linear_screen": screened / followers,
        "linear_screen_neighbour": near / followers,
        "against_seconds": against_seconds(model, test),
        "ahead": foretold(model, train, test),
        "kinds_mean": [str(kind) for kind in describe_kinds(model.model, test)],
        "prior": model.model.reading.prior,
        "hardware": hardware(),
        "versions": versions(),
    }
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


def _with_network(recipe: Recipe, **changes: Any) -> Recipe:
    return replace(recipe, model=replace(recipe.model, network=replace(recipe.model.network, **changes)))


def _compared(recipe: Recipe, scenes: Scenes, histories: Sequence[int], seed: int) -> dict[str, float]:
    """Held-out nats of each history, on a third of the scenes."""
    train, held_out = parted(scenes, seed)
    found = {}
    for history in histories:
        model = RelationalModel(_with_network(recipe, history=history), seed=seed).fit(replace(train, relations=None))
        found[str(history)] = held_out_nats(model, held_out, max(histories))
        print(history, found[str(history)], share_right(acting(model, held_out), held_out), flush=True)
    return found


if __name__ == "__main__":
    main()
