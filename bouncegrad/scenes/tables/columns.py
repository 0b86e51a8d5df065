"""Meaning of the columns of a table, given or guessed from their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bouncegrad.scenes.record import DataError

GUESSES = {
    "scene": ("scene", "trial", "game", "recording", "episode", "scenario", "match"),
    "time": ("time", "t", "frame", "timestamp", "timestep"),
    "entity": ("entity", "agent", "id", "player", "car", "vehicle", "particle", "animal", "object", "track"),
}
"""Names under which each column is looked for where none is given; capitals do not matter, nor does ``_id`` at the
end."""

FEATURES = ("x", "y", "z", "vx", "vy", "vz", "speed")
"""Names of features that are taken where none are given, in this order."""

POSITION = re.compile(r"[xyz]|x\d+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TableColumns:
    """Which columns of a tidy table hold what: one row is one entity of one scene at one time.

    Attributes:
        scene: the recording; None: guessed from :data:`GUESSES`. Where there is none, each file is one scene.
        time: numbers in any unit, or dates (then in seconds); None: guessed.
        entity: the measured entity; None: guessed.
        features: measured features, numbers; (): guessed from :data:`FEATURES`.
        entity_type: what sort of entity it is, constant for an entity in a scene: becomes the features
            ``type=...``, 1 for those of that type and 0 for the others; None: there are no types.
        role: "exogenous", "true", "yes" or 1 marks exogenous entities, which are not acted on; None: there is none.
        exogenous: a column and the value that marks exogenous entities: ``("position", 1)``. Numbers are compared
            as numbers, all else as text. Of a column of numbers "min" and "max" mean the least and the greatest in each
            scene: ``("position", "min")``.

    Raises:
        DataError: no names, or one column for two things.

    Example:
        >>> TableColumns(entity="car", features=("speed",), exogenous=("position", 1)).features
        ('speed',)
    """

    scene: str | None = None
    time: str | None = None
    entity: str | None = None
    features: tuple[str, ...] = ()
    entity_type: str | None = None
    role: str | None = None
    exogenous: tuple[str, Any] | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        if isinstance(self.features, str) or not all(isinstance(name, str) for name in self.features):
            raise DataError(f"features must be a tuple of column names, got {self.features!r}: write ('speed',)")
        object.__setattr__(self, "features", tuple(self.features))
        if self.exogenous is not None and (not isinstance(self.exogenous, tuple | list) or len(self.exogenous) != 2):
            raise DataError(f"exogenous must be a column and a value, as ('position', 1), got {self.exogenous!r}")
        singles = [self.scene, self.time, self.entity]
        if not all(name is None or isinstance(name, str) for name in (*singles, self.entity_type, self.role)):
            raise DataError(f"columns are given by their names, got {self!r}")
        used = [name for name in (*singles, *self.features) if name is not None]
        for name in used:
            if used.count(name) > 1:
                raise DataError(f"the column {name!r} is given for two things: a column holds one")

    @property
    def used(self) -> tuple[str, ...]:
        """All columns that are named, each once."""
        rule = self.exogenous[0] if self.exogenous else None
        named = (self.scene, self.time, self.entity, *self.features, self.entity_type, self.role, rule)
        return tuple(dict.fromkeys(name for name in named if name is not None))


def found_columns(columns: TableColumns, there: Sequence[str], place: str) -> TableColumns:
    """The columns, with those that are None guessed from ``there``, the names of the columns of the table.

    Raises:
        DataError: a column that is not there, nothing to guess from, or several columns that could be meant.
    """
    for name in columns.used:
        if name not in there:
            raise DataError(f"{place} has no column {name!r}: there are {_list(there)}")
    taken = {columns.scene, columns.time, columns.entity, *columns.features, columns.entity_type, columns.role}
    open_names = [name for name in there if name not in taken]
    guessed: dict[str, Any] = {
        word: _guess(word, open_names, place) for word in GUESSES if getattr(columns, word) is None
    }
    if not columns.features:
        guessed["features"] = _guess_features(open_names, place)
    for word in ("time", "entity", "features"):
        if not (getattr(columns, word) or guessed[word]):
            names = FEATURES if word == "features" else GUESSES[word]
            wanted = "columns of features" if word == "features" else f"column of the {word}"
            raise DataError(
                f"{place} has no {wanted} such as {_list(names)}: there are {_list(there)}; "
                f"say which it is with TableColumns({word}=...) or --{word}"
            )
    return replace(columns, **guessed)


def position_names(names: Sequence[str]) -> list[str]:
    """Those of the features that are positions: ``x``, ``y``, ``z``, ``x0``, ``x1``, ..."""
    return [name for name in names if POSITION.fullmatch(name)]


def velocity_name(position: str, names: Sequence[str]) -> str:
    """What the velocity of a position is called among the features, capitals or not; ``v`` and its name where it has
    none."""
    wanted = f"v{position}"
    return next((name for name in names if name.lower() == wanted.lower()), wanted)


def _guess(word: str, there: Sequence[str], place: str) -> str | None:
    found = [name for name in there if name.strip().lower().removesuffix("_id") in GUESSES[word]]
    if len(found) > 1:
        raise DataError(
            f"{place} has several columns that could be the {word}: {_list(found)}; "
            f"say which it is with TableColumns({word}=...) or --{word}"
        )
    return found[0] if found else None


def _guess_features(there: Sequence[str], place: str) -> tuple[str, ...]:
    found = [[name for name in there if name.strip().lower() == feature] for feature in FEATURES]
    for names in found:
        if len(names) > 1:
            raise DataError(f"{place} has several columns that could be one feature: {_list(names)}; name the features")
    return tuple(name for names in found for name in names)


def _list(names: Sequence[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(map(repr, names[:most])) or "none") + more
