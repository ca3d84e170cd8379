"""Correlations with their standard errors: Spearman's, and the partial R² of one predictor beside others.

Standard errors are the jackknife's: with θ₋ᵢ the estimate without the i-th of n clusters of dependent observations,
sqrt((n − 1)/n · Σ (θ₋ᵢ − mean θ₋)²). It holds for correlations of any distribution, ties included, where the formulas
for Spearman's suppose that there are none, and it needs no random numbers, unlike the bootstrap. Near no correlation at
all, a squared one cannot spread evenly to both sides: there, the error is a rough guide.

Source: Efron and Stein, "The jackknife estimate of variance", Annals of Statistics 9, 1981.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
NOTHING_LEFT = 1e-10
"""Of a variable's squares: what is left of a variable that others explain wholly is rounding, no larger than this."""


@dataclass(frozen=True)
class Estimate:
    """A value and its standard error."""

    value: float
    stderr: float


def preferences(scores: Floats) -> NDArray[np.float32]:
    """How much of the probability of two texts the first has: (items, 2) log-probabilities in nats → (items,).

    In float32, as in the 2025 pipeline. So every first text that is more than 17 nats likelier than the second has 1,
    and these tie; a first text that is as much less likely keeps its rank, down to 103 nats.
    """
    scores = scores.astype(np.float32)
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return weights[:, 0] / weights.sum(1)


def spearman(one: NDArray[Any], other: NDArray[Any]) -> Estimate:
    """Spearman's rank correlation of two variables, (items,) each, equal values having the mean of their ranks.

    A variable that never changes ranks nothing: the correlation is 0, where scipy has no number. With fewer than three
    items, where the jackknife says nothing, the standard error is the largest it could be, 1.
    """
    value = _rank_correlation(one, other)
    if len(one) < 3:
        return Estimate(value, 1.0)
    others = ~np.eye(len(one), dtype=bool)
    return Estimate(value, jackknife_error(np.array([_rank_correlation(one[rest], other[rest]) for rest in others])))


def _rank_correlation(one: NDArray[Any], other: NDArray[Any]) -> float:
    return _correlation(_ranks(one), _ranks(other))


def _ranks(values: NDArray[Any]) -> Floats:
    """1 for the smallest value; equal values have the mean of their ranks."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def _correlation(one: Floats, other: Floats) -> float:
    x, y = one - one.mean(), other - other.mean()
    spread = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / spread) if spread else 0.0


def partial_r2(
    outcomes: Sequence[Floats], predictor: Floats, controls: Sequence[Floats], clusters: Sequence[int]
) -> Estimate:
    """How much of an outcome's variance a predictor explains, of that which controls leave unexplained; in 0…1.

    Both regressions are ordinary least squares with an intercept, the controls and the product of each two of them;
    the predictor is in the second alone. The share is (R²₂ − R²₁) / (1 − R²₁), which is the squared correlation of
    the residuals of outcome and predictor. It is 0 where the controls explain either of them wholly.

    Args:
        outcomes: (rows,) each; the value is the mean of their shares. A row without a number (NaN) in an outcome, the
            predictor or a control takes no part for that outcome.
        predictor: (rows,)
        controls: (rows,) each.
        clusters: number of each row's cluster, (rows,): rows of one cluster are not independent.
    """
    products = [one * other for one, other in combinations(controls, 2)]
    columns = np.stack([np.ones_like(predictor), *controls, *products, predictor], axis=1)

    def share(rows: NDArray[np.bool_]) -> float:
        return float(np.mean([_explained(columns[rows], outcome[rows]) for outcome in outcomes]))

    without = [share(np.not_equal(clusters, cluster)) for cluster in np.unique(clusters)]
    return Estimate(share(np.full(len(predictor), True)), jackknife_error(np.array(without)))


def _explained(columns: Floats, outcome: Floats) -> float:
    """Squared correlation of what the other columns leave of an outcome (rows,) and of the last (rows, columns)."""
    table = np.column_stack([columns, outcome])
    table = table[~np.isnan(table).any(axis=1)]
    controls, pair = table[:, :-2], table[:, -2:]
    left = pair - controls @ np.linalg.lstsq(controls, pair)[0]
    if ((left**2).sum(axis=0) <= NOTHING_LEFT * (pair**2).sum(axis=0)).any():
        return 0.0
    return _correlation(*left.T) ** 2


def jackknife_error(without: Floats) -> float:
    """Standard error of an estimate, of its values without each of its clusters: (clusters,)."""
    return float(np.sqrt(((without - without.mean()) ** 2).sum() * (len(without) - 1) / len(without)))
