"""The proposal network of point sets: which modules a function is made of, read off the points that are given of it.

Source: the proposal network of Alet et al. 2019, section 4.2, for compositions other than graphs; points are a set, so
the network sums over them (Zaheer et al. 2017, "Deep sets").
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from bouncegrad.functions.adaptation import mean_squares
from bouncegrad.functions.model import FunctionModel
from bouncegrad.functions.points import PointSets
from bouncegrad.inference.beliefs import with_floor
from bouncegrad.models.encoders import Perceptron, linear
from bouncegrad.models.proposer import ProposerConfig
from bouncegrad.structures.proposals import BeliefsFn
from bouncegrad.training.proposal_learner import Learner, SearchOutcome
from bouncegrad.types import Structures

FREQUENCIES = (1.0, 2.0, 4.0, 8.0)
"""Of the sines and cosines of inputs, in radians per spread of the inputs."""


class PointProposer(nn.Module):
    """Log probabilities of the modules on every slot: ``W g(mean_p f(x_p, y_p), max_p f(x_p, y_p))``.

    Inputs are read with their sines and cosines of several frequencies, since many a function changes faster than small
    networks tell (Mildenhall et al. 2020).

    Slots that can be swapped are told the same, since a structure does not say which of them is which.

    Args:
        config: widths and dropout; it must see "points".
        model: whose slots are proposed for, and in whose units points are read.
        generator: draws the initial weights.

    Raises:
        ValueError: it is to see something else.
    """

    def __init__(self, config: ProposerConfig, model: FunctionModel, generator: Generator) -> None:
        super().__init__()
        if config.sees != "points":
            raise ValueError(f'the proposal network of point sets sees "points"; got sees {config.sees!r}')
        self.config = config
        numbers = (1 + 2 * len(FREQUENCIES)) * len(model.center_in) + len(model.scale_out)
        width = config.hidden
        self.embed = Perceptron(numbers, width, config.dropout, generator)
        self.decide = Perceptron(2 * width, width, config.dropout, generator)
        libraries = model.slot_libraries
        self.places = libraries if model.composition.interchangeable else tuple(range(len(libraries)))
        num_heads = max(self.places) + 1
        self.heads = nn.ModuleList(linear(width, model.config.num_modules, generator) for _ in range(num_heads))

    def forward(
        self,
        points: Float[Tensor, "task point number"],
        given: Bool[Tensor, "task point"],
        learning: Generator | None = None,
    ) -> Float[Tensor, "task slot kind"]:
        """Read the given points, inputs and outputs side by side; ``learning`` draws what is dropped out."""
        embedded = self.embed(points[given], learning)
        everywhere = points.new_zeros(*given.shape, embedded.shape[1])
        everywhere[given] = embedded
        mean = everywhere.sum(1) / given.sum(1, keepdim=True)
        most = everywhere.masked_fill(~given[:, :, None], -math.inf).amax(1)
        decided = self.decide(torch.cat([mean, most], 1), learning)
        said = [head(decided).log_softmax(1) for head in self.heads]
        return torch.stack([said[place] for place in self.places], 1)


class PointLearner(Learner[PointProposer]):
    """The proposal network as it learns from the structures that the search finds.

    It learns from as many points as it will be given, drawn anew from all points of a task each time: what a search
    found holds for every one of them. Dreams have the inputs of the batch, and noise of the size by which the search
    still fails to explain it.

    Args:
        proposer: the network; it is changed in place.
        model: in whose unit points are read.
    """

    def __init__(self, proposer: PointProposer, model: FunctionModel) -> None:
        super().__init__(proposer, proposer.config)
        self.model = model

    def beliefs_fn(self, batch: PointSets, generator: Generator) -> BeliefsFn:
        """What the network proposes for a batch, whatever its structures are."""
        noise = None if self.config.averaging else generator
        said = beliefs_of(self.proposing, self.model, batch, noise)
        return lambda drawn: lambda structures: said

    def guess(self, batch: PointSets, structures: Structures, generator: Generator) -> Structures:
        """The most probable module of every slot."""
        return beliefs_of(self.proposing, self.model, batch).argmax(2)

    def log_probs(
        self, batch: PointSets, lesson: SearchOutcome, generator: Generator
    ) -> list[Float[Tensor, "task slot kind"]]:
        """What the network says while it learns."""
        seen = batch.given_anew(generator)
        return [self.proposer(side_by_side(self.model, seen), seen.given, generator)]

    def learn(self, batch: PointSets, lesson: SearchOutcome, generator: Generator) -> float:
        """One gradient step, from what the search found or from dreams of as many tasks."""
        if self.config.learn_from == "dreams":
            batch, lesson = self._dreamt(batch, lesson, generator)
        return super().learn(batch, lesson, generator)

    @torch.no_grad()
    def _dreamt(self, batch: PointSets, lesson: SearchOutcome, generator: Generator) -> tuple[PointSets, SearchOutcome]:
        """Random structures, and tasks that are what the modules make of them."""
        structures = self.model.space.random(batch.num_tasks, generator)
        said = self.model.predict(lesson.after, batch.inputs)
        off = mean_squares(said, batch.outputs, batch.given).sqrt()[:, None, None]
        outputs = self.model.predict(structures, batch.inputs)
        outputs += off * torch.randn(outputs.shape, generator=generator)
        return replace(batch, outputs=outputs), SearchOutcome(structures, structures, torch.ones_like(lesson.accepted))

    def slot_mask(self, batch: PointSets) -> Bool[Tensor, "task slot"]:
        """All slots of all tasks."""
        return torch.ones(batch.num_tasks, self.model.composition.num_slots, dtype=torch.bool)


@torch.no_grad()
def beliefs_of(
    proposer: PointProposer, model: FunctionModel, points: PointSets, noise: Generator | None = None
) -> Float[Tensor, "task slot kind"]:
    """Log probabilities of the modules on the slots of some tasks, with the floor of the configuration."""
    said = proposer(side_by_side(model, points), points.given, noise)
    return with_floor(said, proposer.config.floor)


def side_by_side(model: FunctionModel, points: PointSets) -> Float[Tensor, "task point number"]:
    """Inputs, their sines and cosines, and outputs of each point, in the model's unit."""
    inputs, outputs = model.normalized(points)
    waves = (inputs[..., None] * torch.tensor(FREQUENCIES)).flatten(2)
    return torch.cat([inputs, waves.sin(), waves.cos(), outputs], 2)
