"""docs/configuration.md: every key with its line, as the schemas have them."""

import runpy
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from palenka import optimizers, paradigms
from palenka.cluster.study import StudyConfig
from palenka.search.schema import GridConfig
from palenka.training.schema import TrainConfig
from palenka.util.config import models_in
from palenka.util.paths import ROOT

LONGEST = 110


def fields(schema: type[BaseModel], above: str = "") -> Iterator[tuple[str, str | None]]:
    """(key path, description) of all keys that a file may have."""
    for key, field in schema.model_fields.items():
        yield f"{above}{key}", field.description
        for section in models_in(field.annotation):
            yield from fields(section, f"{above}{key}.")


SCHEMAS = [TrainConfig, GridConfig, StudyConfig, *(
    door.find(name).Config for door in (optimizers.DOOR, paradigms.DOOR) for name in door.available()
)]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS)
def test_every_key_is_described_in_one_line(schema: type[BaseModel]) -> None:
    described = dict(fields(schema))
    assert [key for key, text in described.items() if not text or "\n" in text or len(text) > LONGEST] == []


def test_the_page_is_what_the_schemas_say() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "configuration.py"))["page"]()
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == page, "make docs writes it anew"
