"""What a trained model says of scenes: who acts on whom, how surely, and what happens next."""

from __future__ import annotations

from bouncegrad.infer.modes import infer
from bouncegrad.infer.posterior import MODES, Mode, Posterior, beside_structures, chunks
from bouncegrad.infer.prediction import measured_at, messages_said, placed, predict, weakest_kind

__all__ = [
    "MODES",
    "Mode",
    "Posterior",
    "beside_structures",
    "chunks",
    "infer",
    "measured_at",
    "messages_said",
    "placed",
    "predict",
    "weakest_kind",
]
