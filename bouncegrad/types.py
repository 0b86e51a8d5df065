"""Type aliases shared by the package, and the legend of axis names.

A structure is the latent graph of a scene: an edge type (an integer, in code ``kind``) on every ordered pair of
entities. Search algorithms see data and networks only through the function types below.

Axis names in shape annotations:

==============  =====================================================================================
``scene``       one recording of interacting entities, with its own latent graph
``time``        samples of a scene, equally spaced
``entity``      the entities of one scene (particles, cars, animals, players)
``feature``     the measurements of an entity at one time (positions, then velocities)
``receiver``    the entity that is acted on
``sender``      the entity that acts
``task``        one search problem: here a scene of the current batch
``slot``        one latent variable of a structure: the edge type of an ordered pair, or the type of an entity
``kind``        edge type (or node type): the index of the module on a slot, an integer from 0
``node``        an entity of any scene inside a super-graph of many scenes
``edge``        an ordered pair of nodes inside a super-graph
``start``       times from which rollouts begin, many in one batch
``step``        steps of a rollout
``factor``      a term of a task's loss that depends on few slots (under teacher forcing: one per receiver)
``combination`` all joint assignments of kinds to the slots of one factor, mixed-radix order
``width``       the slots of one factor
``chain``       parallel Markov chains, or particles, of one task
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
"""The latent graphs of a batch: the kind (edge type) on every slot of every task."""


RelaxedStructures: TypeAlias = Float[Tensor, "task slot kind"]
"""Relaxed latent graphs: a weight for each kind on every slot, differentiable."""


Losses: TypeAlias = Float[Tensor, "task"]
"""The loss (energy) of one structure for each task."""


LossFn: TypeAlias = Callable[[Structures], Losses]
"""Structures -> losses: the only interface of a search kernel to data and networks."""


LogPrior: TypeAlias = Callable[[Structures], Float[Tensor, "task"]]
"""Structures -> log prior probability, up to an additive constant for each task."""


Schedule: TypeAlias = Callable[[int], float]
"""Step -> value; :func:`bouncegrad.structures.annealing.as_schedule` turns a number into a constant schedule."""
