"""A run stays what it is when later versions of the configuration have more keys, and is no other run for that."""

import gc
import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from killing import Killed, kill_at
from pydantic import Field
from run_files import outcome

from palenka.runs.identity import Identity
from palenka.training.plan import Plan, make_plan
from palenka.training.schema import DistillConfig, TeacherConfig, TrainingConfig
from palenka.training.student import Student
from palenka.util.errors import UserError
from palenka.util.files import read_json, write_json


class LaterTeacher(TeacherConfig):
    """With a key that this version does not know."""

    patience: float = 0.0


class LaterTraining(TrainingConfig):
    """With two."""

    averaging: dict[str, str] = {"name": "none"}
    momentum: float = Field(default=0.9, ge=0)


class LaterConfig(DistillConfig):
    """The configuration of a version to come."""

    teachers: list[LaterTeacher] = Field(min_length=1)  # type: ignore[assignment]
    training: LaterTraining
    stages: list[str] = ["one"]


def plan_for(schema: type[DistillConfig], **training: Any) -> Plan:
    values = tiny.distill_values()
    values["training"] |= {"checkpoint_steps": 2, **training}
    return make_plan(schema.model_validate(values), "test")


def run_folder(plan: Plan) -> Path:
    return plan.runs / plan.config.name


def begin(monkeypatch: pytest.MonkeyPatch, plan: Plan) -> None:
    """Train a run until it is killed behind its second checkpoint."""
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, Student, "start_step", 5)
        tiny.train(plan)
    gc.collect()  # as where its process ends, with its lock
    assert not (run_folder(plan) / "result.json").exists()


def as_of_old(folder: Path, plan: Plan) -> None:
    """Write an identity with all defaults and no schema, as versions did that knew no other."""
    whole = dict(plan.identity().whole)
    del whole["schema"]
    write_json(folder / "identity.json", whole)


@pytest.fixture
def unbroken(teacher: Path, fresh_accelerator: None) -> dict[str, Any]:
    values = tiny.distill_values(name="unbroken")
    values["training"] |= {"checkpoint_steps": 2}
    return outcome(tiny.train(make_plan(DistillConfig.model_validate(values), "test")))


@pytest.mark.parametrize("is_old", [False, True])
def test_a_half_finished_run_is_finished_by_a_version_with_more_keys(
    unbroken: dict[str, Any], monkeypatch: pytest.MonkeyPatch, is_old: bool
) -> None:
    plan = plan_for(DistillConfig)
    begin(monkeypatch, plan)
    if is_old:
        as_of_old(run_folder(plan), plan)
    later = plan_for(LaterConfig)
    found = outcome(tiny.train(later))
    assert {key: found[key] for key in ("weights", "result", "metrics")} == {
        key: unbroken[key] for key in ("weights", "result", "metrics")
    }
    assert read_json(run_folder(plan) / "identity.json") == later.identity().given == plan.identity().given


@pytest.mark.parametrize("is_old", [False, True])
def test_a_finished_run_is_finished_for_a_version_with_more_keys(
    teacher: Path, fresh_accelerator: None, is_old: bool
) -> None:
    plan = plan_for(DistillConfig)
    folder = tiny.train(plan)
    if is_old:
        as_of_old(folder, plan)
    before = (folder / "result.json").stat().st_mtime_ns
    assert tiny.train(plan_for(LaterConfig)) == folder
    assert (folder / "result.json").stat().st_mtime_ns == before


def test_a_new_key_that_is_set_makes_another_run(teacher: Path, fresh_accelerator: None) -> None:
    tiny.train(plan_for(DistillConfig))
    with pytest.raises(UserError, match=r"config\.training\.momentum: not set there, 0\.5 here"):
        tiny.train(plan_for(LaterConfig, momentum=0.5))


def test_what_is_written_is_what_was_set(teacher: Path) -> None:
    given = plan_for(DistillConfig, weight_decay=0.0, adam_beta2=0.95).identity().given
    assert given["schema"] == 1
    assert given["config"]["training"] == {
        "lr": 1e-3, "batch_size": 8, "max_steps": 8, "warmup_steps": 2, "eval_steps": 4, "logging_steps": 1,
        "checkpoint_steps": 2, "precision": "fp32", "adam_beta2": 0.95,
    }  # fmt: skip
    assert given["config"]["teachers"] == [{"run": "teacher"}]


@pytest.mark.parametrize("steps", [2, 2.0])
def test_steps_are_written_as_whole_numbers_whatever_else_they_may_be(steps: float, teacher: Path) -> None:
    """A share, since a later version: 2.0 must not become another number than it was before."""
    given = plan_for(DistillConfig, warmup_steps=steps).identity().given
    assert json.dumps(given["config"]["training"]["warmup_steps"]) == "2"


WHOLE = {"config": {"lr": 1.0, "beta": 0.9, "terms": [{"name": "a", "weight": 1.0}]}, "data": "ab" * 32}
GIVEN = {"config": {"lr": 1.0, "terms": [{"name": "a"}]}, "data": "ab" * 32}


def test_a_key_that_was_renamed_is_the_same_key() -> None:
    present = Identity({"config": {"cached_logits": {"top_k": 8}}}, {"config": {"cached_logits": {"top_k": 8}}})
    assert present.differences({"config": {"teacher_signal": {"top_k": 8}}}) == []
    [line] = present.differences({"config": {"teacher_signal": {"top_k": 4}}})
    assert line == "config.cached_logits.top_k: 4 there, 8 here"


def test_a_key_that_is_gone_had_its_default() -> None:
    def config(**knobs: Any) -> dict[str, Any]:
        return {"config": {"objective": {"contrastive": {"weight": 0.1, **knobs}}}}

    present = Identity(config(), config())
    assert present.differences(config(layers="last")) == []
    [line] = present.differences(config(layers="mapped"))
    assert line == "config.objective.contrastive.layers: 'mapped' there, not set here"


@pytest.mark.parametrize(
    ("there", "lines"),
    [
        (GIVEN, []),
        (WHOLE, []),
        ({**GIVEN, "schema": 1}, []),
        (
            {**GIVEN, "schema": 2},
            ["schema: 2 there, 1 here; defaults have changed, so only the version that began it can end it"],
        ),
        ({**GIVEN, "data": "cd" * 32}, ["data: 'cdcdcdcdcdcd…' there, 'abababababab…' here"]),
        ({"config": {**GIVEN["config"], "beta": 0.8}, "data": "ab" * 32}, ["config.beta: 0.8 there, 0.9 here"]),
        ({"config": {"terms": [{"name": "a"}]}, "data": "ab" * 32}, ["config.lr: not set there, 1.0 here"]),
        ({"config": {**WHOLE["config"], "gone": 3}, "data": "ab" * 32}, ["config.gone: 3 there, not set here"]),
        (
            {"config": {"lr": 1.0, "terms": [{"name": "a", "weight": 0.5}]}, "data": "ab" * 32},
            ["config.terms[0].weight: 0.5 there, 1.0 here"],
        ),
        (
            {"config": {"lr": 1.0, "terms": []}, "data": "ab" * 32},
            ["config.terms: [] there, [{'name': 'a', 'weight': 1.0}] here"],
        ),
        ({"config": GIVEN["config"]}, ["data: not set there, 'abababababab…' here"]),
    ],
)
def test_what_two_identities_differ_in(there: dict[str, Any], lines: list[str]) -> None:
    assert [line.replace("'", "") for line in Identity(GIVEN, WHOLE).differences(there)] == [
        line.replace("'", "") for line in lines
    ]
