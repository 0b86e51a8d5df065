"""Inference with a trained model: posteriors over structures (latent graphs), and predictions (rollouts) under them."""

from __future__ import annotations

from bouncegrad.inference.infer import infer
from bouncegrad.inference.posterior import MODES, Mode, Posterior, chunks, chunks_with_structures
from bouncegrad.inference.prediction import measured_at, messages_by_kind, place_start, predict, weakest_kind

__all__ = [
    "MODES",
    "Mode",
    "Posterior",
    "chunks",
    "chunks_with_structures",
    "infer",
    "measured_at",
    "messages_by_kind",
    "place_start",
    "predict",
    "weakest_kind",
]
