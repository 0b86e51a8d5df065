"""Mixture of posteriors over the empty edge type: the unknown edge type of pairs without interaction."""

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
    """Posterior that is a mixture over the empty edge type.

    Attributes:
        parts: the posteriors given each empty type.
        log_shares: ``[task, empty]``, log posterior probability of each empty type, normalised.
        log_evidence: ``[task]``, log evidence of the mixture.
        log_posterior: structures -> log posterior of one structure for each task, up to a constant of the task.
    """

    parts: Sequence[GraphPosterior]
    log_shares: Float[Tensor, "task empty"]
    log_evidence: Float[Tensor, "task"]
    log_posterior: Callable[[Structures], Float[Tensor, "task"]]

    def best(self) -> Structures:
        """The most probable, under the mixture, of the best structures of all parts."""
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
        """Expected number of edges of each type jointly with each empty type, row by row: ``[empty * kind]``."""
        return self._weighted().sum((1, 2)).flatten()

    def _weighted(self) -> Float[Tensor, "empty task slot kind"]:
        marginals = torch.stack([part.marginals() for part in self.parts])
        return self.log_shares.exp().T[:, :, None, None].to(marginals) * marginals


def mix_posteriors(
    parts: Sequence[GraphPosterior],
    log_weights: Float[Tensor, "empty kind"],
    log_posterior: Callable[[Structures], Float[Tensor, "task"]],
) -> EmptyKindPosterior:
    """The mixture of posteriors, weighted by their evidence and by the prior probability of each empty type."""
    scores = torch.stack([part.log_evidence for part in parts], 1).double() + log_weights.logsumexp(1).double()
    evidence = scores.logsumexp(1)
    return EmptyKindPosterior(parts, scores - evidence[:, None], evidence.float(), log_posterior)


def _pick(candidates: Tensor, which: Tensor) -> Tensor:
    return candidates[which, torch.arange(len(which), device=which.device)]
