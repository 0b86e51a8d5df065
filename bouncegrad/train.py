"""BounceGrad: bounce (search every scene's structure, modules fixed), then grad (train the modules, structures fixed).

The trainer and the checkpoint are the two places where anything changes in place.

Source: Alet, Weng, Lozano-Perez and Kaelbling, 2019, "Neural relational inference with fast modular meta-learning",
algorithm 1; Alet, Lozano-Perez and Kaelbling, 2018, "Modular meta-learning", for the alternation itself.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Generator, Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bouncegrad.bounce import BounceConfig, Bounced, make_bounce
from bouncegrad.checkpoint import CheckpointError
from bouncegrad.evaluate import training_loss
from bouncegrad.graphs import Layout, to_matrix, to_slots
from bouncegrad.kinds import check_judgeable, halves, judged_by
from bouncegrad.metrics import match_relations
from bouncegrad.model import (
    Batch,
    KindsReport,
    Model,
    ModelConfig,
    Reading,
    Rollout,
    Windows,
    only_kinds,
    pack,
    part_of,
    some_starts,
    windows,
)
from bouncegrad.priors import learned, least_losses, priors_for
from bouncegrad.priors.temper import READING_TEMPERATURES, Halves, reading_of, together
from bouncegrad.scenes import Normalization, Scenes, relation_kinds
from bouncegrad.search.annealing import cosine
from bouncegrad.search.population import QUICK
from bouncegrad.settings import check_settings, is_positive
from bouncegrad.types import Factors, FactorTables, Structures

CELL_BUDGET = 40_000_000
"""Hidden numbers of one layer over all edges and starts of a batch: about 1 GB with those that the gradient needs."""


BEGUN, BEGUN_STEPS = 0.08, 1000
"""Share of the training, and gradient steps, after which it is asked whether the structures mean anything yet."""

HOPELESS = 0.5
"""Share of the training after which it is too late to start over."""

MEANINGLESS = 0.05
"""Share of a structure's nats that one half of the held-out samples must foretell of the other by then. On charged
scenes attempts that came to something foretold 0.11 to 0.16, those that did not 0.03."""

LEARNINGS = 20
"""Rounds in which the shares of kinds are learned where the search has not learned them."""

NUM_ATTEMPTS = 4
"""Times to begin from new modules before going on with what there is."""

JUDGED_AT = (0.0, 0.5)
"""When kinds are judged, as shares of the time that is left when the search has cooled. The second time the modules
that took over from others have had time to learn."""


@dataclass(frozen=True)  # no slots: jsonargparse reads the fields of defaults through vars()
class TrainingConfig:
    """How modules and structures are learned.

    Attributes:
        num_passes: times that every training scene is searched and learned from.
        batch_size: scenes in one super-graph; fewer where scenes are so large that memory would not hold them.
        learning_rate: of Adam, at its highest; it warms up over the first steps and ends near 0 on a cosine.
        clip_norm: the gradient's norm is cut to this.
        horizon: steps of the rollouts that are trained and searched on: those of receivers alone with search "exact",
            of whole scenes with the others.
        stride: samples between the starts of those rollouts.
        starts: share of the starts that each batch is searched and learned on, drawn at random, at the start; grows
            geometrically to all of them while the search cools. Few samples cost little, but what a relation does again
            and again then shows less beside what single samples seem to say: on charged scenes a third of the samples
            let one seed of three settle on kinds that mean nothing.
        starts_per_step: starts of each scene that one gradient step sees; the structures drawn for a batch pay for as
            many steps as it takes to see all its starts once.
        averaging: per gradient step, how much of the averaged modules stays. The averaged modules are those that
            structures are drawn with, that are judged on held-out scenes, and that a fit returns; 0: no averaging.
        merge_kinds: merge edge kinds that turn out not to be needed, when the search has cooled and once more halfway
            from there to the end (exact search only).
        bounce: how structures are searched.

    Raises:
        ValueError: a number or word that makes no training.
    """

    num_passes: int = 40
    batch_size: int = 50
    learning_rate: float = 2e-3
    clip_norm: float = 1.0
    horizon: int = 1
    stride: int = 1
    starts: float = 1.0
    starts_per_step: int = 4
    averaging: float = 0.995
    merge_kinds: bool = False
    bounce: BounceConfig = field(default_factory=BounceConfig)

    def __post_init__(self) -> None:
        check_settings(
            self,
            counts=("num_passes", "batch_size", "horizon", "stride", "starts_per_step"),
            positive=("learning_rate", "clip_norm"),
        )
        if not 0 < self.starts <= 1:
            raise ValueError(f"starts must be a share above 0, up to 1; got {self.starts}")
        if not 0 <= self.averaging < 1:
            raise ValueError(f"averaging must be a share, from 0 to below 1; got {self.averaging}")
        if self.merge_kinds and self.bounce.search != "exact":
            raise ValueError(f'kinds are merged by tables: expected search "exact", got {self.bounce.search!r}')


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
        whole = windows(pack(self.model, scenes), config.horizon, config.stride, _rollout(config))
        if int((whole.weights > 0).sum()) < 2:
            raise ValueError(
                "there is nothing to learn from: no scene has all its entities measured at one sample and one of them "
                "at the next; bring scenes with fewer gaps"
            )
        if model_config.network.skip:
            seen = whole.weights[:, :, 0] > 0
            self.model.network.fit_skip(whole.states[seen], whole.targets[:, :, 0][seen])
        self.averaged = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.averaging))
        self.layout = self.model.layout(scenes.num_entities)
        self.kinds, self.num_judgements = KindsReport(self.layout.num_edge_kinds), 0
        _check_search(config, model_config)
        if config.merge_kinds:
            check_judgeable(self.model, self.layout, held_out.num_times)
        self.structures = self._initial_structures()
        self.bounce = make_bounce(config.bounce, self.layout)
        self.optimizer = torch.optim.Adam(self.model.parameters(), config.learning_rate, fused=True)
        self.num_passes_done = 0
        self.num_passes_lost, self.num_attempts, self.has_begun = 0, 1, False
        self.num_steps = 0
        self.best_score = math.inf
        self.best_weights = {name: value.clone() for name, value in self.model.state_dict().items()}

    def _initial_structures(self) -> Structures:
        if self.config.bounce.search != "frozen":
            return self.layout.random(self.scenes.num_scenes, self.generator)
        return _true_structures(self.scenes, self.layout)

    @property
    def searched(self) -> Model:
        """The averaged modules."""
        return cast(Model, self.averaged.module)

    @property
    def held_out_layout(self) -> Layout:
        """The slots of the held-out scenes."""
        return self.model.layout(self.held_out[0].graph.present.shape[1])

    @property
    def progress(self) -> float:
        """Share of ``config.num_passes`` that is done; passes of attempts that led nowhere do not count."""
        return (self.num_passes_done - self.num_passes_lost) / self.config.num_passes

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

        progress = clock(self.progress)
        while progress < 1:
            report = self.run_pass(clock)
            progress = clock(self.progress)
            yield replace(report, progress=min(1.0, progress), seconds=time.monotonic() - started)

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
            target = (self.searched, batch, stretches)
            found = self.bounce.search(target, self.structures[indices], min(1.0, progress), self.generator)
            self.structures[indices] = found.structures
            losses += self._grad(batch, stretches, found.structures, min(1.0, progress))
            bounced.append(found)
        self.num_passes_done += 1
        factors = self._held_out_factors()
        self.bounce.finish_pass(self._in_nats(factors))
        report = self._report(losses, bounced, factors)
        self._merge_kinds(clock(self.progress))
        self._start_over_if_meaningless(clock(self.progress), factors)
        return report

    def _start_over_if_meaningless(self, progress: float, factors: tuple[Factors, Factors] | None) -> None:
        """Begin again from new modules if the structures say nothing of the scenes by the time they should."""
        if self.has_begun or factors is None or progress < BEGUN or self.num_steps < BEGUN_STEPS:
            return
        meant = self._meaning(self._in_nats(factors))
        self.has_begun = meant >= MEANINGLESS or self.num_attempts >= NUM_ATTEMPTS or progress > HOPELESS
        if not self.has_begun:
            self._start_over()

    def _meaning(self, factors: tuple[Factors, Factors] | None) -> float:
        """The share of a structure's nats that one half of the held-out samples foretells of the other."""
        if factors is None or self.layout.num_edge_kinds == 1:
            return 1.0
        searched = self.bounce.state()
        weakest = priors_for(self.held_out_layout, searched["weights"])["none"]
        for _ in range(0 if "none" in searched["weights"] else LEARNINGS):
            found = weakest.posterior(together(*factors), searched["temperature"] or 1.0, QUICK)
            weakest = learned(weakest, found.usage())  # or a seldom kind would be foretold by being seldom
        nats = Halves.of(weakest, *factors, READING_TEMPERATURES[::2]).foretold.mean(1).max()
        return float(nats) / (self.layout.num_edge_slots * math.log(self.layout.num_edge_kinds))

    def _start_over(self) -> None:
        fresh = Model(self.model.config, self.model.normalization, self.model.feature_names, self.generator)
        constants = dict(self.model.network.named_buffers())
        for name, buffer in fresh.network.named_buffers():
            buffer.copy_(constants[name])
        self._continue_as(fresh)
        self.bounce = make_bounce(self.config.bounce, self.layout)
        self.structures = self._initial_structures()
        self.best_score = math.inf
        self.num_attempts += 1
        self.num_passes_lost = self.num_passes_done

    def _merge_kinds(self, progress: float) -> None:
        """Judge the kinds when it is time to, and go on with those that are needed."""
        cooled = self.config.bounce.cooling
        due = sum(progress >= cooled + share * (1 - cooled) for share in JUDGED_AT)
        if not self.config.merge_kinds or due <= self.num_judgements:
            return
        self.num_judgements = due
        report = judged_by(self.searched, self.held_out, self.bounce.state()["weights"])
        if report.merges:
            self.kinds = self.kinds.then(report)
            self._continue_as(only_kinds(self.searched, report.kept))
            self.structures = torch.tensor(report.places)[self.structures]
            factors = self._held_out_factors()
            assert factors is not None
            self.best_score = self._least_loss(factors)

    def _continue_as(self, model: Model) -> None:
        """Go on with another model, of fewer kinds or of new modules; what was best so far is forgotten."""
        self.model, self.layout = model, model.layout(self.scenes.num_entities)
        self.averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(self.config.averaging))
        chosen, self.bounce = self.bounce.state()["chosen"], make_bounce(self.config.bounce, self.layout)
        self.bounce.load_state({**self.bounce.state(), "chosen": chosen})
        self.optimizer = torch.optim.Adam(model.parameters(), self.config.learning_rate, fused=True)
        self.num_steps = 0
        self.best_weights = {name: value.clone() for name, value in model.state_dict().items()}

    def _stretches(self, batch: Batch, progress: float) -> Windows:
        """A random part of a batch's windows, the larger the further the training is."""
        whole = windows(batch, self.config.horizon, self.config.stride, _rollout(self.config))
        cooled = min(1.0, progress / max(self.config.bounce.cooling, 1e-9))
        share = self.config.starts ** (1 - cooled)
        return some_starts(whole, max(1, round(share * whole.states.shape[1])), self.generator)

    def _grad(self, batch: Batch, stretches: Windows, structures: Structures, progress: float) -> list[float]:
        """Gradient steps on all starts, a few at a time; returns the loss of each."""
        order = torch.randperm(stretches.states.shape[1], generator=self.generator)
        parts = order.chunk(max(1, round(len(order) / self.config.starts_per_step)))
        return [self._step(batch, part_of(stretches, part), structures, progress) for part in parts]

    def _step(self, batch: Batch, stretches: Windows, structures: Structures, progress: float) -> float:
        warm = min(1.0, (self.num_steps + 1) / 20)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * warm * cosine(progress)
        self.optimizer.zero_grad()
        loss = training_loss(self.model, batch, stretches, structures)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.averaged.update_parameters(self.model)
        self.num_steps += 1
        return loss.item()

    def _report(
        self, losses: list[float], bounced: list[Bounced], factors: tuple[Factors, Factors] | None
    ) -> PassReport:
        held_out = sum(losses) / len(losses) if factors is None else self._least_loss(factors)
        if held_out <= self.best_score:
            self.best_score = held_out
            self.best_weights = {name: value.clone() for name, value in self.searched.state_dict().items()}
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

    def _held_out_factors(self, model: Model | None = None) -> tuple[Factors, Factors] | None:
        """Of the first and the second half of the held-out samples; None where these cannot be halved or searched."""
        if self.config.bounce.search != "exact" or self.held_out[0].states.shape[1] < 3:
            return None
        return halves(model or self.searched, self.held_out)

    def _in_nats(self, factors: tuple[Factors, Factors] | None) -> tuple[Factors, Factors] | None:
        """What priors can be compared by: mean squares count as if their variance were that of the best structures."""
        if factors is None or self.model.scale is not None:
            return factors
        early, late = factors
        if not isinstance(early, FactorTables) or not isinstance(late, FactorTables):
            return None
        count = self.layout.num_entities * self.model.network.num_features * self.held_out[0].states.shape[1] / 2
        nats = 0.5 * count / max(0.5 * self._least_loss(factors), 1e-12)
        early, late = (FactorTables(nats * half.energies, half.slots, half.num_kinds) for half in (early, late))
        return early, late

    def _least_loss(self, factors: tuple[Factors, Factors]) -> float:
        """Mean loss of the held-out scenes under the best structures of all samples."""
        return float(least_losses(together(*factors), self.held_out_layout).mean())

    def best_model(self) -> Model:
        """The model of the pass that explained the held-out scenes best, ready for use.

        Raises:
            ValueError: the training diverged from its first pass on.
        """
        if self.num_passes_done and self.best_score == math.inf:
            raise ValueError("no pass had a finite loss: the training diverged; lower learning_rate or clip_norm")
        best = Model(self.model.config, self.model.normalization, self.model.feature_names, Generator())
        best.load_state_dict(self.best_weights)
        best.kinds = self.kinds if self.config.merge_kinds else None
        best.network.fix_gauge(self.held_out[0].states, self.held_out[0].graph)
        factors = self._held_out_factors(best)
        if factors is not None and best.scale is not None:
            best.reading = self._reading(factors)
        self._warn_if_meaningless(factors)
        return best.eval()

    def _warn_if_meaningless(self, factors: tuple[Factors, Factors] | None) -> None:
        meant = self._meaning(self._in_nats(factors)) if self.num_steps >= BEGUN_STEPS else 1.0
        if meant < MEANINGLESS:
            warnings.warn(
                f"the kinds of relation mean next to nothing: one half of the samples of a scene foretells {meant:.1%} "
                f"of what could be known of its structure from the other half (attempts: {self.num_attempts}). Do not "
                "believe the relations; try another seed, more scenes or more passes, or there are none",
                stacklevel=3,
            )

    def _reading(self, factors: tuple[Factors, Factors]) -> Reading:
        """Prior and temperature by the held-out scenes: the first half of their samples against the second."""
        return reading_of(priors_for(self.held_out_layout, self.bounce.state()["weights"]), *factors)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that a continued training needs, as tensors and JSON."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"averaged.{name}": value for name, value in self.averaged.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best_weights.items()}
        moments = self.optimizer.state_dict()["state"]
        tensors |= {f"optimizer.{i}.{name}": value for i, state in moments.items() for name, value in state.items()}
        tensors |= {"structures": self.structures, "generator": self.generator.get_state()}
        meta = {
            "bounce": self.bounce.state(),
            "num_passes_done": self.num_passes_done,
            "num_steps": self.num_steps,
            "best_score": self.best_score,
            "attempts": [self.num_attempts, self.num_passes_lost, self.has_begun],
            "kinds": self.kinds.to_dict(),
            "num_judgements": self.num_judgements,
        }
        return tensors, meta

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` returned.

        Raises:
            CheckpointError: it belongs to another model or other scenes.
        """
        try:
            self.kinds, self.num_judgements = KindsReport.from_dict(meta["kinds"]), meta["num_judgements"]
            if self.kinds.merges:
                self._continue_as(only_kinds(self.model, range(self.kinds.found)))
            self.model.load_state_dict(_under("model.", tensors))
            self.averaged.load_state_dict(_under("averaged.", tensors))
            self.best_weights = _under("best.", tensors)
            if tensors["structures"].shape != self.structures.shape:
                raise KeyError(f"structures of shape {tuple(tensors['structures'].shape)}")
            self.structures = tensors["structures"]
            self.generator.set_state(tensors["generator"])
            self._load_moments(_under("optimizer.", tensors))
            self.bounce.load_state(meta["bounce"])
            self.num_passes_done, self.num_steps = meta["num_passes_done"], meta["num_steps"]
            self.num_attempts, self.num_passes_lost, self.has_begun = meta["attempts"]
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


def _rollout(config: TrainingConfig) -> Rollout:
    """Tables are made of receivers that roll out alone; kernels see losses only, so they can have whole scenes."""
    return "receiver" if config.bounce.search == "exact" else "scene"


def _affordable(config: TrainingConfig, model_config: ModelConfig, scenes: Scenes) -> int:
    """The batch size, or what fits into :data:`CELL_BUDGET`."""
    num_edges, num_starts = scenes.num_entities * (scenes.num_entities - 1), scenes.num_times // config.stride
    cells = num_edges * num_starts * model_config.network.hidden
    return max(1, min(config.batch_size, CELL_BUDGET // max(1, cells)))


def _check_search(config: TrainingConfig, model_config: ModelConfig) -> None:
    """Refuse tables that cannot be made before anything is written or waited for."""
    if config.bounce.search != "exact":
        return
    if model_config.network.message_steps != 1:
        raise ValueError(
            f'search "exact" needs one round of messages, got message_steps {model_config.network.message_steps}: '
            'choose search "metropolis" or "gibbs", or set message_steps to 1'
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
