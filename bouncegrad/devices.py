"""Where networks compute: the CPU, or a GPU that torch can use.

Weights, scenes as a network takes them, messages and gradients are there. Structures, factors, priors and all
randomness stay on the CPU: one seed draws the same numbers whatever the device. On the CPU altogether work what has no
tables (scenes of many entities are searched by sums of messages, which come home), the search for hidden entities, and
the misfit and the meaning of kinds.

A fit on the CPU is repeatable to the bit, on a GPU it is not: some sums there differ from run to run in their last
digits, and a search makes much of little. Convolutions and recurrent networks there multiply with less precision
(TF32), unless ``torch.backends.cudnn.allow_tf32`` is set to False.
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


def on_cpu(network: Network) -> Network:
    """The network, or a copy of it, on the CPU."""
    away = any(weights.device.type != "cpu" for weights in network.state_dict().values())
    return copy.deepcopy(network).cpu() if away else network


def gpu_of(network: nn.Module) -> list[str]:
    """The name of the GPU on which a network computes, if it does."""
    return gpu_named(next(network.parameters()).device)


def gpu_named(device: torch.device) -> list[str]:
    """The name that a GPU has of itself; of the CPU none."""
    return [] if device.type == "cpu" else [torch.cuda.get_device_name(device)]
