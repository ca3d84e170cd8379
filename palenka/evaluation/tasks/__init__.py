"""What an evaluation task is: how its files are read, what a model is asked, and what the answers come to.

A task is a folder `<data>/<name>/`, and a new kind of task is one file here: `my_task.py` defines
`class MyTask(EvaluationTask)`, which says of a folder whether it is one of its kind. Results are written and shown, and
read again only while their records still come to the same, without anything else being touched.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from palenka.data.published import GATED
from palenka.evaluation.items import Records, Task
from palenka.evaluation.texts import TextScorer
from palenka.util.doors import Door
from palenka.util.errors import UserError


class AskedModel(Protocol):
    """A model as tasks ask it."""

    @property
    def own(self) -> TextScorer:
        """Our own scorer of texts, in a way that is one paradigm's."""

    def score_choices(self, task: Task, label: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Score of each choice of a task's items, in order, by the scorer that is asked for, and how many tokens it is
        the sum of."""


class EvaluationTask:
    """Base of all kinds of task.

    `only_own_scorer`: whether no other scorer can be asked it. `only_predictions`: whether it asks for a prediction of
    a token, which ways that add up several, or hide more than one, do not give.
    """

    only_own_scorer: bool = False
    only_predictions: bool = False
    name: str

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Whether a folder is a task of this kind."""
        raise NotImplementedError

    @classmethod
    def read(cls, folder: Path, protocol: str = "2024") -> "EvaluationTask":
        """Read and check all of it that a protocol asks.

        Raises:
            UserError: what cannot be used, with its file and line.
        """
        raise NotImplementedError

    @property
    def digest(self) -> str:
        """sha256 of all that decides a result."""
        raise NotImplementedError

    def measure(self, model: AskedModel, label: str) -> tuple[Iterable[dict[str, Any]], dict[str, Any]]:
        """A record of each item, and the figures that they come to.

        `accuracy`, `stderr`, `n` and so on where there are right answers (`choices.py` has them all); otherwise `n` and
        `scores`: {name: {"value", "stderr"}}, shares of 1.
        """
        raise NotImplementedError

    def derive(self, records: Records) -> dict[str, Any]:
        """The figures that records, read again, come to.

        Raises:
            UserError: they are not of these items.
        """
        raise NotImplementedError


DOOR: Door[EvaluationTask] = Door(__name__, "kind of task")


def kind_of(folder: Path) -> type[EvaluationTask] | None:
    """The file that recognises a folder, by its class; None where there is none."""
    kinds = (DOOR.find(name) for name in DOOR.available())
    return next((kind for kind in kinds if kind.recognises(folder)), None)


def read_task(folder: Path, protocol: str = "2024") -> EvaluationTask:
    """A task, by the file that recognises its folder, as a protocol asks it.

    Raises:
        UserError: there is no such task, or it cannot be used.
    """
    if kind := kind_of(folder):
        return kind.read(folder, protocol)
    if not folder.is_dir():
        advice = f"; {GATED[folder.name]}" if folder.name in GATED else ""
        raise UserError(f"no task {folder.name!r}: looked for the folder {folder}{advice}")
    raise UserError(f"{folder}: no .jsonl files in it, nor anything else that a task is made of")
