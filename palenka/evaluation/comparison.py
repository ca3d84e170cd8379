"""Two models on the same items: the difference of their accuracies, what the items leave open, what the seeds do.

An *outcome* of an item is 1 (right), ½ (tie) or 0 (wrong); over several runs of a model it is their mean. A difference
is the unweighted mean over subtasks of the mean difference of outcomes. Spread over items (which items were drawn, for
these very runs) and spread over seeds (which runs were drawn, for these very items) are two things, never added up.

Sources: Efron & Tibshirani 1993, ch. 13 (percentile interval); McNemar 1947; Holm 1979; Welch 1947.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, mean, variance

import numpy as np
from numpy.typing import NDArray

from palenka.evaluation.distributions import fair_binomial_cdf, t_quantile, t_tail

Outcomes = dict[str, NDArray[np.float64]]
"""Outcomes in line order, by subtask."""

LEVEL = 0.95
SEED = 0
RESAMPLES = 10_000


@dataclass(frozen=True)
class ItemDifference:
    """One row of a comparison: accuracies (0…1) of A and B over some subtasks, and A − B.

    `low` … `high` is the 95 % interval of the paired bootstrap, `stderr` the paired standard error (None where a
    subtask has a single item). `a_ahead` and `b_ahead` count the discordant items, and `mcnemar_p` is the exact test
    of these counts, None where outcomes are means over runs. `p` belongs to `difference`: over one subtask of single
    runs it is McNemar's; over several subtasks McNemar's would be that of another mean, in which each item weighs the
    same, so it is that of difference / stderr under a normal distribution (and the sign test where no stderr is).
    """

    a: float
    b: float
    difference: float
    low: float
    high: float
    stderr: float | None
    items: int
    a_ahead: int
    b_ahead: int
    mcnemar_p: float | None
    p: float


@dataclass(frozen=True)
class SeedDifference:
    """Mean accuracy (0…1) over the seeds of A minus that of B, with Welch's standard error, 95 % t interval and p."""

    difference: float
    stderr: float
    low: float
    high: float
    freedom: float
    p: float


def mean_outcomes(runs: Sequence[Outcomes]) -> Outcomes:
    """Each item's outcome averaged over runs."""
    return {name: np.mean([run[name] for run in runs], axis=0) for name in runs[0]}


def accuracy(outcomes: Outcomes) -> float:
    """The unweighted mean over subtasks."""
    return mean(float(values.mean()) for values in outcomes.values())


def paired_stderr(first: Outcomes, second: Outcomes) -> float | None:
    """Standard error of the difference of two accuracies on the same items; None where a subtask has a single item."""
    if any(len(values) < 2 for values in first.values()):
        return None
    variances = [(first[name] - second[name]).var(ddof=1) / len(first[name]) for name in first]
    return math.sqrt(sum(variances)) / len(variances)


def discordant(first: Outcomes, second: Outcomes) -> tuple[int, int]:
    """Numbers of items on which the first does better, and on which the second does.

    A tie of one model only is discordant too: half a point less than right, half a point more than wrong.
    """
    differences = np.concatenate([first[name] - second[name] for name in first])
    return int((differences > 0).sum()), int((differences < 0).sum())


def resampled(first: Outcomes, second: Outcomes, resamples: int = RESAMPLES, seed: int = SEED) -> Outcomes:
    """Mean differences (resamples,) of each subtask, its items redrawn with replacement, A and B together.

    A resample matters only through how often each distinct difference occurs in it, and these counts are multinomial:
    drawing them takes memory for resamples × distinct differences instead of resamples × items. A subtask's
    draws depend on its name and the seed, not on what else is compared.
    """
    drawn = {}
    for name in first:
        random = np.random.default_rng([seed, zlib.crc32(name.encode())])
        values, counts = np.unique(np.round(first[name] - second[name], 9), return_counts=True)
        size = len(first[name])
        drawn[name] = random.multinomial(size, counts / size, size=resamples) @ values / size
    return drawn


def compare_items(
    first: Outcomes, second: Outcomes, drawn: Outcomes, subtasks: Sequence[str], single_runs: bool = True
) -> ItemDifference:
    """A and B over these subtasks; `drawn` as `resampled` gives it, `single_runs` where no outcome is averaged."""
    one, other = ({name: outcomes[name] for name in subtasks} for outcomes in (first, second))
    low, high = np.quantile(sum(drawn[name] for name in subtasks) / len(subtasks), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    difference, stderr = accuracy(one) - accuracy(other), paired_stderr(one, other)
    ahead = discordant(one, other)
    sign_test = min(1.0, 2 * fair_binomial_cdf(min(ahead), sum(ahead))) if any(ahead) else 1.0
    exact = single_runs and len(subtasks) == 1
    return ItemDifference(
        a=accuracy(one),
        b=accuracy(other),
        difference=difference,
        low=float(low),
        high=float(high),
        stderr=stderr,
        items=sum(len(values) for values in one.values()),
        a_ahead=ahead[0],
        b_ahead=ahead[1],
        mcnemar_p=sign_test if single_runs else None,
        p=sign_test if exact or not stderr else 2 * NormalDist().cdf(-abs(difference) / stderr),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected for their number by Holm's method, in the order given."""
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def compare_seeds(first: Sequence[float], second: Sequence[float]) -> SeedDifference | None:
    """From the accuracy of each seed's run; None where a side has one seed only, or no side any spread."""
    return _seed_difference(first, second) if min(len(first), len(second)) > 1 else None


def compare_with_one(first: Sequence[float], only: float) -> SeedDifference | None:
    """Of seeds' runs and one run that is taken as it is, its own spread unknown (Student's test of one sample).

    None of a single seed, or where there is no spread.
    """
    return _seed_difference(first, [only]) if len(first) > 1 else None


def _seed_difference(first: Sequence[float], second: Sequence[float]) -> SeedDifference | None:
    sides = [values for values in (first, second) if len(values) > 1]
    parts = [(variance(values) / len(values), len(values) - 1) for values in sides]
    squared = sum(part for part, _ in parts)
    if not squared:
        return None
    freedom = squared**2 / sum(part**2 / degrees for part, degrees in parts)
    difference, stderr = mean(first) - mean(second), math.sqrt(squared)
    margin = t_quantile(freedom, (1 + LEVEL) / 2) * stderr
    p = 2 * t_tail(freedom, abs(difference) / stderr)
    return SeedDifference(difference, stderr, difference - margin, difference + margin, freedom, p)
