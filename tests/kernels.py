"""Kernels to test, and how to run them on :mod:`worlds`."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from bouncegrad.structures.annealing import anneal, schedule_annealing
from bouncegrad.structures.kernel_interface import Kernel, Proposal, Proposed, SearchInfo, SearchState
from bouncegrad.structures.kernel_wrappers import best_so_far, mixture
from bouncegrad.structures.mcmc import exact, gibbs, init_state, metropolis
from bouncegrad.structures.proposals import Beliefs, BeliefsFn, block_proposal, slot_proposal
from bouncegrad.types import LogPrior, LossFn, Structures
from worlds import World, for_tasks, generator

BLOCKS = torch.tensor([[0, 1], [2, 3]])


def uniform_slot(num_kinds: Sequence[int]) -> Proposal:
    """One random slot of each task gets another kind, all others alike. Symmetric.

    Args:
        num_kinds: ``[slot]``, how many kinds each slot takes; slots of one kind are never chosen.
    """
    counts = torch.tensor(list(num_kinds))
    free = (counts > 1).nonzero().flatten()

    def propose(structures: Structures, generator: Generator) -> Proposed:
        tasks = torch.arange(len(structures))
        slots = free[torch.randint(len(free), (len(structures),), generator=generator)]
        uniform = torch.rand(len(structures), generator=generator)
        shifts = 1 + (uniform * (counts[slots] - 1)).long()
        proposed = structures.clone()
        proposed[tasks, slots] = (structures[tasks, slots] + shifts) % counts[slots]
        return Proposed(proposed, torch.zeros(len(structures)))

    return propose


def node_block(blocks: Int[Tensor, "block width"], num_kinds: Sequence[int]) -> Proposal:
    """All slots of one random block of each task are redrawn uniformly. Symmetric; may propose no change.

    With a receiver's incoming edges as blocks this is the block of Alet et al. 2019, section 3.3, with uniform draws
    in place of their network's.

    Args:
        blocks: ``[block, width]``, the slots of each block.
        num_kinds: ``[slot]``, how many kinds each slot takes.
    """
    counts = torch.tensor(list(num_kinds))

    def propose(structures: Structures, generator: Generator) -> Proposed:
        slots = blocks[torch.randint(len(blocks), (len(structures),), generator=generator)]
        uniform = torch.rand(slots.shape, generator=generator)
        drawn = (uniform * counts[slots]).long()
        return Proposed(structures.scatter(1, slots, drawn), torch.zeros(len(structures)))

    return propose


def frozen() -> Kernel:
    """Keep the structures: baselines with the true graph, or with the full one."""

    def step(state: SearchState, loss_fn: LossFn, generator: Generator) -> tuple[SearchState, SearchInfo]:
        del generator
        still = torch.zeros(len(state.structures), dtype=torch.bool, device=state.structures.device)
        return init_state(state.structures, loss_fn, state.temperature), SearchInfo(still, still, still, 1)

    return Kernel(init_state, step)


def repeat(kernel: Kernel, num_steps: int) -> Kernel:
    """``num_steps`` steps as one. The info tells what changed from first to last, and what all of them cost.

    Whether a proposal was worse and accepted is that of the last step: joined over steps, a worse proposal that was
    refused and a better one that was accepted would read as one that is both.
    """

    def step(state: SearchState, loss_fn: LossFn, generator: Generator) -> tuple[SearchState, SearchInfo]:
        before = state.structures
        state, info = kernel.step(state, loss_fn, generator)
        num_evaluations = info.num_evaluations
        for _ in range(num_steps - 1):
            state, info = kernel.step(state, loss_fn, generator)
            num_evaluations += info.num_evaluations
        changed = (state.structures != before).any(1)
        return state, replace(info, changed=changed, num_evaluations=num_evaluations)

    return Kernel(kernel.init, step)


def independent(log_probabilities: Float[Tensor, "slot kind"] | Float[Tensor, "kind"]) -> LogPrior:
    """Slots do not know of each other: ``log p = sum_s log p_s(kind of s)``.

    Args:
        log_probabilities: ``[kind]`` for all slots alike, or ``[slot, kind]``.
    """

    def log_prior(structures: Structures) -> Float[Tensor, "task"]:
        table = log_probabilities.expand(structures.shape[1], -1)
        return table.expand(len(structures), -1, -1).gather(2, structures[:, :, None]).sum((1, 2))

    return log_prior


def slot_metropolis(num_kinds: Sequence[int], log_prior: LogPrior | None = None) -> Kernel:
    return metropolis(uniform_slot(num_kinds), log_prior)


def block_metropolis(num_kinds: Sequence[int], log_prior: LogPrior | None = None) -> Kernel:
    return metropolis(node_block(BLOCKS, num_kinds), log_prior)


def block_gibbs(num_kinds: Sequence[int], log_prior: LogPrior | None = None) -> Kernel:
    return gibbs(BLOCKS, num_kinds, log_prior)


def skewed_metropolis(num_kinds: Sequence[int], log_prior: LogPrior | None = None) -> Kernel:
    return metropolis(skewed(num_kinds), log_prior)


def noisy_beliefs(num_kinds: Sequence[int]) -> BeliefsFn:
    """Beliefs that depend on the structure, of which a random half is not seen: all that a network's can do."""
    width = max(num_kinds)
    exists = torch.arange(width) < torch.tensor(list(num_kinds))[:, None]
    own = 0.5 * torch.randn(len(num_kinds), width, generator=generator(3))
    others = 0.3 * torch.randn(len(num_kinds), len(num_kinds), width, generator=generator(4))

    def beliefs_fn(drawn: Generator) -> Beliefs:
        seen = (torch.rand(len(num_kinds), generator=drawn) < 0.5).float()

        def beliefs(structures: Structures) -> Tensor:
            said = own + torch.einsum("ts,sok->tok", structures * seen, others)
            return said.masked_fill(~exists, -torch.inf).log_softmax(2)

        return beliefs

    return beliefs_fn


def believed_blocks(num_kinds: Sequence[int], log_prior: LogPrior | None = None) -> Kernel:
    return metropolis(block_proposal(noisy_beliefs(num_kinds), BLOCKS), log_prior)


def flipped_blocks(num_kinds: Sequence[int], log_prior: LogPrior | None = None) -> Kernel:
    return metropolis(block_proposal(noisy_beliefs(num_kinds), torch.arange(4)[:, None], flip=True), log_prior)


def believed_slots(num_kinds: Sequence[int], log_prior: LogPrior | None = None) -> Kernel:
    return metropolis(slot_proposal(noisy_beliefs(num_kinds), 4), log_prior)


def redrawn_slots(num_kinds: Sequence[int], log_prior: LogPrior | None = None) -> Kernel:
    return metropolis(slot_proposal(noisy_beliefs(num_kinds), 4, flip=False), log_prior)


def mixed(num_kinds: Sequence[int], log_prior: LogPrior | None = None) -> Kernel:
    return mixture([(1.0, slot_metropolis(num_kinds, log_prior)), (2.0, block_gibbs(num_kinds, log_prior))])


def repeated(num_kinds: Sequence[int], log_prior: LogPrior | None = None) -> Kernel:
    return repeat(slot_metropolis(num_kinds, log_prior), 3)


def remembering(num_kinds: Sequence[int], log_prior: LogPrior | None = None) -> Kernel:
    return best_so_far(block_metropolis(num_kinds, log_prior))


KERNELS: dict[str, Callable[..., Kernel]] = {
    "slot metropolis": slot_metropolis,
    "block metropolis": block_metropolis,
    "skewed metropolis": skewed_metropolis,
    "believed blocks": believed_blocks,
    "flipped blocks": flipped_blocks,
    "believed slots": believed_slots,
    "redrawn slots": redrawn_slots,
    "gibbs": block_gibbs,
    "exact": exact,
    "mixture": mixed,
    "repeat": repeated,
    "best so far": remembering,
}
"""num_kinds, log_prior -> kernel. On worlds made of factors, and without a prior, exact draws from the tables."""

ENOUGH = {exact: 2, block_gibbs: 40, repeated: 40, mixed: 60}
"""Steps after which the distribution on small worlds is the target; 120 where nothing is said."""

PRIORS: dict[str, Callable[[int], LogPrior | None]] = {
    "no prior": lambda num_slots: None,
    "prior": lambda num_slots: independent(torch.randn(num_slots, 3, generator=generator(7)).mul(0.3)),
}


def skewed(num_kinds: Sequence[int]) -> Proposal:
    """A random slot gets a kind drawn from ``q(kind) ~ 1 + kind``, whatever it had: not symmetric."""
    counts = torch.tensor(list(num_kinds))
    weights = (1.0 + torch.arange(3)) * (torch.arange(3) < counts[:, None])

    def propose(structures: Structures, generator: Generator) -> Proposed:
        slots = torch.randint(len(counts), (len(structures),), generator=generator)
        drawn = torch.multinomial(weights[slots], 1, generator=generator)
        old = structures.gather(1, slots[:, None])
        log_ratio = (weights[slots].gather(1, old) / weights[slots].gather(1, drawn)).log().squeeze(1)
        return Proposed(structures.scatter(1, slots[:, None], drawn), log_ratio)

    return propose


def first_half(num_kinds: Sequence[int]) -> Proposal:
    """Never touches the second half of the slots."""
    half = uniform_slot(num_kinds[: len(num_kinds) // 2])

    def propose(structures: Structures, generator: Generator) -> Proposed:
        proposed = half(structures[:, : len(num_kinds) // 2], generator)
        rest = structures[:, len(num_kinds) // 2 :]
        return replace(proposed, structures=torch.cat([proposed.structures, rest], 1))

    return propose


def run(kernel: Kernel, world: World, temperature: float, num_steps: int, num_tasks: int = 6_000) -> SearchState:
    """Many parallel chains on one world, from uniform structures."""
    steps = schedule_annealing(temperature)
    loss_fn = for_tasks(world.loss_fn, num_tasks)
    return anneal(kernel, steps, loss_fn, world.random(num_tasks, generator(1)), num_steps, generator(2))[0]


def trace(
    kernel: Kernel,
    loss_fn: LossFn,
    structures: Structures,
    temperature: float = 1.0,
    num_steps: int = 30,
    seed: int = 5,
) -> tuple[list[SearchState], list[SearchInfo]]:
    """Every state of a search, the first one included, and every info."""
    random = generator(seed)
    states, infos = [kernel.init(structures, loss_fn, temperature)], []
    for _ in range(num_steps):
        state, info = kernel.step(states[-1], loss_fn, random)
        states.append(state)
        infos.append(info)
    return states, infos


def first_of(world: World, num_tasks: int = 36) -> Structures:
    """The structures of a world, over and over."""
    return world.structures[torch.arange(num_tasks) % len(world.structures)]
