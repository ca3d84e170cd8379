"""The pages in docs/methods/, of objectives and optimizers: the same headings, and the knobs that the code has."""

import re
from pathlib import Path
from typing import Any

import pytest

from palenka import objectives, optimizers
from palenka.util.paths import ROOT

PAGES = {path.stem: path for path in (ROOT / "docs" / "methods").glob("*.md") if path.stem != "README"}
KINDS: dict[str, Any] = {name: find(name) for available, find in (
    (objectives.available, objectives.find), (optimizers.available, optimizers.find)
) for name in available()}  # fmt: skip
HEADINGS = [
    "Equation", "Paper", "What we do differently, and why", "Knobs", "What is logged", "Cost", "What to expect",
    "Try it",
]  # fmt: skip


def section(path: Path, heading: str) -> str:
    return path.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]


def test_each_optimizer_has_a_page_and_each_page_a_file_and_is_listed() -> None:
    listed = (ROOT / "docs" / "methods" / "README.md").read_text(encoding="utf-8")
    assert set(optimizers.available()) <= set(PAGES) <= set(KINDS)
    assert not [name for name in PAGES if f"({name}.md)" not in listed]


@pytest.mark.parametrize("name", sorted(PAGES))
def test_headings(name: str) -> None:
    assert re.findall(r"^## (.*)$", PAGES[name].read_text(encoding="utf-8"), re.MULTILINE) == HEADINGS


@pytest.mark.parametrize("name", sorted(PAGES))
def test_knobs_and_their_defaults(name: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", section(PAGES[name], "Knobs"), re.MULTILINE)
    fields = KINDS[name].Config.model_fields
    assert {key for key, _ in rows} == set(fields) - {"name"}
    for key, default in rows:
        if not fields[key].is_required() and fields[key].default is not None:
            assert default.strip("`").lower() == str(fields[key].default).lower()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_differences_are_numbered(name: str) -> None:
    numbers = re.findall(r"^(\d+)\. ", section(PAGES[name], "What we do differently, and why"), re.MULTILINE)
    assert numbers == [str(i + 1) for i in range(len(numbers))]
    assert numbers or name == "hard_target"
