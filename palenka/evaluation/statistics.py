"""Accuracies of choices: ties count by halves, and means carry the standard error of that very mean.

Source: the standard error of a mean of k independent means is sqrt(sum of their squared errors) / k. (The 2024 pipeline
prints a pooled error instead, which belongs to the mean weighted by size, though it reports the unweighted one.)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from palenka.evaluation.items import Item


@dataclass(frozen=True)
class Accuracy:
    """Share of right choices in 0…1; in a group's, `n` and `ties` are sums over its subtasks."""

    accuracy: float
    accuracy_ties_good: float
    stderr: float
    n: int
    ties: int


def outcomes(items: Sequence[Item], scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Outcome of each item, and whether it is a tie: (items,) each.

    The choice with the highest score is taken. An outcome is 1 if that is the right one, 0 if it is another, and 1/k
    where the right one ties with others, k in all: with two choices, a half.

    Args:
        items: whose first choice is the right one.
        scores: of all their choices, in order: (choices,)
    """
    return choice_outcomes([len(item.choices) for item in items], scores)


def choice_outcomes(
    counts: Sequence[int], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """`outcomes` of items that have so many choices each: (items,)"""
    sizes = np.asarray(counts, np.int64)
    starts = np.cumsum(sizes) - sizes
    right, best = scores[starts], np.maximum.reduceat(scores, starts)
    at_best = np.add.reduceat((scores == np.repeat(best, sizes)).astype(np.int64), starts)
    return np.where(right == best, 1 / at_best, 0.0), (right == best) & (at_best > 1)


def subtask_accuracy(
    outcomes: NDArray[np.float64], ties: NDArray[np.bool_], clusters: Sequence[str | None] | None = None
) -> Accuracy:
    """Accuracy over items.

    `accuracy_ties_good` counts a tie as right, as the 2024 and 2025 pipelines do. `stderr` is that of a mean over
    clusters, each drawn as a whole: for independent items sample sd / sqrt(n), and for a single cluster, where
    that is undefined, the largest it could be, 0.5. EWoK's twins are clusters: a model blind to contexts is right on
    exactly one of the two, always, so that its 50 % have no error.

    Args:
        outcomes: (items,), of `outcomes`.
        ties: (items,)
        clusters: of each item; None for an item that is independent, or for all of them.
    """
    n = len(outcomes)
    mean = outcomes.mean()
    return Accuracy(
        accuracy=float(mean),
        accuracy_ties_good=float(np.where(ties, 1.0, outcomes).mean()),
        stderr=float(_clustered_stderr(outcomes - mean, clusters or [None] * n)),
        n=n,
        ties=int(ties.sum()),
    )


def _clustered_stderr(deviations: NDArray[np.float64], clusters: Sequence[str | None]) -> float:
    """sqrt(C / (C − 1) · Σ_c (Σ_{i in c} d_i)²) / n, over C clusters."""
    numbers: dict[str | int, int] = {}
    of_item = [numbers.setdefault(i if name is None else name, len(numbers)) for i, name in enumerate(clusters)]
    sums = np.bincount(of_item, deviations)
    return np.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum()) / len(deviations) if len(sums) > 1 else 0.5


def task_accuracy(items: Sequence[Item], scores: NDArray[np.float64]) -> tuple[Accuracy, dict[str, Accuracy]]:
    """Accuracy of a task, and of each of its subtasks, for the scores of all choices in order: (choices,)"""
    found, ties = outcomes(items, scores)
    rows: dict[str, list[int]] = {}
    for row, item in enumerate(items):
        rows.setdefault(item.subtask, []).append(row)
    subtasks = {
        name: subtask_accuracy(found[of_subtask], ties[of_subtask], [items[row].cluster for row in of_subtask])
        for name, of_subtask in rows.items()
    }
    return group_accuracy(list(subtasks.values())), subtasks


def group_accuracy(subtasks: list[Accuracy]) -> Accuracy:
    """The unweighted mean over subtasks, with the standard error of that mean."""
    return Accuracy(
        accuracy=float(np.mean([subtask.accuracy for subtask in subtasks])),
        accuracy_ties_good=float(np.mean([subtask.accuracy_ties_good for subtask in subtasks])),
        stderr=mean_error([subtask.stderr for subtask in subtasks]),
        n=sum(subtask.n for subtask in subtasks),
        ties=sum(subtask.ties for subtask in subtasks),
    )


def mean_error(errors: Sequence[float]) -> float:
    """Standard error of an unweighted mean of means that have these."""
    return float(np.sqrt(np.square(errors).sum()) / len(errors))


def bits_per_byte(nats: float, size: float) -> float:
    """Cross-entropy of a whole text of that size in bytes; 0 for an empty one."""
    return nats / math.log(2) / size if size else 0.0


def chance(items: Sequence[Item]) -> float:
    """What guessing gets of these items: the unweighted mean over subtasks."""
    return task_accuracy(items, np.zeros(sum(len(item.choices) for item in items)))[0].accuracy
