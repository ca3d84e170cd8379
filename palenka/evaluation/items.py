"""Evaluation items: texts to choose among, of which a model should find the first likelier."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

LABELS = {"phenomenon": "linguistics_term", "field": "field"}
"""What subtasks are grouped by, and the field of an item that says it."""


Records = list[dict[str, Any]]
"""What is kept of each item that was scored, in order."""


class Choice(NamedTuple):
    """A text after its context, with whatever space is between them; only `text` is scored."""

    context: str
    text: str


@dataclass(frozen=True)
class Item:
    """One line of a task. The first choice is the right one; or, where there is a `ratio`, the one that it is of.

    Items of one `cluster` are outcomes of one question, and so not independent.
    """

    subtask: str
    line: int
    choices: tuple[Choice, ...]
    ratio: float | None = None
    cluster: str | None = None


@dataclass(frozen=True)
class Task:
    """A task's items in file and line order; `labels`: what its files say of each subtask ("phenomenon", "field")."""

    name: str
    items: list[Item]
    labels: dict[str, dict[str, str]]

    @cached_property
    def digest(self) -> str:
        """sha256 of all items, in order."""
        rows = [[item.subtask, item.line, item.choices, item.ratio] for item in self.items]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    @property
    def has_ratios(self) -> bool:
        """Whether people's preferences are predicted, and no choice is right."""
        return self.items[0].ratio is not None
