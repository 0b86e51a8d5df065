"""BounceGrad, the training loop: bounce (E-step: search the structures, modules fixed) and grad (M-step: gradient steps
on the modules, structures fixed), batch by batch.

A structure is the latent graph of one scene: an edge type for each ordered pair of entities. After each epoch the
held-out scenes choose the best weights and the prior over graphs, merge edge types that are not needed, and decide
whether the training restarts because it collapsed or overfits (:mod:`bouncegrad.training.restarts`).

Source: Alet, Weng, Lozano-Perez and Kaelbling, 2019, "Neural relational inference with fast modular meta-learning",
algorithm 1; Alet, Lozano-Perez and Kaelbling, 2018, "Modular meta-learning", for the alternation itself.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from bouncegrad.devices import Device, device_named
from bouncegrad.energies import add_gradients, step_errors, tasks_at_once
from bouncegrad.energies.windows import Batch, Windows, pack, sample_starts, split_tasks
from bouncegrad.evaluation.metrics import match_relations
from bouncegrad.models.edge_kinds import KindsReport
from bouncegrad.models.model import Model, ModelConfig, select_edge_types
from bouncegrad.scenes import Normalization, Scenes
from bouncegrad.structures.factors import Factors
from bouncegrad.structures.layout import to_matrix
from bouncegrad.training.bounce import BounceResult, SceneTarget, make_bounce
from bouncegrad.training.config import EpochReport, TrainingConfig
from bouncegrad.training.elbo import add_relaxed_gradients, relaxed_loss
from bouncegrad.training.held_out import HeldOut
from bouncegrad.training.kind_merging import check_judgeable, num_judgements_due, unneeded_kinds
from bouncegrad.training.proposal_learner import ProposalLearner, SearchOutcome
from bouncegrad.training.restarts import Attempt, RestartPolicy, is_testable, warn_if_collapsed_or_overfit
from bouncegrad.training.setup import (
    affordable_batch_size,
    check_search,
    fit_skip,
    new_proposer,
    training_windows,
    true_structures,
)
from bouncegrad.training.trainer import Clock, Trainer, with_prefix
from bouncegrad.types import Structures


@dataclass(frozen=True, slots=True)
class _Part:
    """Results of one batch.

    Attributes:
        indices: ``[task]``, the indices of its scenes.
        losses: loss of each gradient step.
        found: result of the E-step.
        guess: ``[task, slot]``, the most probable structures by the proposal network; None without network.
        errors: ``[step]``, mean squared errors of rollouts; None where rollouts have one step.
    """

    indices: Tensor
    losses: list[float]
    found: BounceResult
    guess: Structures | None
    errors: Tensor | None


class BounceGrad(Trainer[Model, _Part]):
    """Trains modules and infers one structure (latent graph) for each scene, by E-step and M-step in turn.

    Args:
        scenes: training scenes; their relations only serve to report an accuracy, and are never learned from unless
            ``config.bounce.search`` is "frozen".
        held_out: scenes that choose the best weights; their relations are not used either.
        model_config: settings of the model.
        config: settings of the training.
        seed: seed of all randomness.
        structures: ``[scene, slot]``, the initial structures; None: random ones, or with search "frozen" the true
            relations.
        device: where the model computes (:mod:`bouncegrad.devices`).
    """

    def __init__(
        self,
        scenes: Scenes,
        held_out: Scenes,
        model_config: ModelConfig,
        config: TrainingConfig,
        seed: int,
        structures: Structures | None = None,
        device: Device = "cpu",
    ) -> None:
        self.scenes, self.first_structures = scenes, structures
        self.restarts = RestartPolicy(config.weight_decay)
        generator, normalization = Generator().manual_seed(seed), Normalization.fit(scenes)
        there, batch_size = device_named(device), affordable_batch_size(config, model_config, scenes)
        model = Model(model_config, normalization, scenes.feature_names, generator)
        fit_skip(model, training_windows(config, pack(model, scenes)))  # of all scenes at once, so not on a GPU
        self.held_out = HeldOut.of(held_out, model.to(there), batch_size, config.bounce.search)
        if config.bounce.search == "relaxed":
            model.proposer = new_proposer(config, model, scenes, generator)
        super().__init__(model, scenes.num_scenes, batch_size, config, generator)
        self.layout = self.model.layout(scenes.num_entities)
        self.kinds, self.num_judgements = KindsReport(self.layout.num_edge_kinds), 0
        check_search(config, model_config)
        self.held_out.check_size(self.layout, config.bounce.prior)
        if config.merge_kinds:
            check_judgeable(self.model, self.layout, held_out.num_times)
        self.structures = self._initial_structures()
        self.learner = self._new_learner()
        self.bounce = make_bounce(config.bounce, self.layout, self.learner)

    def _initial_structures(self) -> Structures:
        if self.first_structures is not None:
            return self.first_structures.clone()
        if self.config.bounce.search != "frozen":
            return self.layout.random(self.scenes.num_scenes, self.generator)
        return true_structures(self.scenes, self.layout)

    def _new_learner(self) -> ProposalLearner | None:
        if self.config.proposer.sees == "nothing" or self.model.proposer:
            return None
        return ProposalLearner(new_proposer(self.config, self.model, self.scenes, self.generator), self.layout)

    @property
    def progress(self) -> float:
        """Share of ``config.num_passes`` that is done; epochs before the last restart do not count."""
        return (self.num_passes_done - self.restarts.num_passes_lost) / self.config.num_passes

    def finish_epoch(self, parts: Sequence[_Part], clock: Clock) -> EpochReport:
        """Judge the epoch on the held-out scenes, which also decide on the prior, merged edge types and restarts."""
        factors = self.held_out.factors(self.ema_model)
        self.bounce.finish_epoch(self.held_out.in_nats(factors, self.model, self.layout))
        report = self._report(parts, factors)
        self.descent.finish_epoch(report.loss)
        self._merge_kinds(clock(self.progress))
        self._restart_if_collapsed(clock(self.progress), factors)
        self._restart_if_overfitted(clock(0.0), factors)
        return report

    def learn_from(self, indices: Tensor, progress: float) -> _Part:
        """E-step and M-step of one batch, and a gradient step of the proposal network if there is one."""
        batch = pack(self.model, self.scenes.at(indices))
        windows, before = self._windows(batch, progress), self.structures[indices]
        # bounce: the E-step, under the averaged weights
        found = self.bounce.search(SceneTarget(self.ema_model, batch, windows), before, progress, self.generator)
        self.structures[indices] = found.structures
        # grad: the M-step, under the structures just found
        losses = self._grad(batch, windows, found.structures, progress)
        guess, errors = found.guess, None
        if self.learner:
            guess = self.learner.guess(batch, before, self.generator) if guess is None else guess
            self.learner.learn(batch, SearchOutcome(before, found.structures, found.accepted), self.generator)
        if self.config.horizon > 1:
            # a report only, so of no more scenes than fit into memory at once
            tasks, some, some_windows = next(split_tasks(batch, windows, tasks_at_once(self.model, batch, windows)))
            errors = step_errors(self.ema_model, some, some_windows, found.structures[tasks])
        return _Part(indices, losses, found, guess, errors)

    def _restart_if_collapsed(self, progress: float, factors: tuple[Factors, Factors] | None) -> None:
        """Restart from new weights if the training has collapsed: its edge types carry no information."""
        if factors is None:
            return
        if self.restarts.has_collapsed(progress, self.descent.num_steps, lambda: self._meaning(factors)):
            self._restart()

    def _restart_if_overfitted(self, restarted_at: float, factors: tuple[Factors, Factors] | None) -> None:
        """Restart from new weights if the training overfits: the held-out loss has risen for long."""
        if self.kinds.merges:
            return
        when = self.since_best, self.descent.num_steps, restarted_at
        if self.restarts.has_overfitted(*when, lambda: self._meaning(factors)):
            best = None
            if not self.learner:  # the proposal network is replaced at a restart, and fits no earlier modules
                best = self._attempt(self.held_out.factors(self._model_of(self.best_weights)))
            self.restarts.count_overfit(best)
            self._restart()

    def _attempt(self, factors: tuple[Factors, Factors] | None) -> Attempt:
        """The best weights since the last restart and their meaning, measured by the factors of the held-out scenes."""
        return Attempt(self._meaning(factors), self.since_best, self.best_weights, self.bounce.state())

    @property
    def weight_decay(self) -> float:
        """Weight decay of the present attempt."""
        return self.restarts.weight_decay

    @property
    def since_best(self) -> float:
        """Share of all epochs since the one with the least held-out loss."""
        return (self.num_passes_done - self.best_pass) / self.config.num_passes

    def _meaning(self, factors: tuple[Factors, Factors] | None) -> float:
        return self.held_out.meaning(factors, self.model, self.layout, self.bounce.state())

    def _restart(self) -> None:
        fresh = Model(self.model.config, self.model.normalization, self.model.feature_names, self.generator)
        constants = dict(self.model.network.named_buffers())
        for name, buffer in fresh.network.named_buffers():
            buffer.copy_(constants[name])
        self._continue_as(fresh.to(self.model.device))
        self.bounce = make_bounce(self.config.bounce, self.layout, self.learner)
        self.structures = self._initial_structures()
        self.best_score = math.inf
        self.restarts.count_restart(self.num_passes_done)

    def _merge_kinds(self, progress: float) -> None:
        """Merge the edge types that are not needed, when it is time to test them, and continue with the others."""
        due = num_judgements_due(progress, self.config.bounce.cooling)
        if not self.config.merge_kinds or due <= self.num_judgements:
            return
        self.num_judgements = due
        report = unneeded_kinds(self.ema_model, self.held_out.batches, self.bounce.state()["weights"])
        if report.merges:
            self.kinds = self.kinds.extended(report)
            self._continue_as(select_edge_types(self.ema_model, report.kept))
            self.structures = torch.tensor(report.places)[self.structures]
            factors = self.held_out.factors(self.ema_model)
            assert factors is not None
            self.best_score = self.held_out.least_loss(factors, self.model)

    def _continue_as(self, model: Model) -> None:
        """Continue with another model, of fewer edge types or of new weights; the best weights so far are dropped."""
        self.follow(model)
        self.layout = model.layout(self.scenes.num_entities)
        self.learner = self._new_learner()
        chosen, self.bounce = self.bounce.state()["chosen"], make_bounce(self.config.bounce, self.layout, self.learner)
        self.bounce.load_state({**self.bounce.state(), "chosen": chosen})

    def _windows(self, batch: Batch, progress: float) -> Windows:
        """A random part of a batch's windows; its share grows geometrically from ``config.starts`` to all of them."""
        whole = training_windows(self.config, batch)
        cooled = min(1.0, progress / max(self.config.bounce.cooling, 1e-9))
        share = self.config.starts ** (1 - cooled)
        return sample_starts(whole, max(1, round(share * whole.states.shape[1])), self.generator)

    def _grad(self, batch: Batch, windows: Windows, structures: Structures, progress: float) -> list[float]:
        """The M-step: gradient steps on all starts, a few at a time; returns the loss of each."""
        order = torch.randperm(windows.states.shape[1], generator=self.generator)
        parts = order.chunk(max(1, round(len(order) / self.config.starts_per_step)))
        return [self._step(batch, windows.at_starts(part), structures, progress) for part in parts]

    def _step(self, batch: Batch, windows: Windows, structures: Structures, progress: float) -> float:
        if self.model.proposer:
            loss = add_relaxed_gradients(self.model, batch, windows, self.config.relaxation, self.generator)
        else:
            loss = add_gradients(self.model, batch, windows, structures)
        self.step(progress)
        return loss

    def _report(self, parts: Sequence[_Part], factors: tuple[Factors, Factors] | None) -> EpochReport:
        losses = [loss for part in parts for loss in part.losses]
        held_out = self._held_out(factors, sum(losses) / len(losses))
        self.keep_if_best(held_out)
        errors = [part.errors for part in parts if part.errors is not None]
        each = torch.stack(errors).mean(0).tolist() if errors else []
        return EpochReport(
            number=self.num_passes_done,
            loss=sum(losses) / len(losses),
            temperature=parts[-1].found.temperature,
            acceptance=float(torch.cat([part.found.changed for part in parts]).float().mean()),
            prior=parts[-1].found.prior,
            held_out=held_out,
            relation_accuracy=self._accuracy(self.structures),
            proposed=float(torch.cat([part.found.proposed for part in parts]).float().mean()),
            proposal_accuracy=self._guessed_right(parts),
            step_errors=(each[0], each[-1]) if each else None,
        )

    def _held_out(self, factors: tuple[Factors, Factors] | None, otherwise: float) -> float:
        """The loss by which epochs are compared: of the held-out scenes where it is defined, else ``otherwise``."""
        if self.ema_model.proposer:
            return relaxed_loss(self.ema_model, self.held_out.batches, self.config.relaxation)
        return otherwise if factors is None else self.held_out.least_loss(factors, self.model)

    def _guessed_right(self, parts: Sequence[_Part]) -> float | None:
        guesses = [part.guess for part in parts if part.guess is not None]
        return self._accuracy(torch.cat(guesses), torch.cat([part.indices for part in parts])) if guesses else None

    def _accuracy(self, structures: Structures, indices: Tensor | None = None) -> float | None:
        """Relation accuracy of structures of all training scenes, or of the scenes ``indices``; None without labels."""
        if self.scenes.relations is None or not self.scenes.labelled:
            return None
        scenes = self.scenes if indices is None else self.scenes.at(indices)
        kinds = to_matrix(structures, self.scenes.num_entities)
        known = scenes.known_relations
        assert known is not None
        return match_relations(kinds, known, scenes.present).accuracy

    def best_model(self) -> Model:
        """The model of the epoch with the least held-out loss, ready for use; of several attempts, that with the most
        meaning (:class:`bouncegrad.training.restarts.Attempt`). Warns where it has collapsed or overfits.

        Raises:
            ValueError: no epoch had a finite loss.
        """
        if self.num_passes_done and self.best_score == math.inf:
            raise ValueError("no epoch had a finite loss: the training diverged; lower learning_rate or clip_norm")
        best, search_state = self._model_of(self.best_weights), self.bounce.state()
        factors = self.held_out.factors(best)
        if is_testable(1.0, self.descent.num_steps):
            found = self._attempt(factors).better(self.restarts.kept)
            if found is self.restarts.kept:
                best, search_state = self._model_of(found.weights), found.search_state
                factors = self.held_out.factors(best)
            warn_if_collapsed_or_overfit(found, self.restarts.num_attempts)
        best.reading = self.held_out.reading(factors, best, search_state)
        return best.eval()

    def _model_of(self, weights: Mapping[str, Tensor]) -> Model:
        best = Model(self.model.config, self.model.normalization, self.model.feature_names, Generator())
        best.proposer = copy.deepcopy(self.model.proposer)
        best.load_state_dict(weights)
        best.to(self.model.device)
        best.kinds = self.kinds if self.config.merge_kinds else None
        best.proposer = self.learner.final_network() if self.learner else best.proposer
        best.network.fix_gauge(self.held_out.batches[0].inputs, self.held_out.batches[0].graph)
        return best

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that resuming the training needs, as tensors and JSON."""
        tensors, meta = super().state()
        kept, restarts = self.restarts.state()
        own = {"kinds": self.kinds.to_dict(), "num_judgements": self.num_judgements}
        return tensors | kept, meta | restarts | own

    def _restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        self.kinds, self.num_judgements = KindsReport.from_dict(meta["kinds"]), meta["num_judgements"]
        self.restarts.load_state(with_prefix("kept.", tensors), meta)
        if self.kinds.merges:
            self._continue_as(select_edge_types(self.model, range(self.kinds.found)))
        else:
            self.follow(self.model)  # with the weight decay of this attempt
        super()._restore(tensors, meta)
