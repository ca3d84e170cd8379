"""docs/configuration.md: every key with its line, as the schemas have them."""

import re
import runpy
from collections.abc import Iterator
from fnmatch import fnmatch
from typing import Any

import pytest
from pydantic import BaseModel

from palenka import optimizers, paradigms
from palenka.cluster.study import StudyConfig
from palenka.finetuning.schema import Recipe
from palenka.search.schema import GridConfig
from palenka.search.space import SearchConfig
from palenka.training.schema import TrainConfig
from palenka.util.config import compose, models_in
from palenka.util.paths import ROOT

LONGEST = 110


def fields(schema: type[BaseModel], above: str = "") -> Iterator[tuple[str, str | None]]:
    """(key path, description) of all keys that a file may have."""
    for key, field in schema.model_fields.items():
        yield f"{above}{key}", field.description
        for section in models_in(field.annotation):
            yield from fields(section, f"{above}{key}.")


SCHEMAS = [TrainConfig, GridConfig, SearchConfig, StudyConfig, Recipe, *(
    door.find(name).Config for door in (optimizers.DOOR, paradigms.DOOR) for name in door.available()
)]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS)
def test_every_key_is_described_in_one_line(schema: type[BaseModel]) -> None:
    described = dict(fields(schema))
    assert [key for key, text in described.items() if not text or "\n" in text or len(text) > LONGEST] == []


def test_the_page_is_what_the_schemas_say() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "configuration.py"))["page"]()
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == page, "make docs writes it anew"


def keys_of(values: Any, above: str = "") -> Iterator[str]:
    """Key paths of a config, without numbers of a list's entries."""
    for key, value in values.items() if isinstance(values, dict) else ():
        yield f"{above}{key}"
        for each in value if isinstance(value, list) else [value]:
            yield from keys_of(each, f"{above}{key}.")


def test_every_key_is_used_by_a_config_or_has_a_reason_to_be_there() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", page.partition("## Why these stay")[2], re.MULTILINE)
    reasons = {pattern for row in rows for pattern in re.findall(r"`(.*?)`", row)}
    used = {key for path in (ROOT / "config").rglob("*.yaml") for key in keys_of(compose(path))}
    known = {key for schema in SCHEMAS[:5] for key, _ in fields(schema)}
    assert {key for key in known - used if not any(fnmatch(key, pattern) for pattern in reasons)} == set()
    assert {pattern for pattern in reasons if not any(fnmatch(key, pattern) for key in known)} == set()
