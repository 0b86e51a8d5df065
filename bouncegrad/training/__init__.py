"""Training: the bounce and the grad in turn, judged by held-out scenes."""

from bouncegrad.training.bounce_grad import BounceGrad
from bouncegrad.training.config import EpochReport, TrainingConfig

__all__ = ["BounceGrad", "EpochReport", "TrainingConfig"]
