"""Run directories: one experiment to a name, one process to a run, and nothing half written that counts."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palenka.runs.directory import Run, find_run
from palenka.runs.identity import Identity
from palenka.util.errors import UserError
from palenka.util.files import read_json, write_json, write_text
from palenka.util.locks import held
from palenka.util.paths import ROOT

VALUES: dict[str, Any] = {
    "config": {"training": {"lr": 1e-3, "batch_size": 8}, "teachers": [{"run": "t", "weight": 1.0}], "seed": 42},
    "data": "ab" * 32,
    "teachers": {"t": "cd" * 32},
}
IDENTITY = Identity(VALUES, VALUES)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """An open run."""
    opened = Run("group/one", tmp_path)
    opened.check_identity(IDENTITY)
    opened.open(IDENTITY, {"name": "group/one", "seed": 42})
    return opened


def content(text: str) -> Callable[[Path], None]:
    return lambda folder: write_text(folder / "state", text)


def save(run: Run, step: int, write: Callable[[Path], None], keep: set[int]) -> None:
    run.save_checkpoint(step, write, {"progress": {"step": step, "best_step": None}}, keep)


def checkpoints(run: Run) -> list[str]:
    return sorted(path.name for path in run.path.glob("*checkpoint*"))


# Identity


def test_a_run_that_another_process_begins_at_this_moment_is_no_folder_of_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first process opens it while the second one checks its name."""
    exists = Path.exists
    opened: list[Run] = []

    def just_before(self: Path) -> bool:
        found = exists(self)
        if self.name == "identity.json" and not opened:
            opened.append(Run("one", tmp_path))
            opened[0].open(IDENTITY, {})
        return found

    monkeypatch.setattr(Path, "exists", just_before)
    Run("one", tmp_path).check_identity(IDENTITY)
    assert (tmp_path / "one" / "identity.json").is_file() and opened


def test_a_file_system_without_locks_is_told_and_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unsupported(*arguments: Any) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    Run("one", tmp_path).open(IDENTITY, {})
    assert "no locks on this file system (Function not implemented)" in capsys.readouterr().err
    with held(tmp_path / "lock", lambda: pytest.fail("waits")):
        pass


def test_an_open_run_says_what_it_is(run: Run) -> None:
    assert run.path.parts[-2:] == ("group", "one")
    assert read_json(run.path / "identity.json") == VALUES
    assert (run.path / "config.yaml").read_text() == "name: group/one\nseed: 42\n"
    environment = read_json(run.path / "environment.json")
    assert {"command", "commit", "python", "torch", "transformers", "host"} <= environment.keys()
    assert not run.finished


def test_another_experiment_under_the_same_name_is_refused_with_every_difference(run: Run, tmp_path: Path) -> None:
    config = VALUES["config"]
    training = {**config["training"], "lr": 2e-3, "warmup_steps": 5}
    other = VALUES | {"config": config | {"training": training, "seed": 43}, "teachers": {"t": "ef" * 32}}
    before = {path.name: path.stat().st_mtime_ns for path in run.path.iterdir()}
    with pytest.raises(UserError) as caught:
        Run("group/one", tmp_path).check_identity(Identity(other, other))
    lines = str(caught.value).splitlines()
    assert "this name is another run's; nothing was changed" in lines[0]
    assert lines[1:-1] == [
        "  config.training.lr: 0.001 there, 0.002 here",
        "  config.training.warmup_steps: not set there, 5 here",
        "  config.seed: 42 there, 43 here",
        "  teachers.t: cdcdcdcdcdcd… there, efefefefefef… here",
    ]
    assert lines[-1].startswith("Choose another name (name=…)")
    assert {path.name: path.stat().st_mtime_ns for path in run.path.iterdir()} == before


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    Run("thesis", tmp_path).check_identity(IDENTITY)  # an empty folder is free
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"not a run, but holds files \(chapter.tex\); choose another name"):
        Run("thesis", tmp_path).check_identity(IDENTITY)


def test_result_json_marks_completion_and_checkpoints_go(run: Run) -> None:
    save(run, 3, content("three"), keep=set())
    assert not run.finished
    run.finish({"dev": 1.5})
    assert run.finished
    assert read_json(run.path / "result.json") == {"dev": 1.5}
    assert checkpoints(run) == []


# Lock


HOLDER = """
import os
import sys
from pathlib import Path
from palenka.runs.directory import Run
from palenka.runs.identity import Identity
run = Run("one", Path(sys.argv[1]))
run.open(Identity({"data": "x"}, {"data": "x"}), {})
if os.fork():
    print("locked", flush=True)
sys.stdin.read()
"""


@pytest.mark.usefixtures("processes")
def test_a_run_belongs_to_one_process_until_that_ends_however_it_ends(tmp_path: Path) -> None:
    """It has forked another, as the workers of a data loader are, which lives on."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        before = (tmp_path / "one" / "identity.json").read_text()
        with pytest.raises(UserError, match=rf"one: another process is training this run \(process {holder.pid} on "):
            Run("one", tmp_path).open(Identity({"data": "x"}, {"data": "x"}), {})
        assert (tmp_path / "one" / "identity.json").read_text() == before
        Run("two", tmp_path).open(IDENTITY, {})
        holder.kill()
        holder.wait()
        after = Run("one", tmp_path)
        after.open(Identity({"data": "x"}, {"data": "x"}), {})
    assert f"process {os.getpid()} on " in (after.path / ".lock").read_text()


# Checkpoints


def test_the_newest_checkpoint_is_found_by_number(run: Run) -> None:
    assert run.checkpoints() == []
    for step in (9, 10, 100):
        save(run, step, content(str(step)), keep={9, 10, 100})
    assert run.checkpoints() == [100, 10, 9]
    (run.path / "checkpoint-100-copy").mkdir()
    assert run.checkpoints() == [100, 10, 9], "a copy that somebody made is not a checkpoint"
    assert (run.checkpoint_path(10) / "state").read_text() == "10"


def test_only_the_new_checkpoint_and_those_to_keep_stay(run: Run) -> None:
    for step, keep in ((1, set()), (2, {1}), (3, {2}), (4, {2})):
        save(run, step, content(str(step)), keep)
    assert checkpoints(run) == ["checkpoint-2", "checkpoint-4"]


def test_a_checkpoint_that_fails_leaves_nothing_that_counts(run: Run, tmp_path: Path) -> None:
    save(run, 1, content("whole"), keep=set())

    def fail(folder: Path) -> None:
        write_text(folder / "state", "half")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        save(run, 2, fail, keep=set())
    assert run.checkpoints()[0] == 1
    assert (run.checkpoint_path(1) / "state").read_text() == "whole"
    save(run, 2, content("second try"), keep=set())
    assert sorted(path.name for path in run.checkpoint_path(2).iterdir()) == ["state", "state.json"]
    assert checkpoints(run) == ["checkpoint-2"]


def test_a_checkpoint_has_its_name_only_when_it_is_whole(run: Run) -> None:
    seen = []

    def write(folder: Path) -> None:
        write_text(folder / "state", "x")
        seen.append(run.checkpoints()[0])

    save(run, 1, content("a"), keep=set())
    save(run, 2, write, keep=set())
    assert seen == [1]  # while the second is written, the first is still there


def test_a_checkpoint_replaces_one_of_the_same_step(run: Run) -> None:
    save(run, 5, content("old"), keep=set())
    save(run, 5, content("new"), keep=set())
    assert (run.checkpoint_path(5) / "state").read_text() == "new"
    assert checkpoints(run) == ["checkpoint-5"]


def test_while_the_former_checkpoint_of_a_step_is_removed_the_new_one_counts(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(run, 3, content("old"), keep=set())
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("shutil.rmtree", killed_at_the_doomed)
        save(run, 3, content("new"), keep=set())
    assert run.checkpoints()[0] == 3
    assert (run.checkpoint_path(3) / "state").read_text() == "new"


def killed_at_the_doomed(folder: Path, **options: Any) -> None:
    if "doomed" in folder.name:
        raise KeyboardInterrupt


def test_half_removed_checkpoints_do_not_count(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill while an old checkpoint is removed: what is left of it has no checkpoint's name."""
    save(run, 1, content("one"), keep=set())

    def killed(path: Path, **options: Any) -> None:
        if path.exists():
            raise KeyboardInterrupt

    monkeypatch.setattr("palenka.runs.directory.shutil.rmtree", killed)
    for step in (2, 2):  # to make room for another, and for another of the same step
        with pytest.raises(KeyboardInterrupt):
            save(run, step, content("two"), keep=set())
    monkeypatch.undo()
    assert not [
        name for name in checkpoints(run) if name.startswith("checkpoint-") and not (run.path / name / "state").exists()
    ]


def test_opening_a_run_clears_what_a_kill_left(run: Run, tmp_path: Path) -> None:
    (run.path / ".checkpoint-7.tmp").mkdir()
    (run.path / ".checkpoint-7.tmp" / "state").write_text("half")
    (run.path / ".identity.json.killed.tmp").write_text("{")
    run._lock.release()
    Run("group/one", tmp_path).open(IDENTITY, {})
    assert not list(run.path.glob(".*.tmp"))


# Records


def steps(run: Run) -> list[int]:
    return [json.loads(line)["step"] for line in (run.path / "metrics.jsonl").read_text().splitlines()]


def test_records_behind_a_checkpoint_are_dropped(run: Run) -> None:
    for step in (1, 2, 2, 3, 4):
        run.log({"step": step, "loss": 1 / step})
    run.drop_records_after(2)
    assert steps(run) == [1, 2, 2]
    run.log({"step": 3})
    assert steps(run) == [1, 2, 2, 3]
    run.drop_records_after(-1)
    assert steps(run) == []


@pytest.mark.parametrize("torn", ['{"step": 2, "lo', '{"step": 2}', "", '{"step"'])
def test_a_torn_last_line_is_dropped(run: Run, torn: str) -> None:
    """A kill may leave any part of the last line; without its newline it does not count, and joins no later line."""
    run.log({"step": 1, "loss": 2.5})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write(torn)
    run.drop_records_after(5)
    run.log({"step": 2, "loss": 1.5})
    assert steps(run) == [1, 2]


@pytest.mark.parametrize(
    "line", [b"\0" * 30, b'{"step": 2, "lo\0\0\0', b'{"step": 2, "loss": ', b'{"loss": 1.0}', b'"\xff"', b"[1]", b"2"]
)
def test_a_damaged_line_is_lost_alone_and_told(run: Run, line: bytes) -> None:
    for step in (1, 2):
        run.log({"step": step})
    log = run.path / "metrics.jsonl"
    first, second = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(first + line + b"\n" + second)
    told = [f"{log}: line 2 is damaged, leaving it out"]
    assert run.read_log().records == [{"step": 1}, {"step": 2}]
    assert run.read_log().damages == told
    assert run.drop_records_after(1) == told
    assert log.read_bytes() == first


def test_nul_bytes_at_the_end_are_a_damaged_line(run: Run) -> None:
    """What a file system may leave where a line was being written when the power failed."""
    run.log({"step": 1})
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(b"\0" * 100)
    assert run.drop_records_after(5) == [f"{run.path / 'metrics.jsonl'}: line 2 is damaged, leaving it out"]
    assert steps(run) == [1]


def test_there_may_be_no_records_yet(run: Run) -> None:
    run.drop_records_after(3)
    assert steps(run) == []


# Files


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"x": object()})
    assert read_json(tmp_path / "a.json") == {"x": 1}

    def killed(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_json(tmp_path / "a.json", {"x": 2})
    assert read_json(tmp_path / "a.json") == {"x": 1}


def test_an_export_is_placed_into_the_run(run: Run) -> None:
    export = run.path / ".export.tmp"
    export.mkdir()
    for name in ("model.safetensors", "config.json"):
        (export / name).write_text(name)
    run.place(export)
    assert not export.exists()
    assert (run.path / "model.safetensors").read_text() == "model.safetensors"
    assert (run.path / "config.json").read_text() == "config.json"


# Damage


DAMAGED = {"empty": b"", "NUL bytes": bytes(40), "cut": b'{"a": 1', "not UTF-8": b'{"a": "\xff"}', "no object": b"[]"}


READERS: dict[str, Callable[[Run], Any]] = {
    "identity.json": lambda run: run.check_identity(IDENTITY),
    "result.json": lambda run: run.finished,
    "diverged.json": lambda run: run.diverged,
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_named_and_stays_as_it_is(run: Run, name: str, content: bytes) -> None:
    (run.path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}: damaged: "):
        READERS[name](run)
    assert run.find_damage() is not None
    assert (run.path / name).read_bytes() == content


# Finding runs


def test_a_run_is_found_by_name_or_by_path(run: Run, tmp_path: Path, runs_folder: Path) -> None:
    assert find_run("group/one", tmp_path) == run.path
    assert find_run(str(run.path)) == run.path
    (runs_folder / "mine").mkdir()
    assert find_run("mine") == runs_folder / "mine"
    assert find_run("group/one", runs_folder, base=tmp_path) == run.path


def test_a_run_that_is_not_there_is_named_with_those_that_are(run: Run, tmp_path: Path, runs_folder: Path) -> None:
    with pytest.raises(UserError, match="no run 'group/two' in .*; runs there: group/one"):
        find_run("group/two", tmp_path)
    with pytest.raises(UserError, match="no run 'x' in .*; there are no runs yet"):
        find_run("x")
    Run("zwei", tmp_path).open(IDENTITY, {})
    (run.path / "identity.json").write_bytes(b"")
    with pytest.raises(UserError, match=r"runs there: group/one \(.*damaged: the file is empty\), zwei"):
        find_run("group/two", tmp_path)


def test_what_a_killed_writer_left_goes_at_the_next_writing(tmp_path: Path) -> None:
    """But not what another process is writing at this moment, or what belongs to another file."""
    killed, others, busy = (tmp_path / name for name in (".a.json.1.tmp", ".b.json.1.tmp", ".a.json.2.tmp"))
    for path in (killed, others, busy):
        path.write_text("half")
    with busy.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_json(tmp_path / "a.json", {"whole": True})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a.json", others.name, busy.name])
    assert read_json(tmp_path / "a.json") == {"whole": True}


def test_a_run_without_its_identity_is_named(run: Run) -> None:
    save(run, 3, content("three"), keep=set())
    (run.path / "identity.json").unlink()
    with pytest.raises(UserError, match="identity.json: missing, though there is a run. Put back a copy of it"):
        run.check_identity(IDENTITY)


def test_what_another_process_is_writing_into_a_finished_run_is_left_to_it(run: Run) -> None:
    run.finish({"dev": 1.5})
    run._lock.release()  # as where its process ends
    gone, busy = (run.path / f".README.md.{writer}.tmp" for writer in ("gone", "busy"))
    for path in (gone, busy):
        path.touch()
    with busy.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        Run(run.name, run.path.parents[1]).tidy()
    assert [path.exists() for path in (gone, busy)] == [False, True]
