"""Jobs: how one gets into SLURM's queue, and which of those that we submitted are not over."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from palenka.util.errors import UserError
from palenka.util.files import read_json, write_json
from palenka.util.paths import ROOT, corpora_root, data_root, evaluation_root, runs_root, signals_root

PATIENCE = 60  # seconds for a controller that is busy


@dataclass(frozen=True)
class QueuedJob:
    """A job, or a task of an array (`id` is then ARRAY_TASK), that is not over."""

    id: str
    raw_id: str
    state: str
    reason: str
    name: str


def is_here() -> bool:
    """Whether this machine belongs to a cluster."""
    return shutil.which("sbatch") is not None


def queue() -> dict[str, QueuedJob]:
    """This user's jobs that wait or run, by id; empty where there is no SLURM."""
    if not is_here():
        return {}
    printed = _call("squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i|%A|%T|%r|%j")
    jobs = [QueuedJob(*line.split("|", 4)) for line in printed.splitlines()]
    return {job.id: job for job in jobs}


def submit(script: str, arguments: Sequence[str], options: Sequence[str]) -> str:
    """Submit one of the repository's job scripts from its root; returns the job's id.

    The job finds the repository, texts, data, runs, cached logits and evaluation data where we do.

    Raises:
        UserError: SLURM refuses it.
    """
    folders = {
        "ROOT": ROOT, "CORPORA": corpora_root(), "DATA": data_root(), "RUNS": runs_root(), "SIGNALS": signals_root(),
        "EVAL": evaluation_root(),
    }  # fmt: skip
    printed = _call(
        "sbatch", "--parsable", *options, str(ROOT / "scripts" / script), *arguments,
        environment={f"PALENKA_{name}": str(folder) for name, folder in folders.items()},
    )  # fmt: skip
    job = printed.strip().rpartition("\n")[2].split(";")[0]  # ID;CLUSTER on a federation; a site's words before it
    if not job.isdecimal():
        raise UserError(f"sbatch: expected the id of a job, got {printed.strip()!r}")
    return job


def cancel_waiting(job: str) -> None:
    """Take a job out of the queue unless it runs already."""
    _call("scancel", "--state=PENDING", job)


def log_path(name: str, job: str) -> Path:
    """Where the job scripts write the log of a job of that name."""
    return ROOT / "logs" / f"{name.replace('/', '-')}-{job}.out"


class Jobs:
    """The jobs that were submitted by name, kept in `.jobs.json` among the runs, and this user's queue as it is now.

    Args:
        must_answer: whether it is an error that SLURM is here, but does not answer; otherwise it is only said.

    Raises:
        UserError: it is.
    """

    def __init__(self, must_answer: bool) -> None:
        self.path = runs_root() / ".jobs.json"
        try:
            self.queue = queue()
        except UserError as error:
            if must_answer:
                raise
            print(f"the queue is not known: {'; '.join(str(error).splitlines())}", file=sys.stderr)
            self.queue = {}
        self.known: dict[str, dict[str, str]] = read_json(self.path) if self.path.exists() else {}

    def of(self, step: str) -> QueuedJob | None:
        """The job of a step, or a task of its array, if it waits or runs. Ids may come again: its name must be ours."""
        known = self.known.get(step, {"id": "", "name": ""})
        ours = (job for job in self.queue.values() if known["id"] in (job.id, job.id.partition("_")[0]))
        return next((job for job in ours if job.name == known["name"]), None)

    def hint(self, step: str) -> str:
        """Where to look for the reason that a step is not done."""
        known = self.known.get(step)
        if not known:
            return ""
        log = log_path(known["name"], known["id"])
        logs = sorted(log.parent.glob(f"{log.stem}*.out"))  # NAME-ID_TASK.out of each task of an array
        return f", see {' '.join(map(str, logs))}" if logs else ", which never started: what it needs is missing"

    def add(self, step: str, job: str, name: str) -> None:
        self.known[step] = {"id": job, "name": name}
        write_json(self.path, self.known)


def _call(*command: str, environment: dict[str, str] | None = None) -> str:
    settings = os.environ | (environment or {})
    try:
        done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]}: no answer within {PATIENCE} seconds") from None
    if done.returncode:
        raise UserError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
