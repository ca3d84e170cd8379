"""Compares two models, or two groups of seeds, on the items on which both were scored: printed, and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from palenka.evaluation.comparison import LEVEL, RESAMPLES, SEED, ItemDifference
from palenka.report.compare_runs import Comparison, TaskComparison, read_comparison
from palenka.report.compare_text import terminal_text
from palenka.report.results import Run
from palenka.util.errors import UserError
from palenka.util.files import make_folder, require_writable, write_json

NORMAL = "normal, paired standard error over items"


def compare(
    a: Sequence[str],
    b: Sequence[str],
    tasks: Sequence[str] | None,
    show_all: bool,
    out: Path | None,
    protocol: str = "2024",
    ways: tuple[str, str] | None = None,
) -> None:
    """Prints what the items say of A and B, and writes it to `out` in full.

    Args:
        a: names or folders of evaluated runs; several differ in their seeds only.
        b: the other side, likewise.
        tasks: default all on which every run was evaluated.
        show_all: also fields, phenomena and subtasks whose difference is not significant.
        out: a JSON file; its folder is made if need be.
        protocol: of the evaluations to compare.
        ways: of asking A and B; default all, each compared with itself.

    Raises:
        UserError: a run is not there, not evaluated on a task, or differs in what has to be the same.
    """
    if out is not None and out.is_dir():
        raise UserError(f"--out {out}: is a folder; expected a file to write")
    if out is not None:
        require_writable(out.parent)
    found = read_comparison(a, b, tasks, protocol, ways)
    print(terminal_text(found, show_all))
    if out is not None:
        make_folder(out.parent)
        write_json(out, content(found))
        print(f"\nIn full: {out}")


def content(found: Comparison) -> dict[str, Any]:
    """Everything, for a JSON file."""
    return {
        "level": LEVEL,
        "resamples": RESAMPLES,
        "bootstrap_seed": SEED,
        "p_of_subtasks": "exact McNemar" if found.single_runs else NORMAL,
        "p_of_means_over_subtasks": NORMAL,
        "a": [_described(run) for run in found.a],
        "b": [_described(run) for run in found.b],
        "tasks": {task.task: _task_content(found, task) for task in found.tasks},
    }


def _described(run: Run) -> dict[str, Any]:
    return {"run": run.label, "folder": str(run.folder), "seed": run.seed}


def _task_content(found: Comparison, task: TaskComparison) -> dict[str, Any]:
    def row(kind: str, name: str, difference: ItemDifference) -> dict[str, Any]:
        return asdict(difference) | {"p_holm": found.holm[kind, task.task, name]}

    return {
        "convention": task.protocol,
        "items_sha256": task.items,
        "over_items": row("tasks", task.task, task.whole)
        | {"mcnemar_p_holm": found.holm.get(("mcnemar", task.task, task.task))},
        "over_seeds": {"a": task.a, "b": task.b, "difference": asdict(task.seeds) if task.seeds else None},
        **{
            kind: {name: row(kind, name, difference) for name, difference in parts.items()}
            for kind, parts in task.parts.items()
        },
    }
