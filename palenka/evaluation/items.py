"""Evaluation items: texts to choose among, of which a model should find the first likelier."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

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

    Items of one `cluster` are outcomes of one question, and so not independent. With `per_token` a choice's score is
    the mean over its tokens, not their sum. `name` is what collected predictions know the item by, if it has one.
    """

    subtask: str
    line: int
    choices: tuple[Choice, ...]
    ratio: float | None = None
    cluster: str | None = None
    per_token: bool = False
    name: str | None = None


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

    @property
    def is_per_token(self) -> bool:
        """Whether a choice's score is the mean over its tokens."""
        return self.items[0].per_token


def deciding(items: Sequence[Item], sums: NDArray[np.float64], lengths: ArrayLike) -> NDArray[np.float64]:
    """The scores that items are decided by: (choices,).

    Args:
        items: of whose choices they are, in order.
        sums: of log-probabilities over each choice's text: (choices,)
        lengths: how many tokens, or words, each is the sum of: (choices,)
    """
    per_token = np.array([item.per_token for item in items for _ in item.choices])
    return np.where(per_token, sums / np.maximum(lengths, 1), sums)
