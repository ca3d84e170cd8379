"""Students on one teacher pass: each is what it would be alone, bit by bit, whatever befalls the others."""

import gc
import re
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from killing import Killed, kill_at
from run_files import outcome, records, snapshot

from palenka import objectives
from palenka.models.chunked_loss import CHUNK_TOKENS, HeadLogits
from palenka.runs.directory import Run
from palenka.teachers.live import Teachers
from palenka.training.cohort import side_by_side, train_cohorts
from palenka.training.plan import Plan, make_plan
from palenka.training.preemption import Interrupted, Interruption
from palenka.training.schema import DistillConfig
from palenka.training.session import Diverged, Session
from palenka.training.student import Student
from palenka.training.trainer import Trainer
from palenka.util.errors import UserError
from palenka.util.files import read_json

DROPOUT = {**tiny.GPT2, "hidden_size": 16, "resid_pdrop": 0.2, "embd_pdrop": 0.2, "attn_pdrop": 0.2}
TOO_MUCH = 1e300  # no float32 weighs a term so


pytestmark = pytest.mark.usefixtures("fresh_accelerator")


def plan_of(name: str, terms: dict[str, Any], micro_batch_size: int | None = 4, **changes: Any) -> Plan:
    """A student with dropout, in micro-batches, under the windows of seed 7; `terms` have a weight or all settings."""
    values = tiny.distill_values(name=name, student=dict(DROPOUT), **changes)
    values["objective"] = {n: term if isinstance(term, dict) else {"weight": term} for n, term in terms.items()}
    values["data"] = values["data"] | {"seed": 7}
    values["training"] |= {"micro_batch_size": micro_batch_size, "max_steps": 4, "eval_steps": 2, "checkpoint_steps": 1}
    return make_plan(DistillConfig.model_validate(values), "test")


def logits(name: str, weight: float, **changes: Any) -> Plan:
    """A student of cross-entropy and so much of its teacher's logits."""
    return plan_of(name, {"hard_target": 1.0, "logit": weight}, **changes)


def alone(plan: Plan) -> dict[str, Any]:
    """What a run's folder holds when it is trained alone, under another name."""
    config = plan.config.model_copy(update={"name": f"alone/{plan.config.name}"})
    return outcome(tiny.train(make_plan(config, "test")))


def folder(plan: Plan) -> Path:
    return plan.runs / plan.config.name


def assert_each_is_as_alone(plans: Sequence[Plan]) -> None:
    found = [outcome(folder(plan)) for plan in plans]
    assert len({one["weights"] for one in found}) == len(plans), "students that do not differ would prove nothing"
    for plan, one in zip(plans, found, strict=True):
        assert one == alone(plan), plan.config.name


@pytest.mark.parametrize("term", [name for name in objectives.available() if name != "hard_target"])
def test_a_student_of_a_cohort_equals_its_solo_run(teacher: Path, term: str) -> None:
    plans = [plan_of(f"w{weight}", {"hard_target": 1.0, term: weight}) for weight in (0.0, 0.1, 2.0)]
    train_cohorts([plans])
    assert_each_is_as_alone(plans)


def test_students_of_combined_probabilities_equal_their_solo_runs(teacher: Path) -> None:
    """They learn from each teacher's logits, not from a mean."""
    teachers = [{"run": "teacher"}, {"run": "teacher", "weight": 3.0}]
    terms = [{"hard_target": 1.0, "logit": {"weight": w, "combine": "probabilities"}} for w in (0.1, 1.0)]
    plans = [plan_of(f"w{n}", of_student, teachers=teachers) for n, of_student in enumerate(terms)]
    train_cohorts([plans])
    assert_each_is_as_alone(plans)


def test_students_of_different_terms_share_a_pass(teacher: Path) -> None:
    """What one asks of the teachers does not change what another gets."""
    plans = [
        plan_of("attention", {"logit": 1.0, "attention": 1.0}),
        plan_of("hidden", {"hidden_state": 1.0}),
        plan_of("logit", {"hard_target": 0.5, "logit": 0.5}),
        plan_of("control", {"hard_target": 1.0}),
    ]
    train_cohorts([plans])
    assert_each_is_as_alone(plans)


def test_seeds_form_a_cohort(teacher: Path) -> None:
    plans = [logits(f"s{seed}", 0.5, seed=seed) for seed in (7, 8, 9)]
    train_cohorts([plans])
    assert_each_is_as_alone(plans)
    assert len({records(folder(plan))[-1]["tokens"] for plan in plans}) == 1, "they see the same text"


def test_teachers_run_once_for_all(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    run = Teachers.run

    def counted(self: Teachers, input_ids: torch.Tensor, *others: Any, **options: Any) -> Any:
        passes.append(len(input_ids))
        return run(self, input_ids, *others, **options)

    monkeypatch.setattr(Teachers, "run", counted)
    train_cohorts([[logits(f"w{weight}", weight) for weight in (0.1, 0.5, 1.0)]])
    assert passes == [4] * 8, "four steps of two micro-batches"


def test_teachers_logits_are_formed_once_for_all(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    formed: list[slice] = []
    source = HeadLogits.logits

    def counted(self: HeadLogits, rows: slice, *others: Any) -> torch.Tensor:
        formed.append(rows)
        return source(self, rows, *others)

    monkeypatch.setattr(HeadLogits, "logits", counted)
    monkeypatch.setitem(CHUNK_TOKENS, "cpu", 24)
    train_cohorts([[logits(f"w{weight}", weight) for weight in (0.1, 0.5, 1.0)]])
    assert formed == [slice(0, 24), slice(24, 48), slice(48, 72)] * 8, "four steps of two micro-batches of 64 tokens"


def test_one_students_gradients_exist_at_a_time(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    plans = [logits(f"w{weight}", weight, micro_batch_size=None) for weight in (0.1, 0.5, 1.0)]
    loop = side_by_side([Session(plan, Run(plan.config.name, plan.runs)) for plan in plans])
    clip = Student._clip

    def counted(self: Student) -> torch.Tensor:
        held.append(sum(any(p.grad is not None for p in t.loss.parameters()) for t in loop.trainers))
        return clip(self)

    monkeypatch.setattr(Student, "_clip", counted)
    loop.step(0)
    assert held == [1, 1, 1]


def test_cohorts_follow_each_other_and_let_go_of_memory(teacher: Path) -> None:
    left: list[Any] = []
    plans = [logits(f"w{weight}", weight) for weight in (0.1, 0.5, 1.0)]

    def cohorts() -> Iterator[list[Plan]]:
        yield plans[:2]
        left.extend(t for t in gc.get_objects() if type(t) in (Trainer, Teachers))
        assert all((folder(plan) / "result.json").exists() for plan in plans[:2])
        yield plans[2:]

    train_cohorts(cohorts())
    assert left == []
    assert_each_is_as_alone(plans)


def test_time_is_shared_out(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palenka.training.loop.time", SimpleNamespace(monotonic=count(step=3.0).__next__))
    plans = [logits(f"w{weight}", weight) for weight in (0.1, 0.5)]
    train_cohorts([plans])
    seconds = [read_json(folder(plan) / "result.json")["seconds"] for plan in plans]
    assert seconds == [6.0, 6.0], "four steps of 3 s, halved"


def test_nothing_is_touched_before_all_names_have_been_looked_at(
    teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished, other = logits("w0.1", 0.1), logits("w0.5", 0.5)
    tiny.train(finished)
    (folder(finished) / "checkpoint-4").mkdir()  # as a kill after the result leaves it
    tiny.train(logits("w0.5", 0.3))
    before = snapshot(finished.runs)
    capsys.readouterr()
    with pytest.raises(UserError, match="this name is another run"):
        train_cohorts([[finished, other]])
    assert snapshot(finished.runs) == before
    assert "finished already" not in capsys.readouterr().out


def test_a_launcher_that_is_missing_is_told_before_a_cohort_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """To ask a grid for one is to agree on it with processes that there are not."""
    monkeypatch.setenv("WORLD_SIZE", "2")

    def cohorts() -> Iterator[list[Plan]]:
        pytest.fail("asked")
        yield []

    with pytest.raises(UserError, match="WORLD_SIZE=2"):
        train_cohorts(cohorts())


# Diverged


@pytest.fixture
def diverging(teacher: Path) -> list[Plan]:
    return [logits("w0.1", 0.1), logits("far", TOO_MUCH), logits("w1.0", 1.0)]


def test_one_that_diverges_leaves_and_the_others_are_as_alone(diverging: list[Plan]) -> None:
    with pytest.raises(Diverged, match="far: the loss is inf at step 1") as ended:
        train_cohorts([diverging])
    assert "w0.1" not in str(ended.value)
    assert not (folder(diverging[1]) / "result.json").exists()
    assert_each_is_as_alone([diverging[0], diverging[2]])


def test_one_that_diverged_is_not_trained_again_in_vain(diverging: list[Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Diverged):
        train_cohorts([diverging])
    before = snapshot(diverging[0].runs)
    with monkeypatch.context() as patch, pytest.raises(Diverged, match="is not trained again; remove diverged.json"):
        patch.setattr("palenka.training.cohort.side_by_side", lambda runs: pytest.fail("trained again"))
        train_cohorts([diverging])
    assert snapshot(diverging[0].runs) == before
    (folder(diverging[1]) / "diverged.json").unlink()
    with pytest.raises(Diverged, match="the loss is inf at step 1"):
        tiny.train(diverging[1])


def test_a_cohort_of_which_all_diverge_ends(teacher: Path) -> None:
    plans = [logits("one", TOO_MUCH), logits("other", 2 * TOO_MUCH)]
    with pytest.raises(Diverged) as ended:
        train_cohorts([plans, [logits("later", 0.5)]])
    assert len(str(ended.value).splitlines()) == 2
    assert (plans[0].runs / "later" / "result.json").exists()


def test_one_that_turns_out_to_have_diverged_leaves_the_others_their_checkpoints(
    diverging: list[Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told to stop between two records, nobody has looked at its loss yet."""
    plans = [make_plan(logging_rarely(plan), "test") for plan in diverging]
    monkeypatch.setattr(Interruption, "is_agreed", lambda self, step, accelerator: step == 1)
    with pytest.raises(Interrupted):
        train_cohorts([plans])
    assert [Run(plan.config.name, plan.runs).checkpoints() for plan in plans] == [[1], [], [1]]
    assert "the gradient's norm is nan at step 1" in read_json(folder(plans[1]) / "diverged.json")["message"]


def logging_rarely(plan: Plan) -> DistillConfig:
    values = plan.config.model_dump(mode="json", exclude_none=True)
    values["training"] |= {"logging_steps": 4, "eval_steps": 4, "checkpoint_steps": 4}
    return DistillConfig.model_validate(values)


# Killed


@pytest.mark.parametrize("call", [1, 5, 6, 8, 9])
def test_killed_with_members_at_different_checkpoints(teacher: Path, call: int) -> None:
    """Three students leave a checkpoint each after every step; the kill falls between those of one step."""
    plans = [logits(f"w{weight}", weight) for weight in (0.1, 0.5, 1.0)]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, Run, "save_checkpoint", call)
        train_cohorts([plans])
    gc.collect()  # what held the locks is gone, as after a kill
    reached = [max(Run(plan.config.name, plan.runs).checkpoints(), default=0) for plan in plans]
    assert reached == [(call + 1 - place) // 3 for place in range(3)]
    train_cohorts([plans])
    assert_each_is_as_alone(plans)


def test_killed_while_students_are_finished_one_by_one(teacher: Path) -> None:
    plans = [logits(f"w{weight}", weight) for weight in (0.1, 0.5, 1.0)]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, Run, "finish", 2)
        train_cohorts([plans])
    gc.collect()
    assert [(folder(plan) / "result.json").exists() for plan in plans] == [True, False, False]
    train_cohorts([plans])
    assert_each_is_as_alone(plans)


def test_killed_after_one_diverged(diverging: list[Plan]) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, Run, "save_checkpoint", 4)
        train_cohorts([diverging])
    gc.collect()
    with pytest.raises(Diverged, match="is not trained again"):
        train_cohorts([diverging])
    assert_each_is_as_alone([diverging[0], diverging[2]])


# Seen


def test_a_cohort_shows_one_line_for_a_step_of_all(teacher: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_cohorts([[logits(f"trials/w{weight}", weight) for weight in (0.1, 0.5, 1.0)]])
    lines = [line for line in capsys.readouterr().err.splitlines() if "  hard_target " in line]
    assert [line.split("  ")[0] for line in lines] == [f"3 students of trials: step {step}/4" for step in (1, 2, 3, 4)]
    (low, best), (high, worst) = re.findall(r"(\d\.\d{4}) \((w\S+)\)", lines[-1])
    assert float(low) < float(high) and best != worst
