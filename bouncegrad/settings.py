"""Validation of settings: the ``*Config`` dataclasses call :func:`check_settings` in ``__post_init__``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints


def check_settings(
    settings: Any,
    *,
    counts: Sequence[str] = (),
    positive: Sequence[str] = (),
    shares: Sequence[str] = (),
    below_one: Sequence[str] = (),
) -> None:
    """Check the values of a dataclass of settings.

    Args:
        settings: an instance; every field of type ``Literal`` must hold one of its choices.
        counts: the fields that must be whole numbers, 1 or more.
        positive: the fields that must be finite numbers above 0.
        shares: the fields that must be numbers from 0 to 1.
        below_one: the fields that must be numbers from 0 to below 1.

    Raises:
        ValueError: a value out of range; the message names the field, the expected values and the value.
    """
    hints = get_type_hints(type(settings))
    for field in fields(settings):
        value, choices = getattr(settings, field.name), get_args(hints[field.name])
        if get_origin(hints[field.name]) is Literal and value not in choices:
            raise ValueError(f"{field.name} must be one of {', '.join(map(str, choices))}; got {value!r}")
        if field.name in counts and not is_count(value):
            raise ValueError(f"{field.name} must be a whole number, 1 or more; got {value!r}")
        if field.name in positive and not is_positive(value):
            raise ValueError(f"{field.name} must be a finite number above 0; got {value!r}")
        if field.name in shares and not 0 <= value <= 1:
            raise ValueError(f"{field.name} must be a share, from 0 to 1; got {value}")
        if field.name in below_one and not 0 <= value < 1:
            raise ValueError(f"{field.name} must be a share, from 0 to below 1; got {value}")


def is_count(value: object) -> bool:
    """Whether ``value`` is a whole number, 1 or more."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_positive(value: object) -> bool:
    """Whether ``value`` is a finite number above 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
