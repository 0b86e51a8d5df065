"""Linear algebra along time: matrices of small blocks of which only neighbours in time meet."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class BlockTridiagonal:
    """A symmetric positive matrix whose blocks belong to times.

    Attributes:
        diagonal: ``[task, time, size, size]``.
        lower: ``[task, time - 1, size, size]``, the blocks (t + 1, t); all others are zero.
    """

    diagonal: Float[Tensor, "task time size size"]
    lower: Float[Tensor, "task link size size"]

    def damped(self, share: Float[Tensor, "task"]) -> BlockTridiagonal:
        """With a diagonal that is larger by a share of itself (Marquardt 1963)."""
        numbers = self.diagonal.diagonal(dim1=2, dim2=3) * share[:, None, None]
        return BlockTridiagonal(self.diagonal + torch.diag_embed(numbers), self.lower)

    def cholesky(self) -> BlockCholesky:
        """The Cholesky factor; meaningless numbers for tasks whose matrix is not positive."""
        roots, links = [_root(self.diagonal[:, 0])], []
        for before, block in enumerate(self.diagonal[:, 1:].unbind(1)):
            links.append(_left(roots[-1], self.lower[:, before].mT).mT)
            roots.append(_root(block - links[-1] @ links[-1].mT))
        return BlockCholesky(roots, links)


@dataclass(frozen=True, slots=True)
class BlockCholesky:
    """The lower triangular root of a :class:`BlockTridiagonal`.

    Attributes:
        roots: the blocks on the diagonal, ``[task, size, size]`` for each time.
        links: the blocks (t + 1, t).
    """

    roots: list[Float[Tensor, "task size size"]]
    links: list[Float[Tensor, "task size size"]]

    @property
    def log_determinant(self) -> Float[Tensor, "task"]:
        """Of the matrix, not of its root."""
        return 2 * torch.stack(self.roots, 1).diagonal(dim1=2, dim2=3).log().sum((1, 2))

    def solve(self, right: Float[Tensor, "task time size"]) -> Float[Tensor, "task time size"]:
        """What the matrix takes to ``right``."""
        found: list[Tensor] = []
        for time, (root, part) in enumerate(zip(self.roots, right[..., None].unbind(1), strict=True)):
            found.append(_left(root, part - self.links[time - 1] @ found[-1] if time else part))
        for time in range(len(found) - 1, -1, -1):
            rest = found[time] - self.links[time].mT @ found[time + 1] if time < len(self.links) else found[time]
            found[time] = torch.linalg.solve_triangular(self.roots[time].mT, rest, upper=True)
        return torch.stack(found, 1).squeeze(3)

    def covariances(self) -> Float[Tensor, "task time size size"]:
        """The blocks on the diagonal of the inverse (Rauch, Tung and Striebel 1965)."""
        found = [torch.cholesky_inverse(self.roots[-1])]
        for root, link in zip(self.roots[-2::-1], self.links[::-1], strict=True):
            gain = torch.linalg.solve_triangular(root, link, upper=False, left=False)
            found.append(torch.cholesky_inverse(root) + gain.mT @ found[-1] @ gain)
        return torch.stack(found[::-1], 1)


def _root(block: Float[Tensor, "task size size"]) -> Float[Tensor, "task size size"]:
    return torch.linalg.cholesky_ex(block).L


def _left(root: Float[Tensor, "task size size"], right: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(root, right, upper=False)
