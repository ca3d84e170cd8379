"""A checkout of an official pipeline and the interpreter that runs it, in a folder of its own.

Nothing is written into the checkout, not even compiled Python, and nothing is fetched from a network.
"""

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palenka.evaluation.items import Records
from palenka.evaluation.protocols import PROTOCOLS
from palenka.evaluation.tasks import EvaluationTask
from palenka.util.errors import UserError

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "WANDB_MODE": "disabled"}
LAST_LINES = 15
PROBE = """
import importlib.metadata, json, sys
def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
versions = {name: version(name) for name in sys.argv[1:]}
device = None
if None not in versions.values():
    import torch
    device = "cuda" if torch.cuda.is_available() else "cpu"
print(json.dumps({"versions": versions, "device": device}))
"""


@dataclass(frozen=True)
class Found:
    """A task's result, as its file holds it, and a record of each item."""

    result: dict[str, Any]
    items: Records


@dataclass(frozen=True)
class Pipeline:
    """What is known of a pipeline.

    `marker` is a file that only its checkout has; its modules lie in the checkout's folder `root`; `packages` is what
    it imports for its `tasks`, a mapping from our names to its own; `run` runs one of them; `ways` of asking are its
    back-ends, by their names.
    """

    year: str
    repository: str
    marker: str
    packages: tuple[str, ...]
    tasks: Mapping[str, str]
    run: Callable[["Job"], Found]
    ways: tuple[str, ...] = ("causal",)
    root: str = ""

    @property
    def variable(self) -> str:
        """The environment variable that names the checkout; with `_PYTHON` appended, the one for the interpreter."""
        return f"PALENKA_PIPELINE_{self.year}"


@dataclass(frozen=True)
class Checkout:
    """A pipeline, its folder, the interpreter to run it with, and what that has: packages and a device."""

    pipeline: Pipeline
    folder: Path
    python: str
    versions: dict[str, str]
    device: str

    @classmethod
    def find(cls, pipeline: Pipeline, folder: Path | None, python: str) -> "Checkout":
        """Raise UserError unless the folder is that pipeline's and the interpreter has what it needs."""
        if folder is None:
            raise UserError(
                f"the {pipeline.year} pipeline is not part of Palenka: git clone {pipeline.repository}, and name the "
                f"folder in {pipeline.variable} or with --checkout"
            )
        if not (folder / pipeline.marker).is_file():
            raise UserError(f"{folder}: not a checkout of {pipeline.repository}: there is no {pipeline.marker} in it")
        return cls(pipeline, folder.absolute(), python, **_probe(pipeline, python))

    @property
    def commit(self) -> str | None:
        """The checkout's commit, with "-dirty" appended if files were changed; None if git does not know."""
        git = ["git", "-C", str(self.folder), "describe", "--always", "--dirty", "--abbrev=40"]
        if not (self.folder / ".git").exists():
            return None
        found = subprocess.run(git, capture_output=True, text=True, check=False)
        return found.stdout.strip() or None


def _probe(pipeline: Pipeline, python: str) -> dict[str, Any]:
    command = [python, "-c", PROBE, *pipeline.packages]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=True, env=_environment())
        found = json.loads(ended.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
        raise UserError(f"{python}: not a working Python interpreter: {said}") from None
    missing = [name for name, version in found["versions"].items() if version is None]
    if missing:
        names = " ".join(missing)
        raise UserError(
            f"{python}: the {pipeline.year} pipeline needs packages that it lacks: {python} -m pip install {names} "
            f"(or name another interpreter in {pipeline.variable}_PYTHON or with --pipeline-python)"
        )
    return found


def _environment(**changes: str) -> dict[str, str]:
    """The environment without our own Python path."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return kept | OFFLINE | {"PYTHONDONTWRITEBYTECODE": "1"} | changes


@dataclass(frozen=True)
class Job:
    """One task of one model.

    `folder`, where the pipeline runs and what it writes goes, holds links to the model (`model`) and to the items
    (`evaluation_data`), so that no path of ours needs quoting there; `log` keeps all that it prints; `way` of asking.
    """

    checkout: Checkout
    folder: Path
    task: EvaluationTask
    log: Path
    way: str = "causal"

    @property
    def items(self) -> str:
        """The name of the task's folder."""
        return PROTOCOLS[self.checkout.pipeline.year].folder(self.task.name)

    def run(self, *arguments: str, modules: Path | None = None) -> None:
        """Run `python -m` with these arguments; `modules` is a folder to import from first.

        Raises:
            UserError: the pipeline fails, with the end of what it printed.
        """
        checkout = self.checkout.folder / self.checkout.pipeline.root
        path = os.pathsep.join(str(folder) for folder in (modules, checkout) if folder is not None)
        environment = _environment(PYTHONPATH=path, HF_DATASETS_CACHE=str(self.folder / "cache"))
        with self.log.open("w", encoding="utf-8") as log:
            ended = subprocess.run(
                [self.checkout.python, "-m", *arguments],
                cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                check=False,
            )  # fmt: skip
        if ended.returncode:
            raise self.problem(f"ended with exit code {ended.returncode}")

    def problem(self, what: str) -> UserError:
        """An error of the pipeline, with the end of its output."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
        last = "\n".join(f"    {line}" for line in lines[-LAST_LINES:])
        year = self.checkout.pipeline.year
        return UserError(f"{self.task.name}: the {year} pipeline {what}. The end of {self.log}:\n{last}")
