"""A training that is told to stop leaves a checkpoint at that very step, and goes on from it bit by bit."""

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from accelerate import Accelerator
from commands import SECONDS, TORCHRUN, start
from run_files import outcome
from shared_fixtures import WriteConfig

from palenka.runs.directory import Run
from palenka.training.cohort import train_cohorts
from palenka.training.loop import Loop
from palenka.training.plan import Plan, make_plan
from palenka.training.preemption import EXIT_INTERRUPTED, Interrupted, Interruption
from palenka.training.schema import TrainConfig
from palenka.util.paths import ROOT

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


def plan_for(name: str, **training: Any) -> Plan:
    values = tiny.train_values(name=name)
    values["training"] |= {"logging_steps": 3, **training}
    return make_plan(TrainConfig.model_validate(values), "test")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_noted_only_while_somebody_listens(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Interruption() as interruption:
        assert not interruption.noted
        os.kill(os.getpid(), number)
        assert interruption.noted
    assert signal.getsignal(number) == before


def test_a_signal_between_two_trainings_ends_the_second(prepared: Path, runs_folder: Path) -> None:
    """As a worker of a search gets it, which looks for its next trial when it has trained one."""

    def cohorts() -> Iterator[list[Plan]]:
        yield [plan_for("first")]
        os.kill(os.getpid(), signal.SIGTERM)
        yield [plan_for("second")]

    with pytest.raises(Interrupted):
        train_cohorts(cohorts())
    assert (runs_folder / "first" / "result.json").exists()
    assert list(Run("second", runs_folder).checkpoints()) == [1]
    gc.collect()  # the lock
    assert outcome(tiny.train(plan_for("second"))) == outcome(runs_folder / "first")


@pytest.mark.parametrize("step", [1, 4, 7])
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(
    prepared: Path, runs_folder: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Between checkpoints and records, right at one of them, and before the last step."""
    unbroken = outcome(tiny.train(plan_for("unbroken")))
    starts = runs_folder / ".starts-1"
    starts.write_text("2")
    monkeypatch.setenv("PALENKA_STARTS", str(starts))
    take_step = Loop.step

    def signalled(self: Loop, number: int) -> None:
        take_step(self, number)
        if number + 1 == step:
            os.kill(os.getpid(), signal.SIGUSR1)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "step", signalled)
        with pytest.raises(Interrupted) as ended:
            tiny.train(plan_for("broken"))
    assert ended.value.code == EXIT_INTERRUPTED == 75
    del ended  # it holds the run, and with it the lock, as no process does that has ended
    gc.collect()
    assert (runs_folder / "broken" / f"checkpoint-{step}").is_dir()
    assert not (runs_folder / "broken" / "result.json").exists()
    assert not starts.exists(), "there was progress"
    steps = [record["step"] for record in Run("broken", runs_folder).read_log().records if record["split"] == "train"]
    assert steps == list(range(3, step + 1, 3))
    assert outcome(tiny.train(plan_for("broken"))) == unbroken


def test_a_checkpoint_that_is_there_is_not_written_again(
    prepared: Path, runs_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where time is short, and the one of this step may be the only one."""
    saved = []
    save = Run.save_checkpoint

    def noted(self: Run, step: int, *others: Any, **options: Any) -> None:
        saved.append(step)
        save(self, step, *others, **options)

    monkeypatch.setattr(Run, "save_checkpoint", noted)
    monkeypatch.setattr(Interruption, "is_agreed", lambda self, step, accelerator: True)
    plan = plan_for("often", checkpoint_steps=1)
    for _ in range(3):
        with pytest.raises(Interrupted) as ended:
            tiny.train(plan)
        del ended
        gc.collect()
    assert saved == [1, 2, 3]


def test_a_signal_at_the_last_step_changes_nothing(
    prepared: Path, runs_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_step = Loop.step

    def signalled(self: Loop, number: int) -> None:
        take_step(self, number)
        if number + 1 == self.plan.total_steps:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Loop, "step", signalled)
    assert (tiny.train(plan_for("late")) / "result.json").exists()


def test_processes_ask_each_other_every_tenth_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any of them may have been told; one that has not must stop with it."""
    accelerator = Accelerator(cpu=True)
    asked = []

    def with_another(tensor, reduction):  # type: ignore[no-untyped-def]
        asked.append(tensor.item())
        return tensor + 1  # the other process was told

    monkeypatch.setattr(type(accelerator), "num_processes", 2)
    monkeypatch.setattr(accelerator, "reduce", with_another)
    agreed = [step for step in (1, 9, 10, 11, 20) if Interruption().is_agreed(step, accelerator)]
    assert agreed == [10, 20]
    assert asked == [0.0, 0.0]


@pytest.mark.usefixtures("prepared", "processes")
def test_two_processes_stop_at_one_step(
    runs_folder: Path, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The launcher passes the signal on; both end, with one checkpoint, and do not wait for each other."""
    values = tiny.train_values(name="pair")
    values["training"] |= {"max_steps": 100_000, "eval_steps": 100_000, "checkpoint_steps": 100, "logging_steps": 10}
    config = write_config(values)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    handled = "--signals_to_handle=SIGTERM,SIGUSR1"
    with start(*TORCHRUN, handled, ROOT / "train.py", "--config", config) as process:
        assert process.stderr is not None
        shown = ""
        while "step 20/" not in shown and (line := process.stderr.readline()):
            shown += line
        process.send_signal(signal.SIGUSR1)
        shown += process.communicate(timeout=SECONDS)[1]
    assert process.returncode
    assert shown.count("pair: interrupted at step") == 1, shown
    last = max(int(path.name.removeprefix("checkpoint-")) for path in (runs_folder / "pair").glob("checkpoint-*"))
    assert last % 10 == 0 and f"interrupted at step {last};" in shown


def test_records_that_are_lost_are_told(
    prepared: Path, runs_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A log that was cut between two lines has no broken one."""
    with monkeypatch.context() as patch:
        patch.setattr(Interruption, "is_agreed", lambda self, step, accelerator: step == 7)
        with pytest.raises(Interrupted) as ended:
            tiny.train(plan_for("cut"))
    del ended
    gc.collect()
    path = runs_folder / "cut" / "metrics.jsonl"
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    tiny.train(plan_for("cut"))
    assert f"{path}: 1 records of steps up to 7 are lost" in capsys.readouterr().err
