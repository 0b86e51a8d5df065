"""Energies of structures given trajectories: the bridge from the decoder to inference.

An energy is the negative log likelihood of a scene under a structure (latent graph), in nats up to a constant, or its
mean squared error (:mod:`bouncegrad.models.noise`). It comes in three forms, equal for every structure:

================  =================================================================================================
``energies``      by rolling scenes out with the decoder, one structure at a time; the training loss of the M-step
``tables``        tables of all assignments of edge types to the incoming edges of each receiver, for small graphs
``message_sums``  sums of messages that are updated slot by slot, for graphs too large for tables
================  =================================================================================================

``factors_of`` chooses between tables and sums for the E-step; ``windows`` cuts scenes into the windows to be predicted.
"""

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
