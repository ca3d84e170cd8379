"""Damaged checkpoints: named, passed over for the one before, and never exported."""

import gc
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from damage import OF_CONTENT, Damage, bit_flip, cut, empty, garbage, name_of
from killing import Killed, kill_at
from run_files import outcome, snapshot

import palenka.training.student
from palenka.runs.checkpoints import find_damage, write_state
from palenka.runs.directory import Run
from palenka.training.cohort import train_cohorts
from palenka.training.plan import Plan, make_plan
from palenka.training.schema import TrainConfig
from palenka.training.student import Student
from palenka.training.trainer import Trainer
from palenka.util.errors import UserError
from palenka.util.files import read_json, write_json

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

FILES = ("distiller.safetensors", "optimizer.pt", "state.json")


def plan_for(name: str = "run", seed: int = 7, **training: Any) -> Plan:
    values = tiny.train_values(
        name=name, seed=seed, data={"name": "tiny", "seq_length": 16, "dev_samples": 16, "seed": 1}
    )
    values["training"] |= {"max_steps": 5, "eval_steps": 2, "checkpoint_steps": 1, **training}
    return make_plan(TrainConfig.model_validate(values), "test")


def stop_at(step: int, plans: list[Plan]) -> None:
    """Train until that many steps of all plans together are done, and are checkpointed but for the last."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed) as killed:
        kill_at(patch, Student, "_clip", step)
        train_cohorts([plans])
    del killed
    gc.collect()  # and with it the lock


@pytest.fixture(scope="module")
def trained(prepared_once: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run stopped with checkpoints 2 (the best), 3 and 4, and what it would have become."""
    runs = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALENKA_DATA", str(prepared_once.parent))
        patch.setenv("PALENKA_RUNS", str(runs))
        patch.setattr(palenka.training.student, "learning_rate", spoiling)
        whole = outcome(tiny.train(plan_for("whole")))
        stop_at(5, [plan_for()])
    return runs / "run", whole


def spoiling(step: int, *others: Any) -> float:
    """So that the best step is 2."""
    return 1e-2 if step < 2 else 1.0


@pytest.fixture
def stopped(
    trained: tuple[Path, dict[str, Any]], prepared: Path, runs_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A copy of the stopped run, where it can go on."""
    monkeypatch.setattr(palenka.training.student, "learning_rate", spoiling)
    yield Path(shutil.copytree(trained[0], runs_folder / "run"))
    gc.collect()


def swap(path: Path) -> None:
    """The file of the checkpoint before."""
    shutil.copy(path.parent.with_name("checkpoint-3") / path.name, path)


def test_the_newest_checkpoints_before(stopped: Path) -> None:
    run = Run("run", stopped.parent)
    assert run.checkpoints() == [4, 3, 2]
    assert [run.verify_checkpoint(step) for step in (4, 3, 2)] == [None] * 3
    assert read_json(stopped / "checkpoint-4" / "state.json")["progress"]["best_step"] == 2


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [*OF_CONTENT, swap], ids=name_of)
def test_a_damaged_checkpoint_is_named_and_passed_over(
    trained: tuple[Path, dict[str, Any]], stopped: Path, capsys: pytest.CaptureFixture[str], damage: Damage, name: str
) -> None:
    damage(stopped / "checkpoint-4" / name)
    assert outcome(tiny.train(plan_for())) == trained[1]
    said = capsys.readouterr().err
    assert f"run: warning: {stopped / 'checkpoint-4' / name}: " in said
    assert "run: resuming from step 3" in said


@pytest.mark.parametrize("renamed", [False, True], ids=["empty folder", "another step's name"])
def test_a_folder_that_is_no_checkpoint_is_passed_over(
    trained: tuple[Path, dict[str, Any]], stopped: Path, capsys: pytest.CaptureFixture[str], renamed: bool
) -> None:
    if renamed:
        (stopped / "checkpoint-4").rename(stopped / "checkpoint-5")
    else:
        (stopped / "checkpoint-5").mkdir()
        shutil.rmtree(stopped / "checkpoint-4")
    assert outcome(tiny.train(plan_for())) == trained[1]
    problem = "damaged: of step 4" if renamed else "missing"
    assert f"{stopped / 'checkpoint-5' / 'state.json'}: {problem}" in capsys.readouterr().err


def test_two_damaged_checkpoints_are_passed_over(trained: tuple[Path, dict[str, Any]], stopped: Path) -> None:
    cut(stopped / "checkpoint-4" / "optimizer.pt")
    (stopped / "checkpoint-3" / "state.json").unlink()
    assert outcome(tiny.train(plan_for())) == trained[1]


def test_without_a_whole_checkpoint_all_are_named_and_nothing_is_removed(stopped: Path) -> None:
    for step, name in ((4, "optimizer.pt"), (3, "state.json"), (2, "distiller.safetensors")):
        cut(stopped / f"checkpoint-{step}" / name)
    before = snapshot(stopped)
    with pytest.raises(UserError, match="no checkpoint is whole; nothing was removed") as raised:
        tiny.train(plan_for())
    for path in ("checkpoint-4/optimizer.pt", "checkpoint-3/state.json", "checkpoint-2/distiller.safetensors"):
        assert f"  {stopped / path}: damaged: " in str(raised.value)
    after = snapshot(stopped)
    kept = [name for name in before if name.startswith("checkpoint-") or name == "metrics.jsonl"]
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}


def test_a_best_checkpoint_that_is_lost_is_told_and_recorded(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bit_flip(stopped / "checkpoint-2" / "distiller.safetensors")
    best = read_json(stopped / "checkpoint-4" / "state.json")["progress"]["best_dev"]["cross_entropy"]
    result = read_json(tiny.train(plan_for()) / "result.json")
    assert result["best_step"] > 2
    assert result["dev"]["cross_entropy"] > best
    assert result["lost_best"] == {"step": 2, "cross_entropy": best}
    said = capsys.readouterr().err
    assert f"{stopped / 'checkpoint-2' / 'distiller.safetensors'}: damaged" in said
    assert "the best checkpoint, of step 2 (dev" in said


def test_a_best_checkpoint_that_can_be_repeated_is(prepared: Path, runs_folder: Path) -> None:
    """Behind it the run is whole; but before it too, and from there it comes to the same end."""
    whole = outcome(tiny.train(plan_for("whole", eval_steps=4, max_steps=6)))
    plan = plan_for(eval_steps=4, max_steps=6)
    stop_at(6, [plan])
    run = Run("run", runs_folder)
    assert run.checkpoints() == [5, 4], "of which 4 is the best"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "drop_checkpoints", lambda self, keep: None)
        shutil.rmtree(run.path)
        stop_at(6, [plan])
    bit_flip(run.checkpoint_path(4) / "distiller.safetensors")
    assert outcome(tiny.train(plan)) == whole


def test_a_best_checkpoint_damaged_before_the_export_is_not_exported(
    prepared: Path, runs_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = outcome(tiny.train(plan_for("whole")))
    finish = Trainer._finish

    def damaged(self: Trainer) -> None:
        bit_flip(self.run.checkpoint_path(self.progress.best_step or 0) / "distiller.safetensors")
        finish(self)

    with monkeypatch.context() as patch, pytest.raises(UserError, match="best checkpoint, so nothing was exp") as e:
        patch.setattr(Trainer, "_finish", damaged)
        tiny.train(plan_for())
    del e
    gc.collect()
    run = runs_folder / "run"
    assert not (run / "model.safetensors").exists()
    assert not (run / "result.json").exists()
    assert outcome(tiny.train(plan_for())) == whole


def test_a_students_damaged_best_checkpoint_does_not_keep_others_from_their_end(
    prepared: Path, runs_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Trainer._finish

    def damaged(self: Trainer) -> None:
        if self.run.name == "one":
            bit_flip(self.run.checkpoint_path(self.progress.best_step or 0) / "distiller.safetensors")
        finish(self)

    monkeypatch.setattr(Trainer, "_finish", damaged)
    with pytest.raises(UserError, match="one/checkpoint-.* It is the best checkpoint"):
        train_cohorts([[plan_for("one", 1), plan_for("two", 2)]])
    assert not (runs_folder / "one" / "result.json").exists()
    assert (runs_folder / "two" / "result.json").exists()


def test_a_disk_that_does_not_keep_the_best_checkpoint_is_told_before_another_goes(
    prepared: Path, runs_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = palenka.runs.directory.write_state

    def and_damaged(folder: Path, state: dict[str, Any]) -> None:
        written(folder, state)
        if state["progress"]["step"] == 2:
            bit_flip(folder / "optimizer.pt")

    monkeypatch.setattr(palenka.runs.directory, "write_state", and_damaged)
    with pytest.raises(UserError, match=r"checkpoint-2/optimizer.pt: damaged.*just after it was written"):
        tiny.train(plan_for())
    assert Run("run", runs_folder).checkpoints() == [2, 1]


def test_a_student_of_a_cohort_falls_back_alone(prepared: Path, runs_folder: Path) -> None:
    names = ("one", "two")
    whole = [outcome(tiny.train(plan_for(f"whole-{name}", seed))) for seed, name in enumerate(names)]
    plans = [plan_for(name, seed) for seed, name in enumerate(names)]
    stop_at(10, plans)
    cut(runs_folder / "two" / "checkpoint-4" / "optimizer.pt")
    train_cohorts([plans])
    assert [outcome(runs_folder / name) for name in names] == whole


def test_a_checkpoint_without_checksums_is_still_gone_on_from(
    trained: tuple[Path, dict[str, Any]], stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As written by earlier versions."""
    for step in (2, 3, 4):
        path = stopped / f"checkpoint-{step}" / "state.json"
        write_json(path, {key: value for key, value in read_json(path).items() if key not in ("files", "sha256")})
    assert outcome(tiny.train(plan_for())) == trained[1]
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("name", FILES[:2])
@pytest.mark.parametrize("damage", [cut, empty, garbage], ids=name_of)
def test_a_damaged_one_without_checksums_is_named(stopped: Path, name: str, damage: Damage) -> None:
    path = stopped / "checkpoint-4" / "state.json"
    write_json(path, {key: value for key, value in read_json(path).items() if key not in ("files", "sha256")})
    damage(stopped / "checkpoint-4" / name)
    with pytest.raises(UserError, match="checkpoint-4: cannot be read"):
        tiny.train(plan_for())


def test_every_bit_of_a_state_counts(tmp_path: Path) -> None:
    (tmp_path / "scaler.pt").write_bytes(b"content")
    write_state(tmp_path, {"progress": {"step": 3, "best_step": None, "seconds": 1.5}})
    assert find_damage(tmp_path, 3) is None
    text = (tmp_path / "state.json").read_text()
    (tmp_path / "state.json").write_text(json.dumps(json.loads(text), indent=1))
    assert find_damage(tmp_path, 3) is None, "spaces say nothing"
    (tmp_path / "state.json").write_text(text.replace("1.5", "2.5"))
    assert find_damage(tmp_path, 3) == f"{tmp_path / 'state.json'}: damaged: its checksum does not match"
