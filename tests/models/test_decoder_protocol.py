"""The graph network is a decoder, and the package asks a network for nothing else; pyright compares the types."""

import ast
import inspect
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from torch import nn

import bouncegrad
from bouncegrad.models.decoder import GraphNetwork, NetworkConfig
from bouncegrad.models.decoder_protocol import Decoder
from worlds import generator

METHODS = [name for name, member in vars(Decoder).items() if inspect.isfunction(member) and not name.startswith("_")]


def members_asked_of(name: str) -> Iterator[tuple[str, str]]:
    """Files of the package, and what each asks of ``...name``."""
    for path in Path(bouncegrad.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == name:
                yield path.name, node.attr


@pytest.mark.parametrize("config", [NetworkConfig(hidden=4), NetworkConfig(hidden=4, update="general", history=2)])
def test_the_graph_network_has_the_attributes_of_a_decoder(config: NetworkConfig):
    network = GraphNetwork(config, 3, generator())
    assert isinstance(network, nn.Module)
    assert all(hasattr(network, name) for name in Decoder.__annotations__)
    assert network.unit.shape == (network.num_features,)
    assert network.transition.shape == (network.num_inputs, network.num_inputs)


@pytest.mark.parametrize("name", METHODS)
def test_the_graph_network_takes_what_a_decoder_takes(name: str):
    asked, taken = (inspect.signature(getattr(owner, name)).parameters for owner in (Decoder, GraphNetwork))
    assert [(each.name, each.kind, each.default) for each in asked.values()] == [
        (each.name, each.kind, each.default) for each in taken.values()
    ]


def test_constants_are_buffers_that_checkpoints_hold():
    names = set(GraphNetwork(NetworkConfig(hidden=4), 3, generator()).state_dict())
    assert {name for name in names if "." not in name} == {"skip_weight", "skip_bias", "unit"}


def test_nothing_but_a_decoder_is_asked_for():
    """``config.network`` has the same name; its fields are allowed."""
    known = {*Decoder.__annotations__, *vars(Decoder), *dir(nn.Module), *(each.name for each in fields(NetworkConfig))}
    assert [found for found in members_asked_of("network") if found[1] not in known] == []
