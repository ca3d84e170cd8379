"""Milestones of a run: model folders `revisions/chck_1M/`, the student when the words seen passed one million.

Names and numbers of words are those of the BabyLM challenge, whose pipelines ask for one branch of each name.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNITS = {"": 1, "K": 10**3, "M": 10**6}
MILESTONES, PREFIX = "revisions", "chck_"


def _millions(*counts: int) -> tuple[int, ...]:
    return tuple(10**6 * count for count in counts)


TRACKS = {
    "strict-small": _millions(*range(1, 10), *range(10, 101, 10)),
    "strict": _millions(*range(1, 10), *range(10, 100, 10), *range(100, 1001, 100)),
}
"""Words seen at which each track of BabyLM 2025 and 2026 wants a milestone: 19, and 28."""


def read_words(value: Any) -> int:
    """A number of words, of which 1M and 500K are short forms."""
    text = f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)
    found = re.fullmatch(r"0*([1-9]\d*)([KM]?)", text)
    if found is None:
        raise ValueError(f"expected a number of words above 0, such as 250000, 500K or 1M, got {value!r}")
    return int(found[1]) * UNITS[found[2]]


def short(words: int) -> str:
    """A number of words as BabyLM writes it: 1M, 500K, 1500."""
    unit = next(unit for unit in ("M", "K", "") if words % UNITS[unit] == 0)
    return f"{words // UNITS[unit]}{unit}"


def milestone_name(words: int) -> str:
    """The name of a milestone: chck_1M."""
    return f"{PREFIX}{short(words)}"


@dataclass(frozen=True)
class Milestone:
    """A milestone that is there.

    words: that its name says.
    seen: words that its student had seen, by the run's record; those of its name where there is none.
    """

    name: str
    folder: Path
    words: int
    seen: int


def milestones_of(run: Path, records: Iterable[dict[str, Any]]) -> list[Milestone]:
    """The milestones in a run's folder, in the order in which they were left; `records` are those of its log."""
    seen = {record["revision"]: record["words"] for record in records if record.get("split") == "evaluation"}
    found = []
    for folder in (run / MILESTONES).glob(f"{PREFIX}*"):
        try:
            words = read_words(folder.name.removeprefix(PREFIX))
        except ValueError:
            continue
        found.append(Milestone(folder.name, folder, words, seen.get(folder.name, words)))
    return sorted(found, key=lambda milestone: milestone.words)


def missing_of(milestones: Sequence[Milestone], track: str) -> list[str]:
    """Names of the milestones that a track wants and that are not there."""
    there = {milestone.words for milestone in milestones}
    return [milestone_name(words) for words in TRACKS[track] if words not in there]
