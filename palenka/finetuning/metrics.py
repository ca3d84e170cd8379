r"""What predictions come to: accuracy, F1 and Matthews' correlation, each with its standard error over the items.

    accuracy    right / n
    f1          2 TP / (2 TP + FP + FN)                              of label 1; 0 where there is none of these
    mcc         (n c - sum_k p_k t_k) / sqrt((n^2 - sum_k p_k^2) (n^2 - sum_k t_k^2))

c are right, p_k predicted to be k, t_k are k; 0 where one of them is all of one class (Gorodkin 2004, eq. 8; of two
classes it is Matthews'). The error is the jackknife's (Quenouille, Tukey),

    se^2 = (n - 1) / n  sum_i (m_i - mean m)^2,        m_i: the metric without item i

which for accuracy is the usual sample sd / sqrt(n). All of them depend on the items through their counts alone.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Metric = Literal["accuracy", "f1", "mcc"]
Counts = NDArray[np.int64]
"""(labels, labels): items of a true label (row) that are predicted to be another (column)."""


def count(labels: list[int], predictions: list[int], classes: int) -> Counts:
    """How often each label (row) was taken for each (column)."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, predictions), 1)
    return counts


def _accuracy(counts: Counts) -> float:
    return float(counts.trace() / counts.sum())


def _f1(counts: Counts) -> float:
    found = counts[1].sum() + counts[:, 1].sum()
    return float(2 * counts[1, 1] / found) if found else 0.0


def _mcc(counts: Counts) -> float:
    n, true, predicted = counts.sum(), counts.sum(axis=1), counts.sum(axis=0)
    varied = float(n**2 - predicted @ predicted) * float(n**2 - true @ true)
    return float(n * counts.trace() - predicted @ true) / varied**0.5 if varied else 0.0


METRICS: dict[Metric, Callable[[Counts], float]] = {"accuracy": _accuracy, "f1": _f1, "mcc": _mcc}


def measure(metric: Metric, counts: Counts) -> float:
    """A metric of so many items of each kind."""
    return METRICS[metric](counts)


def standard_error(metric: Metric, counts: Counts) -> float:
    """Of the metric, over items; of a single item the largest it could be, 0.5."""
    n = int(counts.sum())
    if n < 2:
        return 0.5
    kinds = list(zip(*counts.nonzero(), strict=True))
    without = np.array([measure(metric, _one_less(counts, kind)) for kind in kinds])
    sizes = np.array([counts[kind] for kind in kinds])
    deviations = without - sizes @ without / n
    return float(np.sqrt((n - 1) / n * (sizes @ deviations**2)))


def _one_less(counts: Counts, kind: tuple[int, int]) -> Counts:
    fewer = counts.copy()
    fewer[kind] -= 1
    return fewer


def best_constant(metric: Metric, counts: Counts) -> float:
    """What the best answer that is always the same gets of these items: the baseline."""
    true = counts.sum(axis=1)
    return max(measure(metric, np.outer(true, answer).astype(np.int64)) for answer in np.eye(len(true), dtype=np.int64))
