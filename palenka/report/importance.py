"""How much of a search's outcome an axis explains by itself, and how sure that is.

The importance of an axis is its main effect on the ranks of the trials: the adjusted R² of a mean for each choice, or
of a parabola in the rank of a number. Ranks leave scales and outliers out, and a parabola sees a best value in the
middle; what an axis does only together with others is not seen.

The interval comes from random halves of the trials. Over halves a statistic spreads as it does over whole searches: the
jackknife that leaves out d of n, with d = n/2 (Shao and Wu 1989, whose factor (n − d)/d is 1 there). A bootstrap would
draw trials twice, of which one explains the other, and R² would be too large.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palenka.evaluation.comparison import LEVEL, SEED

LEAST, LEAST_OF_CHOICE = 20, 5  # trials; fewer have rated what does nothing above what decides
HALVES = 500


@dataclass(frozen=True)
class Importance:
    """Share of the variance of ranks that an axis explains alone, at least 0, and its 95 % interval."""

    share: float
    low: float
    high: float


def importance(positions: Sequence[float], outcomes: Sequence[Any], is_choice: bool) -> Importance | None:
    """Of an axis, from the trials that have it; None where they are too few, or do not differ.

    Args:
        positions: where each trial is on the axis, the number of a choice if it has those.
        outcomes: what the trials are ranked by.
        is_choice: whether positions have no order.
    """
    kinds = len(set(positions))
    if len(positions) < max(LEAST, LEAST_OF_CHOICE * kinds * is_choice) or min(kinds, len(set(outcomes))) < 2:
        return None
    design, ranks = _design(np.array(positions), is_choice), average_ranks(outcomes)
    random = np.random.default_rng(SEED)
    halves = [random.permutation(len(ranks))[: len(ranks) // 2] for _ in range(HALVES)]
    drawn = [_adjusted(design[half], ranks[half]) for half in halves]
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Importance(*(max(0.0, float(value)) for value in (_adjusted(design, ranks), low, high)))


def average_ranks(keys: Sequence[Any]) -> NDArray[np.float64]:
    """From 0; those that are alike share the mean of theirs."""
    ordered = sorted(keys)
    return np.array([(bisect_left(ordered, key) + bisect_right(ordered, key) - 1) / 2 for key in keys])


def _design(positions: NDArray[np.float64], is_choice: bool) -> NDArray[np.float64]:
    """(trials, terms): of the means of choices, or of a parabola."""
    if is_choice:
        return (positions[:, None] == np.unique(positions)).astype(np.float64)
    return np.vander(2 * average_ranks(positions.tolist()) / (len(positions) - 1) - 1, 3)


def _adjusted(design: NDArray[np.float64], ranks: NDArray[np.float64]) -> float:
    """R² of a least-squares fit, less what as many terms explain by chance."""
    coefficients, _, terms, _ = np.linalg.lstsq(design, ranks)
    total = ranks.var()
    left = ((ranks - design @ coefficients) ** 2).mean() / total if total else 1.0
    return float(1 - left * (len(ranks) - 1) / (len(ranks) - terms))
