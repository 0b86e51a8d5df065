"""Training: the bounce and the grad in turn, judged by held-out scenes."""

from bouncegrad.train.config import PassReport, TrainingConfig
from bouncegrad.train.trainer import BounceGrad

__all__ = ["BounceGrad", "PassReport", "TrainingConfig"]
