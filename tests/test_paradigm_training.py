"""Runs under each paradigm: what they learn, what they record, that they resume bit by bit, and who may teach them."""

import gc
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from commands import TORCHRUN, succeed
from killing import Killed, kill_at
from run_files import outcome, records
from shared_fixtures import WriteConfig
from trainings import assert_alike_to_rounding, plan_for, train_run

from palenka.teachers.live import Teachers
from palenka.training.batches import Batches
from palenka.training.build import build_student, find_teachers
from palenka.training.loop import Loop
from palenka.training.student import Student
from palenka.util.errors import UserError
from palenka.util.files import read_json
from palenka.util.paths import ROOT

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

SECTIONS: dict[str, Any] = {
    "masked": "masked",
    "mntp": {"name": "mntp", "rate": [0.3, 0.15], "span": "uniform", "isolate_documents": True},
    "mix": {"name": "mix", "rows": {"mntp": 3, "causal": 1}},
    "alternate": {"name": "alternate", "epochs": [{"causal": 1}, {"masked": 2}, {"causal": 1}]},
}
MAMBA = {"architecture": "mamba", "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}


@pytest.fixture(params=SECTIONS)
def paradigm(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def values(paradigm: str, **changes: Any) -> dict[str, Any]:
    return tiny.train_values(name=paradigm, paradigm=SECTIONS[paradigm]) | changes


def student_of(*teachers: str, paradigm: Any, **changes: Any) -> dict[str, Any]:
    found = tiny.distill_values(teachers=[{"run": name} for name in teachers], paradigm=paradigm)
    return found | changes


def test_the_dev_loss_of_each_part_falls(paradigm: str, prepared: Path, runs_folder: Path) -> None:
    run = train_run(values(paradigm), max_steps=90, lr=1e-2, eval_steps=30)
    dev, result = records(run, "dev"), read_json(run / "result.json")
    parts = plan_for(values(paradigm)).config.paradigm_config.part_names
    assert result["tokens"] == records(run)[-1]["tokens"] > 90 * 8 * 10, "tokens of the text, not of what is predicted"
    assert ("bits_per_byte" in result["dev"]) == (parts == ["causal"])
    if len(parts) == 1:
        assert dev[-1]["loss"] < dev[0]["loss"] < 5.5
        return
    for name in parts:
        assert dev[-1][f"{name}_loss"] < 5.0
        assert result["dev"]["paradigms"][name]["cross_entropy"] == dev[-1][f"{name}_loss"]
    assert result["best_step"] == 90, "of several paradigms the last step is taken"


def test_killed_and_resumed_equals_unkilled(paradigm: str, prepared: Path, runs_folder: Path) -> None:
    whole = train_run(values(paradigm, name="whole"), checkpoint_steps=1)
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, Student, "_clip", 6)
        with pytest.raises(Killed):
            train_run(values(paradigm), checkpoint_steps=1)
    gc.collect()
    assert outcome(train_run(values(paradigm), checkpoint_steps=1)) == outcome(whole)


def test_micro_batches_do_not_change_the_training(paradigm: str, prepared: Path, runs_folder: Path) -> None:
    """To rounding, which a large Adam epsilon does not amplify."""
    runs = [
        train_run(values(paradigm, name=str(size)), micro_batch_size=size, adam_epsilon=1e-3, max_steps=4)
        for size in (8, 2)
    ]
    assert_alike_to_rounding(*runs, 2e-7)


@pytest.mark.usefixtures("processes")
def test_two_processes_train_as_one(
    paradigm: str, prepared: Path, runs_folder: Path, write_config: WriteConfig
) -> None:
    given = values(paradigm)
    given["training"] |= {"micro_batch_size": 2, "adam_epsilon": 1e-3}
    succeed(*TORCHRUN, ROOT / "train.py", "--config", write_config(given), "name=two")
    one = train_run(given | {"name": "one"}, micro_batch_size=8)
    assert_alike_to_rounding(one, runs_folder / "two", 2e-7)


def test_a_run_folder_says_how_it_learned(prepared: Path, runs_folder: Path) -> None:
    run = train_run(values("mix"), max_steps=2)
    assert yaml.safe_load((run / "config.yaml").read_text())["paradigm"]["rows"] == {"mntp": 3, "causal": 1}


# Teachers


def test_a_masked_teacher_teaches_a_masked_student(prepared: Path, runs_folder: Path) -> None:
    train_run(values("masked", name="teacher"), max_steps=60, lr=1e-2, eval_steps=60)
    lesson = {"logit": {"weight": 1.0}, "hidden_state": {"weight": 1.0}}
    plan = plan_for(student_of("teacher", paradigm="masked", objective=lesson), max_steps=40, lr=1e-2, eval_steps=40)
    assert plan.taught is None
    seen = records(tiny.train(plan), "train")
    for term in lesson:
        assert sum(record[term] for record in seen[-5:]) < 0.7 * sum(record[term] for record in seen[:5])


def test_a_masked_teacher_teaches_the_masked_part_of_a_mix(prepared: Path, runs_folder: Path) -> None:
    """The teachers' terms count the sequences that they know how to read, by their share: 3 of 4.

    Of one teacher, which learned both; and of a copy that says it learned one.
    """
    mix = SECTIONS["mix"]
    both = train_run(values("mix", name="both"), max_steps=30, lr=1e-2, eval_steps=30)
    copy = Path(shutil.copytree(both, runs_folder / "teacher"))
    config = yaml.safe_load((copy / "config.yaml").read_text(encoding="utf-8"))
    (copy / "config.yaml").write_text(yaml.safe_dump(config | {"paradigm": "mntp"}), encoding="utf-8")
    students = [student_of(name, paradigm=mix, name=f"of-{name}") for name in ("teacher", "both")]
    plans = [plan_for(student, max_steps=1) for student in students]
    assert [plan.taught for plan in plans] == [frozenset({0}), frozenset({0, 1})]
    part, whole = (records(tiny.train(plan), "train")[0] for plan in plans)
    assert part["hard_target"] == pytest.approx(whole["hard_target"], rel=1e-6)
    for term in ("logit", "hidden_state"):
        assert 0.6 * whole[term] < part[term] < 0.9 * whole[term]


def taught_in_a_phase(name: str, **changes: Any) -> dict[str, Any]:
    """A student by all objectives in eight steps, of which the teacher knows the four in the middle."""
    return student_of("teacher", paradigm=SECTIONS["alternate"], name=name, **changes)


def test_teachers_are_run_in_the_phases_that_they_teach_alone(
    prepared: Path, runs_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which changes no bit, of what objectives own and decay neither."""
    train_run(values("masked", name="teacher"), max_steps=1)
    changes = {"weight_decay": 0.1, "micro_batch_size": 4}
    asked: list[int] = []
    run = Teachers.run
    monkeypatch.setattr(Teachers, "run", lambda self, *given: (asked.append(given[1].start), run(self, *given))[1])
    part = train_run(taught_in_a_phase("part"), **changes)
    assert asked == list(range(2 * 8, 6 * 8, 4))
    seen = records(part, "train")
    assert all(record["hard_target"] for record in seen)
    for term in ("logit", "hidden_state"):
        assert [record[term] > 0 for record in seen] == [False] * 2 + [True] * 4 + [False] * 2
    monkeypatch.setattr(Loop, "_teach", lambda self, batch, rows, shown, *n: self.teachers.run(shown, range(1), *n))
    assert outcome(train_run(taught_in_a_phase("whole"), **changes)) == outcome(part)


@pytest.mark.usefixtures("processes")
def test_two_processes_are_taught_in_a_phase_as_one(
    prepared: Path, runs_folder: Path, write_config: WriteConfig
) -> None:
    train_run(values("masked", name="teacher"), max_steps=1)
    given = taught_in_a_phase("two")
    given["training"] |= {"micro_batch_size": 2, "adam_epsilon": 1e-3}
    succeed(*TORCHRUN, ROOT / "distill.py", "--config", write_config(given))
    assert_alike_to_rounding(train_run(given | {"name": "one"}), runs_folder / "two", 2e-7)


def test_a_teacher_that_learned_otherwise_is_refused(teacher: Path) -> None:
    with pytest.raises(UserError, match="paradigm: masked: no teacher can teach .* teacher by causal"):
        plan_for(student_of("teacher", paradigm="masked"))


# What does not fit


def test_a_batch_too_small_for_a_mix_is_refused(prepared: Path, runs_folder: Path) -> None:
    mix = {"name": "mix", "rows": {"mntp": 15, "causal": 1}}
    with pytest.raises(UserError, match=r"training\.batch_size: 8: the paradigm mix needs at least 16"):
        plan_for(tiny.train_values(paradigm=mix))


def test_each_phase_has_a_step(prepared: Path, runs_folder: Path) -> None:
    """Of 8 steps: a run that never took one would be asked what it never learned."""
    alternate = {"name": "alternate", "epochs": [{"causal": 4}, {"masked": 0.5}, {"causal": 4}]}
    with pytest.raises(UserError, match=r"paradigm: masked: 5\.88% of 8 steps may be less than one; give"):
        plan_for(tiny.train_values(paradigm=alternate))
    plan = plan_for(tiny.train_values(paradigm=alternate), max_steps=17)
    batches = Batches(plan.windows(), plan.paradigm, plan.course)
    assert sum(bool((batches[step].batch.part == 1).all()) for step in range(17)) == 1
    growing = {"initial_batch_size": 2, "max_steps": 17}
    with pytest.raises(UserError, match=r"masked: 5\.88% of 17 steps"):
        plan_for(tiny.train_values(paradigm=alternate), **growing)


@pytest.mark.parametrize("paradigm", ["masked", {"name": "causal", "isolate_documents": True}], ids=str)
def test_a_model_that_heeds_no_mask_learns_and_teaches_plain_causal_alone(
    paradigm: Any, prepared: Path, runs_folder: Path
) -> None:
    with pytest.raises(UserError, match="sees what it sees whatever the mask"):
        build_student(plan_for(tiny.train_values(paradigm=paradigm, model=MAMBA)), tiny.CPU)
    alternate = {"name": "alternate", "epochs": [{"causal": 1}, {"masked": 1}]}
    train_run(tiny.train_values(name="teacher", model=MAMBA), max_steps=1)
    with pytest.raises(UserError, match="runs/teacher .*sees what it sees whatever the mask"):
        find_teachers(plan_for(student_of("teacher", paradigm=alternate)), tiny.CPU)


def test_a_part_that_nobody_teaches_needs_another_objective(prepared: Path, runs_folder: Path) -> None:
    train_run(values("masked", name="teacher"), max_steps=1)
    student = student_of("teacher", paradigm=SECTIONS["alternate"], objective={"logit": {"weight": 1.0}})
    with pytest.raises(UserError, match="paradigm: causal: nothing would be learned so.*hard_target"):
        plan_for(student)


def test_cached_logits_are_for_causal_students(teacher: Path) -> None:
    cached = student_of("teacher", paradigm="masked", cached_logits={"top_k": 8}, objective={"logit": {"weight": 1.0}})
    with pytest.raises(ValueError, match="cached for paradigm: causal alone"):
        plan_for(cached)
