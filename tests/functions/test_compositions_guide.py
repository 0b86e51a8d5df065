"""The guide to compositions does what it says: its code runs as it is printed."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bouncegrad.functions import FUNCTION_RECIPES

GUIDE = (Path(__file__).parents[2] / "docs" / "compositions.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
LONGEST = 30
"""Lines that a composition of one's own may take."""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What all code behind the first example leaves, which learns in earnest."""
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("guide"))
        for block in BLOCKS[1:]:
            exec(block, names)
    return names


def test_the_first_example_runs(monkeypatch):
    short = FUNCTION_RECIPES["bouncegrad-exact"]
    monkeypatch.setitem(
        FUNCTION_RECIPES, "bouncegrad-exact", replace(short, training=replace(short.training, num_passes=3))
    )
    names: dict[str, Any] = {}
    exec(BLOCKS[0], names)
    assert names["score_functions"](names["model"], names["splits"].test).error < 1


def test_a_composition_of_ones_own_finds_unseen_pairs(session):
    """Most of the pairs that nothing was learned from are known from 18 points, to a hundredth of their variance."""
    errors, outputs = session["found"].errors, session["tasks"].at(session["unseen"]).outputs
    shares = errors / outputs.var((1, 2))
    assert (shares < 0.02).sum() >= 2
    assert shares.median() < 0.05


def test_a_composition_of_ones_own_is_short():
    classes = re.findall(r"^(?:@dataclass.*\n)?class \w+\(Composition\):\n(?:(?: .*)?\n)+", GUIDE, re.MULTILINE)
    assert len(classes) == 2
    assert all(len(each.splitlines()) <= LONGEST for each in classes)


def test_what_was_saved_says_the_same(session):
    assert torch.equal(session["structures"], session["found"].structures)
    torch.testing.assert_close(session["predicted"], session["found"].predictions)


def test_a_gate_has_modules_of_its_own(session):
    """Unless outputs are single numbers."""
    assert session["Gated"]().sizes(3, 2) == ((3, 1), (3, 2), (3, 2))


def test_every_recipe_is_in_the_table():
    assert set(re.findall(r"^\| `([\w-]+)` \|", GUIDE, re.MULTILINE)) == set(FUNCTION_RECIPES)
