"""E-steps beside the default one (``e_step``), by MCMC kernels, one step per batch: Gibbs, Metropolis with uniform or
learned proposals (Alet et al. 2019); and those without search: fixed structures, and the encoder's most probable
structures (Kipf et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Generator

from bouncegrad.inference.beliefs import network_guess
from bouncegrad.structures.factors import Factors
from bouncegrad.structures.kernel_interface import Kernel, Proposal, Proposed
from bouncegrad.structures.layout import Layout, StructureSpace
from bouncegrad.structures.mcmc import exact, gibbs, metropolis
from bouncegrad.structures.proposals import (
    BeliefsFn,
    block_proposal,
    slot_proposal,
    uniform_beliefs,
    without_correction,
)
from bouncegrad.training.bounce.config import BounceConfig, BounceResult
from bouncegrad.training.bounce.target import SceneTarget, Target
from bouncegrad.training.bounce.temperature import SearchTemperature
from bouncegrad.training.elbo import encoder_of
from bouncegrad.training.proposal_learner import Learner
from bouncegrad.types import Structures


class _WithTemperature:
    """An E-step whose only state is its temperature."""

    def __init__(self, config: BounceConfig) -> None:
        self.config = config
        self.heat = SearchTemperature(config)

    def finish_epoch(self, held_out: tuple[Factors, Factors] | None) -> None:
        """Start a new epoch of the temperature; the held-out scenes are not used."""
        self.heat.finish_epoch()

    def state(self) -> dict[str, Any]:
        """The state of the temperature, as JSON."""
        return self.heat.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state` returned."""
        self.heat.load_state(state)


class KernelBounce(_WithTemperature):
    """One step of a kernel without proposals: "gibbs" or "exact".

    Args:
        config: the name of the kernel and the rule of the temperature.
        space: the slots.
    """

    def __init__(self, config: BounceConfig, space: StructureSpace) -> None:
        super().__init__(config)
        kernels: dict[str, Callable[[], Kernel]] = {
            "exact": lambda: exact(space.num_kinds),
            "gibbs": lambda: gibbs(space.blocks, space.num_kinds),
        }
        self.kernel = kernels[config.search]()

    def search(self, target: Target, structures: Structures, progress: float, generator: Generator) -> BounceResult:
        """One step of the kernel from the current structures."""
        losses = target.loss_fn()
        temperature = self.heat.temperature(target, structures, progress)
        state = self.kernel.init(structures, losses, temperature)
        state, info = self.kernel.step(state, losses, generator)
        self.heat.learn(info, progress)
        every = torch.ones_like(info.changed)
        return BounceResult(state.structures, info.changed, every, info.changed, temperature, "none")


class FrozenBounce(_WithTemperature):
    """No search: structures stay as they are, and no loss is computed.

    Args:
        config: not used.
    """

    def search(self, target: Target, structures: Structures, progress: float, generator: Generator) -> BounceResult:
        """The current structures, unchanged."""
        still = torch.zeros(len(structures), dtype=torch.bool, device=structures.device)
        return BounceResult(structures, still, ~still, still, 1.0, "none")


class EncoderBounce(_WithTemperature):
    """No search: the most probable structures by the model's encoder (proposal network), as in NRI.

    Args:
        config: not used.
        layout: the slots.
    """

    def __init__(self, config: BounceConfig, layout: Layout) -> None:
        super().__init__(config)
        self.layout = layout

    def search(
        self, target: SceneTarget, structures: Structures, progress: float, generator: Generator
    ) -> BounceResult:
        """Evaluate the encoder."""
        model, batch, _ = target
        guess = network_guess(encoder_of(model), batch, self.layout, structures, generator)
        changed = (guess != structures).any(1)
        return BounceResult(guess, changed, torch.ones_like(changed), changed, 1.0, "none", guess)


class ProposalBounce(_WithTemperature):
    """One Metropolis step for each task: the search of Alet et al. 2019.

    A proposal that equals the current structure is accepted without computing any loss.

    Args:
        config: source of the proposals, and the slots that they change.
        space: the slots.
        learner: trains the proposal network, for learned proposals.
    """

    def __init__(self, config: BounceConfig, space: StructureSpace, learner: Learner | None = None) -> None:
        super().__init__(config)
        self.space, self.learner = space, learner

    def search(self, target: Target, structures: Structures, progress: float, generator: Generator) -> BounceResult:
        """Propose a structure for every task, and accept or reject those that differ from the current ones."""
        temperature = self.heat.temperature(target, structures, progress)
        beliefs_fn = self._beliefs_fn(target.batch, generator)
        proposed = self._proposal(beliefs_fn)(structures, generator)
        different = (proposed.structures != structures).any(1)
        found, accepted = structures.clone(), ~different
        tasks = different.nonzero().flatten()
        if len(tasks):
            losses = target.at(tasks).loss_fn()
            kernel = metropolis(_given(Proposed(proposed.structures[tasks], proposed.log_ratio[tasks])))
            state, info = kernel.step(kernel.init(structures[tasks], losses, temperature), losses, generator)
            self.heat.learn(info, progress)
            found[tasks], accepted[tasks] = state.structures, info.accepted
        learned = self.config.proposals == "learned"
        guess = beliefs_fn(generator)(structures).argmax(2) if learned else None
        return BounceResult(found, different & accepted, accepted, different, temperature, "none", guess)

    def _proposal(self, beliefs_fn: BeliefsFn) -> Proposal:
        if self.config.proposals == "none":
            return lambda structures, generator: Proposed(structures, torch.zeros(len(structures)))
        if self.config.block == "node":
            proposal = block_proposal(beliefs_fn, self.space.blocks, flip=self.config.flip)
        else:
            proposal = slot_proposal(beliefs_fn, self.space.num_slots, flip=self.config.flip)
        return proposal if self.config.corrected else without_correction(proposal)

    def _beliefs_fn(self, batch: Any, generator: Generator) -> BeliefsFn:
        if self.config.proposals == "learned":
            assert self.learner is not None, "learned proposals have a learner"
            return self.learner.beliefs_fn(batch, generator)
        return uniform_beliefs(self.space.num_kinds)


def _given(proposed: Proposed) -> Proposal:
    """A proposal function that returns a proposal drawn before."""
    return lambda structures, generator: proposed
