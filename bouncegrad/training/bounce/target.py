"""What a search works on: the tasks of one batch, under modules that stand still."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import Tensor

from bouncegrad.energies import loss_fn, residual_moments
from bouncegrad.energies.windows import Batch, Windows, of_tasks
from bouncegrad.models.model import Model
from bouncegrad.types import LossFn, Structures


class Target(Protocol):
    """The tasks of one batch, whatever they are made of: all that searches ask who propose and judge."""

    @property
    def batch(self) -> Any:
        """What a proposal network reads."""
        ...

    def loss_fn(self) -> LossFn:
        """The loss of the tasks under the modules as they are."""
        ...

    def at(self, tasks: Tensor) -> Target:
        """Some of the tasks, by their numbers."""
        ...

    def automatic_temperature(self, structures: Structures) -> float:
        """How hot the residuals under these structures ask a search to be."""
        ...


class SceneTarget(NamedTuple):
    """Scenes, of which some windows are searched on.

    Attributes:
        model: predicts them.
        batch: the scenes as one super-graph.
        windows: the stretches that count.
    """

    model: Model
    batch: Batch
    windows: Windows

    def loss_fn(self) -> LossFn:
        """The loss of every scene."""
        return loss_fn(self.model, self.batch, self.windows)

    def at(self, tasks: Tensor) -> SceneTarget:
        """Some of the scenes."""
        return SceneTarget(self.model, *of_tasks(self.batch, self.windows, tasks))

    def automatic_temperature(self, structures: Structures) -> float:
        """As :func:`automatic_temperature` has it."""
        return automatic_temperature(self.model, self.batch, self.windows, structures)


def automatic_temperature(model: Model, batch: Batch, windows: Windows, structures: Structures) -> float:
    """``T = 2 L / (n (1 - r^2))`` for mean squares L of n numbers a scene whose residuals have autocorrelation r.

    Were the residuals normal and independent, with variance L, ``exp(-loss / T)`` would be their likelihood; what is
    left over from one sample to the next counts once. For energies in nats it is ``1 / (1 - r^2)``.
    Source: released code of Alet et al. 2019 (there the residuals of the last batch of the pass before).
    """
    mean_square, correlation = residual_moments(model, batch, windows, structures)
    independent = max(1e-6, 1 - correlation**2)
    if model.noise.in_nats:
        return 1 / independent
    count = float(windows.weights.sum()) * model.network.num_features / max(1, len(structures))
    return 2 * mean_square / (max(1.0, count) * independent)
