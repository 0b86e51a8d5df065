"""House rules that no linter knows."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("bouncegrad", "tests", "benchmarks", "experiments")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
FORBIDDEN = {"utils", "util", "misc", "helpers", "helper", "common", "base"}
LONGEST = 60
"""Lines of a function, decorators and docstring included."""

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def public_definitions(node: ast.Module | ast.ClassDef) -> Iterator[Definition]:
    """Public functions and classes of a module, and the public methods of those classes."""
    for child in node.body:
        if isinstance(child, Definition) and not child.name.startswith("_"):
            yield child
            if isinstance(child, ast.ClassDef):
                yield from public_definitions(child)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_function_is_long(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - min([node.lineno, *(each.lineno for each in node.decorator_list)]) + 1
            assert length <= LONGEST, f"{node.name} has {length} lines: part it"


@pytest.mark.parametrize("path", [path for path in FILES if path.is_relative_to(ROOT / "bouncegrad")], ids=name_of)
def test_all_that_is_public_says_what_it_is(path: Path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), f"{name_of(path)} does not say what it holds"
    for node in public_definitions(tree):
        assert ast.get_docstring(node), f"{node.name} has no docstring"


def test_files_are_called_after_what_they_hold():
    for path in FILES:
        words = {part.removesuffix(".py") for part in path.relative_to(ROOT).parts}
        assert not words & FORBIDDEN, f"{name_of(path)}: name it after the concept in it"
