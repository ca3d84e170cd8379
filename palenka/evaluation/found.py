"""What an official pipeline found, in our schema, and whether its own figures say the same."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palenka.evaluation.items import Task
from palenka.evaluation.statistics import chance, task_accuracy

OF_TIES = ("ties", "accuracy_ties_good")


@dataclass(frozen=True)
class Found:
    """A task's result, as its file holds it, and a record of each item."""

    result: dict[str, Any]
    items: list[dict[str, Any]]


def accuracies(task: Task, scores: NDArray[np.float64], ties_show: bool = True) -> dict[str, Any]:
    """Accuracies over all and by subtask, for the scores of all choices in order: (choices,).

    Where ties do not show, because only choices are known, a tie is among the right ones: both pipelines choose the
    first of equals.
    """
    whole, subtasks = task_accuracy(task.items, scores)
    of_subtasks = {name: _fields(found, ties_show) | task.labels[name] for name, found in subtasks.items()}
    return {**_fields(whole, ties_show), "chance": chance(task.items), "subtasks": of_subtasks}


def _fields(accuracy: Any, ties_show: bool) -> dict[str, Any]:
    return {name: value for name, value in asdict(accuracy).items() if ties_show or name not in OF_TIES}


def difference(ours: Mapping[str, float], theirs: Mapping[str, float], tolerance: float) -> str | None:
    """What is not the same in two sets of figures, in words; None if nothing."""
    for name in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(name), theirs.get(name)
        if one is None or other is None or not abs(one - other) <= tolerance:
            return f"{name}: its own figure is {other}, its items give {one}"
    return None
