"""Simulation of scenes with known relations: particles in a box under central forces, and coupled oscillators.

A :class:`Simulator` draws scenes: :class:`Springs`, :class:`Charged` and :class:`Kuramoto`. The first two are central
forces (:class:`CentralForce`), which define how relations are drawn and how they act. :func:`integrate` runs such a
system from given start states, :func:`simulate` from random ones, :func:`simulate_canonical` from the start states of
the published data sets.

The box is 10 wide, masses are 1, and the default time between samples is 0.1. Besides the axes of
:mod:`bouncegrad.types`, ``dimension`` is the spatial one (x, then y).

Source: Kipf, Fetaya, Wang, Welling and Zemel, 2018, "Neural relational inference for interacting systems",
section 5.1 and appendix B.
"""

from __future__ import annotations

from bouncegrad.simulate.canonical import CANONICAL_EXTREMES, CANONICAL_SPLITS, Extremes, Split, simulate_canonical
from bouncegrad.simulate.kuramoto import Kuramoto
from bouncegrad.simulate.motion import CentralForce, Start, Trajectories, integrate, simulate
from bouncegrad.simulate.simulator import Simulator
from bouncegrad.simulate.systems import Charged, Springs

__all__ = [
    "CANONICAL_EXTREMES",
    "CANONICAL_SPLITS",
    "CentralForce",
    "Charged",
    "Extremes",
    "Kuramoto",
    "Simulator",
    "Split",
    "Springs",
    "Start",
    "Trajectories",
    "integrate",
    "simulate",
    "simulate_canonical",
]
