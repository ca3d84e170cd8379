"""Student's t and the fair binomial in plain Python: to import `scipy.special` takes longer than all that compare does.

Source: Press et al. 2007, 6.4 (the incomplete beta function by Lentz's continued fraction).
"""

import math
from statistics import NormalDist

CLOSE = 1e-15
TINY = 1e-300
MOST_ROUNDS = 1000


def fair_binomial_cdf(successes: int, trials: int) -> float:
    """Probability of at most so many successes in trials that come out either way alike; of their lesser half."""
    term = math.comb(trials, successes) / (1 << trials)
    total = term
    for below in range(successes, 0, -1):  # ever smaller
        term *= below / (trials - below + 1)
        total += term
        if term <= CLOSE * total:
            break
    return total


def t_quantile(freedom: float, probability: float) -> float:
    """What Student's t stays below with this probability, of ½ and more."""
    t = NormalDist().inv_cdf(probability)  # less than the quantile, from where Newton's method never goes too far
    log_peak = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2
    for _ in range(MOST_ROUNDS):
        density = math.exp(log_peak - (freedom + 1) / 2 * math.log1p(t * t / freedom))
        step = (t_tail(freedom, t) - (1 - probability)) / density
        t += step
        if step <= CLOSE * t:
            break
    return t


def t_tail(freedom: float, t: float) -> float:
    """Probability that Student's t exceeds this, which is not negative."""
    squared = t * t
    return _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + squared), squared / (freedom + squared)) / 2


def _incomplete_beta(a: float, b: float, x: float, rest: float) -> float:
    """I_x(a, b), regularised; `rest` is 1 − x."""
    if x > (a + 1) / (a + b + 2):  # beyond, the fraction converges slowly
        return 1 - _incomplete_beta(b, a, rest, x)
    if not x:
        return 0.0
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest)
    return math.exp(log_front) / a / _fraction(a, b, x)


def _fraction(a: float, b: float, x: float) -> float:
    """1 + d1/(1 + d2/(1 + …)), from its front."""
    value, above, below = 1.0, 1.0, 0.0
    for place in range(1, MOST_ROUNDS):
        m = place // 2
        if place % 2:
            d = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            d = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        below = 1 / (1 + d * below or TINY)
        above = 1 + d / above or TINY
        value *= above * below
        if abs(above * below - 1) < CLOSE:
            break
    return value
