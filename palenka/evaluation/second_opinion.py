"""How far the item scores of a second scorer are from our own."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palenka.evaluation.results import read_records, read_result
from palenka.evaluation.statistics import outcomes
from palenka.evaluation.tasks.choices import Choices, scores_in
from palenka.util.errors import UserError

SAME = ("model", "items", "convention")


def agreement(task: Choices, own: Path, other: Path) -> str:
    """A line on the results `own` and `other` of a task; it says so where there are no own ones of the same items."""
    there = read_result(other)
    try:
        here = read_result(own) if own.exists() else None
        if not here or any(here["identity"].get(key) != there["identity"][key] for key in SAME):
            return f"  {task.name:24}no scores of our own to compare with: evaluate without --scorer first"
        ours = _scores(task, own, here)
    except UserError as error:
        return f"  {task.name:24}no scores of our own to compare with: {error}: evaluate without --scorer first"
    theirs = _scores(task, other, there)
    difference = f"  {task.name:24}scores differ from our own by at most {np.abs(ours - theirs).max():.1e}"
    if task.has_ratios:
        return difference
    differ = (outcomes(task.items, ours)[0] != outcomes(task.items, theirs)[0]).sum()
    return f"{difference}, {differ:,} of {len(task.items):,} decisions differ"


def _scores(task: Choices, path: Path, result: dict[str, Any]) -> NDArray[np.float64]:
    """The scores of all choices of a task, in order."""
    return scores_in(task, read_records(path, result, task.derive))
