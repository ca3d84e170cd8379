"""The house: rooms in the order in which data flows, each importing from those above it alone, without a circle."""

import ast
import importlib
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from palenka.util.paths import ROOT

PACKAGE = ROOT / "palenka"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
OPTIONAL = ("datasets", "minicons", "pyarrow", "torch.utils.tensorboard", "trackio", "wandb")
"""Packages that an installation may lack."""
IMPORT = re.compile(r"from (palenka[\w.]*) import (\w+(?:, \w+)*)")
PROGRAMS = [path for folder in (".", "benchmarks", "distillation_type_experiments", "tests")
            for path in sorted((ROOT / folder).glob("*.py"))]  # fmt: skip
NOTEBOOKS = sorted(ROOT.glob("*.ipynb"))


def rooms() -> list[str]:
    """As the README lists them, from top to bottom."""
    layout = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Where things are")[2]
    return [*re.findall(r"^  (\w+)/ +\w", layout.partition("benchmarks/")[0], re.MULTILINE), "cli", "__main__"]


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Modules of the package and names in them that a file imports, in functions, too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "palenka":
            for name in node.names:
                module = f"{node.module}.{name.name}"
                yield (module, "") if module in MODULES else (node.module, name.name)


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_the_readme_lists_every_room_once() -> None:
    assert sorted(rooms()) == sorted({room(module) for module in MODULES} - {""})


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_only_from_those_above_it(module: str) -> None:
    order = rooms()
    found = {room(other) for other, _ in imports(MODULES[module])} - {""}
    assert [name for name in found if order.index(name) > order.index(room(module))] == []


def test_no_circle_and_no_chain_of_more_than_ten_files() -> None:
    graph = {module: {other for other, _ in imports(path)} - {module} for module, path in MODULES.items()}
    chains: dict[str, list[str]] = {}
    for module in TopologicalSorter(graph).static_order():  # what a module imports comes before it
        chains[module] = [module, *max((chains[other] for other in graph[module]), key=len, default=[])]
    longest = max(chains.values(), key=len)
    assert len(longest) <= 10, " imports ".join(longest)


@pytest.mark.parametrize("module", MODULES)
def test_what_is_not_optional_is_imported_at_the_top(module: str) -> None:
    functions = [node for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8")))
                 if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)]  # fmt: skip
    found = {
        name
        for function in functions
        for node in ast.walk(function)
        for name in ([each.name for each in node.names] if isinstance(node, ast.Import) else
                     [node.module or ""] if isinstance(node, ast.ImportFrom) else [])
    }  # fmt: skip
    assert {name for name in found if not name.startswith(OPTIONAL)} == set()


@pytest.mark.parametrize(
    "path", [*MODULES.values(), *PROGRAMS, *NOTEBOOKS], ids=lambda path: str(path.relative_to(ROOT))
)
def test_what_a_file_imports_is_there(path: Path) -> None:
    """In code that it holds as text, too; benchmarks are run by hand, so that nothing else would notice."""
    text = path.read_text(encoding="utf-8")
    written = [(module, name) for module, names in IMPORT.findall(text) for name in names.split(", ")]
    for module, name in [*written, *(imports(path) if path.suffix == ".py" else ())]:
        known = f"{module}.{name}" in MODULES or not name or hasattr(importlib.import_module(module), name)
        assert known, f"{module}.{name}"


def test_no_test_imports_another() -> None:
    """What they share stands in modules that are no tests."""
    imported = re.compile(r"^\s*(?:from|import) test_", re.MULTILINE)
    assert [path for path in (ROOT / "tests").rglob("*.py") if imported.search(path.read_text(encoding="utf-8"))] == []
