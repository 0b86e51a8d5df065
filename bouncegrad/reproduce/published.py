"""Published values, from 50,000 training scenes, in the canonical unit."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

Errors: TypeAlias = tuple[float | None, ...]
"""Mean squared errors 1, 10 and 20 steps ahead; None where no number is published."""

SOURCES = (
    "Published: Kipf, Fetaya, Wang, Welling and Zemel (2018), tables 1 and 2, and for modular meta-learning Alet, "
    "Weng, Lozano-Pérez and Kaelbling (2019), tables 1 and 2; 50,000 training and 10,000 test scenes. For step 20 "
    "Alet et al. restart from the true state after ten steps; Kipf et al. and we predict a rollout of 20 steps."
)

PREDICTION: Mapping[str, Mapping[str, Errors]] = MappingProxyType(
    {
        "static": {"springs5": (7.93e-5, 7.59e-3, 2.82e-2), "charged5": (5.09e-3, 2.26e-2, None)},
        "lstm-single": {"springs5": (2.27e-6, 4.69e-4, None), "charged5": (2.71e-3, 7.05e-3, None)},
        "lstm-joint": {"springs5": (4.13e-8, 2.19e-5, None), "charged5": (1.68e-3, 6.45e-3, None)},
        "nri-full": {"springs5": (1.66e-5, 1.64e-3, None), "charged5": (1.09e-3, 3.78e-3, None)},
        "nri": {"springs5": (3.12e-8, 3.29e-6, None), "charged5": (1.05e-3, 3.21e-3, None)},
        "alet2019": {"springs5": (3.13e-8, 3.25e-6, None), "charged5": (1.03e-3, 3.11e-3, None)},
        "nri-true": {"springs5": (1.69e-11, 1.32e-9, None), "charged5": (1.04e-3, 3.03e-3, None)},
    }
)
"""Line -> system -> errors (Kipf et al. 2018, table 2; Alet et al. 2019, table 1)."""

RELATIONS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "correlation": {"springs5": 0.524, "charged5": 0.558},
        "correlation-lstm": {"springs5": 0.527, "charged5": 0.542},
        "nri": {"springs5": 0.999, "charged5": 0.821},
        "alet2019": {"springs5": 0.999, "charged5": 0.884},
        "supervised": {"springs5": 0.999, "charged5": 0.950},
    }
)
"""Line -> system -> relation accuracy (Kipf et al. 2018, table 1; Alet et al. 2019, table 2)."""

REMARK = (
    "Charged scenes are chaotic: rounding on another platform changes close encounters, and with them the extremes of "
    "velocities, which set the unit of all errors. Our canonical scenes have other extremes than the published ones, "
    "so errors of charged scenes can be compared with each other, but with published ones only roughly."
)
