"""Relational inference by modular meta-learning: who acts on whom, in which way, and what happens next."""

__version__ = "0.1.0"
