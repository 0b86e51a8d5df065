"""The way of the data: every module imports only from those above it."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import bouncegrad

ORDER = [
    "version",
    "types",
    "settings",
    "devices",
    "scenes",
    "simulate",
    "structures",
    "models",
    "energies",
    "inference",
    "evaluation",
    "training",
    "hidden",
    "recipes",
    "fit",
    "functions",
    "compositions",
    "export",
    "trust",
    "plots",
    "model_card",
    "estimator",
    "reproduce",
    "cli",
]
PACKAGE = Path(bouncegrad.__file__).parent


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bouncegrad."):
            found.add(str(node.module).split(".")[1])
    return found


def modules() -> dict[str, Path]:
    """The files by the names under which they are imported."""
    files = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in files.items()}


def graph_of_imports() -> dict[str, set[str]]:
    """Each file and those of the package that it imports."""
    files, graph = modules(), {}
    for name, path in files.items():
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        targets = {(f"{node.module}.{alias.name}", str(node.module)) for node in nodes for alias in node.names}
        graph[name] = {whole if whole in files else module for whole, module in targets} & set(files)
    return graph


def test_few_entries_carry_the_package():
    assert len({part_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__", "__main__"}) <= 26


def test_no_import_goes_in_a_circle():
    TopologicalSorter(graph_of_imports()).prepare()  # raises CycleError


def test_every_file_has_its_place():
    parts = {part_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__", "__main__"}
    assert parts == set(ORDER)


def test_imports_go_one_way():
    for path in PACKAGE.rglob("*.py"):
        part = part_of(path)
        if part in ("__init__", "__main__"):
            continue
        later = {name for name in imports_of(path) if ORDER.index(name) > ORDER.index(part)}
        assert not later, f"{path.relative_to(PACKAGE)} imports {sorted(later)}, which come after {part}"


def test_structures_know_nothing_of_networks():
    for path in (PACKAGE / "structures").rglob("*.py"):
        assert imports_of(path) <= {"types", "structures"}, path.name
