"""The verb ``table``: convert tables of trajectories to a file of scenes, and print a summary."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from bouncegrad.cli.options import Verb
from bouncegrad.scenes import DataError, Scenes, TableColumns, write_npz
from bouncegrad.scenes.tables import Reading, TableReader
from bouncegrad.scenes.writing import check_folder


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("sources", type=str, nargs="+", help="files or patterns of files: .csv, .tsv or .parquet")
    parser.add_argument("--out", type=str, required=True, help="file of scenes to write, .npz")
    parser.add_argument(
        "--scene", type=str, help="column of the recording (default: guessed; without one, each file is a recording)"
    )
    parser.add_argument("--time", type=str, help="column of the time, numbers or dates (default: guessed)")
    parser.add_argument("--entity", type=str, help="column of the entity (default: guessed)")
    parser.add_argument("--features", type=str, nargs="+", help="columns of the measured features (default: guessed)")
    parser.add_argument("--type", type=str, help="column of the type of entity")
    parser.add_argument(
        "--role",
        type=str,
        help="column that is exogenous, true or 1 for entities whose motion is given and not predicted",
    )
    parser.add_argument(
        "--exogenous",
        type=str,
        help="COLUMN=VALUE of exogenous entities: position=1, or position=min for the minimum of each scene",
    )
    parser.add_argument("--relations", type=str, help="a table with the columns scene, receiver, sender, relation")
    parser.add_argument("--time-step", type=float, help="time between two samples (default: that of the table)")
    parser.add_argument(
        "--resample", choices=["mean", "linear", "nearest"], help="how samples are resampled to these times"
    )
    parser.add_argument(
        "--interpolate", type=int, default=0, help="longest gap, in samples, that is filled by interpolation"
    )
    parser.add_argument(
        "--velocities",
        choices=["auto", "derive", "none"],
        default="auto",
        help="auto: derive missing velocities from positions; derive: derive all; none: only those of the table",
    )


def _run(options: Namespace) -> None:
    columns = TableColumns(
        scene=options.scene,
        time=options.time,
        entity=options.entity,
        features=tuple(options.features or ()),
        entity_type=options.type,
        role=options.role,
        exogenous=exogenous_rule(options.exogenous),
    )
    reading = Reading(options.time_step, options.resample, options.interpolate, options.velocities)
    request = TableRequest(tuple(options.sources), columns, reading, options.relations)
    print(tabulate_file(request, options.out))


@dataclass(frozen=True, slots=True)
class TableRequest:
    """Which tables to convert, and how.

    Attributes:
        sources: paths or patterns of .csv, .tsv and .parquet.
        columns: meaning of the columns.
        reading: time step, resampling, and which gaps are filled.
        relations: path of a table of known relations, or None.
    """

    sources: tuple[str, ...]
    columns: TableColumns
    reading: Reading
    relations: str | None = None


def exogenous_rule(text: str | None) -> tuple[str, str] | None:
    """Parse ``COLUMN=VALUE`` to the pair of column and value.

    Raises:
        DataError: there is no ``=``, or no column before it.
    """
    if text is None:
        return None
    column, sign, value = text.partition("=")
    if not (column and sign):
        raise DataError(f"expected COLUMN=VALUE, such as position=1, got {text!r}")
    return column, value


def tabulate_file(request: TableRequest, out: str | os.PathLike[str]) -> str:
    """Read tables, write their scenes as ``.npz``, and return a summary of a few lines.

    Raises:
        DataError: the tables cannot be read as scenes, or the file cannot be written.
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
    present = scenes.present[:, None].expand_as(scenes.mask)
    lengths = [scenes.mask[s, :length][present[s, :length]] for s, length in enumerate(times)]
    measured = sum(int(some.sum()) for some in lengths) / sum(some.numel() for some in lengths)
    lines = [
        f"{place}: {scenes.num_scenes} scenes of {_range(entities)} entities at {_range(times)} times, "
        f"time step {scenes.time_step:.6g}",
        f"features: {', '.join(scenes.feature_names)}; {100 * measured:.1f} % of the samples measured",
    ]
    if scenes.exogenous is not None:
        num_scenes = int(scenes.exogenous.any(1).sum())
        lines.append(f"exogenous: {int(scenes.exogenous.sum())} entities in {num_scenes} scenes")
    known = scenes.known_relations
    if known is not None:
        lines.append(f"relations: {int((~known.isnan()).sum())} of {int(scenes.pairs.sum())} pairs known")
    return lines


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


VERB = Verb(
    name="table",
    summary="convert tables of trajectories to scenes",
    description=(
        "Convert tables in which a row is one entity of one scene at one time. Columns that are not named are\n"
        "guessed; the summary lists what is guessed, derived and dropped.\n\n"
        "Examples:\n"
        "  bouncegrad table walks.csv --out walks.npz\n"
        "  bouncegrad table cars.parquet --out cars.npz --features speed --exogenous position=min --time-step 1 "
        "--resample mean"
    ),
    add_options=_add_options,
    run=_run,
)
