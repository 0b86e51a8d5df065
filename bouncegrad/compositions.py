"""Alias of :mod:`bouncegrad.functions.compositions`, so that ``import bouncegrad.compositions`` works."""

from bouncegrad.functions.compositions import Chain, Composition, Module, Sum

__all__ = ["Chain", "Composition", "Module", "Sum"]
