"""Where networks compute: the CPU, or a GPU that torch can use.

Weights, scenes as a network takes them, messages and gradients are there. Structures, tables, priors and all randomness
stay on the CPU: they are small, and one seed draws the same numbers whatever the device. A GPU adds up in an order of
its own, though, so what is repeatable to the bit on the CPU is repeatable up to rounding there. The search for hidden
entities and the description of kinds work on the CPU altogether.
"""

from __future__ import annotations

import copy
from typing import TypeAlias, TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)

Device: TypeAlias = str | torch.device
"""``cpu``, ``cuda`` or ``cuda:1``."""


def device_named(name: Device) -> torch.device:
    """The device of a name.

    Raises:
        ValueError: no such device, or one that torch cannot use on this machine.

    Example:
        >>> device_named("cpu")
        device(type='cpu')
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"there is no device {str(name)!r} to compute on: choose cpu, cuda or cuda:N")
    number = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= number:
        raise ValueError(
            f"the device {str(name)!r} was asked for, but torch can use {number} CUDA devices here: choose another, "
            "install a build of torch for your GPU, or leave the device out"
        )
    return device


def at_home(network: Network) -> Network:
    """The network, or a copy of it, on the CPU."""
    away = any(weights.device.type != "cpu" for weights in network.state_dict().values())
    return copy.deepcopy(network).cpu() if away else network
