"""Compositions of functions, under the name that the guide uses: see :mod:`bouncegrad.functions.compositions`."""

from bouncegrad.functions.compositions import Chain, Composition, Module, Sum

__all__ = ["Chain", "Composition", "Module", "Sum"]
