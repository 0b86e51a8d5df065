"""The words of the project as types: axes, records and the seams between search and networks.

Axis legend, used in every shape annotation of the package:

==============  =====================================================================================
``scene``       one recording of interacting entities, with its own relations
``time``        samples of a scene, equally spaced
``entity``      the things of one scene (particles, cars, animals, players)
``feature``     what is measured of an entity at one time (positions, then velocities)
``receiver``    the entity that is acted on
``sender``      the entity that acts
``task``        one search problem: here a scene of the current batch
``slot``        a place of a structure that holds one module (an ordered pair, or an entity)
``kind``        which module of the library sits on a slot, an integer from 0
``node``        an entity of any scene inside a super-graph of many scenes
``edge``        an ordered pair of nodes inside a super-graph
``start``       times from which rollouts begin, many in one batch
``step``        steps of a rollout
``factor``      a term of a task's loss that sees few slots (under teacher forcing: one per receiver)
``combination`` all joint assignments of kinds to the slots of one factor, mixed-radix order
``width``       the slots of one factor
``chain``       structures of one task that are searched beside each other
``block``       slots of one factor that are redrawn together
``code``        joint assignments of kinds to a block, mixed-radix order like combinations
==============  =====================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from jaxtyping import Float, Int
from torch import Tensor

Structures: TypeAlias = Int[Tensor, "task slot"]
"""The kind on every slot of every task: one integer tensor, nothing stored beside it."""


RelaxedStructures: TypeAlias = Float[Tensor, "task slot kind"]
"""How much of each kind is on every slot: what a gradient can pass through."""


Losses: TypeAlias = Float[Tensor, "task"]


LossFn: TypeAlias = Callable[[Structures], Losses]
"""Structures -> losses. All that a search kernel ever sees of data and networks."""


LogPrior: TypeAlias = Callable[[Structures], Float[Tensor, "task"]]
"""Structures -> log prior probability, up to a constant of each task."""


Schedule: TypeAlias = Callable[[int], float]
"""Step -> value. Numbers are lifted to schedules by :func:`bouncegrad.structures.annealing.as_schedule`."""
