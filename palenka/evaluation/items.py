"""Evaluation items: pairs of continuations of one context, of which a model should find the first likelier.

A *task* is a folder `<data>/<task>/` of `.jsonl` files, one a *subtask* named by the file's stem; a line is an item.
Two shapes are known, by their fields:

    pair   sentence_good, sentence_bad      BLiMP and its supplement: no context
    EWoK   Context1, Target1, Target2       Target1 belongs to Context1. The files hold each item twice, the second
                                            time with 1 and 2 swapped, so that both contexts are asked about
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from palenka.config import UserError

DEFAULT_TASKS = ("blimp_filtered", "supplement_filtered", "ewok_filtered")
SHAPES = ("sentence_good/sentence_bad", "Context1/Target1/Target2")
LABELS = {"phenomenon": "linguistics_term", "field": "field"}


@dataclass(frozen=True)
class Item:
    """One line of a task: `good` and `bad` continue `context`, which is empty for a pair of sentences."""

    subtask: str
    line: int
    context: str
    good: str
    bad: str


@dataclass(frozen=True)
class Task:
    """A task's items in file and line order; `labels`: what its files say of each subtask ("phenomenon", "field")."""

    name: str
    items: list[Item]
    labels: dict[str, dict[str, str]]

    @cached_property
    def digest(self) -> str:
        """sha256 of all items, in order."""
        rows = ([item.subtask, item.line, item.context, item.good, item.bad] for item in self.items)
        return hashlib.sha256(json.dumps(list(rows)).encode()).hexdigest()


def read_task(folder: Path) -> Task:
    """Read and check every item of a task.

    Raises:
        UserError: no such folder, nothing in it, or an item that cannot be used, with its file and line.
    """
    if not folder.is_dir():
        raise UserError(f"no task {folder.name!r}: looked for the folder {folder}")
    paths = sorted(folder.glob("*.jsonl"))
    if not paths:
        raise UserError(f"{folder}: no .jsonl file in it")
    items: list[Item] = []
    labels = {}
    for path in paths:
        records = list(_records(path))
        items += [_item(path, line, record) for line, record in records]
        labels[path.stem] = _labels([record for _, record in records])
    return Task(folder.name, items, labels)


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(1-based line number, record) of each line."""
    lines = path.read_bytes().split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    if not lines:
        raise UserError(f"{path}: the file is empty")
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line.decode("utf-8"))
        except ValueError as error:
            raise UserError(f"{path}, line {number}: not a JSON object on one line ({error})") from None
        if not isinstance(record, dict):
            raise UserError(f"{path}, line {number}: expected a JSON object, found {line[:40]!r}")
        yield number, record


def _item(path: Path, line: int, record: dict[str, Any]) -> Item:
    def text(key: str) -> str:
        value = record.get(key)
        if not isinstance(value, str) or not value.strip():
            found = "is missing" if key not in record else f"is {value!r}"
            raise UserError(f"{path}, line {line}: {key!r} {found}; expected a text")
        return value

    if "sentence_good" in record or "sentence_bad" in record:
        return Item(path.stem, line, "", text("sentence_good"), text("sentence_bad"))
    if record.keys() & {"Context1", "Target1", "Target2"}:
        return Item(path.stem, line, text("Context1"), text("Target1"), text("Target2"))
    raise UserError(f"{path}, line {line}: has the fields {', '.join(record)}; expected {' or '.join(SHAPES)}")


def _labels(records: list[dict[str, Any]]) -> dict[str, str]:
    """What all items of a subtask agree on."""
    found = {}
    for label, key in LABELS.items():
        values = {str(record[key]) for record in records if key in record}
        if len(values) == 1:
            found[label] = values.pop()
    return found
