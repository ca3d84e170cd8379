"""Jobs: how one gets into SLURM's queue, and which of those that we submitted are not over."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from palenka.config import UserError
from palenka.files import read_json, write_json
from palenka.paths import ROOT, data_root, evaluation_root, runs_root

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

    A job whose dependency fails is cancelled. The job finds data, runs and evaluation data where we do.
    """
    folders = {"PALENKA_DATA": data_root(), "PALENKA_RUNS": runs_root(), "PALENKA_EVAL": evaluation_root()}
    printed = _call(
        "sbatch", "--parsable", "--kill-on-invalid-dep=yes", *options, str(ROOT / "scripts" / script), *arguments,
        environment={name: str(folder) for name, folder in folders.items()},
    )  # fmt: skip
    return printed.strip().split(";")[0]  # ID;CLUSTER on a federation


def log_path(name: str, job: str) -> Path:
    """Where the job scripts' preamble writes the log of a job of that name."""
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
            print(f"the queue is not known: {error}", file=sys.stderr)
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
        return f", see {log_path(known['name'], known['id'])}" if known else ""

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
