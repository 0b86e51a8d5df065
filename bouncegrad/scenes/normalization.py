"""Normalisation of features to [-1, 1], and its inverse, with constants from the training scenes alone."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bouncegrad.scenes.record import DataError, Scenes


@dataclass(frozen=True, slots=True)
class Normalization:
    """The extremes that become -1 and 1: ``2 (x - minimum) / (maximum - minimum) - 1`` for each feature.

    All positions share one pair of extremes and all velocities another, as in Kipf et al. (2018), so that
    directions in space stay what they are. Errors in normalised units can only be compared under the same
    constants: those of 1,000 training scenes are not those of 50,000.

    A feature that never varies (maximum = minimum) becomes 0, and back, whatever its normalised value, the
    constant.

    Attributes:
        minimum: one number for each feature, in the unit of the recording.
        maximum: the same.

    Raises:
        DataError: different lengths, numbers that are not finite, a minimum above its maximum.

    Example:
        >>> import torch
        >>> Normalization((-4.0, 0.0), (4.0, 2.0)).apply(torch.tensor([2.0, 2.0])).tolist()
        [0.5, 1.0]
    """

    minimum: tuple[float, ...]
    maximum: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check that the constants are finite and ordered, so that no state becomes NaN."""
        pairs = list(zip(self.minimum, self.maximum, strict=False))
        if len(self.minimum) != len(self.maximum) or not pairs:
            raise DataError(f"expected a minimum and a maximum for each feature, got {self.minimum}, {self.maximum}")
        if not all(low <= high and math.isfinite(high - low) for low, high in pairs):
            raise DataError(f"expected finite minimum <= maximum for each feature, got {self.minimum}, {self.maximum}")

    @classmethod
    def fit(cls, scenes: Scenes, groups: Sequence[str] | None = None) -> Normalization:
        """The extremes of the valid states of ``scenes``.

        Args:
            scenes: the training scenes.
            groups: one word for each feature; features with the same word share their extremes. By default
                names that start with ``v`` are velocities, ``x``, ``y``, ``z`` (and ``x0``, ``x1``, ...) are
                positions, and any other feature is a group of its own.

        Raises:
            DataError: no state is valid, or ``groups`` does not fit the features.
        """
        words = _default_groups(scenes.feature_names) if groups is None else tuple(groups)
        if len(words) != scenes.num_features:
            raise DataError(f"expected one group for each of {scenes.feature_names}, got {words}")
        if not scenes.mask.any():
            raise DataError("no state is valid: there is nothing to take the extremes of")
        low, high = _extremes(scenes.states, scenes.mask)
        return cls(_shared(low, words, min), _shared(high, words, max))

    def apply(
        self, states: Float[Tensor, "*batch feature"], dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "*batch feature"]:
        """Normalise ``states``; computed in float64, returned in ``dtype``."""
        low, high = self._constants(states)
        normalised = (states.double() - low) * 2 / (high - low).where(high > low, 1.0) - 1
        return normalised.where(high > low, 0.0).to(dtype)

    def undo(
        self, states: Float[Tensor, "*batch feature"], dtype: torch.dtype = torch.float64
    ) -> Float[Tensor, "*batch feature"]:
        """The inverse of :meth:`apply`; computed in float64, returned in ``dtype``."""
        low, high = self._constants(states)
        return ((states.double() + 1) * (high - low) / 2 + low).to(dtype)

    def to_dict(self) -> dict[str, list[float]]:
        """Plain lists for JSON, without loss of precision."""
        return {"minimum": list(self.minimum), "maximum": list(self.maximum)}

    @classmethod
    def from_dict(cls, constants: Mapping[str, Any]) -> Normalization:
        """The inverse of :meth:`to_dict`.

        Raises:
            DataError: a key is missing or its value is no list of numbers.
        """
        try:
            minimum, maximum = ([float(x) for x in constants[key]] for key in ("minimum", "maximum"))
        except (KeyError, TypeError, ValueError) as error:
            wanted = '{"minimum": [numbers], "maximum": [numbers]}'
            raise DataError(f"expected normalization constants {wanted}, got {constants!r}") from error
        return cls(tuple(minimum), tuple(maximum))

    def _constants(self, states: Tensor) -> tuple[Tensor, Tensor]:
        if states.dim() < 1 or states.shape[-1] != len(self.minimum):
            raise DataError(
                f"expected states [..., feature] of {len(self.minimum)} features, got {tuple(states.shape)}"
            )
        low, high = torch.tensor([self.minimum, self.maximum], dtype=torch.float64, device=states.device)
        return low, high


def _default_groups(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple("velocity" if n.startswith("v") else "position" if re.fullmatch(r"[xyz]\d*", n) else n for n in names)


def _extremes(states: Tensor, mask: Tensor) -> tuple[list[float], list[float]]:
    valid = states.flatten(0, 2) if mask.all() else states[mask]
    return valid.amin(0).tolist(), valid.amax(0).tolist()


def _shared(values: list[float], words: tuple[str, ...], extreme: Any) -> tuple[float, ...]:
    return tuple(extreme(v for v, other in zip(values, words, strict=True) if other == word) for word in words)
