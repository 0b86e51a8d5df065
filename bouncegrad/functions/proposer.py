"""Proposal network of point sets: probabilities of the module on each slot, computed from the given points.

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
"""Frequencies of the sines and cosines of inputs, in radians per standard deviation of the inputs."""


class PointProposer(nn.Module):
    """Log probabilities of the modules on every slot: ``W g(mean_p f(x_p, y_p), max_p f(x_p, y_p))``.

    The features of an input are its value and its sines and cosines at several frequencies, because small networks fit
    high frequencies badly (Mildenhall et al. 2020).

    Interchangeable slots share one output, since swapping their modules does not change the function.

    Args:
        config: widths and dropout; ``sees`` must be "points".
        model: the model of functions, which determines the slots and the units of points.
        generator: source of randomness of the initial weights.

    Raises:
        ValueError: ``sees`` is not "points".
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
        """Log probabilities from ``points``, inputs next to outputs; ``learning`` draws dropout, None: no dropout."""
        embedded = self.embed(points[given], learning)
        features = points.new_zeros(*given.shape, embedded.shape[1])
        features[given] = embedded
        mean = features.sum(1) / given.sum(1, keepdim=True)
        maximum = features.masked_fill(~given[:, :, None], -math.inf).amax(1)
        hidden = self.decide(torch.cat([mean, maximum], 1), learning)
        log_probs = [head(hidden).log_softmax(1) for head in self.heads]
        return torch.stack([log_probs[place] for place in self.places], 1)


class PointLearner(Learner[PointProposer]):
    """Training of the proposal network on the structures that the search finds, or on simulated tasks ("dreams").

    Each step draws the given points again from all points of a task, as many as before: the structure that the search
    found is a label for any choice of points. Dreams have the inputs of the batch, and noise as large as the residuals
    of the structures that the search found.

    Args:
        proposer: the network; it is changed in place.
        model: the model of functions, which determines the units of points.
    """

    def __init__(self, proposer: PointProposer, model: FunctionModel) -> None:
        super().__init__(proposer, proposer.config)
        self.model = model

    def beliefs_fn(self, batch: PointSets, generator: Generator) -> BeliefsFn:
        """Log probabilities of the network for a batch, the same for all current structures."""
        noise = None if self.config.averaging else generator
        log_probs = beliefs_of(self.proposing, self.model, batch, noise)
        return lambda drawn: lambda structures: log_probs

    def guess(self, batch: PointSets, structures: Structures, generator: Generator) -> Structures:
        """The most probable module of every slot."""
        return beliefs_of(self.proposing, self.model, batch).argmax(2)

    def log_probs(
        self, batch: PointSets, lesson: SearchOutcome, generator: Generator
    ) -> list[Float[Tensor, "task slot kind"]]:
        """Log probabilities of the network with dropout, for the loss."""
        redrawn = batch.given_anew(generator)
        return [self.proposer(side_by_side(self.model, redrawn), redrawn.given, generator)]

    def learn(self, batch: PointSets, lesson: SearchOutcome, generator: Generator) -> float:
        """One gradient step on the structures that the search found, or on dreams of as many tasks."""
        if self.config.learn_from == "dreams":
            batch, lesson = self._dreamt(batch, lesson, generator)
        return super().learn(batch, lesson, generator)

    @torch.no_grad()
    def _dreamt(self, batch: PointSets, lesson: SearchOutcome, generator: Generator) -> tuple[PointSets, SearchOutcome]:
        """Random structures, and tasks with the outputs of the modules under them."""
        structures = self.model.space.random(batch.num_tasks, generator)
        predicted = self.model.predict(lesson.after, batch.inputs)
        noise = mean_squares(predicted, batch.outputs, batch.given).sqrt()[:, None, None]
        outputs = self.model.predict(structures, batch.inputs)
        outputs += noise * torch.randn(outputs.shape, generator=generator)
        return replace(batch, outputs=outputs), SearchOutcome(structures, structures, torch.ones_like(lesson.accepted))

    def slot_mask(self, batch: PointSets) -> Bool[Tensor, "task slot"]:
        """All slots of all tasks."""
        return torch.ones(batch.num_tasks, self.model.composition.num_slots, dtype=torch.bool)


@torch.no_grad()
def beliefs_of(
    proposer: PointProposer, model: FunctionModel, points: PointSets, noise: Generator | None = None
) -> Float[Tensor, "task slot kind"]:
    """Log probabilities of the modules on the slots of some tasks, with the floor of the configuration."""
    log_probs = proposer(side_by_side(model, points), points.given, noise)
    return with_floor(log_probs, proposer.config.floor)


def side_by_side(model: FunctionModel, points: PointSets) -> Float[Tensor, "task point number"]:
    """Inputs, their sines and cosines, and outputs of each point, in the model's unit."""
    inputs, outputs = model.normalized(points)
    waves = (inputs[..., None] * torch.tensor(FREQUENCIES)).flatten(2)
    return torch.cat([inputs, waves.sin(), waves.cos(), outputs], 2)
