"""The report on edge types: the number asked for, and which of them merging after training removes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

UNUSED = 0.01
"""Share of pairs below which an edge type counts as unused in the report."""


@dataclass(frozen=True, slots=True)
class Merge:
    """One edge type that merging removes.

    Attributes:
        kind: its number, among the edge types asked for.
        into: the edge type that replaces it.
        share: share of the pairs of the held-out scenes that had this edge type.
        nats: gain in predictive log likelihood from keeping it apart, in nats per scene.
    """

    kind: int
    into: int
    share: float
    nats: float

    def __str__(self) -> str:
        what = "was hardly used and is left out" if self.share < UNUSED else f"is merged into kind {self.into}"
        return f"kind {self.kind} {what} ({max(0.0, self.nats):.2g} nats per scene)"


@dataclass(frozen=True, slots=True)
class KindsReport:
    """The number of edge types asked for, and the merges that reduce them.

    Attributes:
        asked: number of edge types before merging.
        merges: the merges, in order.
    """

    asked: int
    merges: tuple[Merge, ...] = ()

    @property
    def found(self) -> int:
        """Number of edge types after merging."""
        return self.asked - len(self.merges)

    @property
    def kept(self) -> tuple[int, ...]:
        """Numbers of the remaining edge types among those asked for; the model's edge type ``k`` is the ``k``-th."""
        gone = {merge.kind for merge in self.merges}
        return tuple(kind for kind in range(self.asked) if kind not in gone)

    def __str__(self) -> str:
        if not self.merges:
            return f"{self.asked} kinds asked for, and each of them is needed"
        return f"{self.asked} kinds asked for, {self.found} found: " + "; ".join(map(str, self.merges))

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON."""
        return {"asked": self.asked, "found": self.found, "merges": [asdict(merge) for merge in self.merges]}

    def extended(self, report: KindsReport) -> KindsReport:
        """This report, followed by the merges of a later report on the remaining edge types."""
        names = self.kept
        merges = (replace(merge, kind=names[merge.kind], into=names[merge.into]) for merge in report.merges)
        return KindsReport(self.asked, (*self.merges, *merges))

    @property
    def places(self) -> tuple[int, ...]:
        """Map from edge types asked for to edge types after merging: the number, from 0, of what each one becomes."""
        instead = {merge.kind: merge.into for merge in reversed(self.merges)}
        ends = list(range(self.asked))
        for kind in ends:
            while ends[kind] in instead:
                ends[kind] = instead[ends[kind]]
        return tuple(self.kept.index(end) for end in ends)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> KindsReport:
        """The inverse of :meth:`to_dict`."""
        return cls(values["asked"], tuple(Merge(**merge) for merge in values["merges"]))
