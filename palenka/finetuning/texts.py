"""The files of a task, `<data>/glue_filtered/<task>.train.jsonl` and `<task>.valid.jsonl`.

A line is an item, with a whole number as its `label`.
"""

import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from palenka.evaluation.task_files import Line, read_lines
from palenka.finetuning.tasks import TASKS
from palenka.util.errors import UserError
from palenka.util.files import sha256

FOLDER = "glue_filtered"


@dataclass(frozen=True)
class LabelledTexts:
    """The items of a file, in its order. `second` is None where items are single texts."""

    path: Path
    first: list[str]
    second: list[str] | None
    labels: list[int]
    sha256: str


def read_texts(folder: Path, name: str, split: str) -> LabelledTexts:
    """Read and check a file of a task.

    Args:
        folder: of GLUE's files.
        name: of the task.
        split: `train` or `valid`.

    Raises:
        UserError: there is no such file, or an item cannot be used, with its line and key.
    """
    task, path = TASKS[name], folder / f"{name}.{split}.jsonl"
    if not path.exists():
        wanted = "to train on" if split == "train" else "to answer"
        raise UserError(f"{path}: no such file, so {name} has nothing {wanted}; add it, or leave {name} out of --tasks")
    lines = [Line(path, number, record) for number, record in read_lines(path)]
    second = task.second
    return LabelledTexts(
        path,
        [_filled(task.first, line) for line in lines],
        [_filled(second, line) for line in lines] if second else None,
        [_label(line, task.labels) for line in lines],
        sha256(path),
    )


def _filled(template: str, line: Line) -> str:
    return template.format(**{key: line.text(key) for key in _keys(template)})


def _keys(template: str) -> Iterator[str]:
    return (key for _, key, _, _ in string.Formatter().parse(template) if key)


def _label(line: Line, labels: int) -> int:
    label = line.record.get("label")
    if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < labels:
        raise line.problem("label", f"a whole number from 0 to {labels - 1}")
    return label
