"""How often one training batch goes from one room of the package to another: ``python tests/rooms.py``.

A room is an entry directly under the folder of the package: a file, or a folder with all that lies in it. While the
recipe ``fast`` learns from one batch of scenes (five particles on springs; the second batch, so that all is loaded),
the room of every Python function that is called is noted, and again the room that a return leads back to. Code
elsewhere (torch, the standard library, code that is made at run time) is left out, as if it were not there. A change is
a room that follows another one in this order.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import bouncegrad

PACKAGE = Path(bouncegrad.__file__).parent


def room_of(frame: FrameType | None) -> str | None:
    """The entry of the package that a function lies in; None outside of it."""
    place = Path(frame.f_code.co_filename) if frame else Path()
    return place.relative_to(PACKAGE).parts[0].removesuffix(".py") if place.is_relative_to(PACKAGE) else None


def rooms_of(work: Callable[[], object], returns: bool = True) -> list[str]:
    """The rooms that a work goes through, in order.

    Args:
        work: is done once.
        returns: also note where returns lead to; else calls alone.
    """
    visited: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        room = None
        if event == "call":
            room = room_of(frame)
        elif event == "return" and returns:
            room = room_of(frame.f_back) if room_of(frame) else None
        if room:
            visited.append(room)

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return visited


def num_changes(visited: list[str]) -> int:
    return sum(one != other for one, other in pairwise(visited))


def exported(name: str) -> Any:
    """A class of the package, wherever it lies."""
    for place in sorted(each for each in sys.modules if each.split(".")[0] == "bouncegrad"):
        value = vars(sys.modules[place]).get(name)
        if isinstance(value, type) and value.__name__ == name:
            return value
    raise LookupError(f"bouncegrad has no class {name}")


def one_batch() -> Callable[[], object]:
    """The second batch of a training, not yet learned from."""
    found = bouncegrad.simulate(bouncegrad.Springs(num_entities=5), 60, generator=0)
    scenes = bouncegrad.from_arrays(found.loc, found.vel, found.edges, time_step=found.time_step)
    recipe = bouncegrad.RECIPES["fast"]
    training = exported("BounceGrad")(scenes, scenes.at(range(10)), recipe.model, recipe.training, seed=0)
    indices = torch.arange(50)
    training.learn_from(indices, 0.0)
    return lambda: training.learn_from(indices, 0.0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    visited = rooms_of(one_batch())
    print(f"{num_changes(visited)} room changes over {len(set(visited))} rooms")
