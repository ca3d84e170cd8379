"""Weights that are numbers, or follow a course over the training."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import terms
import tiny
import torch
from pydantic import ValidationError

from palenka.data.batch import Batch
from palenka.objectives import ObjectiveConfig
from palenka.objectives.logit import Logit
from palenka.training.loss_module import StepSize
from palenka.training.schema import DistillConfig
from palenka.util.config import load
from palenka.util.errors import UserError
from palenka.util.schedules import Weight

WriteConfig = Callable[..., Path]
FALLING = {"start": 1.0, "end": 0.0, "begin": 0.2, "finish": 0.8}


def weight(value: Any) -> Weight:
    return ObjectiveConfig.model_validate({"weight": value}).weight


@pytest.mark.parametrize("value", [0, 1, 0.5, 1e-3, 20])
def test_a_number_is_a_weight_that_stays(value: float) -> None:
    constant = weight(value)
    assert [constant.at(progress) for progress in (0, 0.3, 1)] == [value] * 3
    assert constant.is_constant
    assert constant.is_ever_positive == (value > 0)
    assert str(constant) == f"{value:g}"


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("linear", {0.35: 0.75, 0.5: 0.5, 0.65: 0.25}),
        ("cosine", {0.35: (2 + math.sqrt(2)) / 4, 0.5: 0.5, 0.65: (2 - math.sqrt(2)) / 4}),
    ],
)
def test_a_course_by_hand(shape: str, expected: dict[float, float]) -> None:
    """From 1 to 0 between the shares 0.2 and 0.8, and the same doubled, upside down and above 0.5."""
    outside = {0.0: 1.0, 0.1: 1.0, 0.2: 1.0, 0.8: 0.0, 0.9: 0.0, 1.0: 0.0}
    falling, rising = weight(FALLING | {"shape": shape}), weight(FALLING | {"shape": shape, "start": 0.5, "end": 2.5})
    for progress, value in (outside | expected).items():
        assert falling.at(progress) == pytest.approx(value, abs=1e-12)
        assert rising.at(progress) == pytest.approx(2.5 - 2 * value)
    assert falling.is_ever_positive and rising.is_ever_positive
    assert not falling.is_constant
    assert (str(falling), str(rising)) == ("1→0", "0.5→2.5")


def test_by_default_a_course_is_a_line_over_the_whole_training() -> None:
    course = weight({"start": 1, "end": 0})
    assert [course.at(progress) for progress in (0, 0.25, 0.5, 1)] == [1, 0.75, 0.5, 0]
    assert course == weight({"start": 1, "end": 0, "begin": 0, "finish": 1, "shape": "linear"})


@pytest.mark.parametrize("at", [0.0, 0.5])
def test_a_course_without_length_is_a_step(at: float) -> None:
    step = weight({"start": 1, "end": 3, "begin": at, "finish": at})
    assert [step.at(progress) for progress in (0, at, at + 1e-6, 1)] == [1, 1, 3, 3]


@pytest.mark.parametrize("value", [-1, -0.1, math.nan, math.inf, -math.inf, "0.5", "heavy", True, False, None, [1, 0]])
def test_what_is_no_weight_is_refused_with_what_would_be_right(value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        weight(value)
    (error,) = caught.value.errors()
    assert error["loc"] == ("weight",)
    assert "expected a number from 0, or a schedule like {start: 1.0" in error["msg"]
    assert error["msg"].endswith(f"got {value!r}")


@pytest.mark.parametrize(
    ("changes", "location", "message"),
    [
        ({"begin": 0.9}, ("weight",), "begin 0.9 is after finish 0.8"),
        ({"strat": 1}, ("weight", "strat"), "Extra inputs are not permitted"),
        ({"start": -1}, ("weight", "start"), "greater than or equal to 0"),
        ({"end": math.nan}, ("weight", "end"), "greater than or equal to 0|finite"),
        ({"end": math.inf}, ("weight", "end"), "finite"),
        ({"begin": -0.1}, ("weight", "begin"), "greater than or equal to 0"),
        ({"finish": 1.1}, ("weight", "finish"), "less than or equal to 1"),
        ({"shape": "steep"}, ("weight", "shape"), "'linear' or 'cosine'"),
    ],
)
def test_a_wrong_course_is_refused_where_it_is_wrong(
    changes: dict[str, Any], location: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        weight(FALLING | changes)
    assert [error["loc"] for error in caught.value.errors()] == [location]


def test_a_course_has_two_ends() -> None:
    with pytest.raises(ValidationError) as caught:
        weight({"start": 1})
    assert [(error["loc"], error["type"]) for error in caught.value.errors()] == [(("weight", "end"), "missing")]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.5, 0.5),
        (2, 2.0),
        ({"start": 0.5, "end": 0.5, "begin": 0.3}, 0.5),
        (FALLING, FALLING | {"shape": "linear"}),
    ],
)
def test_a_weight_is_written_as_short_as_it_can_be_and_read_back(value: Any, written: Any) -> None:
    config = Logit.Config.model_validate({"weight": value, "temperature": 3})
    dumped = config.model_dump(mode="json")
    assert dumped["weight"] == written
    again = Logit.Config.model_validate(dumped)
    assert again.model_dump(mode="json") == dumped
    assert Logit.Config.model_validate_json(config.model_dump_json()) == again
    assert [again.weight.at(p / 10) for p in range(11)] == [config.weight.at(p / 10) for p in range(11)]


# In a configuration


def logit_weight(config: DistillConfig) -> Weight:
    return config.terms["logit"].weight


def test_a_course_is_read_from_yaml_and_from_the_command_line(write_config: WriteConfig) -> None:
    values = tiny.distill_values()
    values["objective"]["logit"] = {"weight": FALLING | {"shape": "cosine"}, "temperature": 3.0}
    course, number = write_config(values, "course.yaml"), write_config(tiny.distill_values(), "number.yaml")
    assert logit_weight(load(course, [], DistillConfig)) == weight(FALLING | {"shape": "cosine"})
    assert logit_weight(load(course, ["objective.logit.weight=0.5"], DistillConfig)) == weight(0.5)
    assert logit_weight(load(course, ["objective.logit.weight.end=0.2"], DistillConfig)).end == 0.2
    given = load(number, ["objective.logit.weight={start: 1, end: 0}"], DistillConfig)
    assert logit_weight(given) == weight({"start": 1, "end": 0})


def test_a_term_is_left_out_only_where_its_weight_never_leaves_0(write_config: WriteConfig) -> None:
    file = write_config(tiny.distill_values())
    for course in ("{start: 0, end: 1}", "{start: 1, end: 0}"):
        assert "logit" in load(file, [f"objective.logit.weight={course}"], DistillConfig).terms
    assert "logit" not in load(file, ["objective.logit.weight={start: 0, end: 0}"], DistillConfig).terms


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("objective.logit.weight=high", "objective.logit.weight (command line): expected a number from 0"),
        ("objective.logit.weight={start: 1}", "objective.logit.weight.end (command line): required, but not given"),
        (
            "objective.logit.weight={start: 1, end: 0, begin: 0.6, finish: 0.5}",
            "objective.logit.weight (command line): begin 0.6 is after finish 0.5",
        ),
        (
            "objective.logit.weight={strat: 1, start: 1, end: 0}",
            "objective.logit.weight.strat (command line): unknown key; did you mean 'start'?",
        ),
    ],
)
def test_a_wrong_weight_is_one_problem_with_key_and_place(
    write_config: WriteConfig, override: str, expected: str
) -> None:
    with pytest.raises(UserError) as caught:
        load(write_config(tiny.distill_values()), [override], DistillConfig)
    assert expected in str(caught.value)
    assert str(caught.value).splitlines()[0].endswith(": 1 problem")


# In training


@pytest.mark.parametrize("name", ["logit", "hidden_state"])
def test_the_loss_follows_the_course_and_the_reported_terms_do_not(name: str) -> None:
    model = terms.loss_module(name, weight={"start": 2.0, "end": 0.0, "begin": 0.5})
    inputs, labels = tiny.batch()
    size = terms.whole(labels)
    steps = [model(Batch(inputs, labels), StepSize(size.predicted, size.sequences, p)) for p in (0.0, 0.5, 0.75, 1.0)]
    reported = torch.stack([own for _, own in steps]).squeeze(1)
    assert torch.equal(reported, reported[:1].expand(4))
    losses = torch.stack([loss.detach() for loss, _ in steps])
    torch.testing.assert_close(losses, reported * torch.tensor([2.0, 2.0, 1.0, 0.0]))
    steps[2][0].backward()
    halved = terms.gradients(model)
    steps[0][0].backward()
    terms.assert_close({key: 2 * gradient for key, gradient in halved.items()}, terms.gradients(model))
