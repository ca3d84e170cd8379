"""The pages in docs/methods/: the same headings, and the knobs of the code, or of a recipe's config."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from transformers import PretrainedConfig

from palenka import objectives, optimizers, paradigms
from palenka.models.config import ARCHITECTURES, FROM_TOKENIZER
from palenka.util.config import compose
from palenka.util.paths import ROOT

PAGES = {path.stem: path for path in (ROOT / "docs" / "methods").glob("*.md") if path.stem != "README"}
KINDS: dict[str, Any] = {name: find(name) for available, find in (
    (objectives.available, objectives.find), (optimizers.available, optimizers.find),
    (paradigms.DOOR.available, paradigms.DOOR.find), (ARCHITECTURES.available, ARCHITECTURES.find),
) for name in available()}  # fmt: skip
RECIPES = {"babyllama2": ROOT / "config" / "babyllama2" / "BabyLlama2-345M.yaml"}
HEADINGS = [
    "Equation", "Paper", "What we do differently, and why", "Knobs", "What is logged", "Cost", "What to expect",
    "Try it",
]  # fmt: skip


def section(path: Path, heading: str) -> str:
    return path.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]


def knobs(kind: Any) -> dict[str, Any]:
    """Key → default, None where there is none."""
    if not dataclasses.is_dataclass(kind.Config):
        fields = kind.Config.model_fields
        return {key: None if field.is_required() else field.default for key, field in fields.items() if key != "name"}
    general = {field.name for field in dataclasses.fields(PretrainedConfig)} - {"tie_word_embeddings"}
    fields = {field.name: field.default for field in dataclasses.fields(kind.Config)}
    return {key: fields[key] for key in fields.keys() - general - {*FROM_TOKENIZER}}


def test_what_is_found_by_name_has_a_page_and_each_page_is_of_something_and_is_listed() -> None:
    listed = (ROOT / "docs" / "methods" / "README.md").read_text(encoding="utf-8")
    needed = {*optimizers.available(), *paradigms.DOOR.available(), *ARCHITECTURES.available(), *RECIPES}
    assert needed <= set(PAGES) <= {*KINDS, *RECIPES}
    assert not [name for name in PAGES if f"({name}.md)" not in listed]


@pytest.mark.parametrize("name", sorted(PAGES))
def test_headings(name: str) -> None:
    assert re.findall(r"^## (.*)$", PAGES[name].read_text(encoding="utf-8"), re.MULTILINE) == HEADINGS


@pytest.mark.parametrize("name", sorted(PAGES.keys() - RECIPES))
def test_knobs_and_their_defaults(name: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", section(PAGES[name], "Knobs"), re.MULTILINE)
    defaults = knobs(KINDS[name])
    assert {key for key, _ in rows} == set(defaults)
    for key, default in rows:
        if defaults[key] is not None:
            assert default.strip("`").lower() == str(defaults[key]).lower().replace("e-0", "e-")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipes_knobs_are_those_of_its_config(name: str) -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| (.*?) \|", section(PAGES[name], "Knobs"), re.MULTILINE)
    assert rows
    for key, told in rows:
        value: Any = compose(RECIPES[name])
        for part in key.split("."):
            value = value[part]
        assert type(value)(told) == value


@pytest.mark.parametrize("name", sorted(PAGES))
def test_differences_are_numbered(name: str) -> None:
    numbers = re.findall(r"^(\d+)\. ", section(PAGES[name], "What we do differently, and why"), re.MULTILINE)
    assert numbers == [str(i + 1) for i in range(len(numbers))]
    assert numbers or name == "hard_target"
