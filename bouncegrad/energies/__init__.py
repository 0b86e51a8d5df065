"""From modules to losses: what each structure of a batch costs, one by one or as tables of all."""

from __future__ import annotations

from bouncegrad.energies.energies import (
    CHUNK_CELLS,
    add_gradients,
    cells_at_once,
    log_scales_of,
    loss_fn,
    receiver_energies,
    residual_moments,
    step_errors,
    tasks_at_once,
    training_loss,
)
from bouncegrad.energies.tables import one_hot_combinations, receiver_tables, tables_of

__all__ = [
    "CHUNK_CELLS",
    "add_gradients",
    "cells_at_once",
    "log_scales_of",
    "loss_fn",
    "one_hot_combinations",
    "receiver_energies",
    "receiver_tables",
    "residual_moments",
    "step_errors",
    "tables_of",
    "tasks_at_once",
    "training_loss",
]
