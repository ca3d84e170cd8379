"""Correlations by hand, against regressions spelled out, and their errors against simulated spreads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palenka.evaluation.correlation import Floats, jackknife_error, partial_r2, preferences, spearman


def array(*values: float) -> Floats:
    return np.array(values, float)


def test_spearman_by_hand() -> None:
    # Ranks 1 2 3 4 and 1 3 2 4: 1 − 6 · (0 + 1 + 1 + 0) / (4 · 15) = 0.8.
    assert spearman(array(1, 2, 30, 400), array(0, 5, 3, 9)).value == pytest.approx(0.8)
    assert spearman(array(1, 2, 3), array(9, 5, 1)).value == pytest.approx(-1)


def test_equal_values_share_their_mean_rank() -> None:
    # Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: covariance 2.25 + 0 + 0 + 2.25 = 4.5, variances 4.5 and 5.
    assert spearman(array(7, 8, 8, 9), array(1, 2, 3, 4)).value == pytest.approx(4.5 / np.sqrt(4.5 * 5))


def test_what_never_changes_ranks_nothing() -> None:
    assert spearman(array(3, 3, 3), array(1, 2, 3)).value == 0
    assert spearman(array(1, 2), array(1, 2)).stderr == 1


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=1, max_size=8))
def test_spearman_is_symmetric_odd_and_blind_to_scale(pairs: list[tuple[int, int]]) -> None:
    one, other = np.array(pairs, float).T
    value = spearman(one, other).value
    assert -1 <= value <= 1 or abs(value) == pytest.approx(1)
    assert spearman(other, one).value == pytest.approx(value)
    assert spearman(-one, other).value == pytest.approx(-value)
    assert spearman(np.exp(one), other**3).value == pytest.approx(value)


def test_the_jackknife_gives_a_mean_its_usual_error() -> None:
    values = np.random.default_rng(0).normal(size=20)
    without = (values.sum() - values) / 19
    assert jackknife_error(without) == pytest.approx(values.std(ddof=1) / np.sqrt(20))


@pytest.mark.slow
def test_the_error_of_spearman_is_its_spread() -> None:
    random = np.random.default_rng(0)
    draws = []
    for _ in range(150):
        shared = random.normal(size=40)
        draws.append(spearman(np.round(shared + random.normal(size=40)), shared))  # rounded: with ties
    spread = np.std([draw.value for draw in draws])
    assert np.mean([draw.stderr for draw in draws]) == pytest.approx(spread, rel=0.2)


def test_preferences_are_the_softmax_of_two_scores() -> None:
    assert preferences(np.log([[0.1, 0.3], [1e-9, 1e-9]])) == pytest.approx([0.25, 0.5])


def test_far_likelier_first_texts_tie_and_far_less_likely_ones_do_not() -> None:
    # 1 − e^-17 rounds to 1 in float32, whose numbers below 1 lie 2^-24 = e^-16.6 apart; e^-17 and e^-90 do not round.
    high = preferences(array(-100, -117, -100, -200).reshape(2, 2))
    assert high.tolist() == [1, 1]
    low = preferences(array(-117, -100, -190, -100).reshape(2, 2))
    assert low[0] > low[1] > 0


def plain_r2(outcome: Floats, columns: list[Floats]) -> float:
    design = np.stack([np.ones_like(outcome), *columns], axis=1)
    fitted = design @ np.linalg.lstsq(design, outcome)[0]
    return 1 - ((outcome - fitted) ** 2).sum() / ((outcome - outcome.mean()) ** 2).sum()


def regressors(rows: int, seed: int) -> tuple[list[Floats], Floats, Floats]:
    """Three controls on raw scales, a predictor that depends on them, and an outcome of all."""
    random = np.random.default_rng(seed)
    controls = [
        random.normal(3, 1, rows),
        random.integers(1, 14, rows).astype(float),
        random.integers(1, 16, rows) * 1.0,
    ]
    predictor = 9 - controls[0] + random.gamma(2, 2, rows)
    outcome = 200 - 9 * controls[0] + controls[1] * controls[2] + 4 * predictor + random.normal(0, 30, rows)
    return controls, predictor, outcome


def test_the_share_is_that_of_the_two_regressions_spelled_out() -> None:
    controls, predictor, outcome = regressors(200, 0)
    other = outcome + np.random.default_rng(1).normal(0, 9, 200)
    outcome[::7] = controls[1][5] = np.nan
    shares = []
    for each in (outcome, other):
        kept = ~np.isnan([each, *controls]).any(0)
        a, b, c = (control[kept] for control in controls)
        baseline = [a, b, c, a * b, a * c, b * c]
        first, second = plain_r2(each[kept], baseline), plain_r2(each[kept], [*baseline, predictor[kept]])
        shares.append((second - first) / (1 - first))
    assert abs(shares[0] - shares[1]) > 1e-3
    assert partial_r2([outcome, other], predictor, controls, range(200)).value == pytest.approx(
        np.mean(shares), abs=1e-9
    )


def test_the_error_leaves_out_one_cluster_at_a_time() -> None:
    controls, predictor, outcome = regressors(90, 2)
    outcome[4] = np.nan
    clusters = np.arange(90) % 15
    estimate = partial_r2([outcome], predictor, controls, clusters.tolist())
    without = [
        partial_r2([outcome[rest]], predictor[rest], [control[rest] for control in controls], clusters[rest]).value
        for rest in (clusters != number for number in range(15))
    ]
    assert estimate.stderr == pytest.approx(jackknife_error(np.array(without)), rel=1e-6)


def test_the_error_of_a_share_is_its_spread() -> None:
    draws = []
    for seed in range(150):
        controls, predictor, outcome = regressors(150, seed)
        draws.append(partial_r2([outcome], predictor, controls, [*range(15)] * 10))
    spread = np.std([draw.value for draw in draws])
    assert np.mean([draw.stderr for draw in draws]) == pytest.approx(spread, rel=0.2)


def test_repeated_rows_of_a_cluster_add_no_certainty() -> None:
    controls, predictor, outcome = regressors(100, 3)
    once = partial_r2([outcome], predictor, controls, range(100))
    twice = partial_r2(
        [np.tile(outcome, 2)], np.tile(predictor, 2), [np.tile(control, 2) for control in controls], [*range(100)] * 2
    )
    assert twice.value == pytest.approx(once.value)
    assert twice.stderr == pytest.approx(once.stderr)


def test_a_predictor_that_controls_explain_wholly_explains_nothing_more() -> None:
    controls, _, outcome = regressors(50, 4)
    for redundant in (2 * controls[0] - controls[1] + 3, np.full(50, 7.0)):
        assert partial_r2([outcome], redundant, controls, range(50)).value == 0
