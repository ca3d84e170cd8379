"""Where the runs stand: progress, loss, speed, time left, their job in SLURM's queue, and where its log is."""

import platform
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palenka.cluster import slurm
from palenka.runs.directory import Run
from palenka.search.record import FILE, headline, read_search
from palenka.util.config import read_yaml
from palenka.util.errors import UserError
from palenka.util.files import read_object
from palenka.util.paths import runs_root
from palenka.util.tables import text_table
from palenka.util.text import clock

COLUMNS = ("run", "state", "done", "loss", "dev", "tok/s", "left", "job", "log")
STILL = ("finished", "pruned", "stopped", "damaged")
"""States of runs that go no further by themselves."""


@dataclass(frozen=True)
class Standing:
    """Runs, a row of `COLUMNS` each, those last that have not begun but wait in the queue; and what else to say."""

    rows: Sequence[Mapping[str, str]]
    notes: Sequence[str]

    def __str__(self) -> str:
        if not self.rows:
            return f"no runs in {runs_root()}, and none in the queue"
        cells = [COLUMNS, *([row.get(column, "") for column in COLUMNS] for row in self.rows)]
        return "\n".join([text_table(cells, left=len(COLUMNS)), *self.notes])

    @property
    def is_moving(self) -> bool:
        """Whether any of the runs goes on, or waits to."""
        return any(row["state"] not in STILL for row in self.rows)


def status(names: Sequence[str] = ()) -> Standing:
    """Where runs stand.

    Args:
        names: of runs, or of folders of runs; default all.

    Raises:
        UserError: a name is neither.
    """
    jobs = slurm.Jobs(must_answer=False)
    runs = sorted(str(path.parent.relative_to(runs_root())) for path in runs_root().rglob("identity.json"))
    waiting = [step for step in jobs.known if step not in runs and jobs.of(step)]
    for name in names:
        if not _below(name, [*runs, *waiting]):
            raise UserError(f"no run {name!r} in {runs_root()}, and none in the queue")
    in_training = Counter(_holder(name) for name in runs if not (runs_root() / name / "result.json").exists())
    notes: list[str] = []
    rows = [_run_row(name, jobs, in_training[_holder(name)], notes.append) for name in _chosen(runs, names)]
    rows += [_waiting_row(step, jobs) for step in _chosen(waiting, names)]
    return Standing(rows, [*_searches(names), *notes])


def _searches(names: Sequence[str]) -> list[str]:
    """A line for each search that any of the names is, or is in."""
    folders = {str(path.parent.relative_to(runs_root())): path.parent for path in sorted(runs_root().rglob(FILE))}
    records = (read_search(folders[name]) for name in _chosen(list(folders), names))
    return [headline(record) for record in records if record]


def _below(name: str, runs: Sequence[str]) -> list[str]:
    return [run for run in runs if run == name or run.startswith(f"{name}/")]


def _chosen(runs: Sequence[str], names: Sequence[str]) -> list[str]:
    return [run for run in runs if not names or any(_below(name, [run]) for name in names)]


def _holder(name: str) -> str:
    """The process that has held the run last; that of all students of a cohort."""
    lock = runs_root() / name / ".lock"
    return lock.read_text(errors="replace").strip() if lock.exists() else ""


def _run_row(name: str, jobs: slurm.Jobs, students: int, tell: Callable[[str], None]) -> dict[str, str]:
    """What a run's files tell of it and of its job, where one process trains so many; what is damaged is told."""
    run = Run(name, runs_root())
    try:
        if damage := run.find_damage():
            raise UserError(damage)
        row = _whole_row(run, jobs, students)
    except (UserError, KeyError, TypeError) as error:
        tell(str(error) if isinstance(error, UserError) else f"{run.path}: damaged: a file lacks {error}")
        return {"run": name, "state": "damaged"}
    for damage in run.read_log().damages:
        tell(damage)
    return row


def _whole_row(run: Run, jobs: slurm.Jobs, students: int) -> dict[str, str]:
    name, path = run.name, run.path / "environment.json"
    environment = read_object(path) if path.exists() else {}  # a run that was killed as it began has none yet
    raw_id = environment.get("slurm_job_id")
    job = next((job for job in jobs.queue.values() if job.raw_id == raw_id), None) or jobs.of(name)
    state = "finished" if run.finished else "pruned" if run.pruned else _job_state(job) if job else _state_here(name)
    log = environment.get("log") or ""
    return {"run": name, "state": state, "job": job.id if job else raw_id or "", "log": log} | _figures(run, students)


def _figures(run: Run, students: int) -> dict[str, str]:
    """Progress, the last losses, and what is left at the last speed."""
    records = {record.get("split"): record for record in run.read_log().records}  # the last one of each split
    train, dev = records.get("train"), records.get("dev")
    figures = {"dev": f"{dev['loss']:.4f}"} if dev else {}
    if train is None:
        return figures
    done = 1.0 if run.finished else _share_done(run.path, train)
    speed = train["tokens_per_second"]  # of the time that went into this run, a part of its cohort's
    figures |= {"done": f"{done:.0%}", "loss": f"{train['loss']:.4f}", "tok/s": f"{speed:,}"}
    if not run.finished and speed and done:
        figures["left"] = clock(students * train["tokens"] * (1 / done - 1) / speed)
    return figures


def _share_done(folder: Path, record: dict[str, Any]) -> float:
    training = read_yaml(folder / "config.yaml")["training"]
    if "max_steps" in training:
        return float(record["step"] / training["max_steps"])
    return float(min(1.0, record["epoch"] / training["num_epochs"]))


def _job_state(job: slurm.QueuedJob) -> str:
    reason = f" ({job.reason})" if job.state == "PENDING" and job.reason != "None" else ""
    return job.state.lower() + reason


def _state_here(name: str) -> str:
    """Whether the process that held the run last is still there, as far as this machine can tell."""
    holder = re.fullmatch(r"process (\d+) on (.*)", _holder(name))
    is_here = holder and holder[2] == platform.node() and Path("/proc", holder[1]).exists()
    return "running here" if is_here else "stopped"


def _waiting_row(step: str, jobs: slurm.Jobs) -> dict[str, str]:
    job = jobs.of(step)
    assert job is not None
    return {"run": step, "state": _job_state(job), "job": job.id, "log": str(slurm.log_path(job.name, job.id))}
