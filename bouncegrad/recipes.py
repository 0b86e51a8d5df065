"""Recipes: named methods, each a combination of settings of model, training and later stages.

"fast" is this package's own; "alet2019" is BounceGrad (Alet et al. 2019); "nri" is neural relational inference (Kipf et
al. 2018), with two baselines: "nri-true" (true graph) and "nri-full" (full graph).
"""

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
"""Edge types to start with where their number is unknown ("auto"), and greatest number of rows of a receiver's table:
4 edge types up to 5 entities, else 3."""


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class Recipe:
    """All settings of a fit.

    Attributes:
        model: settings of the model.
        training: settings of the training.
        polish: settings of the tuning on rollouts after the training; off by default.
        forecaster: settings of the forecaster, a second decoder for rollouts; off by default.

    Raises:
        ValueError: rollouts of several steps together with ``unseen="silent"``.
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
                'epochs of polish or forecaster: set them to 1 and 0, or unseen to "skip"'
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
"""BounceGrad of Alet et al. 2019. It differs from the released code where that one is unstable: warm-up and gradient
clipping, a temperature that follows the acceptance by a rule that cannot get stuck, and a proposal network that one bad
batch cannot ruin (:class:`bouncegrad.training.proposal_learner.Learner`)."""


def _small(recipe: Recipe) -> Recipe:
    """The same method with small networks, for few scenes: smaller batches, so more gradient steps per epoch."""
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
    """The same decoder trained on the true relations, and an encoder trained to classify them."""
    proposer = ProposerConfig(
        sees="trajectories", hidden=512, dropout=0.5, optimizer="adam", learning_rate=5e-4, label_smoothing=0.0
    )
    bounce = replace(recipe.training.bounce, search="frozen")
    return replace(recipe, training=replace(recipe.training, bounce=bounce, proposer=proposer))


def _one_kind(recipe: Recipe) -> Recipe:
    """The same decoder with one edge type on all edges: the full graph."""
    bounce = replace(recipe.training.bounce, search="metropolis", proposals="none")
    training = replace(recipe.training, bounce=bounce, proposer=ProposerConfig())
    network = replace(recipe.model.network, num_edge_kinds=1)
    return replace(recipe, model=replace(recipe.model, network=network), training=training)


LEADER = Recipe(
    ModelConfig(NetworkConfig(num_edge_kinds=3, history=5, silent_first=True, unseen="silent")),
    TrainingConfig(num_passes=40, batch_size=2, starts_per_step=25, averaging=0.98, bounce=BounceConfig(prior="file")),
)
"""For few and long recordings of entities that follow each other: small batches, and modules that read five samples."""


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
"""Name -> recipe.

``fast``, the default: a decoder that adds up messages, a learned noise scale with Student-t tails, and an exact E-step:
whole graphs drawn from tables under the prior with the most evidence, at the temperature of a falling entropy.

``fast-forecast``: ``fast``, and where its rollouts drift, a forecaster that is trained on rollouts of ten steps under
the structures (latent graphs) that ``fast`` infers; a quarter more time.

``leader``: ``fast`` for entities in single file, each of which follows at most one other (kind 0: no leader), in one of
two ways and with its own delay: modules read the last five samples, and entities that are not measured for a while send
no message. For cars, pedestrians, animals. Where several may follow the same one, use it with the prior "leader".

``alet2019``: the network, loss, search and proposal network of Alet et al. 2019 at their size. The learning rate is the
default of the released code; its scripts have 0.01 for springs and 1e-4 for charged particles.

``alet2019-small``: the same for a thousand scenes and no GPU: hidden layers of 64 in place of 256, in the proposal
network of 128 in place of 512; batches of 32 scenes, and larger learning rates.

``nri``: encoder and decoder trained by the ELBO (Kipf et al. 2018). ``nri-true``: the decoder trained on the true
relations, and the encoder supervised by them. ``nri-full``: the decoder on the full graph with one edge type.
"""


def recipe_named(name: str) -> Recipe:
    """The recipe of this name in :data:`RECIPES`.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in RECIPES:
        raise ValueError(f"there is no recipe {name!r}: choose one of {', '.join(sorted(RECIPES))}")
    return RECIPES[name]


def with_kinds(recipe: Recipe, kinds: int | Literal["auto"] | None, num_entities: int) -> Recipe:
    """The recipe with this initial number of edge types, of which those that are not needed will be merged.

    Args:
        recipe: any recipe.
        kinds: number of edge types; "auto": :data:`MOST_KINDS`, or as many of them as give scenes of this size tables
            of up to :data:`TABLE_ROWS` rows, but at least 3, and the recipe as it is where 3 are too many for any
            tables; None: the recipe as it is.
        num_entities: number of entities of the scenes.

    Raises:
        ValueError: not a positive whole number, or one that the prior of the recipe does not allow.
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
    """The recipe with a prior over graphs, a name in :data:`bouncegrad.structures.priors.PRIORS`; "auto": unchanged.

    Only exact search uses a prior in training; recipes with another search stay unchanged.
    """
    if prior == "auto" or recipe.training.bounce.search != "exact":
        return recipe
    bounce = replace(recipe.training.bounce, prior=prior)
    return replace(recipe, training=replace(recipe.training, bounce=bounce))
