"""BounceGrad: bounce (search every scene's structure, modules fixed), then grad (train the modules, structures fixed).

The trainer and the checkpoint are the two places where anything changes in place.

Source: Alet, Weng, Lozano-Perez and Kaelbling, 2019, "Neural relational inference with fast modular meta-learning",
algorithm 1; Alet, Lozano-Perez and Kaelbling, 2018, "Modular meta-learning", for the alternation itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Generator, Tensor

from bouncegrad.bounce import BounceConfig, Bounced, make_bounce
from bouncegrad.checkpoint import CheckpointError
from bouncegrad.evaluate import training_loss
from bouncegrad.graphs import Layout, to_matrix, to_slots
from bouncegrad.metrics import match_relations
from bouncegrad.model import Batch, Model, ModelConfig, Reading, Windows, pack, some_starts, windows
from bouncegrad.priors import least_losses, priors_for
from bouncegrad.priors.temper import reading_of
from bouncegrad.scenes import Normalization, Scenes, relation_kinds
from bouncegrad.settings import check_settings, is_positive
from bouncegrad.sums import factors_of, factors_of_some
from bouncegrad.types import Structures

CELL_BUDGET = 40_000_000
"""Hidden numbers of one layer over all edges and starts of a batch: about 1 GB with those that the gradient needs."""


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class TrainingConfig:
    """How modules and structures are learned.

    Attributes:
        num_passes: times that every training scene is searched and learned from.
        batch_size: scenes in one super-graph; fewer where scenes are so large that memory would not hold them.
        learning_rate: of Adam, at its highest; it warms up over the first steps and ends near 0 on a cosine.
        clip_norm: the gradient's norm is cut to this.
        horizon: steps of the rollouts that are trained and searched on.
        stride: samples between the starts of those rollouts.
        starts: share of the starts that each batch is searched and learned on, drawn at random, at the start; grows
            geometrically to all of them while the search cools. Few samples cost little and leave much undecided.
        bounce: how structures are searched.

    Raises:
        ValueError: a number or word that makes no training.
    """

    num_passes: int = 60
    batch_size: int = 50
    learning_rate: float = 2e-3
    clip_norm: float = 1.0
    horizon: int = 1
    stride: int = 1
    starts: float = 0.34
    bounce: BounceConfig = field(default_factory=BounceConfig)

    def __post_init__(self) -> None:
        check_settings(
            self,
            counts=("num_passes", "batch_size", "horizon", "stride"),
            positive=("learning_rate", "clip_norm"),
        )
        if not 0 < self.starts <= 1:
            raise ValueError(f"starts must be a share above 0, up to 1; got {self.starts}")


@dataclass(frozen=True, slots=True)
class PassReport:
    """What one pass over the training scenes did.

    Attributes:
        number: passes done, counted from 1.
        loss: mean training loss of the modules.
        temperature: of the last batch.
        acceptance: share of scenes whose structure changed.
        prior: what the search believed of graphs.
        held_out: mean loss of the held-out scenes under their best structures, nats or mean squares per scene.
        relation_accuracy: of the current training structures, where labels exist; never used to learn.
        progress: share of the training that is done.
        seconds: since the training began, interruptions left out.
    """

    number: int
    loss: float
    temperature: float
    acceptance: float
    prior: str
    held_out: float
    relation_accuracy: float | None
    progress: float = 0.0
    seconds: float = 0.0


class BounceGrad:
    """The state of a training run: modules, optimiser, one structure for each scene, temperature, randomness.

    Args:
        scenes: to learn from; their relations are only ever compared with, never learned from, unless
            ``config.bounce.search`` is "frozen".
        held_out: scenes by which the best modules are chosen; unlabelled as well.
        model_config: what the model is made of.
        config: how it is trained.
        seed: of all randomness.
    """

    def __init__(
        self, scenes: Scenes, held_out: Scenes, model_config: ModelConfig, config: TrainingConfig, seed: int
    ) -> None:
        self.config = config
        self.scenes = scenes
        self.generator = Generator().manual_seed(seed)
        normalization = Normalization.fit(scenes)
        self.model = Model(model_config, normalization, scenes.feature_names, self.generator)
        self.batch_size = _affordable(config, model_config, scenes)
        self.held_out = [pack(self.model, held_out.at(part)) for part in _parts(held_out, self.batch_size)]
        whole = windows(pack(self.model, scenes), config.horizon, config.stride)
        if int((whole.weights > 0).sum()) < 2:
            raise ValueError(
                "there is nothing to learn from: no scene has all its entities measured at one sample and one of them "
                "at the next; bring scenes with fewer gaps"
            )
        if model_config.network.skip:
            seen = whole.weights[:, :, 0] > 0
            self.model.network.fit_skip(whole.states[seen], whole.targets[:, :, 0][seen])
        self.layout = self.model.layout(scenes.num_entities)
        _check_search(config, model_config)
        self.structures = self._initial_structures()
        self.bounce = make_bounce(config.bounce, self.layout)
        self.optimizer = torch.optim.Adam(self.model.parameters(), config.learning_rate)
        self.num_passes_done = 0
        self.num_steps = 0
        self.best_score = math.inf
        self.best_weights = {name: value.clone() for name, value in self.model.state_dict().items()}

    def _initial_structures(self) -> Structures:
        if self.config.bounce.search != "frozen":
            return self.layout.random(self.scenes.num_scenes, self.generator)
        return _true_structures(self.scenes, self.layout)

    @property
    def progress(self) -> float:
        """Share of ``config.num_passes`` that is done."""
        return self.num_passes_done / self.config.num_passes

    def passes(self, minutes: float | None = None, elapsed: float = 0.0) -> Iterator[PassReport]:
        """Train to the end, pass by pass.

        Args:
            minutes: how long to train; temperature and learning rate then follow the time. None: for
                ``config.num_passes`` passes, repeatable to the bit.
            elapsed: seconds that an interrupted training has already had.
        """
        if minutes is not None and not is_positive(minutes):
            raise ValueError(f"expected a positive, finite number of minutes, got {minutes}")
        started = time.monotonic() - elapsed

        def clock(by_passes: float) -> float:
            return by_passes if minutes is None else (time.monotonic() - started) / (60 * minutes)

        while clock(self.progress) < 1:
            report = self.run_pass(clock)
            yield replace(report, progress=min(1.0, clock(self.progress)), seconds=time.monotonic() - started)

    def run_pass(self, clock: Callable[[float], float] = lambda by_passes: by_passes) -> PassReport:
        """Search and learn once from every training scene, in random order.

        Args:
            clock: turns the share of passes that is done into the share of the whole training, by which temperature
                and learning rate are set; at 1 the pass ends early. By default they are the same.
        """
        batches = torch.randperm(self.scenes.num_scenes, generator=self.generator).split(self.batch_size)
        losses, bounced = [], []
        for number, indices in enumerate(batches):
            progress = clock(self.progress + number / len(batches) / self.config.num_passes)
            if losses and progress >= 1:
                break
            batch = pack(self.model, self.scenes.at(indices))
            stretches = self._stretches(batch, min(1.0, progress))
            target = (self.model, batch, stretches)
            found = self.bounce.search(target, self.structures[indices], min(1.0, progress), self.generator)
            self.structures[indices] = found.structures
            losses.append(self._grad(batch, stretches, found.structures, min(1.0, progress)))
            bounced.append(found)
        self.num_passes_done += 1
        self.bounce.finish_pass()
        return self._report(losses, bounced)

    def _stretches(self, batch: Batch, progress: float) -> Windows:
        """A random part of a batch's windows, the larger the further the training is."""
        whole = windows(batch, self.config.horizon, self.config.stride)
        cooled = min(1.0, progress / max(self.config.bounce.cooling, 1e-9))
        share = self.config.starts ** (1 - cooled)
        return some_starts(whole, max(1, round(share * whole.states.shape[1])), self.generator)

    def _grad(self, batch: Batch, stretches: Windows, structures: Structures, progress: float) -> float:
        warm = min(1.0, (self.num_steps + 1) / 20)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * warm * (0.02 + 0.49 * (1 + math.cos(math.pi * progress)))
        self.optimizer.zero_grad()
        loss = training_loss(self.model, batch, stretches, structures)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.num_steps += 1
        return loss.item()

    def _report(self, losses: list[float], bounced: list[Bounced]) -> PassReport:
        held_out = self._held_out_loss(losses)
        if held_out <= self.best_score:
            self.best_score = held_out
            self.best_weights = {name: value.clone() for name, value in self.model.state_dict().items()}
        return PassReport(
            number=self.num_passes_done,
            loss=sum(losses) / len(losses),
            temperature=bounced[-1].temperature,
            acceptance=float(torch.cat([found.changed for found in bounced]).float().mean()),
            prior=bounced[-1].prior,
            held_out=held_out,
            relation_accuracy=self._accuracy(),
        )

    def _accuracy(self) -> float | None:
        if self.scenes.relations is None or not self.scenes.labelled:
            return None
        kinds = to_matrix(self.structures, self.scenes.num_entities)
        return match_relations(kinds, self.scenes.relations, self.scenes.present).accuracy

    @torch.no_grad()
    def _held_out_loss(self, losses: list[float]) -> float:
        """Mean loss of the held-out scenes under the best structures; where no search says these, the training loss."""
        if self.config.bounce.search != "exact":
            return sum(losses) / len(losses)
        parts = (factors_of(self.model, batch, windows(batch)) for batch in self.held_out)
        layout = self.model.layout(self.held_out[0].graph.present.shape[1])
        return float(torch.cat([least_losses(factors, layout) for factors in parts]).mean())

    def best_model(self) -> Model:
        """The model of the pass that explained the held-out scenes best, ready for use.

        Raises:
            ValueError: the training diverged from its first pass on.
        """
        if self.num_passes_done and self.best_score == math.inf:
            raise ValueError("no pass had a finite loss: the training diverged; lower learning_rate or clip_norm")
        best = Model(self.model.config, self.model.normalization, self.model.feature_names, Generator())
        best.load_state_dict(self.best_weights)
        best.network.fix_gauge(self.held_out[0].states, self.held_out[0].graph)
        best.reading = self._reading(best)
        return best.eval()

    def _reading(self, model: Model) -> Reading:
        """Prior and temperature by the held-out scenes: the first half of their samples against the second."""
        middle = (self.held_out[0].states.shape[1] - 1) // 2
        if self.config.bounce.search != "exact" or model.scale is None or middle < 1:
            return Reading()
        early, late = (factors_of_some(model, self.held_out, part) for part in (slice(middle), slice(middle, None)))
        layout = self.model.layout(self.held_out[0].graph.present.shape[1])
        return reading_of(priors_for(layout, self.bounce.state()["weights"]), early, late)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that a continued training needs, as tensors and JSON."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best_weights.items()}
        moments = self.optimizer.state_dict()["state"]
        tensors |= {f"optimizer.{i}.{name}": value for i, state in moments.items() for name, value in state.items()}
        tensors |= {"structures": self.structures, "generator": self.generator.get_state()}
        meta = {
            "bounce": self.bounce.state(),
            "num_passes_done": self.num_passes_done,
            "num_steps": self.num_steps,
            "best_score": self.best_score,
        }
        return tensors, meta

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` returned.

        Raises:
            CheckpointError: it belongs to another model or other scenes.
        """
        try:
            self.model.load_state_dict(_under("model.", tensors))
            self.best_weights = _under("best.", tensors)
            if tensors["structures"].shape != self.structures.shape:
                raise KeyError(f"structures of shape {tuple(tensors['structures'].shape)}")
            self.structures = tensors["structures"]
            self.generator.set_state(tensors["generator"])
            self._load_moments(_under("optimizer.", tensors))
            self.bounce.load_state(meta["bounce"])
            self.num_passes_done, self.num_steps = meta["num_passes_done"], meta["num_steps"]
            self.best_score = meta["best_score"]
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint does not fit this model and these scenes ({error}): were the data changed? "
                "Choose another run folder to start again"
            ) from error

    def _load_moments(self, moments: Mapping[str, Tensor]) -> None:
        states: dict[int, dict[str, Tensor]] = {}
        for name, value in moments.items():
            index, word = name.split(".")
            states.setdefault(int(index), {})[word] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": states})


def _parts(scenes: Scenes, size: int) -> Sequence[Tensor]:
    return torch.arange(scenes.num_scenes).split(size)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _affordable(config: TrainingConfig, model_config: ModelConfig, scenes: Scenes) -> int:
    """The batch size, or what fits into :data:`CELL_BUDGET`."""
    num_edges, num_starts = scenes.num_entities * (scenes.num_entities - 1), scenes.num_times // config.stride
    cells = num_edges * num_starts * model_config.network.hidden
    return max(1, min(config.batch_size, CELL_BUDGET // max(1, cells)))


def _check_search(config: TrainingConfig, model_config: ModelConfig) -> None:
    """Refuse tables that cannot be made before anything is written or waited for."""
    if config.bounce.search != "exact":
        return
    if config.horizon != 1 or model_config.network.message_steps != 1:
        raise ValueError(
            f'search "exact" needs horizon 1 and one round of messages, got horizon {config.horizon} and message_steps '
            f'{model_config.network.message_steps}: choose search "metropolis" or "gibbs", or set both to 1'
        )


def _true_structures(scenes: Scenes, layout: Layout) -> Structures:
    """The labels as structures; pairs with absent entities get kind 0."""
    if scenes.relations is None:
        raise ValueError('search "frozen" keeps the true relations, but these scenes have none: choose another search')
    kinds, labels = relation_kinds(scenes.relations)
    if len(labels) > layout.num_edge_kinds:
        raise ValueError(
            f'search "frozen" needs a kind for each of the {len(labels)} labels, got {layout.num_edge_kinds} edge '
            f"kinds: set num_edge_kinds to {len(labels)}"
        )
    if (kinds[scenes.pairs] < 0).any():
        raise ValueError(
            'search "frozen" keeps the true relations, but some of them are unknown (NaN): label them, '
            "leave those scenes out or choose another search"
        )
    return to_slots(kinds).clamp_min(0)
