"""When a word is learned: an age read from a sigmoid, how far its curve determines it, and how ages go together.

    f(x) = a / (1 + exp(−b (x − c))) + d

of children: the share that produces a word over months; the age is where f is a half.
of models:   −surprisal over x = log10(words seen + 1); the age is where f is halfway between the surprisal of guessing,
             ln(vocabulary) for each token of the word, and the lowest that was measured.

Fits, start values, bounds and which words have an age at all are those of the 2026 pipeline (babylm-org/babylm-eval),
after Chang & Bergen, "Word Acquisition in Neural Language Models", TACL 10, 2022. The pipeline takes each age as known.
Here it has a 95 % interval, by the delta method: the fit's residuals say how far points scatter, and the Jacobian how
far a, b, c and d, and so the age, may move before the fit is worse. An age is *determined* where that interval lies
between the first and the last point. (What scipy's bounded fit says of its errors is no guide: a parameter that no
point depends on, as of a flat curve or of one that jumps between two points, has the error 0 there.)
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.special import expit, fdtrc, stdtr, stdtrit

Floats = NDArray[np.float64]
PARAMETERS = 4
CERTAINTY = 0.975  # one side of a 95 % interval
FLAT = 0.05
"""A curve is flat unless its sigmoid explains more than a constant would, at this level of an F test."""
ROUNDING = 1e-5
"""Of a surprisal, in nats: residuals are not taken to be smaller."""
MOST_EVALUATIONS = 300
"""Of a fit, which then fails. The pipeline goes on to 20,000, for a minute where points are noise; of 120 curves of 19
points all that came to an end did so within 200."""
LARGEST_P = 0.1
FEWEST = 3


def sigmoid(x: Floats, a: float, b: float, c: float, d: float) -> Floats:
    return np.asarray(a * expit(b * (x - c)) + d)


@dataclass(frozen=True)
class Age:
    """Of a word, in log10(words seen + 1), with its 95 % interval; that is infinite where nothing bounds it."""

    value: float
    low: float
    high: float
    is_determined: bool


def child_age(months: Sequence[int], shares: Sequence[float]) -> float | None:
    """The age in months at which half of the children produce a word; None where the months do not show it.

    Args:
        months: (ages,)
        shares: (ages,) of children, NaN where it is not known.
    """
    y = np.asarray(shares, np.float64)
    x, y = np.asarray(months, np.float64)[~np.isnan(y)], y[~np.isnan(y)]
    if len(x) < FEWEST:
        return None
    bounds = ([0, 0, x[0], -0.5], [2.0, 1.0, x[-1], 0.5])
    fit = _fit(x, y, [1.0, 0.1, float(x.mean()), 0.0], bounds)
    age = None if fit is None or min(fit[:2]) <= 0 else _crossing(fit, 0.5)
    return age if age is not None and x[0] <= age <= x[-1] else None


def model_age(words: Sequence[float], surprisals: Sequence[float], ceiling: float) -> Age | None:
    """The age of a word whose mean surprisal was measured after so many words seen; None where it has none.

    Args:
        words: (points,) rising.
        surprisals: (points,) in nats.
        ceiling: the surprisal of guessing, in nats.
    """
    if len(words) < FEWEST:
        return None
    x, y = np.log10(np.asarray(words, np.float64) + 1), -np.asarray(surprisals, np.float64)
    low, high = float(y.min()), float(y.max())
    spread = high - low
    bounds = ([0, 0, x.min() - 1, low - 2 * spread - 1], [10 * spread + 1, 100, x.max() + 1, high + 1])
    fit = _fit(x, y, [spread, 1.0, float(x.mean()), low], bounds)
    threshold = (high - ceiling) / 2
    age = None if fit is None or min(fit[:2]) <= 1e-6 else _crossing(fit, threshold)
    if fit is None or age is None or not words[0] <= 10**age - 1 <= words[-1]:
        return None
    error = _age_error(x, y, fit, age)
    reach = float(stdtrit(max(1, len(x) - PARAMETERS), CERTAINTY)) * error
    is_determined = bool(x[0] <= age - reach and age + reach <= x[-1])
    return Age(age, age - reach, age + reach, is_determined)


def _fit(x: Floats, y: Floats, start: list[float], bounds: tuple[list[float], list[float]]) -> list[float] | None:
    """(a, b, c, d); None where the fit fails."""
    try:
        with warnings.catch_warnings(action="ignore", category=OptimizeWarning):  # four points, four parameters
            found, _ = curve_fit(sigmoid, x, y, p0=start, bounds=bounds, maxfev=MOST_EVALUATIONS)
    except (RuntimeError, ValueError):  # too many evaluations; a start outside the bounds
        return None
    return [float(each) for each in found]


def _crossing(fit: Sequence[float], height: float) -> float | None:
    """Where a rising sigmoid reaches a height; None where it does not."""
    a, b, c, d = fit
    return c - math.log(a / (height - d) - 1) / b if d < height < a + d else None


def _age_error(x: Floats, y: Floats, fit: Sequence[float], age: float) -> float:
    """Standard error of the age; infinite where the curve says nothing of it."""
    residuals = y - sigmoid(x, *fit)
    free = len(x) - PARAMETERS
    if free < 1 or _is_flat(y, residuals):
        return math.inf
    variance = max(float(residuals @ residuals) / free, ROUNDING**2)
    slopes, at_age = _slopes(x, fit), _slopes(np.array([age]), fit)[0]
    steepness = -float(at_age[2])  # of f there, by x: what moves c moves all of f by as much
    scale = np.linalg.norm(slopes, axis=0)
    if steepness <= 0 or not scale.all():
        return math.inf
    _, sizes, directions = np.linalg.svd(slopes / scale, full_matrices=False)
    sizes = np.maximum(sizes, np.finfo(float).eps * sizes[0])
    of_height = ((directions @ (at_age / scale) / sizes) ** 2).sum()
    of_threshold = 0.25  # half of the lowest surprisal, which scatters as any other
    return math.sqrt(variance * (of_height + of_threshold)) / steepness


def _is_flat(y: Floats, residuals: Floats) -> bool:
    """Whether a constant explains as much: an F test on the three parameters that a sigmoid has more."""
    left, free = float(residuals @ residuals), len(y) - PARAMETERS
    gained = float(((y - y.mean()) ** 2).sum()) - left
    if left <= len(y) * ROUNDING**2:
        return gained <= len(y) * ROUNDING**2
    ratio = max(0.0, gained / 3) / (left / free)
    return float(fdtrc(3, free, ratio)) > FLAT


def _slopes(x: Floats, fit: Sequence[float]) -> Floats:
    """Derivatives of f by a, b, c and d: (points, 4)."""
    a, b, c, _ = fit
    share = expit(b * (x - c))
    rise = a * share * (1 - share)
    return np.stack([share, rise * (x - c), -rise * b, np.ones_like(x)], axis=1)


@dataclass(frozen=True)
class Correlation:
    """Pearson's r of n pairs, its two-sided p, and its 95 % interval by Fisher's z (infinite below four pairs)."""

    r: float
    p: float
    n: int
    low: float
    high: float

    @property
    def score(self) -> float:
        """What the challenge takes: r, and 0 where p is above a tenth or there are fewer than three pairs."""
        return self.r if self.n >= FEWEST and self.p <= LARGEST_P else 0.0


def correlation(one: Sequence[float], other: Sequence[float]) -> Correlation:
    """Of pairs: (pairs,) each. Without three pairs, or where one of them never changes, r is 0 and p 1."""
    n = len(one)
    x, y = (np.asarray(each, np.float64) - np.mean(each) if n else np.zeros(0) for each in (one, other))
    spread = math.sqrt(float(x @ x) * float(y @ y))
    if n < FEWEST or not spread:
        return Correlation(0.0, 1.0, n, -1.0, 1.0)
    r = max(-1.0, min(1.0, float(x @ y) / spread))
    p = 0.0 if abs(r) == 1 else 2 * float(stdtr(n - 2, -abs(r) * math.sqrt((n - 2) / (1 - r * r))))
    if n == FEWEST or abs(r) == 1:
        return Correlation(r, p, n, *((-1.0, 1.0) if n == FEWEST else (r, r)))
    middle, reach = math.atanh(r), 1.959963984540054 / math.sqrt(n - 3)
    return Correlation(r, p, n, math.tanh(middle - reach), math.tanh(middle + reach))
