"""Compositions: how modules on slots become a prediction: graphs for scenes; sums, chains, others for functions."""

from bouncegrad.compositions.composition import Chain, Composition, Module, Sum
from bouncegrad.models.graph_network import GraphNetwork, NetworkConfig, silenced

__all__ = ["Chain", "Composition", "GraphNetwork", "Module", "NetworkConfig", "Sum", "silenced"]
