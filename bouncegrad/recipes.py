"""Named methods: each a combination of parts, nothing more."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from bouncegrad.models.decoder import NetworkConfig
from bouncegrad.models.model import ModelConfig
from bouncegrad.models.noise import NoiseConfig
from bouncegrad.models.proposer import ProposerConfig
from bouncegrad.settings import is_count
from bouncegrad.structures.layout import TABLE_LIMIT
from bouncegrad.structures.priors import check_possible
from bouncegrad.training import TrainingConfig
from bouncegrad.training.bounce import BounceConfig
from bouncegrad.training.forecaster import ForecasterConfig
from bouncegrad.training.rollout_tuning import PolishConfig

MOST_KINDS, TABLE_ROWS = 4, 512
"""Kinds that are tried where nobody knows their number, and rows of a receiver's table that may cost: 4 kinds up to 5
entities, else 3."""


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class Recipe:
    """All that a fit needs to know beside the scenes.

    Attributes:
        model: what the model is made of.
        training: how it is trained.
        polish: how the trained network is then taught to predict many steps; off by default.
        forecaster: how modules of their own are then taught the same; off by default.

    Raises:
        ValueError: many steps where senders that were not measured are to be silent.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    polish: PolishConfig = field(default_factory=lambda: PolishConfig(num_passes=0))
    forecaster: ForecasterConfig = field(default_factory=ForecasterConfig)

    def __post_init__(self) -> None:
        later = self.polish.num_passes + self.forecaster.num_passes
        if self.model.network.unseen == "silent" and (later or self.training.horizon > 1):
            raise ValueError(
                f"senders can be silent over one step only, got a horizon of {self.training.horizon} and {later} "
                'passes of a polish or a forecaster: set them to 1 and 0, or unseen to "skip"'
            )


ALET2019 = Recipe(
    ModelConfig(
        NetworkConfig(inputs="absolute", update="general", skip=False, hidden=256),
        NoiseConfig(scale="none", degrees_of_freedom=None),
    ),
    TrainingConfig(
        num_passes=2000,
        batch_size=128,
        learning_rate=1e-3,
        schedule="plateau",
        horizon=10,
        stride=10,
        partial=True,
        starts_per_step=1000,
        averaging=0.0,
        bounce=BounceConfig(
            search="metropolis",
            proposals="learned",
            heat="steered",
            acceptance=math.exp(-1),
            hottest=math.exp(-9.8),
            cooling=0.4,
        ),
        proposer=ProposerConfig(sees="trajectories"),
    ),
)
"""Differs from the released code in what made that one fall over: steps warm up and are cut, the temperature follows
the acceptance by a rule that cannot get stuck, and the proposal network has what keeps one batch from ruining it."""


def _small(recipe: Recipe) -> Recipe:
    """The same method with small networks, for few scenes: smaller batches, so more steps for each pass."""
    network = replace(recipe.model.network, hidden=64)
    proposer = replace(recipe.training.proposer, hidden=128, learning_rate=0.02)
    training = replace(recipe.training, num_passes=400, batch_size=32, learning_rate=3e-3, proposer=proposer)
    return replace(recipe, model=replace(recipe.model, network=network), training=training)


NRI = Recipe(
    ModelConfig(
        NetworkConfig(inputs="absolute", update="general", skip=False, hidden=256, edge_layers=2),
        NoiseConfig(scale="none", degrees_of_freedom=None),
    ),
    TrainingConfig(
        num_passes=500,
        batch_size=128,
        learning_rate=5e-4,
        warm_up=1,
        schedule="steps",
        clip_norm=1e6,
        horizon=10,
        stride=10,
        partial=True,
        starts_per_step=1000,
        averaging=0.0,
        bounce=BounceConfig(search="relaxed", heat="scheduled"),
        proposer=ProposerConfig(sees="trajectories", hidden=256, dropout=0.0),
    ),
)


def _supervised(recipe: Recipe) -> Recipe:
    """The same decoder on the true relations, and an encoder that learns them."""
    proposer = ProposerConfig(
        sees="trajectories", hidden=512, dropout=0.5, optimizer="adam", learning_rate=5e-4, label_smoothing=0.0
    )
    bounce = replace(recipe.training.bounce, search="frozen")
    return replace(recipe, training=replace(recipe.training, bounce=bounce, proposer=proposer))


def _one_kind(recipe: Recipe) -> Recipe:
    """The same decoder with one kind on all edges: everybody acts on everybody alike."""
    bounce = replace(recipe.training.bounce, search="metropolis", proposals="none")
    training = replace(recipe.training, bounce=bounce, proposer=ProposerConfig())
    network = replace(recipe.model.network, num_edge_kinds=1)
    return replace(recipe, model=replace(recipe.model, network=network), training=training)


LEADER = Recipe(
    ModelConfig(NetworkConfig(num_edge_kinds=3, history=5, silent_first=True, unseen="silent")),
    TrainingConfig(num_passes=40, batch_size=2, starts_per_step=25, averaging=0.98, bounce=BounceConfig(prior="file")),
)
"""For recordings that are few and long: small batches, and modules that see five samples."""


RECIPES = {
    "fast": Recipe(),
    "fast-forecast": Recipe(forecaster=ForecasterConfig(num_passes=30)),
    "leader": LEADER,
    "alet2019": ALET2019,
    "alet2019-small": _small(ALET2019),
    "nri": NRI,
    "nri-true": _supervised(NRI),
    "nri-full": _one_kind(NRI),
}
"""``fast``: superposed messages, a learned scale with Student-t tails, whole graphs drawn from exact tables under the
prior with the most evidence, as hot as a falling entropy asks; the default.

``fast-forecast``: ``fast``, and where its predictions drift, modules of their own that learn to predict ten steps under
the structures that it found; a quarter more time.

``leader``: the same where entities go in single file and each follows one other at most (kind 0: nobody), in one of two
ways and in its own time: modules see the last five samples, and entities that are not seen for a while say nothing. For
cars, walkers, animals. Where several may follow the same one, with the prior "leader".

``alet2019``: the network, loss, search and proposal network of Alet et al. 2019 at their size. Learning rate as the
default of the released code; its scripts have 0.01 for springs and 1e-4 for charged particles.

``alet2019-small``: the same for a thousand scenes and no GPU: hidden layers of 64 in place of 256, in the proposal
network of 128 in place of 512; batches of 32 scenes, and larger learning rates.
"""


def recipe_named(name: str) -> Recipe:
    """Look a recipe up.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in RECIPES:
        raise ValueError(f"there is no recipe {name!r}: choose one of {', '.join(sorted(RECIPES))}")
    return RECIPES[name]


def with_kinds(recipe: Recipe, kinds: int | Literal["auto"] | None, num_entities: int) -> Recipe:
    """The recipe with so many edge kinds to begin with, of which those that are not needed will be merged.

    Args:
        recipe: any.
        kinds: how many; "auto": :data:`MOST_KINDS`, or as many of them as give scenes of this size tables of up to
            :data:`TABLE_ROWS` rows, but at least 3, and the recipe as it is where 3 are too many for any tables; None:
            the recipe as it is.
        num_entities: of the scenes.

    Raises:
        ValueError: no number of kinds, or one that the search cannot have with what it is to believe of graphs.
    """
    chosen = recipe if kinds is None else _with_so_many(recipe, kinds, num_entities)
    if recipe.training.bounce.search == "exact":
        network = chosen.model.network
        check_possible(recipe.training.bounce.prior, network.num_edge_kinds, network.num_node_kinds)
    return chosen


def _with_so_many(recipe: Recipe, kinds: int | Literal["auto"], num_entities: int) -> Recipe:
    if kinds != "auto" and not is_count(kinds):
        raise ValueError(f'kinds must be a whole number, 1 or more, or "auto"; got {kinds!r}')
    fitting = (number for number in range(MOST_KINDS, 3, -1) if number ** (num_entities - 1) <= TABLE_ROWS)
    number = next(fitting, 3) if kinds == "auto" else kinds
    if kinds == "auto" and number ** (num_entities - 1) > TABLE_LIMIT:
        return recipe
    network = replace(recipe.model.network, num_edge_kinds=number)
    training = replace(recipe.training, merge_kinds=True)
    return replace(recipe, model=replace(recipe.model, network=network), training=training)


def with_prior(recipe: Recipe, prior: str) -> Recipe:
    """The recipe with a belief about graphs: a name in :data:`bouncegrad.structures.priors.PRIORS`; "auto": as it is.

    Only an exact search believes anything while it learns; with the others the recipe stays as it is.
    """
    if prior == "auto" or recipe.training.bounce.search != "exact":
        return recipe
    bounce = replace(recipe.training.bounce, prior=prior)
    return replace(recipe, training=replace(recipe.training, bounce=bounce))
