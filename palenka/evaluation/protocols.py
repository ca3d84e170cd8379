"""The challenge's protocols by year: what is asked, which tokens are scored, what is compared, and who wins a tie.

                       2024                  2025                        2026
    tokens             " " + sentence, <s>   the tokenizer's own         as 2025
    EWoK               two targets behind    as 2024                     one target behind each of two contexts
                       one context
    entity tracking    not asked             all items                   those without "nothing" among their options
    GlobalPIQA         not asked             not asked                   log-probability per token
    made-up words      not asked             rank correlation            not asked
    a tie, in files    the first             the first                   one at random

`texts.py` has the tokens, `task_files.py` the items. Sources: babylm/evaluation-pipeline-2024, -2025, and
babylm-org/babylm-eval of July 2026.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple


class OfficialTask(NamedTuple):
    """What the year's collected predictions call a task, and how many items they hold of it."""

    key: str
    items: int


@dataclass(frozen=True)
class Protocol:
    """A year's rules.

    tasks: those of its pipeline, by the names of our results.
    fast: those that its milestones are asked, the fast sets.
    folders: of tasks that are not called as their folder is.
    tokens: which protocol was the first to make items tokens so.
    ewok: what is compared: the item's targets, or its contexts.
    nothing: whether entity tracking's items count that have "nothing" among their options.
    ties: which of equals a file of predictions holds. (Our own figures count a tie by halves, in all years.)
    """

    year: str
    tasks: Mapping[str, OfficialTask]
    tokens: Literal["2024", "2025"]
    ewok: Literal["targets", "contexts"] = "targets"
    nothing: bool = True
    ties: Literal["first", "random"] = "first"
    fast: Mapping[str, OfficialTask] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)

    def folder(self, task: str) -> str:
        """The folder of a task's items."""
        return self.folders.get(task, task)

    def task(self, name: str) -> str:
        """What a task of this folder, or of this short name, is called."""
        return {folder: task for task, folder in self.folders.items()}.get(name, SHORT_NAMES.get(name, name))

    def chosen(self, scores: Sequence[float], seed: int, *names: str | int) -> int:
        """Which choice a file of predictions holds: the best. What is not a number counts as the least.

        Args:
            scores: of an item's choices.
            seed: to be recorded beside the file; it matters where ties are broken at random.
            names: task, subtask, line: which item it is, so that one's luck does not depend on other items.
        """
        comparable = [-math.inf if math.isnan(score) else score for score in scores]
        best = [number for number, score in enumerate(comparable) if score == max(comparable)]
        if self.ties == "first":
            return best[0]
        return random.Random("/".join(map(str, (seed, *names)))).choice(best)


SHORT_NAMES = {"wug_adj": "wug_adj_nominalization", "wug_past": "wug_past_tense"}
_2024 = {
    "blimp_filtered": OfficialTask("blimp", 59_875),
    "supplement_filtered": OfficialTask("blimp_supplement", 5_218),
    "ewok_filtered": OfficialTask("ewok", 7_618),
}
_READING = {"reading": OfficialTask("reading", 1_726)}
_WUG = {
    "wug_adj_nominalization": OfficialTask("wug_adj", 200),
    "wug_past_tense": OfficialTask("wug_past", 50),
}
_COMPS = {"comps": OfficialTask("comps", 91_028)}
_FAST = {
    "blimp_fast": OfficialTask("blimp", 13_400),
    "supplement_fast": OfficialTask("blimp_supplement", 250),
    "ewok_fast": OfficialTask("ewok", 1_100),
}
_PIQA = {
    "global_piqa_parallel": OfficialTask("global_piqa_parallel", 103),
    "global_piqa_nonparallel": OfficialTask("global_piqa_nonparallel", 100),
}
PROTOCOLS = {
    protocol.year: protocol
    for protocol in (
        Protocol("2024", _2024, tokens="2024"),
        Protocol(
            "2025",
            {**_2024, "entity_tracking": OfficialTask("entity_tracking", 9_483), **_WUG, **_COMPS, **_READING},
            tokens="2025",
            fast={**_FAST, "entity_tracking_fast": OfficialTask("entity_tracking", 3_152), **_WUG, **_READING},
        ),
        Protocol(
            "2026",
            {**_2024, "entity_tracking_filtered": OfficialTask("entity_tracking_filtered", 6_780), **_COMPS, **_PIQA,
             **_READING},
            tokens="2025", ewok="contexts", nothing=False, ties="random",
            fast={**_FAST, "entity_tracking_fast": OfficialTask("entity_tracking_filtered", 2_238), **_PIQA,
                  **_READING},
            folders={"entity_tracking_filtered": "entity_tracking"},
        ),
    )
}  # fmt: skip
