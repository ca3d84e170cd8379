"""Ages read from curves: by hand, against scipy's own Pearson, and of words whose ages are known."""

import math

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.stats import pearsonr

from palenka.evaluation.learning_curves import child_age, correlation, model_age, sigmoid
from palenka.runs.milestones import TRACKS

WORDS = TRACKS["strict-small"]
X = np.log10(np.array(WORDS) + 1)
CEILING = math.log(16_000)


def curve(age: float, steepness: float = 5.0, floor: float = 3.0) -> np.ndarray:
    """Surprisals that fall from guessing to `floor`, and are halfway at `age`."""
    return CEILING - sigmoid(X, CEILING - floor, steepness, age, 0.0)


# Ages


def test_the_age_is_where_the_curve_is_halfway_to_its_lowest() -> None:
    surprisals = curve(6.8)
    found = model_age(WORDS, surprisals.tolist(), CEILING)
    halfway = (CEILING + surprisals.min()) / 2
    a, b = CEILING - 3.0, 5.0
    by_hand = 6.8 - math.log(a / (CEILING - halfway) - 1) / b
    assert found is not None and found.is_determined
    assert found.value == pytest.approx(by_hand, abs=1e-6)
    assert found.low <= by_hand <= found.high


@pytest.mark.parametrize(
    ("name", "surprisals"),
    [
        ("learned before the first milestone", curve(5.0)),
        ("never changes", np.full(len(WORDS), 7.0)),
        ("becomes worse", curve(6.8)[::-1]),
        ("is guessed throughout", np.full(len(WORDS), CEILING)),
    ],
)
def test_a_curve_without_a_crossing_has_no_age(name: str, surprisals: np.ndarray) -> None:
    assert model_age(WORDS, surprisals.tolist(), CEILING) is None, name


def test_too_few_milestones_have_no_age_and_four_determine_none() -> None:
    assert model_age(WORDS[:2], [9.0, 3.0], CEILING) is None
    found = model_age([10**6, 10**7, 5 * 10**7, 10**8], [9.0, 8.0, 4.0, 3.0], CEILING)
    assert found is not None and not found.is_determined and math.isinf(found.high)


def test_noise_determines_no_age() -> None:
    """Halfway between guessing and the lowest of these points lies among them, and the fit finds an age there."""
    points = CEILING - 0.5 + np.random.default_rng(1).normal(0, 0.3, len(WORDS))
    found = model_age(WORDS, points.tolist(), CEILING)
    assert found is not None and WORDS[0] < 10**found.value < WORDS[-1]
    assert not found.is_determined and math.isinf(found.high)


def test_a_fit_that_leaves_a_parameter_open_says_error_zero_and_we_do_not() -> None:
    """Between two milestones a jump may lie anywhere: scipy's error of its place is 0, ours is most of the gap."""
    x, jump = np.arange(6.0), np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]) + 1e-3 * np.array([1, -1, 1, -1, 1, -1])
    bounds = ([0, 0, -1, -1], [2, 100, 6, 1])
    fit, covariance = curve_fit(sigmoid, x, jump, p0=[1, 90, 2.5, 0], bounds=bounds)
    assert 2.1 < fit[2] < 2.9 and covariance[2, 2] == 0.0

    surprisals = [CEILING - 8 * value for value in jump]
    found = model_age([int(10 ** (6 + step)) for step in range(6)], surprisals, CEILING)
    assert found is not None and 8 < found.value < 9
    assert found.high - found.low > 0.5


def test_children_by_hand_and_their_limits() -> None:
    months = list(range(16, 31))
    shares = sigmoid(np.array(months, float), 1.0, 0.6, 22.0, 0.0)
    assert child_age(months, shares.tolist()) == pytest.approx(22.0, abs=1e-4)
    holes = shares.copy()
    holes[[0, 5, 9]] = math.nan
    assert child_age(months, holes.tolist()) == pytest.approx(22.0, abs=1e-3)
    assert child_age(months, [math.nan] * 13 + [0.2, 0.9]) is None
    assert child_age(months, [0.02] * 15) is None  # half of them never say it
    assert child_age(months, [0.98] * 15) is None  # they did so before


# How ages go together


@pytest.mark.parametrize("n", [3, 4, 5, 30, 300])
def test_correlation_is_scipy_s(n: int) -> None:
    generator = np.random.default_rng(n)
    one = generator.normal(size=n)
    other = 0.3 * one + generator.normal(size=n)
    found, known = correlation(one.tolist(), other.tolist()), pearsonr(one, other)
    assert (found.r, found.p, found.n) == (pytest.approx(known.statistic), pytest.approx(known.pvalue), n)
    if n > 3:
        interval = known.confidence_interval()
        assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert found.score == (found.r if known.pvalue <= 0.1 else 0.0)


def test_what_has_no_correlation_has_the_score_zero() -> None:
    for one, other in (([], []), ([1.0, 2.0], [1.0, 2.0]), ([1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 3.0, 4.0])):
        found = correlation(one, other)
        assert (found.r, found.p, found.score, found.n) == (0.0, 1.0, 0.0, len(one))
    assert correlation([1.0, 2.0, 4.0, 8.0], [2.0, 4.0, 8.0, 16.0]).score == pytest.approx(1.0)


# A known truth


@pytest.mark.slow
@pytest.mark.parametrize("truth", [0.8, -0.5])
def test_known_ages_and_their_correlation_come_back(truth: float) -> None:
    """60 words of known ages, curves with noise of a tenth of a nat: 5 nats fall over some milestones.

    The noise moves an age by about its size over the slope halfway, 0.1 / (5 · 5 / 4) = 0.016, some of it away by the
    fit; of r, which 60 words leave open by 0.1, that takes less than 1 − 1 / (1 + (0.03 / 0.3)²) = 1 %.
    """
    generator = np.random.default_rng(1)
    standard = generator.normal(size=(2, 60)).clip(-2, 2)
    mixed = truth * standard[0] + math.sqrt(1 - truth**2) * standard[1]
    ages, months = 6.9 + 0.3 * standard[0], 23 + 2.5 * mixed
    found, kept = [], []
    for age, month in zip(ages, months, strict=True):
        surprisals = curve(age, floor=CEILING - 5.0) + generator.normal(0, 0.1, len(WORDS))
        of_model = model_age(WORDS, surprisals.tolist(), CEILING)
        of_children = child_age(range(16, 31), sigmoid(np.arange(16.0, 31.0), 1.0, 0.7, month, 0.0).tolist())
        assert of_children == pytest.approx(month, abs=1e-3)
        if of_model and of_model.is_determined:
            found.append(of_model)
            kept.append((age, month))
    assert len(found) >= 50
    errors = np.array([of.value for of in found]) - np.array(kept)[:, 0]
    # Halfway to the lowest point of a noisy curve lies lower than halfway to its floor: ages are late by little.
    assert np.abs(errors - np.median(errors)).max() < 0.15 and abs(np.median(errors)) < 0.05
    measured = correlation([of.value for of in found], [month for _, month in kept])
    true = correlation(*map(list, zip(*kept, strict=True)))
    assert measured.r == pytest.approx(true.r, abs=0.03)
    assert measured.low < true.r < measured.high


def test_intervals_hold_what_they_should() -> None:
    """Of 60 intervals of 95 %, on average 57 hold the age; fewer than 50 would be one chance in a thousand."""
    generator = np.random.default_rng(2)
    held = []
    for age in np.linspace(6.4, 7.4, 60):
        clean = curve(age, floor=CEILING - 5.0)
        height = (CEILING + clean.min()) / 2
        expected = age - math.log(5.0 / (CEILING - height) - 1) / 5.0
        found = model_age(WORDS, (clean + generator.normal(0, 0.1, len(WORDS))).tolist(), CEILING)
        if found and found.is_determined:
            held.append(found.low <= expected <= found.high)
    assert len(held) >= 50
    assert sum(held) >= 0.85 * len(held)

