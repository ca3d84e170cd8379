"""Run directories: identity, lock, checkpoints, resume, records.

    runs/<name>/   config.yaml  identity.json  environment.json  metrics.jsonl  checkpoint-<step>/  model  result.json
                   revisions/<milestone>/  ema/, where a config asks for them

`result.json` is written last and marks completion; `diverged.json` says that there will be none. Everything is written
under a temporary name, flushed to the disk and then renamed, so that what exists is whole, also after a power loss.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import yaml
from filelock import Timeout

from palenka.runs.checkpoints import find_damage, read_state, write_state
from palenka.runs.identity import Identity
from palenka.runs.milestones import MILESTONES
from palenka.runs.records import Log, read_log
from palenka.util.config import read_yaml
from palenka.util.errors import UserError
from palenka.util.files import (
    make_folder,
    named,
    read_json,
    read_object,
    remove_leftovers,
    removed_on_error,
    replace,
    sync_file,
    sync_folder,
    sync_tree,
    write_json,
    write_text,
)
from palenka.util.locks import lock
from palenka.util.paths import ROOT, runs_root
from palenka.util.system_errors import noting

CHECKPOINT = "checkpoint-"
LEFTOVERS = ".*.tmp"
PATH_STARTS = ("/", "./", "../", "~")


def find_run(name_or_path: str, runs: Path | None = None, base: Path = Path()) -> Path:
    """The folder of a run given by name, or by a path relative to `base` (the current folder).

    What begins with `/`, `./`, `../` or `~` is a path. Anything else is a name, of a run within the folder of runs, or
    else a path that stays below `base`.

    Raises:
        UserError: there is none; with similar names.
    """
    runs = runs or runs_root()
    if name_or_path.startswith(PATH_STARTS) or name_or_path in (".", ".."):
        folder = base / os.path.expanduser(name_or_path)  # noqa: PTH111 (Path's raises where there is no such home)
        if folder.is_dir():
            return folder
        raise UserError(f"{name_or_path}: no such folder (relative to {base.absolute()})")
    if not name_or_path or ".." in Path(name_or_path).parts:
        raise UserError(
            f"{name_or_path!r}: neither a run's name, which stays within {runs}, nor a path, which begins with "
            f"{', '.join(PATH_STARTS)}"
        )
    for folder in (runs / name_or_path, base / name_or_path):
        if folder.is_dir():
            return folder
    names = sorted(str(path.parent.relative_to(runs)) for path in runs.glob("**/identity.json"))
    damages = {name: Run(name, runs).find_damage() for name in names}
    known = [f"{name} ({damage})" if damage else name for name, damage in damages.items()]
    hint = f"; runs there: {', '.join(known)}" if known else "; there are no runs yet"
    raise UserError(f"no run {name_or_path!r} in {runs}{hint}")


@dataclass(frozen=True)
class ResumePoint:
    """Where a run resumes: a whole checkpoint, what is damaged in others, and whether the best one was lost."""

    step: int
    damages: tuple[str, ...] = ()
    is_without_best: bool = False


class Run:
    """One run directory, held by one process at a time. `PRUNED` says that a search gave it up, and at which loss.

    Args:
        name: of the run.
        runs: folder of all runs.
        from_last_good: whether a run that diverged resumes from its last checkpoint.
    """

    PRUNED = "pruned.json"

    def __init__(self, name: str, runs: Path, from_last_good: bool = False) -> None:
        self.name = name
        self.path = runs / name
        self.from_last_good = from_last_good
        self.restarted = False

    @property
    def finished(self) -> bool:
        """Whether there is a result.

        Raises:
            UserError: there is, but it is damaged.
        """
        path = self.path / "result.json"
        if not path.exists():
            return False
        try:
            read_object(path)
        except UserError as error:
            raise UserError(
                f"{error}. Put back a copy of it; or remove it, and the same command finishes the run again, from its "
                "checkpoints if there are any"
            ) from None
        return True

    def find_damage(self) -> str | None:
        """What is wrong with the files that describe the run; None if all that exist can be read."""
        try:
            for name in ("identity.json", "environment.json", "diverged.json", "result.json"):
                if (path := self.path / name).exists():
                    read_object(path)
            if (path := self.path / "config.yaml").exists():
                read_yaml(path)
        except UserError as error:
            return str(error)
        return None

    @property
    def diverged(self) -> str | None:
        """What to say of a run whose training failed, and why it is not tried again."""
        path = self.path / "diverged.json"
        if self.from_last_good or not path.exists():
            return None
        return f"{read_object(path)['message']} It is not trained again; remove {path.name} there to retry."

    @property
    def pruned(self) -> dict[str, Any] | None:
        """At which step and loss a search gave the run up, if one did; trained by itself it starts over."""
        path = self.path / self.PRUNED
        return read_object(path) if path.exists() else None

    def mark_diverged(self, message: str) -> None:
        """Tell later starts that more training is pointless."""
        write_json(self.path / "diverged.json", {"message": message})

    @property
    def restarts(self) -> list[dict[str, Any]]:
        """From which steps the run resumed after it had diverged, and why."""
        path = self.path / "restarts.json"
        return cast(list[dict[str, Any]], read_json(path)) if path.exists() else []

    def _restart(self, skip_bad_steps: int) -> None:
        """Let a run that diverged resume from its last checkpoint: once, since a second try would end the same way."""
        path = self.path / "diverged.json"
        if not path.exists():
            return
        if (point := self.find_resume_point()) is None:
            raise UserError(f"{self.path}: diverged before its first checkpoint; there is none to resume from")
        step = point.step
        if any((restart["step"], restart["skip_bad_steps"]) == (step, skip_bad_steps) for restart in self.restarts):
            raise UserError(
                f"{self.path}: already resumed from step {step} with training.skip_bad_steps: {skip_bad_steps}, and "
                "diverged again. A larger training.skip_bad_steps may get past it; other changes need another name"
            )
        restart = {"step": step, "skip_bad_steps": skip_bad_steps, "reason": read_object(path)["message"]}
        write_json(self.path / "restarts.json", [*self.restarts, restart])
        path.unlink()
        self.restarted = True

    def check_identity(self, identity: Identity) -> None:
        """Refuse another experiment under a taken name.

        Args:
            identity: of the run that is to be trained.

        Raises:
            UserError: with every difference.
        """
        path = self.path / "identity.json"
        # Listed first: another process of this run may write identity.json, its first file, at any moment.
        foreign = [entry.name for entry in self.path.glob("*") if entry.is_file() and not entry.name.startswith(".")]
        if not path.exists():
            if "metrics.jsonl" in foreign or self.checkpoints():
                raise UserError(
                    f"{path}: missing, though there is a run. Put back a copy of it, or move the folder away to train "
                    "again under this name"
                )
            if foreign:
                listed = ", ".join(sorted(foreign)[:5])
                raise UserError(f"{self.path}: not a run, but holds files ({listed}); choose another name")
            return
        found = identity.differences(self._read_identity(path))
        if found:
            listed = "\n".join(f"  {line}" for line in found)
            raise UserError(
                f"{self.path}: this name is another run's; nothing was changed. It differs in\n{listed}\n"
                "Choose another name (name=…), or move that folder away."
            )

    def _read_identity(self, path: Path) -> dict[str, Any]:
        try:
            return read_object(path)
        except UserError as error:
            raise UserError(f"{error}. Put back a copy of it, or move {self.path} away to train again") from None

    def open(self, identity: Identity, config: dict[str, Any], hardware: Mapping[str, Any] | None = None) -> None:
        """Take the lock and write what the run is, and what it is trained on.

        Raises:
            UserError: another process holds the run, has just finished it, or made it another run.
        """
        make_folder(self.path)
        self._take_lock()
        self.check_identity(identity)
        if self.finished:
            raise UserError(f"{self.path}: another process has just finished this run; nothing is left to do")
        self._remove_leftovers()
        if self.from_last_good:
            self._restart(config["training"]["skip_bad_steps"])
        write_json(self.path / "identity.json", identity.given)
        write_text(self.path / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        write_json(self.path / "environment.json", environment() | dict(hardware or {}))

    def tidy(self) -> None:
        """Remove what was left by a process that was killed after writing its result, unless one is still running."""
        if self.finished and (self.checkpoints() or any(self.path.glob(LEFTOVERS))):
            with suppress(UserError, OSError):  # held, or where nothing can be removed
                self._take_lock()
                try:
                    self._remove_leftovers()
                    self.drop_checkpoints(keep=set())
                finally:
                    self._lock.release()

    def _remove_leftovers(self) -> None:
        remove_leftovers(self.path)
        for folder in filter(Path.is_dir, self.path.glob(LEFTOVERS)):
            shutil.rmtree(folder)

    def _take_lock(self) -> None:
        path = self.path / ".lock"
        try:
            self._lock = lock(path, holder=f"process {os.getpid()} on {platform.node()}")
        except Timeout:
            holder = path.read_text(errors="replace").strip()
            raise UserError(f"{self.path}: another process is training this run ({holder})") from None

    def checkpoint_path(self, step: int) -> Path:
        return self.path / f"{CHECKPOINT}{step}"

    @property
    def kept(self) -> str:
        """What is left of an interrupted training, and how to resume it."""
        steps = self.checkpoints()
        if not steps:
            return f"{self.path}: there is no checkpoint yet; the same command starts over"
        return f"{self.path}: the last checkpoint, step {steps[0]}, is kept, and the same command resumes from there"

    def checkpoints(self) -> list[int]:
        """Steps of the checkpoints, the newest first, damaged ones too."""
        names = [path.name.removeprefix(CHECKPOINT) for path in self.path.glob(f"{CHECKPOINT}*")]
        # A copy that somebody made has another name.
        return sorted((int(name) for name in names if name.isdecimal()), reverse=True)

    def verify_checkpoint(self, step: int) -> str | None:
        """What is missing or damaged in a checkpoint, with its path; None if it is whole."""
        return find_damage(self.checkpoint_path(step), step)

    def find_resume_point(self) -> ResumePoint | None:
        """The newest whole checkpoint that has the best one until then beside it, whole too; None if there are none.

        The training repeats what comes after it. If there is no such pair, it is the newest whole one, without a best.

        Raises:
            UserError: no checkpoint is whole.
        """
        damages: dict[int, str | None] = {}

        def is_whole(step: int) -> bool:
            if step not in damages:
                damages[step] = self.verify_checkpoint(step)
            return damages[step] is None

        steps = self.checkpoints()
        with_best = (step for step in steps if is_whole(step) and is_whole(self._best_at(step)))
        step = next(with_best, None)
        is_without_best = step is None
        if step is None:
            step = next(filter(is_whole, steps), None)
        found = tuple(damage for damage in damages.values() if damage)
        if step is not None:
            return ResumePoint(step, found, is_without_best)
        if found:
            listed = "\n".join(f"  {damage}" for damage in found)
            raise UserError(
                f"{self.path}: no checkpoint is whole; nothing was removed.\n{listed}\n"
                "Put back a copy of one of them; or remove them all, to train from the start."
            )
        return None

    def _best_at(self, step: int) -> int:
        """Step of the checkpoint that was the best one when this one was written."""
        best = read_state(self.checkpoint_path(step))["progress"]["best_step"]
        return step if best is None else int(best)

    def save_checkpoint(
        self, step: int, write: Callable[[Path], None], state: dict[str, Any], keep: set[int], is_best: bool = False
    ) -> None:
        """Write a checkpoint folder, whole or not at all, then drop those that are not in `keep`.

        Args:
            step: of the training.
            write: writes the files of a folder.
            state: what a resume reads beside them; `progress` has `step` and `best_step`.
            keep: steps of other checkpoints.
            is_best: whether it will be needed at the end; then it is read back from the disk.

        Raises:
            UserError: what is read back is damaged.
        """

        def write_all(folder: Path) -> None:
            write(folder)
            write_state(folder, state)

        self._flush_log()
        self._write_folder(self.checkpoint_path(step), write_all)
        if is_best and (damage := self.verify_checkpoint(step)):
            raise UserError(f"{damage}, just after it was written: do not trust this disk. Nothing was removed")
        self.drop_checkpoints(keep | {step})
        if path := os.environ.get("PALENKA_STARTS"):  # a job's count of its starts without progress: there was some
            Path(path).unlink(missing_ok=True)

    def drop_checkpoints(self, keep: set[int]) -> None:
        for step in self.checkpoints():
            if step not in keep:
                self._discard(self.checkpoint_path(step))

    def milestone_path(self, milestone: str) -> Path:
        return self.path / MILESTONES / milestone

    def save_milestone(self, milestone: str, write: Callable[[Path], None]) -> None:
        """Write a milestone's model folder, whole or not at all; in place of one that a resume repeats."""
        final = self.milestone_path(milestone)
        make_folder(final.parent)
        self._write_folder(final, write)

    def save_average(self, write: Callable[[Path], None]) -> None:
        """Write the model folder of the weights' average, whole or not at all."""
        self._write_folder(self.path / "ema", write)

    def _write_folder(self, final: Path, write: Callable[[Path], None]) -> None:
        temporary = self.path / f".{final.name}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        with noting(lambda: f"{final} was not written"), removed_on_error(temporary):
            temporary.mkdir()
            write(temporary)
            sync_tree(temporary)
            former = self._hide(final) if final.exists() else None
            replace(temporary, final)
        if former:
            shutil.rmtree(former)

    def _discard(self, folder: Path) -> None:
        shutil.rmtree(self._hide(folder))

    def _hide(self, folder: Path) -> Path:
        """Rename a folder before removing it: half removed it must not look whole."""
        return folder.replace(self.path / f".{folder.name}.doomed.tmp")

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        path = self.path / "metrics.jsonl"
        with named(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def _flush_log(self) -> None:
        """Flush the log to the disk: a checkpoint, or the result, must not outlive it."""
        path = self.path / "metrics.jsonl"
        if path.exists():
            sync_file(path)

    def drop_records_after(self, step: int) -> list[str]:
        """Forget what was logged after a checkpoint; it will be logged again. Returns what to say of damaged lines,
        which are dropped too."""
        log = self.read_log()
        kept = [line for line, record in zip(log.lines, log.records, strict=True) if record["step"] <= step]
        write_text(self.path / "metrics.jsonl", "".join(kept))
        return log.damages

    def read_log(self) -> Log:
        """What has been logged."""
        return read_log(self.path / "metrics.jsonl")

    def place(self, folder: Path) -> None:
        """Move the files of a finished export into the run directory."""
        sync_tree(folder)
        for path in sorted(folder.iterdir()):
            path.replace(self.path / path.name)
        sync_folder(self.path)
        folder.rmdir()

    def finish(self, result: dict[str, Any]) -> None:
        """Mark the run complete; checkpoints are no longer needed."""
        self._flush_log()
        write_json(self.path / "result.json", result)
        self.drop_checkpoints(keep=set())


def environment() -> dict[str, Any]:
    """Versions, commit and machine: for the record, never part of a run's identity."""
    packages = ("torch", "transformers", "accelerate", "tokenizers", "numpy")
    return {
        "command": " ".join(sys.argv),
        "commit": _commit(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
        "host": platform.node(),
        "platform": platform.platform(),
        "slurm_job_id": os.environ.get("SLURM_JOB_ID"),
        "log": os.environ.get("PALENKA_LOG"),
    }


def _commit() -> str | None:
    try:
        git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
