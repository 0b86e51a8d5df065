"""Energies of a batch as factors for the E-step: tables if they are small enough, else sums of messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bouncegrad.energies import receiver_tables, tables_of
from bouncegrad.energies.message_sums import message_sums
from bouncegrad.energies.windows import Batch, Windows, cut_windows, early_half, late_half
from bouncegrad.models.model import Model
from bouncegrad.structures.factors import Factors


def factors_of(model: Model, batch: Batch, windows: Windows) -> Factors:
    """Build the factors of a batch: tables if the layout fits them, else sums of messages.

    Raises:
        ValueError: if a receiver's energy depends on more than its own slots, under the conditions of
            :func:`bouncegrad.energies.receiver_tables`.
    """
    one_step = model.config.network.message_steps == 1 == windows.targets.shape[2]
    large = not model.layout(batch.graph.present.shape[1]).fits_tables
    return (message_sums if one_step and large else receiver_tables)(model, batch, windows)


def factors_of_some(model: Model, batches: Sequence[Batch], cut: Callable[[Batch], Windows] = cut_windows) -> Factors:
    """Factors of several batches over the windows that ``cut`` makes of them: tables of all, or sums of the first.

    Graphs too large for tables have many edges: one batch is informative enough, and all would not fit into memory.
    """
    if model.layout(batches[0].graph.present.shape[1]).fits_tables:
        return tables_of(model, batches, cut)
    return factors_of(model, batches[0], cut(batches[0]))


def halves(model: Model, batches: Sequence[Batch]) -> tuple[Factors, Factors]:
    """Factors of the first and of the second half of each scene, in this order."""
    return factors_of_some(model, batches, early_half), factors_of_some(model, batches, late_half)
