"""Accuracies by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palenka.evaluation.items import Item
from palenka.evaluation.statistics import Accuracy, group_accuracy, subtask_accuracy, task_accuracy


def accuracy(good: list[float], bad: list[float]) -> Accuracy:
    return subtask_accuracy(np.array(good, float), np.array(bad, float))


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
    sizes, means = [400, 20, 60], [0.9, 0.5, 0.7]
    draws = [
        group_accuracy([accuracy(random.random(n) < p, [0.5] * n) for n, p in zip(sizes, means, strict=True)])
        for _ in range(2000)
    ]
    spread = np.std([draw.accuracy for draw in draws])
    assert np.mean([draw.stderr for draw in draws]) == pytest.approx(spread, rel=0.05)


def test_items_are_grouped_by_subtask_wherever_they_stand() -> None:
    items = [Item(subtask, 1, "", "g", "b") for subtask in "xyx"]
    whole, subtasks = task_accuracy(items, np.array([[-1.0, -2.0], [-2.0, -1.0], [-1.0, -1.0]]))
    assert {name: (each.accuracy, each.n) for name, each in subtasks.items()} == {"x": (0.75, 2), "y": (0.0, 1)}
    assert whole.accuracy == 0.375


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1))
def test_swapping_good_and_bad_mirrors_the_accuracy(pairs: list[tuple[int, int]]) -> None:
    good, bad = ([float(pair[side]) for pair in pairs] for side in (0, 1))
    forward, backward = accuracy(good, bad), accuracy(bad, good)
    assert forward.accuracy + backward.accuracy == pytest.approx(1)
    assert forward.stderr == pytest.approx(backward.stderr)
