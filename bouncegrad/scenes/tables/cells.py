"""Conversion of cells to numbers, names, times and roles, as polars expressions (no file is read here)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import polars as pl

from bouncegrad.scenes.record import DataError

MISSING = ("", "na", "n/a", "nan", "null", "none", "-")
"""Text, in small letters, that means "not measured" in a column of numbers."""

EXOGENOUS = ("exogenous", "true", "yes", "1", "1.0")
"""Text, in small letters, that marks exogenous entities in the column of roles."""

DATES = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f")
MICROSECONDS = 1e6
LARGEST_INTEGER = 2.0**53


def number_cells(name: str, schema: pl.Schema) -> pl.Expr:
    """Float64, null where the cell is empty, NaN or text that is no number.

    Raises:
        DataError: the column holds neither numbers nor text.
    """
    dtype, cell = schema[name], pl.col(name)
    if dtype.is_numeric() or dtype in (pl.Boolean, pl.Null):
        return cell.cast(pl.Float64, strict=False).fill_nan(None)
    if not _is_text(dtype):
        raise DataError(f"the column {name!r} must hold numbers, got {dtype}: convert it, or name another column")
    return _words(name).cast(pl.Float64, strict=False).fill_nan(None)


def unreadable_cells(names: Sequence[str], schema: pl.Schema) -> pl.Expr:
    """True where one of the columns holds text that is neither a number nor a word for a missing one."""
    return pl.any_horizontal(pl.lit(False), *(_unreadable(name, schema) for name in names))


def time_cells(name: str, schema: pl.Schema) -> pl.Expr:
    """Float64: the numbers that there are, or seconds where there are dates.

    Raises:
        DataError: the column holds neither.
    """
    dtype, cell = schema[name], pl.col(name)
    if isinstance(dtype, pl.Datetime) or dtype == pl.Date:
        return cell.dt.epoch("us").cast(pl.Float64) / MICROSECONDS
    if isinstance(dtype, pl.Duration):
        return cell.dt.total_microseconds().cast(pl.Float64) / MICROSECONDS
    if _is_text(dtype):
        text = _words(name).str.strip_suffix("Z")
        dates = (text.str.to_datetime(date, time_unit="us", strict=False).dt.epoch("us") for date in DATES)
        return pl.coalesce(number_cells(name, schema), *(date.cast(pl.Float64) / MICROSECONDS for date in dates))
    return number_cells(name, schema)


def name_cells(name: str, schema: pl.Schema) -> pl.Expr:
    """Names as text, null where there is none; whole numbers are written without a decimal point.

    Raises:
        DataError: the column holds what cannot be a name.
    """
    dtype, cell = schema[name], pl.col(name)
    if dtype.is_float():
        whole = (cell == cell.floor()) & (cell.abs() < LARGEST_INTEGER)
        as_integer = pl.when(whole).then(cell).otherwise(None).cast(pl.Int64, strict=False).cast(pl.String)
        return pl.coalesce(as_integer, cell.fill_nan(None).cast(pl.String))
    if dtype.is_nested() or dtype in (pl.Object, pl.Binary):
        raise DataError(f"the column {name!r} must hold names or whole numbers, got {dtype}: name another column")
    text = cell.cast(pl.String).str.strip_chars()
    return pl.when(text != "").then(text).otherwise(None)


def exogenous_cells(role: str | None, rule: tuple[str, Any] | None, schema: pl.Schema) -> pl.Expr:
    """True where the role, or the value of the rule, says that the entity is exogenous."""
    marks = [pl.lit(False)]
    if role is not None:
        marks.append(name_cells(role, schema).str.to_lowercase().is_in(EXOGENOUS).fill_null(False))
    if rule is not None:
        marks.append(_equals(*rule, schema).fill_null(False))
    return pl.any_horizontal(marks)


def extreme_cells(rule: tuple[str, Any] | None, schema: pl.Schema) -> pl.Expr | None:
    """The numbers of which each scene's least ("min") or greatest ("max") is exogenous, negative for the greatest.

    None where the rule asks for neither.
    """
    if rule is None or not isinstance(rule[1], str) or rule[1] not in ("min", "max"):
        return None
    numbers = number_cells(rule[0], schema)
    return numbers if rule[1] == "min" else -numbers


def _equals(name: str, value: Any, schema: pl.Schema) -> pl.Expr:
    word = str(value).lower() if schema[name] == pl.Boolean else str(value)
    same = name_cells(name, schema) == word
    try:
        number = float(value)
    except (TypeError, ValueError):
        return same
    comparable = math.isfinite(number) and (schema[name].is_numeric() or _is_text(schema[name]))
    return same.fill_null(False) | (number_cells(name, schema) == number) if comparable else same


def _is_text(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.String | pl.Categorical | pl.Enum)


def _words(name: str) -> pl.Expr:
    text = pl.col(name).cast(pl.String).str.strip_chars()
    return pl.when(text.str.to_lowercase().is_in(MISSING)).then(None).otherwise(text)


def _unreadable(name: str, schema: pl.Schema) -> pl.Expr:
    if not _is_text(schema[name]):
        return pl.lit(False)
    return _words(name).is_not_null() & _words(name).cast(pl.Float64, strict=False).is_null()
