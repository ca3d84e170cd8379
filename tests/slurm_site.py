"""A checkout of the repository whose jobs run on a test's SLURM, with tiny models."""

import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import tiny
import yaml
from slurm_cluster import Cluster, until

from palenka.util.paths import ROOT

SECONDS = 300  # of patience with a busy machine
STEPS = 600
PROGRAMS = ("palenka", "scripts", "config")
PACE = """
# Training that takes its time, on any machine: so many seconds a step.
import os, sys, time
if "--config" in sys.orig_argv:
    from palenka.training.display import Display
    Display.advance = lambda self: time.sleep(float(os.environ["SECONDS_A_STEP"]))
"""


class Place:
    """A checkout with a space in its path, data, runs and logs, where any user may look."""

    def __init__(self, folder: Path, cluster: Cluster, prepared: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.checkout = folder / "a checkout"
        self.runs = folder / "runs"
        self.data = folder / "data"
        shutil.copytree(prepared, self.data / prepared.name)
        self.settings = {
            "PALENKA_DATA": str(self.data), "PALENKA_RUNS": str(self.runs), "CUDA_VISIBLE_DEVICES": "",
            "PALENKA_EVAL": str(folder / "evaluation"),
        }  # fmt: skip
        write_checkout(self.checkout)
        (folder / "slow").mkdir()
        (folder / "slow" / "sitecustomize.py").write_text(PACE)

    def config(self, name: str, file: str | None = None, **training: Any) -> Path:
        """A config in float32 whose run has that name."""
        values = tiny.train_values(name=name)
        values["training"] |= training
        path = self.folder / (file or f"{name}.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(values))
        return path

    def submit(self, *arguments: str | Path, cwd: Path | None = None, **environment: Any) -> str:
        return self.cluster.submit(*arguments, cwd=cwd or self.folder, **self.settings | environment)

    def submit_slow(self, *arguments: str | Path, seconds: float = 0.01, **environment: str) -> str:
        """A job whose training takes at least so many seconds a step."""
        slow = {"PYTHONPATH": str(self.folder / "slow"), "SECONDS_A_STEP": str(seconds)}
        return self.submit(*arguments, **slow, **environment)

    def script(self, name: str) -> Path:
        return self.checkout / "scripts" / name

    def log(self, job: str, name: str = "train") -> str:
        path = self.checkout / "logs" / f"{name}-{job}.out"
        return path.read_text(encoding="utf-8") if path.exists() else f"no {path}"

    def ends(self, job: str, name: str = "train", state: str = "COMPLETED", code: str = "0:0") -> dict[str, str]:
        """Wait for a job's end, which must be this; its record."""
        record = self.cluster.wait(job, SECONDS)
        assert (record["JobState"], record["ExitCode"]) == (state, code), self.log(job, name)
        return record

    def checkpoint(self, run: str) -> None:
        """Wait for the first checkpoint of a run."""
        until(lambda: any((self.runs / run).glob("checkpoint-*")), SECONDS)


def write_checkout(folder: Path, python: str = f'"{sys.executable}"') -> None:
    """What jobs need of the repository, with a command in place of Python's."""
    for name in PROGRAMS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "cluster.env"))
    for name in ("train.py", "distill.py"):
        shutil.copy(ROOT / name, folder)
    (folder / ".venv" / "bin").mkdir(parents=True)
    write_program(folder / ".venv" / "bin" / "python", f'exec {python} "$@"')


def write_program(path: Path, command: str) -> None:
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o755)


def long_config(place: Place, name: str) -> Path:
    return place.config(name, max_steps=STEPS, eval_steps=STEPS // 4, checkpoint_steps=50, logging_steps=70)


def is_back(cluster: Cluster, node: str) -> bool:
    """Whether a node that was down is no longer; SLURM takes it back only when it is done with what ran there."""
    if "State=DOWN" in cluster.run("scontrol", "show", "node", node):
        with suppress(AssertionError):
            cluster.run("scontrol", "update", f"nodename={node}", "state=resume")
        return False
    return True
