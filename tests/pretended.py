"""A device that is only pretended, so that code for a GPU can be checked without one.

Tensors said to lie there are computed on the CPU as ever, so nothing may change in any bit. But they carry a mark, and
what a GPU would refuse is refused: tensors of both devices in one operation (but for numbers without an axis, and
indices), random generators of the CPU, and numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

THERE, NAME = torch.device("cuda"), "a pretended GPU"

TAKES_NO_NUMBERS = ("cat", "stack", "equal", "index_select", "gather", "searchsorted", "addmm", "baddbmm", "matmul")
"""Operations that refuse numbers of the CPU as well, though these have no axis."""

IN_PLACE = ("__iadd__", "__isub__", "__imul__", "__itruediv__", "__iand__", "__ior__", "__setitem__")

WITHOUT_MEETING = ("to", "copy_", "load_state_dict", "_has_compatible_shallow_copy_type")
"""Operations that take tensors of both devices."""


class Refused(RuntimeError):
    """What a GPU would have refused."""


@contextmanager
def pretended_device() -> Iterator[PretendedDevice]:
    """Let torch have one CUDA device, as far as it is asked in Python."""
    with (
        mock.patch("torch.cuda.is_available", return_value=True),
        mock.patch("torch.cuda.device_count", return_value=1),
        mock.patch("torch.cuda.get_device_name", return_value=NAME),
        mock.patch("torch.accelerator.current_accelerator", return_value=None),
        mock.patch.object(Tensor, "_make_subclass", staticmethod(_made_of)),  # parameters, which no mode sees made
        PretendedDevice() as device,
    ):
        yield device


class PretendedDevice(TorchFunctionMode):
    """Marks what lies on the device, and checks who meets whom.

    Attributes:
        num_operations: that were computed there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.num_operations = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Compute on the CPU, and say where the result lies."""
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        given = list(_tensors((args, kwargs)))
        there = any(is_there(tensor) for tensor in given)
        if name == "__get__" and ".device." in resolve_name(func):
            return THERE if there else func(*args, **kwargs)
        if name == "__set__":
            _mark(args[0], is_there(args[1]) if isinstance(args[1], Tensor) else there)
            return func(*args, **kwargs)
        args, kwargs, wanted = _with_scene_shares(name, args, kwargs)
        self._check(name, (args, kwargs, given), wanted is not None and wanted.type == THERE.type)
        self.num_operations += there
        found = func(*args, **kwargs)
        goes_there = _goes_there(name, given, wanted)
        if wanted is not None and any(found is tensor and is_there(tensor) != goes_there for tensor in given):
            found = found.clone()
        for tensor in _tensors(found):
            _mark(tensor, goes_there)
        return found

    def _check(self, name: str, call: tuple[tuple[Any, ...], dict[str, Any], list[Tensor]], made_there: bool) -> None:
        args, kwargs, given = call
        if name in WITHOUT_MEETING or not (made_there or any(map(is_there, given))):
            return
        if kwargs.get("generator") is not None:
            raise Refused(f"{name}: a generator of the CPU draws for the device")
        if name in ("numpy", "__array__"):
            raise Refused(f"{name}: of a tensor on the device")
        if name in ("__getitem__", "__setitem__") and is_there(args[0]):
            given = [tensor for tensor in given if all(tensor is not index for index in _tensors(args[1]))]
        strangers = [tensor for tensor in given if not is_there(tensor)]
        changed = strangers and _changes_first(name) and not is_there(given[0])
        if any(tensor.dim() for tensor in strangers) or changed or (strangers and name in TAKES_NO_NUMBERS):
            shapes = [tuple(tensor.shape) for tensor in strangers]
            raise Refused(f"{name}: tensors of the CPU, of the shapes {shapes}, meet others on the device")


def is_there(tensor: Tensor) -> bool:
    """Whether it is said to lie on the device."""
    return getattr(tensor, "_pretended", False)


def _mark(tensor: Tensor, there: bool) -> None:
    if is_there(tensor) != there:
        tensor._pretended = there  # pyright: ignore[reportAttributeAccessIssue]


def _made_of(cls: type[Tensor], data: Tensor, requires_grad: bool = False) -> Tensor:
    found = torch._C.TensorBase._make_subclass(cls, data, requires_grad)
    _mark(found, is_there(data))
    return found


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _tensors(value)


def _with_scene_shares(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], torch.device | None]:
    """What is asked for, with the CPU for the device; and the device that was named."""
    wanted = torch.device("cpu") if name == "cpu" else None
    if kwargs.get("device") is not None:
        wanted = torch.device(kwargs["device"])
        kwargs = {**kwargs, "device": "cpu" if wanted.type == THERE.type else wanted}
    if name == "to":
        named = [value for value in args[1:] if isinstance(value, torch.device | str)]
        others = [value for value in args[1:] if isinstance(value, Tensor)]
        wanted = torch.device(named[0]) if named else wanted
        wanted = (THERE if is_there(others[0]) else torch.device("cpu")) if others else wanted
        args = tuple(torch.device("cpu") if isinstance(value, torch.device | str) else value for value in args)
    return args, kwargs, wanted


def _goes_there(name: str, given: list[Tensor], wanted: torch.device | None) -> bool:
    if wanted is not None:
        return wanted.type == THERE.type
    if name == "tensor":
        return False
    return is_there(given[0]) if _changes_first(name) and given else any(map(is_there, given))


def _changes_first(name: str) -> bool:
    """Whether an operation is in place."""
    return name in IN_PLACE or (name.endswith("_") and not name.endswith("__"))
