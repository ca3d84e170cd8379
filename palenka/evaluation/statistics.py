"""Accuracies of paired choices: ties count half, and group means carry the error of that very mean.

Source: the standard error of a mean of k independent means is sqrt(sum of their squared errors) / k. (The 2024 pipeline
prints a pooled error instead, which belongs to the mean weighted by size, though it reports the unweighted one.)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from palenka.evaluation.items import Item

CHANCE = 0.5


@dataclass(frozen=True)
class Accuracy:
    """Share of right choices in 0…1; in a group's, `n` and `ties` are sums over its subtasks."""

    accuracy: float
    accuracy_ties_good: float
    stderr: float
    n: int
    ties: int


def subtask_accuracy(good: NDArray[np.float64], bad: NDArray[np.float64]) -> Accuracy:
    """Accuracy over items with scores `good` and `bad`, each (items,); the higher score is chosen, a tie counts half.

    `accuracy_ties_good` counts a tie as right, as the 2024 and 2025 pipelines do. `stderr` is sample sd / sqrt(n) of
    the half-counted choices; for a single item, where that is undefined, the largest it could be, 0.5.

    EWoK's items stand twice, with the targets swapped. Each line counts as an item, as in the 2024 pipeline; but the
    two lines of a pair are correlated (a model blind to contexts is right on exactly one of them), so that `stderr`,
    which takes them for independent, is only a rough guide there.
    """
    ties = good == bad
    choices = np.where(ties, 0.5, good > bad)
    n = len(choices)
    stderr = choices.std(ddof=1) / np.sqrt(n) if n > 1 else 0.5
    return Accuracy(
        accuracy=float(choices.mean()),
        accuracy_ties_good=float((good >= bad).mean()),
        stderr=float(stderr),
        n=n,
        ties=int(ties.sum()),
    )


def task_accuracy(items: Sequence[Item], scores: NDArray[np.float64]) -> tuple[Accuracy, dict[str, Accuracy]]:
    """Accuracy of a task, and of each of its subtasks, for scores (items, 2) of the items' good and bad texts."""
    rows: dict[str, list[int]] = {}
    for row, item in enumerate(items):
        rows.setdefault(item.subtask, []).append(row)
    subtasks = {name: subtask_accuracy(*scores[of_subtask].T) for name, of_subtask in rows.items()}
    return group_accuracy(list(subtasks.values())), subtasks


def group_accuracy(subtasks: list[Accuracy]) -> Accuracy:
    """The unweighted mean over subtasks, with the standard error of that mean."""
    errors = np.array([subtask.stderr for subtask in subtasks])
    return Accuracy(
        accuracy=float(np.mean([subtask.accuracy for subtask in subtasks])),
        accuracy_ties_good=float(np.mean([subtask.accuracy_ties_good for subtask in subtasks])),
        stderr=float(np.sqrt((errors**2).sum()) / len(subtasks)),
        n=sum(subtask.n for subtask in subtasks),
        ties=sum(subtask.ties for subtask in subtasks),
    )
