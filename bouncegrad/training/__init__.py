"""Training: an E-step that finds structures and an M-step that trains modules, in turn.

A training is a combination of these parts:

- a loop over epochs of random batches, with averaged weights and a state to resume from
  (:mod:`~bouncegrad.training.trainer`);
- the bounce, an E-step: structures are searched, modules fixed (:mod:`~bouncegrad.training.bounce`);
- the grad, an M-step: modules are trained on the prediction error (:mod:`bouncegrad.energies`) or on the ELBO
  (:mod:`~bouncegrad.training.elbo`), structures fixed, by Adam (:mod:`~bouncegrad.training.optimizer`);
- a proposal network that learns from the search (:mod:`~bouncegrad.training.proposal_learner`);
- judgements on held-out scenes: the best epoch, the prior and the temperature of reading
  (:mod:`~bouncegrad.training.held_out`), restarts (:mod:`~bouncegrad.training.restarts`), and how many edge types are
  needed (:mod:`~bouncegrad.training.kind_merging`).

Known algorithms are such combinations:

- ``fast`` = stochastic EM with annealing: a draw from the exact posterior x a dozen gradient steps;
- Alet et al. 2019 = one Metropolis step for each scene x mean squared error of rollouts x a proposal network that
  learns from the structures that the search finds, as in AlphaZero;
- NRI (Kipf et al. 2018) = amortised encoder x relaxed samples x ELBO, both networks in one gradient;
- its supervised and full-graph baselines = structures that stay x the same M-step;
- rollout tuning (:mod:`~bouncegrad.training.rollout_tuning`) and the forecaster
  (:mod:`~bouncegrad.training.forecaster`) = the structures that a trained model infers x the M-step alone, on rollouts.
"""

from bouncegrad.training.bounce_grad import BounceGrad
from bouncegrad.training.config import EpochReport, TrainingConfig

__all__ = ["BounceGrad", "EpochReport", "TrainingConfig"]
