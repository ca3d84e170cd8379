"""Accuracies by hand."""

import functools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palenka.evaluation.items import Choice, Item
from palenka.evaluation.statistics import Accuracy, chance, group_accuracy, outcomes, task_accuracy


def item(choices: int, subtask: str = "s", cluster: str | None = None) -> Item:
    return Item(subtask, 1, tuple(Choice("", str(number)) for number in range(choices)), cluster=cluster)


@functools.cache
def pairs(count: int, clusters: str | None = None) -> list[Item]:
    return [item(2, cluster=clusters and clusters[number]) for number in range(count)]


def accuracy(good: list[float], bad: list[float], clusters: str | None = None) -> Accuracy:
    return task_accuracy(pairs(len(good), clusters), np.array([good, bad], float).T.ravel())[1]["s"]


def test_a_subtask_by_hand() -> None:
    # Right, wrong, tie, right: 1, 0, 0.5, 1. Mean 0.625; squared deviations .140625, .390625, .015625, .140625.
    result = accuracy([-1, -5, -3, -2], [-2, -4, -3, -9])
    assert result.accuracy == 0.625
    assert result.accuracy_ties_good == 0.75
    assert result.stderr == pytest.approx(math.sqrt(0.6875 / 3) / 2)
    assert (result.n, result.ties) == (4, 1)


def test_all_ties_are_chance_without_spread() -> None:
    assert accuracy([-1, -2], [-1, -2]) == Accuracy(0.5, 1.0, 0.0, 2, 2)


def test_one_item_has_the_largest_possible_error() -> None:
    assert accuracy([-1], [-2]) == Accuracy(1.0, 1.0, 0.5, 1, 0)


def test_a_group_weights_its_subtasks_equally() -> None:
    # Sizes 1000 and 10: the small one counts as much as the large one.
    large, small = Accuracy(0.9, 0.9, 0.003, 1000, 0), Accuracy(0.5, 0.7, 0.004, 10, 2)
    group = group_accuracy([large, small])
    assert group.accuracy == pytest.approx(0.7)
    assert group.accuracy_ties_good == pytest.approx(0.8)
    assert group.stderr == pytest.approx(0.0025)
    assert (group.n, group.ties) == (1010, 2)


def test_the_group_error_is_that_of_the_reported_mean() -> None:
    # Simulated: subtasks of very different size, many times over; the spread of their mean is what stderr says.
    random = np.random.default_rng(0)
    sizes, means = [80, 10, 30], [0.9, 0.5, 0.7]
    draws = [
        group_accuracy([accuracy(random.random(n) < p, [0.5] * n) for n, p in zip(sizes, means, strict=True)])
        for _ in range(1000)
    ]
    spread = np.std([draw.accuracy for draw in draws])
    assert np.mean([draw.stderr for draw in draws]) == pytest.approx(spread, rel=0.05)


def test_items_are_grouped_by_subtask_wherever_they_stand() -> None:
    items = [item(2, subtask) for subtask in "xyx"]
    whole, subtasks = task_accuracy(items, np.array([-1.0, -2.0, -2.0, -1.0, -1.0, -1.0]))
    assert {name: (each.accuracy, each.n) for name, each in subtasks.items()} == {"x": (0.75, 2), "y": (0.0, 1)}
    assert whole.accuracy == 0.375


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1))
def test_swapping_good_and_bad_mirrors_the_accuracy(pairs: list[tuple[int, int]]) -> None:
    good, bad = ([float(pair[side]) for pair in pairs] for side in (0, 1))
    forward, backward = accuracy(good, bad), accuracy(bad, good)
    assert forward.accuracy + backward.accuracy == pytest.approx(1)
    assert forward.stderr == pytest.approx(backward.stderr)


def test_ties_among_many_choices() -> None:
    items = [item(count) for count in (3, 5, 4, 3)]
    # First of three best together; best alone; beaten; worse than two that tie.
    scores = np.array([2, 2, 2, 9, 1, 1, 1, 1, 3, 1, 1, 4, 1, 5, 5], float)
    found, ties = outcomes(items, scores)
    np.testing.assert_allclose(found, [1 / 3, 1, 0, 0])
    assert ties.tolist() == [True, False, False, False]
    assert task_accuracy(items, scores)[0].accuracy_ties_good == 0.5


def test_chance_is_what_guessing_gets() -> None:
    items = [item(2, "x"), item(5, "y"), item(4, "y")]
    assert chance(items) == pytest.approx((1 / 2 + (1 / 5 + 1 / 4) / 2) / 2)


def test_twins_are_one_draw() -> None:
    # Two pairs of twins, one right twice and one wrong twice: two draws, 1 and 0, not four.
    together = accuracy([2, 2, 0, 0], [1, 1, 1, 1], "aabb")
    assert together.stderr == pytest.approx(accuracy([2, 0], [1, 1]).stderr)
    assert (together.accuracy, together.n) == (0.5, 4)
    # Blind to the context: right on one of each pair, whatever is drawn.
    assert accuracy([2, 0, 2, 0], [1, 1, 1, 1], "aabb").stderr == 0
    assert accuracy([2, 0], [1, 1], "aa").stderr == 0.5


def test_the_error_of_twins_is_the_spread_over_draws_of_pairs() -> None:
    random = np.random.default_rng(0)
    clusters = "".join(chr(65 + number // 2) for number in range(40))
    draws = []
    for _ in range(2000):
        good = np.repeat(random.random(20) < 0.6, 2) ^ (random.random(40) < 0.1)
        draws.append(accuracy(good.astype(float).tolist(), [0.5] * 40, clusters))
    assert np.mean([draw.stderr for draw in draws]) == pytest.approx(np.std([d.accuracy for d in draws]), rel=0.05)
