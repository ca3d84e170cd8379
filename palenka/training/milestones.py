"""Scores along the way: when a run leaves a milestone of its student, and what each milestone is asked.

A *milestone* is a model folder `runs/<name>/revisions/chck_1M/`: the student after the step in which the words seen
passed one million. Names and points are those of BabyLM 2025, which asks for scores on a small fixed part of its tasks
at each. Nothing here changes a weight.

    evaluation: {tasks: [blimp_filtered, ewok_filtered], items: 200, words: [500K, 1M, 2M]}
"""

import re
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from palenka.util.section import Section

UNITS = {"": 1, "K": 10**3, "M": 10**6}
POINTS = tuple(10**6 * count for count in (*range(1, 10), *range(10, 100, 10), *range(100, 1001, 100)))


def read_words(value: Any) -> int:
    """A number of words, of which 1M and 500K are short forms."""
    text = f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)
    found = re.fullmatch(r"0*([1-9]\d*)([KM]?)", text)
    if found is None:
        raise ValueError(f"expected a number of words above 0, such as 250000, 500K or 1M, got {value!r}")
    return int(found[1]) * UNITS[found[2]]


class EvaluationConfig(Section):
    """What is scored during training, at which words seen (default: BabyLM 2025's points); not part of its identity."""

    tasks: list[str] = Field(min_length=1, description="folders of items below PALENKA_EVAL")
    items: int = Field(default=200, ge=1, description="asked of each task, at most: a fixed part")
    protocol: Annotated[Literal["2024", "2025"], BeforeValidator(str)] = Field(
        default="2024", description="how a text is scored"
    )
    words: list[Annotated[int, BeforeValidator(read_words)]] | None = Field(
        default=None, min_length=1,
        description="words seen at which the student is scored; BabyLM 2025's points unless given",
    )

    @field_validator("tasks")
    @classmethod
    def _once_each(cls, tasks: list[str]) -> list[str]:
        for task in tasks:
            if tasks.count(task) > 1:
                raise ValueError(f"{task!r} appears twice")
        return tasks

    @field_validator("words")
    @classmethod
    def _rising(cls, words: list[int] | None) -> list[int] | None:
        for before, after in pairwise(words or []):
            if after <= before:
                raise ValueError(f"expected rising numbers of words, got {after} after {before}")
        return words


def short(words: int) -> str:
    """A number of words as BabyLM writes it: 1M, 500K, 1500."""
    unit = next(unit for unit in ("M", "K", "") if words % UNITS[unit] == 0)
    return f"{words // UNITS[unit]}{unit}"


def milestone_name(words: int) -> str:
    """The name of a milestone: chck_1M."""
    return f"chck_{short(words)}"
