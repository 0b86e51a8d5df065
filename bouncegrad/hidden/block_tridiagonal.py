"""Linear algebra for symmetric block-tridiagonal matrices: a block per time, coupled between neighbouring times."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class BlockTridiagonal:
    """A symmetric positive definite matrix with blocks on the diagonal and between neighbouring times.

    Attributes:
        diagonal: ``[task, time, size, size]``, blocks (t, t).
        lower: ``[task, time - 1, size, size]``, blocks (t + 1, t); all others are zero.
    """

    diagonal: Float[Tensor, "task time size size"]
    lower: Float[Tensor, "task link size size"]

    def damped(self, share: Float[Tensor, "task"]) -> BlockTridiagonal:
        """Increase the diagonal by a share of itself (Marquardt 1963)."""
        numbers = self.diagonal.diagonal(dim1=2, dim2=3) * share[:, None, None]
        return BlockTridiagonal(self.diagonal + torch.diag_embed(numbers), self.lower)

    def cholesky(self) -> BlockCholesky:
        """The Cholesky factor; the numbers are meaningless for tasks whose matrix is not positive definite."""
        roots, links = [_cholesky(self.diagonal[:, 0])], []
        for before, block in enumerate(self.diagonal[:, 1:].unbind(1)):
            links.append(_solve_lower(roots[-1], self.lower[:, before].mT).mT)
            roots.append(_cholesky(block - links[-1] @ links[-1].mT))
        return BlockCholesky(roots, links)


@dataclass(frozen=True, slots=True)
class BlockCholesky:
    """Lower triangular Cholesky factor of a :class:`BlockTridiagonal`.

    Attributes:
        roots: diagonal blocks, ``[task, size, size]`` for each time.
        links: blocks (t + 1, t).
    """

    roots: list[Float[Tensor, "task size size"]]
    links: list[Float[Tensor, "task size size"]]

    @property
    def log_determinant(self) -> Float[Tensor, "task"]:
        """Log determinant of the matrix, not of its factor."""
        return 2 * torch.stack(self.roots, 1).diagonal(dim1=2, dim2=3).log().sum((1, 2))

    def solve(self, right: Float[Tensor, "task time size"]) -> Float[Tensor, "task time size"]:
        """Solve ``matrix @ x = right`` by forward and backward substitution."""
        found: list[Tensor] = []
        for time, (root, part) in enumerate(zip(self.roots, right[..., None].unbind(1), strict=True)):
            found.append(_solve_lower(root, part - self.links[time - 1] @ found[-1] if time else part))
        for time in range(len(found) - 1, -1, -1):
            rest = found[time] - self.links[time].mT @ found[time + 1] if time < len(self.links) else found[time]
            found[time] = torch.linalg.solve_triangular(self.roots[time].mT, rest, upper=True)
        return torch.stack(found, 1).squeeze(3)

    def covariances(self) -> Float[Tensor, "task time size size"]:
        """Diagonal blocks of the inverse, by a backward recursion (Rauch, Tung and Striebel 1965)."""
        found = [torch.cholesky_inverse(self.roots[-1])]
        for root, link in zip(self.roots[-2::-1], self.links[::-1], strict=True):
            gain = torch.linalg.solve_triangular(root, link, upper=False, left=False)
            found.append(torch.cholesky_inverse(root) + gain.mT @ found[-1] @ gain)
        return torch.stack(found[::-1], 1)


def _cholesky(block: Float[Tensor, "task size size"]) -> Float[Tensor, "task size size"]:
    """Cholesky factor of a block."""
    return torch.linalg.cholesky_ex(block).L


def _solve_lower(root: Float[Tensor, "task size size"], right: Tensor) -> Tensor:
    """Solve ``root @ x = right`` for a lower triangular root."""
    return torch.linalg.solve_triangular(root, right, upper=False)
