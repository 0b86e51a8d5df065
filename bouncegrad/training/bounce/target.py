"""What the E-step searches: the tasks of one batch, with their losses under fixed modules."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import Tensor

from bouncegrad.energies import loss_fn, residual_moments
from bouncegrad.energies.windows import Batch, Windows, select_tasks
from bouncegrad.models.model import Model
from bouncegrad.types import LossFn, Structures


class Target(Protocol):
    """The tasks of one batch, scenes or functions, as searches by kernels and proposals see them."""

    @property
    def batch(self) -> Any:
        """The input of a proposal network."""
        ...

    def loss_fn(self) -> LossFn:
        """Structures -> loss of every task under the current modules."""
        ...

    def at(self, tasks: Tensor) -> Target:
        """The tasks of these indices."""
        ...

    def automatic_temperature(self, structures: Structures) -> float:
        """The temperature at which the loss is a likelihood of the residuals under these structures."""
        ...


class SceneTarget(NamedTuple):
    """A batch of scenes, with the windows whose loss counts.

    Attributes:
        model: the model that predicts them.
        batch: the scenes as one super-graph.
        windows: the windows in the loss.
    """

    model: Model
    batch: Batch
    windows: Windows

    def loss_fn(self) -> LossFn:
        """Structures -> loss of every scene."""
        return loss_fn(self.model, self.batch, self.windows)

    def at(self, tasks: Tensor) -> SceneTarget:
        """The scenes of these indices."""
        return SceneTarget(self.model, *select_tasks(self.batch, self.windows, tasks))

    def automatic_temperature(self, structures: Structures) -> float:
        """The temperature by :func:`automatic_temperature`."""
        return automatic_temperature(self.model, self.batch, self.windows, structures)


def automatic_temperature(model: Model, batch: Batch, windows: Windows, structures: Structures) -> float:
    """Temperature ``T = 2 L / (n (1 - r^2))`` from n residuals per scene of mean square L and autocorrelation r.

    For normal residuals of variance L, ``exp(-loss / T)`` is the likelihood; the autocorrelation reduces the number of
    independent values. For energies in nats the temperature is ``1 / (1 - r^2)``.
    Source: released code of Alet et al. 2019 (there the residuals of the last batch of the epoch before).
    """
    mean_square, correlation = residual_moments(model, batch, windows, structures)
    independent = max(1e-6, 1 - correlation**2)
    if model.noise.in_nats:
        return 1 / independent
    count = float(windows.weights.sum()) * model.network.num_features / max(1, len(structures))
    return 2 * mean_square / (max(1.0, count) * independent)
