"""What all milestones of a run will be asked, read, chosen, encoded and checked before it starts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PretrainedConfig

from palenka.evaluation.items import Item, deciding
from palenka.evaluation.task_files import read_choice_task
from palenka.evaluation.texts import Limits, Text, TextScorer, check_texts, encode, encode_masked, frame_of
from palenka.models.probing import most_positions
from palenka.runs.milestones import TRACKS, short
from palenka.training.milestones import EvaluationConfig
from palenka.util.errors import UserError


@dataclass(frozen=True)
class Subset:
    """A fixed part of a task's items, and their texts as the run's tokenizer encodes them."""

    task: str
    items: list[Item]
    texts: list[Text]

    def scores(self, scorer: TextScorer, share: int, shares: int) -> NDArray[np.float64]:
        """Scores (texts,) of one of so many shares of the items, and 0 for the texts of the others.

        An item is scored whole in one share: equal texts tie exactly only where they are scored together.
        """
        ends = [0, *accumulate(len(item.choices) for item in self.items)]
        mine = slice(*(ends[len(self.items) * bound // shares] for bound in (share, share + 1)))
        scores = np.zeros(len(self.texts))
        scores[mine] = scorer.score(self.texts[mine])
        return deciding(self.items, scores, [len(text.continuation) for text in self.texts])


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
        track = next((f" of track {name}" for name, points in TRACKS.items() if tuple(self.points) == points), "")
        size = 4 * parameters * len(within) / 2**30
        yield (
            f"  {words:,} words seen; {len(within)} of {len(self.points)} milestones{track} lie within: "
            f"{', '.join(map(short, within)) or 'none'}; {size:.2g} GiB"
        )
        if beyond := self.points[len(within) :]:
            yield f"    missing, for the run ends before: {', '.join(map(short, beyond))}"
        for subset in self.subsets:
            yield f"    each is scored on {subset.task}: {len(subset.items):,} items, {len(subset.texts):,} texts"


def plan_milestones(
    config: EvaluationConfig | None, root: Path, tokenizer: Any, model: PretrainedConfig, run: str, is_masked: bool
) -> MilestonePlan:
    """Read, choose, encode and check all that the milestones of a run will be asked.

    Args:
        config: None plans nothing.
        root: the folder of tasks.
        tokenizer: the run's.
        model: the run's.
        run: its name.
        is_masked: whether they are asked as masked models, with what stands around a text.

    Raises:
        UserError: a task that is not there or knows no right choice; an item that cannot be read or does not fit.
    """
    if config is None:
        return MilestonePlan()
    subsets = []
    encoded = encode_masked if is_masked else encode
    limits = Limits(run, most_positions(model), model.vocab_size, frame_of(tokenizer) if is_masked else None)
    for name in config.tasks:
        task = read_choice_task(root / name, config.protocol)
        if task.has_ratios:
            raise UserError(f"{name}: asks what people prefer: it has no right choices to count along the way")
        items = evenly_spread(task.items, config.items)
        texts = encoded(items, tokenizer, config.protocol)
        check_texts(items, texts, task.name, limits)
        subsets.append(Subset(task.name, items, texts))
    return MilestonePlan(config.words or TRACKS["strict"], subsets)


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
