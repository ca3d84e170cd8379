"""A bad gradient is caught before the step: nothing of it reaches weights or moments, and what is known is said."""

import gc
import math
import re
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from commands import TORCHRUN, finish, start
from killing import Killed, kill_at
from poison import poison
from run_files import outcome, records
from safetensors.torch import load_file
from shared_fixtures import Call, WriteConfig
from torch import Tensor, nn

import distill
import palenka.training.cache_logits
from palenka.optimizers.adamw import AdamW
from palenka.runs.directory import Run
from palenka.teachers.live import Teachers
from palenka.training.cache_logits import cache_logits
from palenka.training.cohort import side_by_side, train_cohorts
from palenka.training.gradients import StepGuard
from palenka.training.loop import Loop
from palenka.training.plan import Plan, make_plan
from palenka.training.schema import DistillConfig
from palenka.training.session import Diverged, Session
from palenka.training.student import Student
from palenka.training.trainer import Trainer
from palenka.util.errors import UserError
from palenka.util.files import read_json

HERE = Path(__file__).parent
TERMS = ("hard_target", "logit", "hidden_state")


pytestmark = pytest.mark.usefixtures("fresh_accelerator")


def plan_for(name: str = "student", **training: Any) -> Plan:
    """Eight steps of a student of three terms, with a checkpoint after every second one."""
    values = tiny.distill_values(name=name)
    values["training"] |= {"eval_steps": 4, "checkpoint_steps": 2, **training}
    return make_plan(DistillConfig.model_validate(values), "test")


def folder(plan: Plan) -> Path:
    return plan.runs / plan.config.name


def state(trainer: Trainer) -> dict[str, Tensor]:
    """Weights, and the moments and numbers of steps that Adam keeps."""
    found = {f"weights.{name}": tensor.clone() for name, tensor in trainer.loss.state_dict().items()}
    for index, of_parameter in trainer.student.optimizer.state_dict()["state"].items():
        found |= {f"{index}.{name}": tensor.clone() for name, tensor in of_parameter.items()}
    return found


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def poison_gradients(monkeypatch: pytest.MonkeyPatch, steps: Collection[int], part: str, value: float) -> None:
    """Put `value` into one gradient of `student` or `objectives`, where all terms are finite."""
    clip = Student._clip

    def poisoned(self: Student) -> Tensor:
        if self.step + 1 in steps:
            gradient = next(getattr(self.loss, part).parameters()).grad
            assert gradient is not None
            gradient.view(-1)[0] = value
        return clip(self)

    monkeypatch.setattr(Student, "_clip", poisoned)


# Stopped


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("term", TERMS)
def test_a_bad_term_stops_the_run_before_its_step(
    term: str, value: float, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch.setattr, term, [3], value)
    with pytest.raises(Diverged) as ended:
        tiny.train(plan := plan_for())
    message = str(ended.value)
    assert f"the loss is {value} at step 3" in message
    assert re.search(rf"the gradient's norm is (nan|inf) at step 3.*; of the terms {term} is {value}\.", message)
    assert "The checkpoint of step 2 is kept" in message and "--from-last-good" in message
    assert "training.lr" not in message, "nobody knows that it is to blame"
    checkpoint = load_file(folder(plan) / "checkpoint-2" / "distiller.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in checkpoint.values())
    assert read_json(folder(plan) / "diverged.json")["message"] == message


@pytest.mark.parametrize("value", [math.nan, -math.inf])
@pytest.mark.parametrize(
    ("part", "norm"), [("student", "the gradient's norm"), ("objectives", "the norm of the objectives' own gradient")]
)
def test_a_bad_gradient_of_finite_terms(
    part: str, norm: str, value: float, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison_gradients(monkeypatch, [3], part, value)
    with pytest.raises(Diverged, match=rf"student: {norm} is (nan|inf) at step 3; every term is finite\."):
        tiny.train(plan_for())


def loop_of(plan: Plan) -> Loop:
    return side_by_side([Session(plan, Run(plan.config.name, plan.runs))])


@pytest.mark.parametrize("part", ["student", "objectives"])
def test_nothing_of_it_reaches_weights_or_moments(part: str, teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody waits for the device, steps go on until somebody looks, and change nothing any more."""
    cohort = loop_of(plan_for(skip_bad_steps=1))
    [trainer] = cohort.trainers
    poison_gradients(monkeypatch, (2, 4), part, math.nan)
    reached = [state(trainer)]
    for step in range(6):
        cohort._take_step(step, cohort.batches[step], [trainer])
        reached.append(state(trainer))
    assert_same(reached[2], reached[1])
    assert any(not torch.equal(reached[3][name], reached[2][name]) for name in reached[2]), "skipped, and went on"
    for after in (4, 5, 6):
        assert_same(reached[after], reached[3])
    with pytest.raises(Diverged, match=r"nan at step 4; every term is finite\. The step was not taken, after 1 that"):
        trainer._look()
    cohort.batches.close()
    assert trainer.progress.skipped == [2]
    trainer.student.release()


def test_there_may_be_no_checkpoint(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch.setattr, "logit", [1])
    with pytest.raises(Diverged) as ended:
        tiny.train(plan_for())
    assert "checkpoint" not in str(ended.value)


# Skipped


def without_step(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The reference: what a run is whose optimizer does not move in one step."""
    step = AdamW.step

    def lame(self: AdamW, *arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls != number:
            step(self, *arguments)

    calls = 0
    monkeypatch.setattr(AdamW, "step", lame)


def test_a_skipped_step_is_as_if_never_taken(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        without_step(patch, 3)
        reference = tiny.train(plan_for("reference"))
    poison(monkeypatch.setattr, "hidden_state", [3])
    run = tiny.train(plan_for(skip_bad_steps=1))
    assert (run / "model.safetensors").read_bytes() == (reference / "model.safetensors").read_bytes()
    assert read_json(run / "result.json")["skipped_steps"] == [3]
    assert "skipped_steps" not in read_json(reference / "result.json")
    [skipped] = records(run, "skipped")
    assert skipped["step"] == 3 and "of the terms hidden_state is nan" in skipped["reason"]
    figures = [{key: value for key, value in record.items() if key != "tokens_per_second"} for record in records(run)]
    expected = [{k: v for k, v in r.items() if k != "tokens_per_second"} for r in records(reference) if r["step"] != 3]
    assert [record for record in figures if record["step"] != 3] == expected


def test_means_are_of_the_steps_that_were_taken(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch.setattr, "logit", [3, 4])
    each = records(tiny.train(plan_for("each", skip_bad_steps=2, max_steps=4)), "train")
    assert [record["step"] for record in each] == [1, 2]
    [record] = records(tiny.train(plan_for("one", skip_bad_steps=2, max_steps=4, logging_steps=4)), "train")
    for name in ("loss", *TERMS, "grad_norm"):
        assert record[name] == pytest.approx((each[0][name] + each[1][name]) / 2, rel=1e-6)


def test_a_step_too_many(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch.setattr, "logit", [2, 3, 5])
    with pytest.raises(Diverged, match="nan at step 5.*not taken, after 2 that were skipped"):
        tiny.train(plan_for(skip_bad_steps=2))


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_resume_after_a_skipped_step_equals_the_unbroken_run(
    call: int, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch.setattr, "logit", [3, 6])
    unbroken = outcome(tiny.train(plan_for("unbroken", skip_bad_steps=2, logging_steps=3)))
    plan = plan_for(skip_bad_steps=2, logging_steps=3)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, Run, "save_checkpoint", call)
        tiny.train(plan)
    gc.collect()
    assert outcome(tiny.train(plan)) == unbroken


def test_one_of_a_cohort(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each member has its own bad steps; the others are as alone."""
    names = ("stops", "skips", "well")
    poison(monkeypatch.setattr, "logit", [3], run="stops")
    poison(monkeypatch.setattr, "hidden_state", [4], run="skips")
    plans = [plan_for(f"alone-{names[2]}"), *(plan_for(name, skip_bad_steps=int(name == "skips")) for name in names)]
    tiny.train(plans[0])
    with pytest.raises(Diverged) as ended:
        train_cohorts([plans[1:]])
    assert "stops: the loss is nan at step 3" in str(ended.value) and "skips" not in str(ended.value)
    assert read_json(folder(plans[2]) / "result.json")["skipped_steps"] == [4]
    assert outcome(folder(plans[3])) == outcome(folder(plans[0]))


@pytest.mark.usefixtures("processes")
def test_all_processes_agree(teacher: Path, write_config: WriteConfig, runs_folder: Path) -> None:
    """The term is no number in one of two processes; both skip the step, and both end."""
    values = tiny.distill_values()
    for name, allowed in (("skips", 1), ("stops", 0)):
        config = write_config(values | {"name": name}, f"{name}.yaml")
        program = (HERE / "poison.py", "logit", "3", "1", "--config", config)
        code, errors = finish(start(*TORCHRUN, *program, f"training.skip_bad_steps={allowed}"))
        assert code == 1 - allowed, errors
        assert "of the terms logit is nan" in errors
    assert read_json(runs_folder / "skips" / "result.json")["skipped_steps"] == [3]
    assert "the loss is nan at step 3" in read_json(runs_folder / "stops" / "diverged.json")["message"]


def test_bad_steps_that_may_be_skipped_are_no_part_of_what_a_run_is(teacher: Path) -> None:
    assert plan_for().identity() == plan_for(skip_bad_steps=3).identity()
    assert "skip_bad_steps" not in plan_for().identity().whole["config"]["training"]


# fp16's scaler


def test_an_overflow_of_fp16_is_no_bad_step_until_its_scale_is_small() -> None:
    parameter = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([parameter], lr=0.1, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1000)
    guard = StepGuard(optimizer, tiny.CPU, allowed=0, is_scaled=True)
    found = []
    for step, gradient in enumerate([math.inf, 1.0, math.nan, math.nan, 1.0], start=1):
        before = parameter.detach().clone()
        scale = scaler.scale(torch.ones(()))
        parameter.grad = torch.full((2,), gradient) * scale
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_([parameter], 1.0)
        guard.judge(step, norm.reshape(1), torch.zeros(1), scale)
        scaler.step(optimizer)
        scaler.update()
        found.append((float(scale), torch.equal(before, parameter), [bad.step for bad in guard.bad_steps()]))
    assert found == [(4.0, True, []), (2.0, False, []), (2.0, True, []), (1.0, True, [4]), (0.5, True, [])]


# Teachers


def test_a_teacher_that_is_to_blame_is_named(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives no number from the third step on."""
    start_step = Student.start_step

    def spoiling(self: Student, step: int) -> None:
        start_step(self, step)
        if step == 2:
            self.loss.teachers.models[0].base_model.ln_f.weight[0] = math.nan

    monkeypatch.setattr(Student, "start_step", spoiling)
    with pytest.raises(Diverged) as ended:
        tiny.train(plan_for())
    assert "of the terms logit is nan, hidden_state is nan; the cause: what teacher 'teacher' gives" in str(ended.value)


def cached_plan(tmp_path: Path) -> Plan:
    values = tiny.distill_values(cached_logits={"top_k": 8}, paths={"signals": str(tmp_path / "signals")})
    values["objective"] = {"hard_target": {"weight": 1.0}, "logit": {"weight": 0.5}}
    return make_plan(DistillConfig.model_validate(values), "test")


def test_a_prediction_that_is_no_number_is_not_recorded(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = cached_plan(tmp_path)
    load = palenka.training.cache_logits.load_teachers

    def spoilt(*arguments: Any) -> Teachers:
        teachers = load(*arguments)
        teachers.models[0].base_model.ln_f.weight[0] = math.nan
        return teachers

    monkeypatch.setattr("palenka.training.cache_logits.load_teachers", spoilt)
    with pytest.raises(UserError, match="teacher.*not finite"):
        cache_logits(plan)
    assert plan.cached_logits is not None and not list(plan.cached_logits.folder.glob("*.bin"))


def test_cached_logits_that_are_to_blame_are_named(teacher: Path, tmp_path: Path) -> None:
    plan = cached_plan(tmp_path)
    cache_logits(plan)
    assert plan.cached_logits is not None
    spoilt = np.fromfile(plan.cached_logits.shard_path(0), plan.cached_logits.record)
    spoilt["tail"][:] = math.nan
    plan.cached_logits.write_shard(0, [spoilt])  # with its checksum: it was recorded so
    with pytest.raises(Diverged, match="the cause: what the cache of teacher logits gives is not finite"):
        tiny.train(plan)


# From the last good checkpoint


def test_from_last_good(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What made the gradient bad is gone: the run becomes what it would have been."""
    healthy = outcome(tiny.train(plan_for("healthy")))
    plan = plan_for()
    with monkeypatch.context() as patch, pytest.raises(Diverged) as ended:
        poison(patch.setattr, "logit", [6])
        tiny.train(plan)
    with pytest.raises(Diverged, match="is not trained again"):
        tiny.train(plan)
    found = outcome(tiny.train(plan, from_last_good=True))
    assert found["weights"] == healthy["weights"]
    assert not (folder(plan) / "diverged.json").exists()
    restart = {"step": 4, "skip_bad_steps": 0, "reason": str(ended.value)}
    assert found["result"] == healthy["result"] | {"restarts": [restart]}
    [noted] = [entry for entry in found["metrics"] if entry["split"] == "restart"]
    assert noted["step"] == 4
    assert [entry for entry in found["metrics"] if entry["split"] != "restart"] == healthy["metrics"]


def test_it_is_not_tried_again_in_vain(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that is started again and again with the same command ends; skipping the step leads past it."""
    poison(monkeypatch.setattr, "logit", [6])
    for from_last_good in (False, True):
        with pytest.raises(Diverged, match="at step 6"):
            tiny.train(plan_for(), from_last_good)
    with pytest.raises(UserError, match="already resumed from step 4 .*A larger training.skip_bad_steps"):
        tiny.train(plan_for(), from_last_good=True)
    run = tiny.train(plan_for(skip_bad_steps=1), from_last_good=True)
    result = read_json(run / "result.json")
    assert [restart["skip_bad_steps"] for restart in result["restarts"]] == [0, 1]
    assert result["skipped_steps"] == [6]


def test_there_is_nothing_to_go_on_from(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch.setattr, "logit", [1])
    with pytest.raises(Diverged):
        tiny.train(plan_for())
    with pytest.raises(UserError, match="diverged before its first checkpoint"):
        tiny.train(plan_for(), from_last_good=True)
    assert (folder(plan_for()) / "diverged.json").exists()


def test_the_command(
    teacher: Path, write_config: WriteConfig, call: Call, monkeypatch: pytest.MonkeyPatch, runs_folder: Path
) -> None:
    config = str(write_config(tiny.distill_values()))
    monkeypatch.setattr(sys, "argv", ["distill.py", "--config", config, "--from-last-good", "training.max_steps=6"])
    with monkeypatch.context() as patch:
        poison(patch.setattr, "logit", [5])
        code, _, errors = call(distill.main)
        assert code == 1 and "--from-last-good" in errors
    assert call(distill.main)[0] == 0
    assert read_json(runs_folder / "student" / "result.json")["restarts"][0]["step"] == 4
    assert call(distill.main)[0] == 0, "finished: nothing to do"
