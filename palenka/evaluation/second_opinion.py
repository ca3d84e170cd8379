"""How far the item scores of a second scorer are from our own."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from palenka.evaluation.items import Task
from palenka.evaluation.statistics import outcomes
from palenka.files import read_json


def agreement(task: Task, own: Path, other: Path) -> str:
    """A line on the results `own` and `other` of a task; it says so where there are no own ones of the same items."""
    here = read_json(own) if own.exists() else {}
    there = read_json(other)["identity"]
    if not here or any(here["identity"][key] != there[key] for key in ("model", "items", "convention")):
        return f"  {task.name:24}no scores of our own to compare with: evaluate without --scorer first"
    ours, theirs = _scores(own), _scores(other)
    difference = f"  {task.name:24}scores differ from our own by at most {np.abs(ours - theirs).max():.1e}"
    if task.has_ratios:
        return difference
    differ = (outcomes(task.items, ours)[0] != outcomes(task.items, theirs)[0]).sum()
    return f"{difference}, {differ:,} of {len(task.items):,} decisions differ"


def _scores(result: Path) -> NDArray[np.float64]:
    """The scores of all choices of a task, in order."""
    lines = result.with_suffix(".items.jsonl").read_text(encoding="utf-8").splitlines()
    return np.array([score for line in lines for score in json.loads(line)["scores"]])
