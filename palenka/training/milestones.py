"""Scores along the way: when a run leaves a milestone of its student, and what each milestone is asked.

A *milestone* is a model folder `runs/<name>/revisions/chck_1M/`: the student after the step in which the words seen
passed one million. Names and points are those of BabyLM 2025, which asks for scores on a small fixed part of its tasks
at each. Nothing here changes a weight.

    evaluation: {tasks: [blimp_filtered, ewok_filtered], items: 200, words: [500K, 1M, 2M]}
    evaluation: {words: strict-small}
"""

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from palenka.runs.milestones import TRACKS, read_words
from palenka.util.section import Section


class EvaluationConfig(Section):
    """When milestones are left during training, and what they are scored on; not part of a run's identity."""

    tasks: list[str] = Field(default=[], description="folders of items below PALENKA_EVAL")
    items: int = Field(default=200, ge=1, description="asked of each task, at most: a fixed part")
    protocol: Annotated[Literal["2024", "2025", "2026"], BeforeValidator(str)] = Field(
        default="2024", description="how a text is scored"
    )
    words: list[Annotated[int, BeforeValidator(read_words)]] | None = Field(
        default=None, min_length=1,
        description="words seen at which milestones are left, or a track's: strict-small; strict unless given",
    )

    @field_validator("tasks")
    @classmethod
    def _once_each(cls, tasks: list[str]) -> list[str]:
        for task in tasks:
            if tasks.count(task) > 1:
                raise ValueError(f"{task!r} appears twice")
        return tasks

    @field_validator("words", mode="before")
    @classmethod
    def _of_track(cls, words: Any) -> Any:
        if isinstance(words, str):
            if words not in TRACKS:
                raise ValueError(f"expected a list of numbers of words, or {' or '.join(TRACKS)}, got {words!r}")
            return list(TRACKS[words])
        return words

    @field_validator("words")
    @classmethod
    def _rising(cls, words: list[int] | None) -> list[int] | None:
        for before, after in pairwise(words or []):
            if after <= before:
                raise ValueError(f"expected rising numbers of words, got {after} after {before}")
        return words

