"""What wrong structures do to a proposal network, with and without each of what keeps it upright.

    python experiments/stability.py            # a few minutes on one core

A network is taught the relations of 300 scenes of springs until it reads at least 97 % of them. (The labels stand for
structures that a search found.) Then it goes on learning as in a training, from right structures, a few batches of
wrong ones, and right ones again; after every batch it is asked for what it thinks most probable. Writes
``experiments/results/stability.json`` and ``stability.png``.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Generator, Tensor
from torch.nn import functional

from bouncegrad.energies.windows import Batch, pack
from bouncegrad.inference.beliefs import with_floor
from bouncegrad.models import proposer as proposer_module
from bouncegrad.models.decoder import NetworkConfig
from bouncegrad.models.encoders import Perceptron
from bouncegrad.models.model import Model, ModelConfig
from bouncegrad.models.proposer import Proposer, ProposerConfig
from bouncegrad.plots.colours import ENTITY_COLOURS, INK, MISSED, PALE, WRONG
from bouncegrad.scenes import Normalization, Scenes, from_arrays, relation_kinds
from bouncegrad.simulate import Springs, simulate
from bouncegrad.structures.layout import Layout, to_slots
from bouncegrad.training.optimizer import cosine
from bouncegrad.training.proposal_learner import ProposalLearner, SearchOutcome
from bouncegrad.types import Structures

RESULTS = Path(__file__).parent / "results"
NUM_ENTITIES, NUM_SCENES, NUM_ASKED, BATCH_SIZE = 5, 300, 40, 20
NUM_BEFORE = 6
"""Batches of right structures before the first wrong one."""

DEFAULTS = ProposerConfig(sees="trajectories", hidden=128)
RATES = {"default": DEFAULTS.learning_rate, "bold": 0.1}
NOTHING: dict[str, Any] = {"clip_norm": math.inf, "label_smoothing": 0.0, "averaging": 0.0, "floor": 0.0}


@dataclass(frozen=True)
class Variant:
    """A way to learn.

    Attributes:
        changes: to the defaults.
        by_probabilities: by the binary cross entropy of probabilities, as the released code of Alet et al. 2019.
        farthest: where states are cut.
    """

    changes: dict[str, Any]
    by_probabilities: bool = False
    farthest: float = proposer_module.FARTHEST

    def config(self, learning_rate: float) -> ProposerConfig:
        """The settings of the learner."""
        return replace(DEFAULTS, learning_rate=learning_rate, **self.changes)


VARIANTS = {
    "defaults": Variant({}),
    "gradient not cut": Variant({"clip_norm": math.inf}),
    "labels not smoothed": Variant({"label_smoothing": 0.0}),
    "not averaged": Variant({"averaging": 0.0}),
    "none of these": Variant(NOTHING),
    "states not cut": Variant({}, farthest=math.inf),
    "none, by probabilities": Variant(NOTHING, by_probabilities=True),
}
"""Without a floor the network learns the same to the bit; ``least_without_floor`` says what that would propose."""


@dataclass(frozen=True)
class Story:
    """What the network is told.

    Attributes:
        lie: "swapped": all kinds are the other one; "random": of any kind; "outlier": right, but one trajectory is
            multiplied by ``factor``.
        length: batches of it.
        surer: factor on what the network says at the start, as after a long training without smoothing: with 2, some
            hundredths of all probabilities are 1 in single precision.
        factor: of an outlier.
    """

    lie: str
    length: int = 1
    surer: float = 1.0
    factor: float = 1.0

    def num_after(self, learning_rate: float) -> int:
        """Batches of right structures in the end."""
        return 40 if self.length == 1 or learning_rate < 0.01 else 150


STORIES = {
    "1 batch, kinds swapped": Story("swapped"),
    "1 batch, kinds random": Story("random"),
    "1 batch, kinds swapped; a network that is twice as sure": Story("swapped", surer=2.0),
    "20 batches, kinds swapped": Story("swapped", 20),
    "20 batches, kinds random": Story("random", 20),
    "1 batch, one trajectory times 1,000": Story("outlier", factor=1e3),
    "1 batch, one trajectory times 1,000,000": Story("outlier", factor=1e6),
}


class ByProbabilities(ProposalLearner):
    """Single precision cannot hold 1 - p beside a p of nearly 1, which is where this loss divides by it."""

    def _loss(self, said: Tensor, there: Tensor, labels: Structures, chosen: Tensor) -> Tensor:
        return functional.binary_cross_entropy(said.exp()[:, :, 1], labels.float())


class World:
    """The scenes, their right structures, and batches of them."""

    def __init__(self) -> None:
        self.scenes = _springs(NUM_SCENES, 0)
        config = ModelConfig(NetworkConfig(hidden=2))
        normalization = Normalization.fit(self.scenes)
        self.model = Model(config, normalization, self.scenes.feature_names, Generator().manual_seed(0))
        self.layout = Layout(NUM_ENTITIES, 2)
        self.structures = structures_of(self.scenes)
        self.asked = pack(self.model, self.scenes.at(range(NUM_ASKED))), self.structures[:NUM_ASKED]
        unseen = _springs(200, 1)
        self.unseen = pack(self.model, unseen), structures_of(unseen)

    def batch(self, indices: Tensor) -> tuple[Batch, Structures]:
        """Some scenes and what is right of them."""
        return pack(self.model, self.scenes.at(indices)), self.structures[indices]

    def learner(self, variant: Variant, learning_rate: float) -> ProposalLearner:
        """One that knows nothing yet."""
        shape = self.scenes.num_times, self.scenes.num_features
        proposer = Proposer(variant.config(learning_rate), (2, 1), *shape, Generator().manual_seed(0))
        return (ByProbabilities if variant.by_probabilities else ProposalLearner)(proposer, self.layout)


def _springs(num_scenes: int, seed: int) -> Scenes:
    found = simulate(Springs(NUM_ENTITIES), num_scenes, generator=seed)
    return from_arrays(found.loc, found.vel, found.edges, time_step=found.time_step)


def structures_of(scenes: Scenes) -> Structures:
    """What the labels say."""
    assert scenes.relations is not None
    return to_slots(relation_kinds(scenes.relations)[0])


def taught(world: World, smoothing: float, num_passes: int = 80) -> dict[str, Tensor]:
    """The weights of a network that knows the scenes: by Adam, with a dropout that rises to its full share."""
    learner, generator = world.learner(Variant({"label_smoothing": smoothing}), 1e-3), Generator().manual_seed(0)
    learner.optimizer = torch.optim.Adam(learner.proposer.parameters())  # pyright: ignore[reportAttributeAccessIssue]
    for number in range(num_passes):
        for part in learner.proposer.modules():
            if isinstance(part, Perceptron):
                part.dropout = DEFAULTS.dropout * (number + 1) / num_passes
        for group in learner.optimizer.param_groups:
            group["lr"] = 3e-3 * cosine(number / num_passes)
        for indices in torch.randperm(NUM_SCENES, generator=generator).split(BATCH_SIZE):
            batch, structures = world.batch(indices)
            learner.learn(batch, lesson(structures), generator)
    everything, structures = world.batch(torch.arange(NUM_SCENES))
    known = accuracy(learner, everything, structures)
    print(f"smoothing {smoothing}: knows {known:.4f}, of unseen scenes {accuracy(learner, *world.unseen):.4f}")
    assert known >= 0.97, "teach it for longer"
    return learner.proposing.state_dict()


def lesson(structures: Structures) -> SearchOutcome:
    return SearchOutcome(structures, structures, torch.ones(len(structures), dtype=torch.bool))


def accuracy(learner: ProposalLearner, batch: Batch, structures: Structures) -> float:
    """Of what the proposing network thinks most probable."""
    guesses = learner.guess(batch, structures, Generator().manual_seed(0))
    return float((guesses == structures).float().mean())


@torch.no_grad()
def probabilities(learner: ProposalLearner, batch: Batch, structures: Structures) -> Tensor:
    """Of the right kinds, before there is a floor, as logarithms."""
    said = learner.proposing.from_trajectories(batch.states, batch.graph)
    return said.gather(2, structures[:, :, None]).squeeze(2)


def told(world: World, variant: Variant, story: Story, learning_rate: float, weights: dict[str, Tensor]) -> dict:
    """One story: the accuracy after every batch, and what remains of the right kinds after the last wrong one."""
    learner, generator = world.learner(variant, learning_rate), Generator().manual_seed(1)
    learner.proposer.load_state_dict(weights)
    with torch.no_grad():
        for parameter in learner.proposer.heads.parameters():
            parameter.mul_(story.surer)
    learner.averaged.module.load_state_dict(learner.proposer.state_dict())
    learner.averaged.n_averaged.fill_(1)  # so that it is an average from the first step on
    sure = float((probabilities(learner, *world.asked).exp() == 1).float().mean())
    accuracies, least = [accuracy(learner, *world.asked)], 0.0
    for step in range(NUM_BEFORE + story.length + story.num_after(learning_rate)):
        batch, structures = world.batch(torch.randperm(NUM_SCENES, generator=generator)[:BATCH_SIZE])
        if NUM_BEFORE <= step < NUM_BEFORE + story.length:
            batch, structures = instead(world, story, batch, structures, generator)
        learner.learn(batch, lesson(structures), generator)
        accuracies.append(accuracy(learner, *world.asked))
        if step + 1 == NUM_BEFORE + story.length:
            least = float(probabilities(learner, *world.asked).min())
    return {
        "lost": round(accuracies[NUM_BEFORE] - min(accuracies[NUM_BEFORE + 1 :]), 4),
        "before": round(accuracies[NUM_BEFORE], 4),
        "after": round(accuracies[NUM_BEFORE + 1], 4),
        "lowest": round(min(accuracies[NUM_BEFORE + 1 :]), 4),
        "last": round(accuracies[-1], 4),
        "share_that_is_sure": round(sure, 4),
        "least_with_floor": math.exp(float(with_floor(log_pair(least), learner.config.floor)[0, 0, 0])),
        "least_without_floor": math.exp(least),
        "accuracies": [round(each, 4) for each in accuracies],
    }


def log_pair(log_probability: float) -> Tensor:
    """Of a kind and of the other one."""
    first = torch.tensor(log_probability, dtype=torch.float64)
    return torch.stack([first, torch.log(-torch.expm1(first))])[None, None]


def instead(
    world: World, story: Story, batch: Batch, structures: Structures, generator: Generator
) -> tuple[Batch, Structures]:
    """What is told in place of the truth."""
    if story.lie == "swapped":
        return batch, 1 - structures
    if story.lie == "random":
        return batch, world.layout.random(len(structures), generator)
    states = batch.states.clone()
    states[7] *= story.factor
    return replace(batch, states=states), structures


@contextmanager
def states_cut_at(farthest: float) -> Iterator[None]:
    """Another cut than the package's."""
    usual, proposer_module.FARTHEST = proposer_module.FARTHEST, farthest
    yield
    proposer_module.FARTHEST = usual


def all_stories(world: World) -> list[dict[str, Any]]:
    """Every variant at every rate through every story that concerns it."""
    weights = {smoothing: taught(world, smoothing) for smoothing in (DEFAULTS.label_smoothing, 0.0)}
    found = []
    for rate, learning_rate in RATES.items():
        for name, story in STORIES.items():
            for label, variant in VARIANTS.items():
                if math.isinf(variant.farthest) and story.lie != "outlier":
                    continue
                start = weights[variant.config(learning_rate).label_smoothing]
                with states_cut_at(variant.farthest):
                    figures = told(world, variant, story, learning_rate, start)
                found.append({"rate": rate, "learning_rate": learning_rate, "story": name, "variant": label, **figures})
                print(
                    f"{rate:8}{name:57}{label:24}lost {figures['lost']:7.4f}   last {figures['last']:.4f}", flush=True
                )
    return found


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    """The accuracies, a row for each story and a column for each rate."""
    figure = Figure((10, 15), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(STORIES), len(RATES), sharey=True, squeeze=False)
    colours = dict(zip(VARIANTS, (INK, *ENTITY_COLOURS[1:5], MISSED, WRONG), strict=True))
    for row, story in enumerate(STORIES):
        for column, rate in enumerate(RATES):
            axes = grid[row][column]
            for run in (run for run in runs if (run["story"], run["rate"]) == (story, rate)):
                first = run["variant"] == "defaults"
                batches = range(-NUM_BEFORE, len(run["accuracies"]) - NUM_BEFORE)
                style = {"linewidth": 2.4 if first else 1.2, "zorder": 5 if first else 3}
                axes.plot(batches, run["accuracies"], color=colours[run["variant"]], label=run["variant"], **style)
            axes.axvspan(0, STORIES[story].length, color=PALE, zorder=0)
            axes.set(ylim=(0, 1.02), title=f"{story}\n{rate} learning rate, {RATES[rate]:g}")
            axes.title.set_fontsize(9)
            axes.spines[["top", "right"]].set_visible(False)
        grid[row][0].set_ylabel("accuracy")
    for axes in grid[-1]:
        axes.set_xlabel("batches since the first wrong one")
    handles, labels = grid[-1][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    torch.set_num_threads(1)
    began = time.process_time()
    runs = all_stories(World())
    about = {
        "scenes": f"{NUM_SCENES} of {NUM_ENTITIES} springs; accuracies are of the first {NUM_ASKED} of them",
        "batch_size": BATCH_SIZE,
        "num_right_batches_before": NUM_BEFORE,
        "hidden": DEFAULTS.hidden,
        "learning_rates": RATES,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, shared",
        "cpu_seconds": round(time.process_time() - began),
    }
    lines = ",\n".join(json.dumps(run) for run in runs)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "stability.json").write_text(f'{{"about": {json.dumps(about)},\n"runs": [\n{lines}\n]}}\n')
    draw(runs, RESULTS / "stability.png")


if __name__ == "__main__":
    main()
