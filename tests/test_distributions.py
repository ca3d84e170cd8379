"""Student's t and the fair binomial are those of scipy, and of tables."""

import math

import pytest
from scipy.special import bdtr, stdtrit

from palenka.evaluation.distributions import fair_binomial_cdf, t_quantile


@pytest.mark.parametrize("freedom", [1, 1.2, 1.9, 2, 2.5, 3, 4.7, 7, 11.3, 30, 99.5, 1000])
@pytest.mark.parametrize("probability", [0.5, 0.6, 0.9, 0.975, 0.995])
def test_quantiles_of_t_are_those_of_scipy(freedom: float, probability: float) -> None:
    assert t_quantile(freedom, probability) == pytest.approx(float(stdtrit(freedom, probability)), rel=1e-11, abs=1e-15)


def test_quantiles_of_t_are_those_of_tables() -> None:
    assert [round(t_quantile(freedom, 0.975), 3) for freedom in (1, 2, 4, 10)] == [12.706, 4.303, 2.776, 2.228]


@pytest.mark.parametrize("trials", [1, 2, 3, 10, 463, 3001, 60_000])
def test_the_fair_binomial_is_that_of_scipy(trials: int) -> None:
    for successes in {0, trials // 5, trials // 3, 2 * trials // 5, trials // 2}:
        expected = float(bdtr(successes, trials, 0.5))
        assert fair_binomial_cdf(successes, trials) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_the_fair_binomial_is_exact_where_few_trials_allow_it() -> None:
    assert [fair_binomial_cdf(successes, 4) for successes in range(3)] == [1 / 16, 5 / 16, 11 / 16]


def test_half_of_many_trials_is_exact_too() -> None:
    """By symmetry a half, and half of the middle; scipy is off by 4e-11 there."""
    middle = math.comb(60_000, 30_000) / (1 << 60_000)
    assert fair_binomial_cdf(30_000, 60_000) == pytest.approx((1 + middle) / 2, rel=1e-13)
