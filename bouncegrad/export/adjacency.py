"""Adjacency matrix of one scene with the names of its entities: edge types or probabilities of ordered pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from bouncegrad.export.check import check_answer
from bouncegrad.export.packages import package
from bouncegrad.inference import Posterior
from bouncegrad.scenes import Scenes

Role = Literal["receiver", "sender"]


@dataclass(frozen=True, slots=True, eq=False)
class Adjacency:
    """A number for each ordered pair of the entities of one scene.

    Attributes:
        values: ``[row, column]``, float64; NaN on the diagonal and for receivers without a relation to infer (exogenous
            entities).
        names: names of the entities, for rows and columns.
        rows: role of the row of a pair: "receiver" (is acted on) or "sender" (acts); the column has the other role.
    """

    values: Float[Tensor, "row column"]
    names: tuple[str, ...]
    rows: Role

    @property
    def columns(self) -> Role:
        """Role of the column of a pair: the one that :attr:`rows` is not."""
        return "sender" if self.rows == "receiver" else "receiver"

    def of(self, *, receiver: str, sender: str) -> float:
        """The number of one pair, by the names of its entities.

        Raises:
            ValueError: there is no entity with that name.
        """
        for name in (receiver, sender):
            if name not in self.names:
                raise ValueError(f"there is no entity {name!r} in this scene: choose one of {', '.join(self.names)}")
        pair = {"receiver": self.names.index(receiver), "sender": self.names.index(sender)}
        return float(self.values[pair[self.rows], pair[self.columns]])

    def to_pandas(self) -> Any:
        """Pandas data frame whose index and columns are the names.

        Raises:
            ImportError: pandas is not installed.
        """
        pandas = package("pandas", "pandas")
        index, columns = (pandas.Index(self.names, name=role) for role in (self.rows, self.columns))
        return pandas.DataFrame(self.values.numpy(), index=index, columns=columns)

    def __str__(self) -> str:
        corner = f"{self.rows} \\ {self.columns}"
        cells = [["-" if math.isnan(x) else f"{x:.3g}" for x in row] for row in self.values.tolist()]
        table = [[corner, *self.names], *([name, *row] for name, row in zip(self.names, cells, strict=True))]
        first, width = max(len(row[0]) for row in table), max(len(cell) for row in table for cell in row[1:]) + 2
        return "\n".join(row[0].ljust(first) + "".join(cell.rjust(width) for cell in row[1:]) for row in table)


def adjacency(
    posterior: Posterior, scenes: Scenes, scene: int, kind: int | None = None, *, sender_first: bool = False
) -> Adjacency:
    """Adjacency matrix of one scene, with the names of its entities; absent entities are left out.

    Args:
        posterior: the posterior of :func:`bouncegrad.infer`.
        scenes: the scenes from which it was inferred.
        scene: number of the scene, from 0.
        kind: the values are probabilities of this kind (edge type); None: numbers of the most probable one.
        sender_first: row = sender, column = receiver, as in most graph packages; False: as everywhere in this package,
            row = receiver, column = sender.

    Raises:
        DataError: other scenes than those of the posterior, or a scene or kind out of range.

    Example:
        >>> from bouncegrad import RelationalModel, Springs, from_arrays, simulate
        >>> found = simulate(Springs(4), 1, generator=2)
        >>> scenes = from_arrays(found.loc, found.vel)
        >>> print(adjacency(RelationalModel.from_pretrained("springs5").infer(scenes), scenes, 0))
        receiver \\ sender  0  1  2  3
        0                  -  1  0  0
        1                  1  -  1  0
        2                  0  1  -  1
        3                  0  0  1  -
    """
    check_answer(posterior, scenes, scene=scene, kind=kind)
    numbers = posterior.relations[scene] if kind is None else posterior.probabilities[scene, :, :, kind]
    present = scenes.present[scene].nonzero().flatten()
    values = numbers.double().masked_fill(~scenes.pairs[scene], math.nan)[present][:, present]
    names = scenes.names_in(scene)
    return Adjacency(
        values=values.T.contiguous() if sender_first else values,
        names=tuple(names[entity] for entity in present.tolist()),
        rows="sender" if sender_first else "receiver",
    )
