"""What an official pipeline found, in our schema, and whether its own figures say the same."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palenka.evaluation.correlation import spearman
from palenka.evaluation.items import Records, Task
from palenka.evaluation.statistics import chance, task_accuracy
from palenka.evaluation.tasks import EvaluationTask
from palenka.evaluation.tasks.choices import Choices, check_records, scores_in
from palenka.evaluation.tasks.reading import Reading
from palenka.util.errors import UserError

OF_TIES = ("ties", "accuracy_ties_good")


def accuracies(task: Task, scores: NDArray[np.float64], ties_show: bool = True) -> dict[str, Any]:
    """Accuracies over all and by subtask, for the scores of all choices in order: (choices,).

    Where ties do not show, because only choices are known, a tie is among the right ones: both pipelines choose the
    first of equals.
    """
    whole, subtasks = task_accuracy(task.items, scores)
    of_subtasks = {name: _fields(found, ties_show) | task.labels[name] for name, found in subtasks.items()}
    return {**_fields(whole, ties_show), "chance": chance(task.items), "subtasks": of_subtasks}


def derive(task: EvaluationTask, records: Records) -> dict[str, Any]:
    """What records of a task's items come to, from what a pipeline's keep. Raises UserError if they are not of them."""
    if isinstance(task, Reading):
        return {"n": len(task.words) if len(records) == len(task.words) else -1}
    assert isinstance(task, Choices)  # the pipelines have no others
    if "scores" in records[0]:
        return accuracies(task, scores_in(task, records))
    check_records(task, records)
    try:
        if task.has_ratios:
            shares = [[record["probability"], item.ratio] for item, record in zip(task.items, records, strict=True)]
            return {"n": len(records), "scores": {"spearman": asdict(spearman(*np.array(shares, np.float64).T))}}
        return accuracies(task, of_choices(task, [record["chosen"] for record in records]), ties_show=False)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"a record lacks what was chosen ({error!r})") from None


def of_choices(task: Task, chosen: Sequence[int]) -> NDArray[np.float64]:
    """1 for each choice that was taken, 0 for the others, in order: (choices,)"""
    taken = [np.arange(len(item.choices)) == number for item, number in zip(task.items, chosen, strict=True)]
    return np.concatenate(taken).astype(np.float64)


def _fields(accuracy: Any, ties_show: bool) -> dict[str, Any]:
    return {name: value for name, value in asdict(accuracy).items() if ties_show or name not in OF_TIES}


def difference(ours: Mapping[str, float], theirs: Mapping[str, float], tolerance: float) -> str | None:
    """How two sets of figures differ, in words; None if they do not."""
    for name in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(name), theirs.get(name)
        if one is None or other is None or not abs(one - other) <= tolerance:
            return f"{name}: its own figure is {other}, its items give {one}"
    return None
