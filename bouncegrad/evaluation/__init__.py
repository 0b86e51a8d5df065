"""Evaluation on test scenes: relation accuracy, calibration, rollout errors (``metrics``, ``score``) and ``drift``."""
