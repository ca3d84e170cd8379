"""Tails of the binomial and of Student's t distribution, both from the regularized incomplete beta function.

Source: Abramowitz & Stegun 1964, 26.5.8 (continued fraction), 26.5.24 (binomial) and 26.5.27 (Student's t).
"""

import math

TINY = 1e-300
"""Stands for a zero denominator in the continued fraction, as Lentz's method does."""


def regularized_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b), the share of the beta(a, b) distribution below x; a and b above 0, x in 0…1."""
    if x in (0, 1):
        return float(x)
    if x > (a + 1) / (a + b + 2):  # there the fraction converges slowly, and that of the other tail fast
        return 1 - regularized_beta(b, a, 1 - x)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(scale) / (a * _fraction(a, b, x))


def _fraction(a: float, b: float, x: float) -> float:
    """1 + d1/(1 + d2/(1 + …)), from the front by Lentz's method."""
    value, upper, lower = 1.0, 1.0, 0.0
    term, step = 0, 0.0
    while abs(step - 1) > 1e-15 and term < 100_000:
        term += 1
        half = term // 2
        if term % 2:
            factor = -(a + half) * (a + b + half) * x / ((a + term - 1) * (a + term))
        else:
            factor = half * (b - half) * x / ((a + term - 1) * (a + term))
        lower = 1 / ((1 + factor * lower) or TINY)
        upper = (1 + factor / upper) or TINY
        step = upper * lower
        value *= step
    return value


def binomial_two_sided(first: int, second: int) -> float:
    """Probability that fair coins split `first + second` tosses at least so unevenly."""
    few, many = sorted((first, second))
    return min(1.0, 2 * regularized_beta(many, few + 1, 0.5)) if many else 1.0


def t_cdf(t: float, freedom: float) -> float:
    """Share of Student's t distribution below t."""
    tail = regularized_beta(freedom / 2, 0.5, freedom / (freedom + t * t)) / 2
    return 1 - tail if t > 0 else tail


def t_quantile(share: float, freedom: float) -> float:
    """The t below which this share of the distribution lies, by bisection; share in ½…1."""
    low, high = 0.0, 1.0
    while t_cdf(high, freedom) < share:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if t_cdf(middle, freedom) < share else (low, middle)
    return high
