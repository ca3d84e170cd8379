"""Scores along the way: when a run leaves a milestone of its student, and what each milestone is asked.

A *milestone* is a model folder `runs/<name>/revisions/chck_1M/`: the student after the step in which the words seen
passed one million. Names and points are those of BabyLM 2025, which asks for scores on a small fixed part of its tasks
at each. Nothing here changes a weight.

    evaluation: {tasks: [blimp_filtered, ewok_filtered], items: 200, words: [500K, 1M, 2M]}
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, field_validator
from transformers import PretrainedConfig

from palenka.evaluation.items import Item, read_task
from palenka.evaluation.scoring import Limits, Scorer, Text, check_texts, encode
from palenka.util.config import Section
from palenka.util.errors import UserError

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


@dataclass(frozen=True)
class Subset:
    """A fixed part of a task's items, and their texts as the run's tokenizer encodes them."""

    task: str
    items: list[Item]
    texts: list[Text]

    def scores(self, scorer: Scorer, share: int, shares: int) -> NDArray[np.float64]:
        """Scores (texts,) of one of so many shares of the items, and 0 for the texts of the others.

        An item is scored whole in one share: equal texts tie exactly only where they are scored together.
        """
        ends = [0, *accumulate(len(item.choices) for item in self.items)]
        mine = slice(*(ends[len(self.items) * bound // shares] for bound in (share, share + 1)))
        scores = np.zeros(len(self.texts))
        scores[mine] = scorer.score(self.texts[mine])
        return scores


@dataclass(frozen=True)
class MilestonePlan:
    """At which words seen a run leaves milestones, and what they are asked. Without points: none."""

    points: Sequence[int] = ()
    subsets: Sequence[Subset] = ()

    def passed(self, before: int, now: int) -> int | None:
        """The point that a step passes, in which the words seen rise from `before` to `now`; of several the last."""
        return max((point for point in self.points if before < point <= now), default=None)

    def describe(self, words: int, parameters: int) -> Iterator[str]:
        """For people: what a run that sees so many words leaves of a model of so many parameters, a line each."""
        within = [point for point in self.points if point <= words]
        size = 4 * parameters * len(within) / 2**30
        yield (
            f"  {words:,} words seen; {len(within)} of {len(self.points)} milestones lie within: "
            f"{', '.join(map(short, within)) or 'none'}; {size:.2g} GiB"
        )
        for subset in self.subsets:
            yield f"    each is scored on {subset.task}: {len(subset.items):,} items, {len(subset.texts):,} texts"


def plan_milestones(
    config: EvaluationConfig | None, root: Path, tokenizer: Any, model: PretrainedConfig, run: str
) -> MilestonePlan:
    """Read, choose, encode and check all that the milestones of a run will be asked.

    Args:
        config: None plans nothing.
        root: the folder of tasks.
        tokenizer: the run's.
        model: the run's.
        run: its name.

    Raises:
        UserError: a task that is not there or knows no right choice; an item that cannot be read or does not fit.
    """
    if config is None:
        return MilestonePlan()
    subsets = []
    for name in config.tasks:
        task = read_task(root / name)
        if task.has_ratios:
            raise UserError(f"{name}: asks what people prefer: it has no right choices to count along the way")
        items = evenly_spread(task.items, config.items)
        texts = encode(items, tokenizer, config.protocol)
        check_texts(items, texts, task.name, Limits(run, model.max_position_embeddings, model.vocab_size))
        subsets.append(Subset(task.name, items, texts))
    return MilestonePlan(config.words or POINTS, subsets)


def evenly_spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many items of each subtask, always the same: of n the first of each of `most` equal parts."""
    subtasks: dict[str, list[Item]] = {}
    for item in items:
        subtasks.setdefault(item.subtask, []).append(item)
    return [
        of_subtask[number * len(of_subtask) // count]
        for of_subtask in subtasks.values()
        for count in [min(most, len(of_subtask))]
        for number in range(count)
    ]


def short(words: int) -> str:
    """A number of words as BabyLM writes it: 1M, 500K, 1500."""
    unit = next(unit for unit in ("M", "K", "") if words % UNITS[unit] == 0)
    return f"{words // UNITS[unit]}{unit}"


def milestone_name(words: int) -> str:
    """The name of a milestone: chck_1M."""
    return f"chck_{short(words)}"
