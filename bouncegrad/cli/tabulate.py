"""The stage of tables: anyone's trajectories become a file of scenes, and a summary says what was made of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bouncegrad.scenes import DataError, Scenes, TableColumns, write_npz
from bouncegrad.scenes.tables import Reading, TableReader
from bouncegrad.scenes.writing import check_folder


@dataclass(frozen=True, slots=True)
class TableRequest:
    """Which tables to read, and how.

    Attributes:
        sources: paths or patterns of .csv, .tsv and .parquet.
        columns: which columns hold what.
        reading: the time step, how samples come to it, and which gaps are filled.
        relations: a table of relations that are known, or None.
    """

    sources: tuple[str, ...]
    columns: TableColumns
    reading: Reading
    relations: str | None = None


def exogenous_rule(text: str | None) -> tuple[str, str] | None:
    """The column and the value of ``COLUMN=VALUE``.

    Raises:
        DataError: there is no ``=``, or nothing before it.
    """
    if text is None:
        return None
    column, sign, value = text.partition("=")
    if not (column and sign):
        raise DataError(f"expected COLUMN=VALUE, such as position=1, got {text!r}")
    return column, value


def tabulate_file(request: TableRequest, out: str | os.PathLike[str]) -> str:
    """Read tables, write their scenes as a .npz, and return a summary of some lines.

    Raises:
        DataError: whatever is wrong with the tables, or a place that cannot be written.
    """
    place = Path(out)
    if place.suffix != ".npz":
        raise DataError(f"scenes are written as .npz, got {place.name!r}: choose that ending")
    check_folder(place.parent)
    source: Any = request.sources[0] if len(request.sources) == 1 else list(request.sources)
    reader = TableReader.open(source, request.columns, request.reading, request.relations)
    part = reader.read(0, reader.num_scenes)
    write_npz(place, part.scenes, {"system": place.stem, "source": [Path(path).name for path in request.sources]})
    return "\n".join([*_summary(place, part.scenes), *reader.remarks(), *part.counts.lines()])


def _summary(place: Path, scenes: Scenes) -> list[str]:
    entities = scenes.present.sum(1).tolist()
    times = (scenes.mask.any(2).long().cumsum(1).argmax(1) + 1).tolist()
    there = scenes.present[:, None].expand_as(scenes.mask)
    lengths = [scenes.mask[s, :length][there[s, :length]] for s, length in enumerate(times)]
    measured = sum(int(some.sum()) for some in lengths) / sum(some.numel() for some in lengths)
    lines = [
        f"{place}: {scenes.num_scenes} scenes of {_range(entities)} entities at {_range(times)} times, "
        f"time step {scenes.time_step:.6g}",
        f"features: {', '.join(scenes.feature_names)}; {100 * measured:.1f} % of the samples measured",
    ]
    if scenes.exogenous is not None:
        led = int(scenes.exogenous.any(1).sum())
        lines.append(f"exogenous: {int(scenes.exogenous.sum())} entities in {led} scenes")
    known = scenes.known_relations
    if known is not None:
        lines.append(f"relations: {int((~known.isnan()).sum())} of {int(scenes.pairs.sum())} pairs known")
    return lines


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"
