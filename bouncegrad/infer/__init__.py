"""What a trained model says of scenes: who acts on whom, how surely, and what happens next."""

from __future__ import annotations

from bouncegrad.infer.posterior import Posterior, chunks
from bouncegrad.infer.prediction import predict, weakest_kind
from bouncegrad.infer.search import infer

__all__ = ["Posterior", "chunks", "infer", "predict", "weakest_kind"]
