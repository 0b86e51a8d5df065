"""How many edge types were asked for, and which of them were needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

UNUSED = 0.01
"""Share of pairs below which a kind counts as unused in the report."""


@dataclass(frozen=True, slots=True)
class Merge:
    """A kind that was not needed.

    Attributes:
        kind: its number, among the kinds that were asked for.
        into: the kind that takes its place.
        share: of the pairs of the held-out scenes that had it.
        nats: what telling it from the others foretold, per scene.
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
    """How many kinds were asked for, and which of them are left.

    Attributes:
        asked: kinds to begin with.
        merges: what was merged, in order.
    """

    asked: int
    merges: tuple[Merge, ...] = ()

    @property
    def found(self) -> int:
        """How many kinds are left."""
        return self.asked - len(self.merges)

    @property
    def kept(self) -> tuple[int, ...]:
        """Their numbers among those asked for; the model's kind ``k`` is the ``k``-th of them."""
        gone = {merge.kind for merge in self.merges}
        return tuple(kind for kind in range(self.asked) if kind not in gone)

    def __str__(self) -> str:
        if not self.merges:
            return f"{self.asked} kinds asked for, and each of them is needed"
        return f"{self.asked} kinds asked for, {self.found} found: " + "; ".join(map(str, self.merges))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {"asked": self.asked, "found": self.found, "merges": [asdict(merge) for merge in self.merges]}

    def extended(self, report: KindsReport) -> KindsReport:
        """With the merges of a report on the kinds that were left."""
        names = self.kept
        merges = (replace(merge, kind=names[merge.kind], into=names[merge.into]) for merge in report.merges)
        return KindsReport(self.asked, (*self.merges, *merges))

    @property
    def places(self) -> tuple[int, ...]:
        """For each kind that was asked for, which of those that are left takes its place (or is it), from 0."""
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
