"""Baselines: prediction without relations (static, LSTM), and relations without a model of motion (correlations)."""
