"""The device on which networks compute: the CPU, or a GPU that torch can use.

On the device: weights, the scenes that a network reads, messages and gradients. On the CPU: structures, factors,
priors and all random numbers, so that one seed draws the same numbers on every device. Entirely on the CPU: the search
without tables (for scenes of many entities; its sums of messages are copied to the CPU), the search for hidden
entities, and the checks of misfit and of the meaning of edge types.

A fit on the CPU is repeatable to the bit. On a GPU it is not: some sums differ between runs in their last digits, and a
search amplifies such differences. On a GPU convolutions and recurrent networks multiply with less precision (TF32)
unless ``torch.backends.cudnn.allow_tf32`` is False.
"""

from __future__ import annotations

import copy
from typing import TypeAlias, TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)

Device: TypeAlias = str | torch.device
"""A torch device or its name: ``cpu``, ``cuda`` or ``cuda:1``."""


def device_named(name: Device) -> torch.device:
    """The torch device with a name.

    Raises:
        ValueError: the name of no device, or a device that torch cannot use on this machine.

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
    """The network itself if all its weights are on the CPU, else a copy on the CPU."""
    away = any(weights.device.type != "cpu" for weights in network.state_dict().values())
    return copy.deepcopy(network).cpu() if away else network


def gpu_of(network: nn.Module) -> list[str]:
    """The name of the GPU that holds a network, in a list; an empty list on the CPU."""
    return gpu_named(next(network.parameters()).device)


def gpu_named(device: torch.device) -> list[str]:
    """The product name of a GPU, in a list; an empty list for the CPU."""
    return [] if device.type == "cpu" else [torch.cuda.get_device_name(device)]
