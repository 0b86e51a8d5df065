"""Beliefs that hold in one of several ways, and nobody knows which: here, which kind is the one that does nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from bouncegrad.structures.priors.posterior import GraphPosterior, categorical
from bouncegrad.types import Structures


@dataclass(frozen=True, slots=True, eq=False)
class EmptyKindPosterior:
    """One posterior for each kind that may be the empty one.

    Attributes:
        parts: posteriors, one for each empty kind.
        log_shares: ``[task, empty]``, how probable each of them is, normalised.
        log_evidence: ``[task]``.
        log_posterior: structures -> log posterior of each, up to a constant of the task.
    """

    parts: Sequence[GraphPosterior]
    log_shares: Float[Tensor, "task empty"]
    log_evidence: Float[Tensor, "task"]
    log_posterior: Callable[[Structures], Float[Tensor, "task"]]

    def best(self) -> Structures:
        """Of the structures that are best for one empty kind, the most probable one of each task."""
        candidates = torch.stack([part.best() for part in self.parts])
        which = torch.stack([self.log_posterior(structures) for structures in candidates]).argmax(0)
        return _pick(candidates, which)

    def draw(self, generator: Generator) -> Structures:
        """One exact sample for each task."""
        which = categorical(self.log_shares, generator)
        return _pick(torch.stack([part.draw(generator) for part in self.parts]), which)

    def marginals(self) -> Float[Tensor, "task slot kind"]:
        """The probability of each kind on each slot."""
        return self._weighted().sum(0)

    def usage(self) -> Float[Tensor, "choice"]:
        """How often each kind is on an edge while each is the empty one, read row by row."""
        return self._weighted().sum((1, 2)).flatten()

    def _weighted(self) -> Float[Tensor, "empty task slot kind"]:
        marginals = torch.stack([part.marginals() for part in self.parts])
        return self.log_shares.exp().T[:, :, None, None].to(marginals) * marginals


def mix_posteriors(
    parts: Sequence[GraphPosterior],
    log_weights: Float[Tensor, "empty kind"],
    log_posterior: Callable[[Structures], Float[Tensor, "task"]],
) -> EmptyKindPosterior:
    """Weigh posteriors by their evidence and by how often each kind was the empty one."""
    scores = torch.stack([part.log_evidence for part in parts], 1).double() + log_weights.logsumexp(1).double()
    evidence = scores.logsumexp(1)
    return EmptyKindPosterior(parts, scores - evidence[:, None], evidence.float(), log_posterior)


def _pick(candidates: Tensor, which: Tensor) -> Tensor:
    return candidates[which, torch.arange(len(which), device=which.device)]
