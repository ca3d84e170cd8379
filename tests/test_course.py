"""Which windows steps see: batches that grow, and epochs of shorter windows."""

import gc
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
from commands import TORCHRUN, succeed
from hypothesis import given
from hypothesis import strategies as st
from killing import Killed, kill_at
from run_files import outcome, records
from shared_fixtures import WriteConfig
from trainings import assert_alike_to_rounding, plan_for, train_run

from palenka.cost.text import plan_text
from palenka.training.batches import Batches
from palenka.training.course import Course, Phase
from palenka.training.plan import Plan, make_plan
from palenka.training.schema import DistillConfig, TrainConfig
from palenka.training.student import Student
from palenka.util.config import load
from palenka.util.errors import UserError
from palenka.util.paths import ROOT

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

LENGTHS = [{8: 0.5}, {16: 0.25}]


def course(first: int, last: int, steps: int, *phases: Phase) -> Course:
    return Course(first, last, steps, steps, phases=phases or (Phase(),))


def sizes(given: Course) -> list[int]:
    return [len(given.positions(step)) for step in range(given.total_steps)]


# The function


def test_a_batch_that_does_not_grow_is_the_next_so_many_windows() -> None:
    even = course(6, 6, 5)
    assert [even.positions(step) for step in range(5)] == [range(6 * step, 6 * step + 6) for step in range(5)]


def test_a_batch_that_grows_by_hand() -> None:
    """From a quarter to the whole in four parts of 10 steps: the second part begins behind 2.5 of them."""
    grown = course(4, 16, 10)
    assert sizes(grown) == [4, 4, 4, 8, 8, 12, 12, 12, 16, 16]
    assert grown.positions(4) == range(20, 28)


@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 60))
def test_sizes_are_what_the_formula_says(first: int, times: int, steps: int) -> None:
    grown = course(first, first * times, steps)
    assert sizes(grown) == [first * (1 + step * times // steps) for step in range(steps)]
    assert all(grown.positions(step).stop == grown.positions(step + 1).start for step in range(steps - 1))
    assert sum(sizes(grown)) <= steps * (first + first * times) / 2


def test_shorter_windows_are_as_many_times_as_many() -> None:
    phases = Phase(0, 0, 4), Phase(2, 41, 2), Phase(3, 60, 1)
    found = [course(4, 4, 4, *phases).positions(step) for step in range(4)]
    assert found == [range(16), range(16, 32), range(41, 49), range(60, 64)]


# As planned


def values(name: str = "grown", **changes: Any) -> dict[str, Any]:
    """Three epochs of 8 tokens, one of 16, two of 32; batches from 2 to 8 sequences of 32 tokens."""
    given = tiny.train_values(name=name, **changes)
    given["data"] |= {"seq_length": 32, "shorter_first": LENGTHS, "fraction": 0.1}
    given["training"] |= {"num_epochs": 6, "initial_batch_size": 2, "batch_size": 8, "max_steps": None}
    return given


@pytest.fixture
def plan(prepared: Path, runs_folder: Path) -> Plan:
    return plan_for(values())


def test_each_step_has_windows_of_one_length_and_each_length_begins_with_an_epoch(plan: Plan) -> None:
    windows, found = plan.windows(), plan.course
    assert [windows.length(epoch) for epoch in range(7)] == [8, 8, 8, 16, 32, 32, 32]
    assert [windows.locate(phase.first_window) for phase in found.phases] == [(0, 0), (3, 0), (4, 0)]
    for step in range(plan.total_steps):
        positions = found.positions(step)
        widths = {windows.length(windows.locate(position)[0]) for position in positions}
        (width,) = widths
        inputs, _ = windows.batch(positions)
        assert inputs.shape == (len(positions), width)
        assert 2 * 32 <= inputs.size <= 8 * 32
        assert inputs.size == 32 * (found.before(step + 1) - found.before(step)), "as many tokens, whatever the length"


def test_no_more_is_left_out_than_a_batch_before_each_change_and_the_end(plan: Plan) -> None:
    windows, found = plan.windows(), plan.course
    ends = [*(phase.first_step for phase in found.phases[1:]), plan.total_steps]
    edges = [3, 4, 6]
    for phase, end, epochs in zip(found.phases, ends, edges, strict=True):
        seen = found.positions(end - 1).stop
        there = sum(windows.epoch_size(epoch) for epoch in range(epochs))
        assert 0 <= there - seen < 2 * 8 * phase.multiple


def test_a_run_of_even_batches_is_what_it_was(prepared: Path, runs_folder: Path) -> None:
    given = tiny.train_values()
    given["training"] |= {"num_epochs": 2.5, "max_steps": None}
    plan = plan_for(given)
    windows = plan.windows()
    count = windows.epoch_size(0) + windows.epoch_size(1) + int(0.5 * windows.epoch_size(2))
    assert plan.total_steps == count // 8 and plan.total_windows == count // 8 * 8
    assert all(plan.course.positions(step) == range(8 * step, 8 * step + 8) for step in range(plan.total_steps))


def test_a_growing_batch_sees_as_many_epochs(prepared: Path, runs_folder: Path) -> None:
    given = tiny.train_values()
    given["training"] |= {"num_epochs": 3, "max_steps": None, "initial_batch_size": 2}
    plan = plan_for(given)
    windows = plan.windows()
    count = sum(windows.epoch_size(epoch) for epoch in range(3))
    assert plan.total_steps == 2 * count // 10
    assert count - 16 < plan.total_windows <= count


def test_progress_counts_epochs(plan: Plan) -> None:
    batches = Batches(plan.windows(), plan.paradigm, plan.course)
    last = batches[plan.total_steps - 1]
    first_of_16 = batches[plan.course.phases[1].first_step]
    batches.close()
    assert 5.7 < last.epoch <= 6
    assert 3 < first_of_16.epoch < 4
    assert last.words == plan.windows().words(last.positions)


def test_progress_of_so_many_steps_counts_windows_and_cuts_no_later_epoch(prepared: Path, runs_folder: Path) -> None:
    plan = plan_for(tiny.train_values(), max_steps=1000)
    windows, seen = plan.windows(), []
    paradigm: Any = SimpleNamespace(batch=lambda shown: seen.append(shown.progress) or plan.paradigm.batch(shown))
    batches = Batches(windows, paradigm, plan.course)
    batches[250]
    batches.close()
    assert seen[0] == 0.25
    assert len(windows._sizes) == 1 + windows.locate(252 * 8)[0], "which the next batch ends before"


def test_the_first_batch_is_made_before_it_is_asked_for(plan: Plan) -> None:
    begun = Event()
    paradigm: Any = SimpleNamespace(batch=lambda shown: begun.set() or plan.paradigm.batch(shown))
    batches = Batches(plan.windows(), paradigm, plan.course, first=3)
    assert begun.wait(timeout=60)
    assert batches[3].positions == plan.course.positions(3)
    batches.close()


def test_what_is_planned_is_told(plan: Plan) -> None:
    text, found = plan_text(plan, [tiny.MACHINE]), plan.course
    assert f"{plan.total_steps} steps of 2 to 8 sequences" in text
    assert f"steps 1 to {found.phases[1].first_step}: windows of 8 tokens, 4 for each of 32" in text


def test_its_cost_is_that_of_the_mean_batch(plan: Plan) -> None:
    assert plan.tokens_per_step == 5 * 32
    shown = sum(len(plan.course.positions(step)) * 32 // phase.multiple for step, phase in steps_of(plan.course))
    assert shown == pytest.approx(plan.total_steps * plan.tokens_per_step, rel=0.05)


def steps_of(given: Course) -> list[tuple[int, Phase]]:
    return [(step, [phase for phase in given.phases if phase.first_step <= step][-1])
            for step in range(given.total_steps)]  # fmt: skip


# Trained


def test_killed_and_resumed_equals_unkilled(prepared: Path, runs_folder: Path) -> None:
    plan = plan_for(values("whole"), checkpoint_steps=5, eval_steps=50)
    whole = tiny.train(plan)
    _, second, third = (phase.first_step for phase in plan.course.phases)
    for call in (second + 3, third - second + 5):  # behind each change of length, the second after a resume
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            kill_at(patch, Student, "_clip", call)
            train_run(values(), checkpoint_steps=5, eval_steps=50)
        gc.collect()
    assert outcome(train_run(values(), checkpoint_steps=5, eval_steps=50)) == outcome(whole)


def test_micro_batches_do_not_change_the_training(prepared: Path, runs_folder: Path) -> None:
    """To rounding, which a large Adam epsilon does not amplify."""
    short = {"num_epochs": 4, "adam_epsilon": 1e-2, "lr": 1e-4, "eval_steps": 100}
    runs = [train_run(values(f"of-{size}"), micro_batch_size=size, **short) for size in (1, 2)]
    assert_alike_to_rounding(*runs, 2e-6)


@pytest.mark.usefixtures("processes")
def test_two_processes_train_as_one(prepared: Path, runs_folder: Path, write_config: WriteConfig) -> None:
    given = values()
    given["training"] |= {"micro_batch_size": 1, "adam_epsilon": 1e-2, "lr": 1e-4, "num_epochs": 4, "eval_steps": 100}
    succeed(*TORCHRUN, ROOT / "train.py", "--config", write_config(given), "name=two")
    one = train_run(given | {"name": "one"}, micro_batch_size=2)
    assert_alike_to_rounding(one, runs_folder / "two", 2e-6)


def test_a_student_learns_from_teachers_so(teacher: Path) -> None:
    given = tiny.distill_values(name="grown")
    given["data"] |= {"seq_length": 16, "shorter_first": [{8: 0.5}], "fraction": 0.1}
    given["training"] |= {"num_epochs": 2, "initial_batch_size": 4, "max_steps": None}
    run = tiny.train(make_plan(DistillConfig.model_validate(given), "test"))
    assert records(run, "train")[-1]["epoch"] > 1.5


# Refused


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data.shorter_first=[{8: 0.5}, {12: 0.2}]"], "seq_length 32 is no multiple of 12"),
        (["data.shorter_first=[{16: 0.5}, {8: 0.2}]"], "each longer than the one before it"),
        (["data.shorter_first=[{32: 0.5}]"], "each longer than the one before it"),
        (["data.shorter_first=[{8: 0.5, 16: 0.2}]"], "each longer than the one before it and with its share"),
        (["data.shorter_first=[{8: 0.5}, {16: 0.5}]"], "expected shares above 0, and less than 1 in all"),
        (["training.num_epochs=1"], "1 epochs are too few for one of each length"),
        (["training.num_epochs=2"], "they would be [8, 16, 32]"),
        (["training.num_epochs=null", "training.max_steps=9"], "give training.num_epochs, of which it has shares"),
        (["training.initial_batch_size=3"], "batches grow by 3 sequences at a time; make batch_size, 8, a multiple"),
        (["training.initial_batch_size=16"], "batches grow by 16 sequences at a time; make batch_size, 8, a multiple"),
    ],
)
def test_what_does_not_fit_is_named(overrides: list[str], expected: str, write_config: WriteConfig) -> None:
    with pytest.raises(UserError) as caught:
        load(write_config(values()), overrides, TrainConfig)
    assert expected in str(caught.value)


def test_the_first_batch_is_of_whole_micro_batches(prepared: Path, runs_folder: Path) -> None:
    with pytest.raises(UserError, match=r"training.initial_batch_size: 2 sequences cannot be divided evenly"):
        plan_for(values(), micro_batch_size=4)


def test_the_first_batch_has_a_sequence_of_each_part_of_a_mix(prepared: Path, runs_folder: Path) -> None:
    mix = {"name": "mix", "rows": {"mntp": 3, "causal": 1}}
    with pytest.raises(UserError, match=r"training.initial_batch_size: 2: the paradigm mix needs at least 4 sequences"):
        plan_for(values(paradigm=mix))


def test_logits_are_cached_of_windows_of_one_length(write_config: WriteConfig) -> None:
    given = tiny.distill_values(cached_logits={"top_k": 8}, objective={"logit": {"weight": 1.0}})
    given["data"] |= {"shorter_first": [{8: 0.5}]}
    given["training"] |= {"num_epochs": 2, "max_steps": None}
    with pytest.raises(UserError, match=r"cached_logits are of windows of one length"):
        load(write_config(given), [], DistillConfig)
