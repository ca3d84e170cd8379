"""Learning rates by hand: a warm-up, then a shape down to a floor."""

import math

import pytest

from palenka.optimizers._schedules import Schedule, learning_rate


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd"])
@pytest.mark.parametrize("floor", [0.0, 0.25])
def test_a_warmup_rises_to_the_peak_and_the_end_is_the_floor(schedule: Schedule, floor: float) -> None:
    rates = [learning_rate(step, 2.0, 4, 12, schedule, floor) for step in range(13)]
    assert rates[:5] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert rates[12] == pytest.approx(2.0 * floor, abs=1e-12)
    assert rates[4:] == sorted(rates[4:], reverse=True)


@pytest.mark.parametrize(
    ("schedule", "step", "shape"),
    [
        ("cosine", 4, (2 + math.sqrt(2)) / 4),  # a quarter
        ("cosine", 7, 0.5),
        ("cosine", 10, (2 - math.sqrt(2)) / 4),
        ("linear", 4, 0.75),
        ("linear", 7, 0.5),
        ("linear", 10, 0.25),
    ],
)
def test_shapes_by_hand(schedule: Schedule, step: int, shape: float) -> None:
    """Of 13 steps, one of them warm-up."""
    assert learning_rate(step, 2.0, 1, 13, schedule) == pytest.approx(2 * shape)
    assert learning_rate(step, 2.0, 1, 13, schedule, 0.5) == pytest.approx(1 + shape)


def test_wsd_by_hand() -> None:
    """20 steps behind a warm-up of 5: 16 at the peak, and the root of 0, 1/4, 2/4, 3/4 less in the last 4."""
    rates = [learning_rate(step, 2.0, 5, 25, "wsd", 0.5) for step in range(5, 26)]
    assert rates[:17] == [2.0] * 17
    assert rates[17:] == pytest.approx([2 - math.sqrt(1 / 4), 2 - math.sqrt(2 / 4), 2 - math.sqrt(3 / 4), 1])


def test_wsd_does_not_know_its_end_while_it_is_stable() -> None:
    assert [learning_rate(step, 1.0, 3, 100, "wsd") for step in range(79)] == [
        learning_rate(step, 1.0, 3, 1000, "wsd") for step in range(79)
    ]


def test_the_course_of_gpt_bert_by_hand() -> None:
    """Of 1,000 steps 1.6 % each rise to the peak and go from a tenth of it, where the cosine ends, to 0."""
    rates = [learning_rate(step, 2.0, 0.016, 1000, "cosine", 0.1, 0.016) for step in range(1001)]
    assert rates[:17] == pytest.approx([2 * (step + 1) / 16 for step in range(16)] + [2.0])
    assert rates[16 + 492] == pytest.approx(2 * (0.1 + 0.9 / 2))
    assert rates[984] == pytest.approx(0.2, abs=0.0013)
    uncooled = [learning_rate(step, 2.0, 16, 1000, "cosine", 0.1) for step in range(984, 1001)]
    assert rates[984:] == pytest.approx([rate * (16 - past) / 16 for past, rate in enumerate(uncooled)])


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd"])
def test_a_cooldown_changes_only_its_own_steps(schedule: Schedule) -> None:
    plain, cooled = ([learning_rate(step, 1.0, 2, 40, schedule, 0.5, cooldown) for step in range(41)]
                     for cooldown in (0, 8))  # fmt: skip
    assert cooled[:33] == plain[:33]
    assert cooled[36] == plain[36] / 2
    assert cooled[40] == 0 < plain[40]


def test_a_share_of_the_steps_is_as_many() -> None:
    assert [learning_rate(step, 1.0, 0.1, 40, floor=0.2, cooldown_steps=0.2) for step in range(40)] == [
        learning_rate(step, 1.0, 4, 40, floor=0.2, cooldown_steps=8) for step in range(40)
    ]


def test_without_warmup_it_starts_at_the_peak() -> None:
    assert learning_rate(0, peak=3e-4, warmup_steps=0, total_steps=10) == 3e-4


def test_a_warmup_longer_than_the_run_never_ends() -> None:
    assert [learning_rate(step, 1.0, warmup_steps=100, total_steps=2) for step in range(2)] == [0.01, 0.02]
