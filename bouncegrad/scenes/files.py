"""Files of scenes: a folder of .npy files as in Kipf et al. (2018), or one .npz; pickles are never loaded.

A folder holds, for each split (``train``, ``valid``, ``test``) and one suffix (``springs5``):

====================================  ============================================================
``loc_{split}_{suffix}.npy``          positions, ``[scene, time, dimension, entity]``
``vel_{split}_{suffix}.npy``          velocities, the same shape
``edges_{split}_{suffix}.npy``        optional: relations, ``[scene, receiver, sender]``
``mask_{split}_{suffix}.npy``         optional: ``[scene, time, entity]``, True = measured
``exogenous_{split}_{suffix}.npy``    optional: ``[scene, entity]``, True = acts, and is not acted on
``scenes.json``                       optional: time step, names, system, normalisation constants
====================================  ============================================================

Where the features are not positions and then their velocities, there are neither ``loc`` nor ``vel`` but
``states_{split}_{suffix}.npy``, ``[scene, time, entity, feature]``, and ``scenes.json`` says what the features are.

A .npz holds one set: the arrays ``loc`` and ``vel``, or ``states``, and optionally ``edges``, ``mask``, ``exogenous``,
``time_step`` and ``meta`` (JSON text). ``meta`` may hold the lists ``feature_names``, ``entity_names``, ``scene_names``
and ``names`` (of the entities, scene by scene); ``scenes.json`` holds the last three split by split.

A table (.csv, .tsv, .parquet) is read as :func:`~bouncegrad.scenes.tables.read_table` reads it, columns guessed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bouncegrad.scenes.layout import NRI_TIME_STEP, from_arrays, from_states, has_motion, to_arrays, truth_values
from bouncegrad.scenes.record import DataError, Scenes
from bouncegrad.scenes.tables import ENDINGS, read_table
from bouncegrad.scenes.writing import whole_files

META_FILE = "scenes.json"
MOTION_ARRAYS = ("loc", "vel")
OPTIONAL_ARRAYS = ("edges", "mask", "exogenous")
ALL_ARRAYS = (*MOTION_ARRAYS, "states", *OPTIONAL_ARRAYS)
NAME_LISTS = ("feature_names", "entity_names", "scene_names", "names")
SPLIT_NAMES = NAME_LISTS[1:]
"""Names in the metadata that differ between splits."""


def read_scenes(path: str | os.PathLike[str], split: str | None = None) -> Scenes:
    """Read one set of scenes.

    Args:
        path: a folder of .npy files, one .npz file, or a table (see the top of this module).
        split: which set of the folder; a .npz or a table holds one set only.

    Where nothing states the time step it is :data:`~bouncegrad.scenes.layout.NRI_TIME_STEP`.

    Raises:
        DataError: there is no such file or split, several data sets share the folder, a file is damaged or
            holds pickled objects, or its content makes no scenes.
    """
    place = Path(path)
    if place.is_dir():
        return _read_split(place, split)
    _check_file(place)
    if split is not None:
        raise DataError(f"{place} holds one set of scenes: leave out split={split!r}, or name a folder of splits")
    return read_table(place) if place.suffix.lower() in ENDINGS else _read_npz(place)


def read_part(path: str | os.PathLike[str], split: str | None) -> Scenes:
    """A split of a folder, or all of a file, which has no splits; arguments and errors of :func:`read_scenes`."""
    return read_scenes(path, split if Path(path).is_dir() else None)


def has_split(path: str | os.PathLike[str], split: str) -> bool:
    """Whether ``folder`` is a folder with scenes of that split."""
    return any(split in splits for splits in _suffixes(Path(path)).values())


def read_meta(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Metadata of scenes: time step, names, system, normalisation; empty where there is none.

    Raises:
        DataError: there is no such file, or it does not hold a JSON object.
    """
    place = Path(path)
    if place.is_dir():
        file = place / META_FILE
        return _parse_meta(file, _read_text(file)) if file.exists() else {}
    _check_file(place)
    if place.suffix.lower() in ENDINGS:
        return {}
    return _npz_meta(place, _read_archive(place, ("time_step", "meta")))


def write_folder(
    path: str | os.PathLike[str],
    splits: Mapping[str, Scenes],
    suffix: str,
    meta: Mapping[str, Any] | None = None,
) -> None:
    """Write sets of scenes as a folder that :func:`read_scenes` reads back exactly.

    Splits of the same suffix that are already there and not in ``splits`` stay, as does what ``scenes.json``
    says beyond ``meta``. Nothing is changed unless everything could be written.

    Args:
        path: the folder; made where it does not exist.
        splits: the scenes of each split, all with one time step and the same features.
        suffix: names the data set: ``springs5``.
        meta: goes to ``scenes.json``, for example ``{"system": "springs", "normalization": {...}}``.

    Raises:
        DataError: a name that makes no file name, sets that do not share time step and features, another
            data set in the folder, or a folder that cannot be written.
    """
    folder = Path(path)
    _check_file_names(splits, suffix)
    text = _folder_meta(folder, splits, suffix, meta or {})
    with whole_files(folder) as temporary:
        written = {name for split, scenes in splits.items() for name in _write_split(temporary, scenes, split, suffix)}
        (temporary / META_FILE).write_text(text, encoding="utf-8")
        for array in ALL_ARRAYS:
            for split in splits:
                stale = _file_name(array, split, suffix)
                if stale not in written:
                    (folder / stale).unlink(missing_ok=True)


def write_npz(path: str | os.PathLike[str], scenes: Scenes, meta: Mapping[str, Any] | None = None) -> None:
    """Write one set of scenes as a .npz that :func:`read_scenes` reads back exactly.

    Raises:
        DataError: the name does not end in .npz, ``meta`` is no JSON, or the file cannot be written.
    """
    place = Path(path)
    if place.suffix != ".npz":
        raise DataError(f"expected a file name that ends in .npz, got {place.name!r}")
    names = {word: getattr(scenes, word) for word in NAME_LISTS}
    others = {word: value for word, value in (meta or {}).items() if word not in NAME_LISTS}
    text = _to_json({**others, **{word: value for word, value in names.items() if value is not None}})
    arrays = {**_arrays_of(scenes), "time_step": np.float64(scenes.time_step), "meta": np.str_(text)}
    with whole_files(place.parent) as temporary:
        np.savez(temporary / place.name, **arrays)


# reading


def _read_split(folder: Path, split: str | None) -> Scenes:
    suffixes = _suffixes(folder)
    if not suffixes:
        raise DataError(f"{folder} holds no scenes: expected files such as loc_train_springs5.npy")
    if len(suffixes) > 1:
        names = ", ".join(repr(name) for name in sorted(suffixes))
        raise DataError(f"{folder} holds several data sets ({names}): move each to a folder of its own")
    [(suffix, splits)] = suffixes.items()
    if split not in splits:
        wanted = "say which split to read" if split is None else f"there is no split {split!r}"
        raise DataError(f"{wanted}: {folder} holds {', '.join(repr(name) for name in sorted(splits))}")
    return _read_files(folder, split, suffix)


def _suffixes(folder: Path) -> dict[str, set[str]]:
    """Suffix -> splits, from the names of the files of positions or states."""
    found: dict[str, set[str]] = {}
    for path in folder.glob("*.npy"):
        match = re.fullmatch(r"(?:loc|states)_([^_]+)(?:_(.+))?\.npy", path.name)
        if match:
            found.setdefault(match[2] or "", set()).add(match[1])
    return found


def _file_name(array: str, split: str, suffix: str) -> str:
    return "_".join(filter(None, (array, split, suffix))) + ".npy"


def _read_files(folder: Path, split: str, suffix: str) -> Scenes:
    paths = {name: folder / _file_name(name, split, suffix) for name in ALL_ARRAYS}
    if paths["loc"].exists() and not paths["vel"].exists():
        raise DataError(f"{paths['vel']} does not exist: it belongs beside {paths['loc'].name}")
    arrays = {name: _read_array(file) for name, file in paths.items() if file.exists()}
    meta = read_meta(folder)
    return _assembled(folder, arrays, {**meta, **{word: _section(meta, word).get(split) for word in SPLIT_NAMES}})


def _read_npz(path: Path) -> Scenes:
    arrays = _read_archive(path, (*ALL_ARRAYS, "time_step", "meta"))
    missing = [name for name in MOTION_ARRAYS if name not in arrays]
    if missing and "states" not in arrays:
        wanted = ", ".join(ALL_ARRAYS)
        raise DataError(
            f"{path} has no array {missing[0]!r}: expected {wanted}, of which the first two or the third are needed"
        )
    meta = _npz_meta(path, arrays)
    return _assembled(path, {name: array for name, array in arrays.items() if name not in ("time_step", "meta")}, meta)


def _assembled(place: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Scenes:
    words = {word: meta[word] for word in NAME_LISTS if meta.get(word) is not None}
    time_step = meta.get("time_step", NRI_TIME_STEP)
    kept = {name: array for name, array in arrays.items() if name != "exogenous"}
    try:
        if "states" in arrays and not arrays.keys().isdisjoint(MOTION_ARRAYS):
            raise DataError("there are states beside loc or vel: expected either, remove what is not meant")
        given: dict[str, Any] = {word: _name_list(word, value) for word, value in words.items()}
        scenes = (from_states if "states" in arrays else from_arrays)(**kept, time_step=time_step)
        if "exogenous" in arrays:
            given["exogenous"] = truth_values("exogenous", arrays["exogenous"])
        return replace(scenes, **given) if given else scenes
    except DataError as error:
        raise DataError(f"{place}: {error}") from error


def _name_list(word: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise DataError(f"{word} must be a list of strings, got {value!r}")
    if word == "names" and not all(isinstance(some, list) for some in value):
        raise DataError(f"names must be a list of strings for each scene, got {value!r}")
    return tuple(value)


def _check_file(path: Path) -> None:
    if not path.exists():
        raise DataError(f"{path} does not exist: expected a folder of .npy files, one .npz file or a table")
    if path.suffix.lower() not in (".npz", *ENDINGS) or not path.is_file():
        raise DataError(f"{path} is neither a folder of .npy files nor a .npz file nor a table ({', '.join(ENDINGS)})")


def _read_array(path: Path) -> np.ndarray:
    with _clear_errors(path):
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
    raise DataError(f"{path} is a .npz archive: expected one array, as numpy.save writes it")


def _read_archive(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The existing arrays among ``names``."""
    with _clear_errors(path):
        content = np.load(path, allow_pickle=False)
        if not isinstance(content, np.ndarray):
            with content:
                return {name: np.asarray(content[name]) for name in names if name in content.files}
    raise DataError(f"{path} is a single array: expected an archive of arrays, as numpy.savez writes it")


@contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # on damaged files numpy raises a dozen kinds, from EOFError to zlib.error
        if "allow_pickle" in str(error) or "pickled" in str(error):
            reason = "holds pickled objects, which are never loaded, or is no numpy file: save plain number arrays"
        else:
            reason = f"cannot be read, it may be damaged or cut short ({error}): make or copy it again"
        raise DataError(f"{path} {reason}") from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _npz_meta(path: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    meta = _parse_meta(path, str(arrays["meta"])) if "meta" in arrays else {}
    if "time_step" not in arrays:
        return meta
    time_step = arrays["time_step"]
    if time_step.size != 1 or time_step.dtype.kind not in "fiu":
        raise DataError(f"{path}: time_step must be one number, got {time_step.dtype} of shape {time_step.shape}")
    return {**meta, "time_step": float(time_step.item())}


def _parse_meta(path: Path, text: str) -> dict[str, Any]:
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no valid JSON ({error}): repair or remove it") from error
    if not isinstance(meta, dict):
        raise DataError(f"{path} must hold a JSON object, got {type(meta).__name__}")
    return meta


def _section(meta: Mapping[str, Any], word: str) -> dict[str, Any]:
    section = meta.get(word, {})
    if not isinstance(section, dict):
        raise DataError(f"{word} in {META_FILE} must map each split to a list, got {section!r}")
    return section


# writing


def _check_file_names(splits: Mapping[str, Scenes], suffix: str) -> None:
    if not splits:
        raise DataError("expected at least one split to write, got none")
    for split in splits:
        if not re.fullmatch(r"[A-Za-z0-9.-]+", split):
            raise DataError(f"a split is named with letters, digits, '.' and '-', got {split!r}")
    if not re.fullmatch(r"[A-Za-z0-9._-]*", suffix):
        raise DataError(f"a suffix is made of letters, digits, '.', '-' and '_', got {suffix!r}")


def _folder_meta(folder: Path, splits: Mapping[str, Scenes], suffix: str, meta: Mapping[str, Any]) -> str:
    """The text of ``scenes.json``, and the checks that the folder stays readable."""
    found = _suffixes(folder) if folder.is_dir() else {}
    others = sorted(set(found) - {suffix})
    if others:
        raise DataError(f"{folder} already holds the data set {others[0]!r}: write {suffix!r} to a folder of its own")
    kept = sorted(found.get(suffix, set()) - set(splits))
    before = read_meta(folder) if kept else {}
    shared = _shared_meta(splits, before, kept)
    names = {word: _split_names(word, splits, before, kept) for word in SPLIT_NAMES}
    others = {word: value for word, value in {**before, **meta}.items() if word not in SPLIT_NAMES}
    return _to_json({**others, **shared, **{word: section for word, section in names.items() if section}})


def _split_names(
    word: str, splits: Mapping[str, Scenes], before: Mapping[str, Any], kept: list[str]
) -> dict[str, Sequence[Any]]:
    """The names ``word`` of each split that has such names."""
    section = {split: names for split, names in _section(before, word).items() if split in kept}
    return section | {split: names for split, scenes in splits.items() if (names := getattr(scenes, word)) is not None}


def _shared_meta(splits: Mapping[str, Scenes], before: Mapping[str, Any], kept: list[str]) -> dict[str, Any]:
    first, *others = (
        {"time_step": scenes.time_step, "feature_names": list(scenes.feature_names)} for scenes in splits.values()
    )
    if kept:
        others.append({"time_step": NRI_TIME_STEP, "feature_names": first["feature_names"]} | {**before})
    for other in others:
        for word, value in first.items():
            if other[word] != value:
                raise DataError(f"the splits of a folder must have the same {word}, got {value} and {other[word]}")
    return first


def _write_split(folder: Path, scenes: Scenes, split: str, suffix: str) -> list[str]:
    arrays = _arrays_of(scenes)
    names = [_file_name(name, split, suffix) for name in arrays]
    for name, array in zip(names, arrays.values(), strict=True):
        np.save(folder / name, array, allow_pickle=False)
    return names


def _arrays_of(scenes: Scenes) -> dict[str, np.ndarray]:
    if has_motion(scenes.feature_names):
        loc, vel = to_arrays(scenes)
        arrays = {"loc": loc, "vel": vel}
    else:
        arrays = {"states": scenes.states.cpu().numpy()}
    if scenes.relations is not None:
        arrays["edges"] = scenes.relations.cpu().numpy()
    if not scenes.mask.all():
        arrays["mask"] = scenes.mask.cpu().numpy()
    if scenes.exogenous is not None:
        arrays["exogenous"] = scenes.exogenous.cpu().numpy()
    return arrays


def _to_json(meta: Mapping[str, Any]) -> str:
    try:
        return json.dumps(meta, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise DataError(f"meta must be numbers, strings, lists and dicts that JSON can hold: {error}") from error
