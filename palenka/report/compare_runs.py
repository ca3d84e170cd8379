"""Two groups of runs: read, checked to be comparable, and compared item by item."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from palenka.evaluation.comparison import (
    ItemDifference,
    SeedDifference,
    compare_items,
    compare_seeds,
    holm,
    mean_outcomes,
    resampled,
)
from palenka.evaluation.results import items_path
from palenka.report.comparison import comparable, task_names, without_seed
from palenka.report.results import Evaluation, Run, read_evaluated, set_labels
from palenka.runs.directory import find_run
from palenka.runs.identity import differences
from palenka.util.errors import UserError
from palenka.util.text import did_you_mean

KINDS = {"fields": "field", "phenomena": "phenomenon"}
FAMILIES = ("tasks", "mcnemar", *KINDS, "subtasks")


@dataclass(frozen=True)
class TaskComparison:
    """A and B on one task; `parts` by kind ("fields", "phenomena", "subtasks") and name."""

    task: str
    protocol: str
    items: Any
    a: list[float]
    b: list[float]
    whole: ItemDifference
    parts: dict[str, dict[str, ItemDifference]]
    seeds: SeedDifference | None


@dataclass(frozen=True)
class Comparison:
    """Two groups of runs on their tasks; `omitted`: tasks on which only some runs were evaluated.

    `single_runs`: each side is one run, so that McNemar's test applies.
    """

    a: list[Run]
    b: list[Run]
    tasks: list[TaskComparison]
    omitted: list[str]

    @property
    def single_runs(self) -> bool:
        return len(self.a) == len(self.b) == 1

    @cached_property
    def holm(self) -> dict[tuple[str, str, str], float]:
        """Corrected p values by (kind, task, name); the p values of a kind, over all tasks, are one family."""
        families: dict[str, dict[tuple[str, str, str], float]] = {kind: {} for kind in FAMILIES}
        for found in self.tasks:
            families["tasks"]["tasks", found.task, found.task] = found.whole.p
            if found.whole.mcnemar_p is not None:
                families["mcnemar"]["mcnemar", found.task, found.task] = found.whole.mcnemar_p
            for kind, parts in found.parts.items():
                families[kind] |= {(kind, found.task, name): part.p for name, part in parts.items()}
        return {
            key: corrected
            for family in families.values()
            for key, corrected in zip(family, holm(list(family.values())), strict=True)
        }


def read_comparison(
    a: Sequence[str], b: Sequence[str], tasks: Sequence[str] | None, protocol: str = "2024",
    ways: tuple[str, str] | None = None,
) -> Comparison:  # fmt: skip
    """Both sides, read, checked and compared; each in one way of asking, if such are given, which labels then say."""
    runs = [read_evaluated(find_run(name).resolve(), protocol) for name in (*a, *b)]
    set_labels(runs)
    for run, way in zip(runs, [ways[0]] * len(a) + [ways[1]] * len(b) if ways else [], strict=False):
        _take_way(run, way)
    first, second = runs[: len(a)], runs[len(a) :]
    for side in (runs,) if not ways or ways[0] == ways[1] else (first, second):
        _check_distinct(side)
    for group in (first, second):
        _check_seeds(group)
    named = _tasks(runs, tasks)
    for task in named:
        _check_same_items(runs, task)
    compared = [_compare_task(first, second, task) for task in named]
    omitted = [] if tasks is not None else [task for task in task_names(runs) if task not in named]
    return Comparison(first, second, compared, omitted)


def _take_way(run: Run, way: str) -> None:
    """Leave of a run what one way of asking gave, and say so in its label."""
    asked = sorted({found.way for found in run.evaluations.values()})
    if way not in asked:
        raise UserError(f"{run.label}: has no results of the way {way!r}{did_you_mean(way, asked)}")
    run.evaluations = {found.task: found for found in run.evaluations.values() if found.way == way}
    run.label = f"{run.label} ({way})"


def _check_distinct(runs: list[Run]) -> None:
    folders = [run.folder for run in runs]
    for folder in folders:
        if folders.count(folder) > 1:
            raise UserError(f"{folder}: named {folders.count(folder)} times; a comparison takes each run once")


def _check_seeds(group: list[Run]) -> None:
    """Raise UserError unless the runs of a group differ in their seeds, and in nothing else."""
    for place, run in enumerate(group[1:], start=1):
        lines = list(differences(without_seed(group[0]), without_seed(run)))
        if lines:
            listed = "\n".join(f"  {line}" for line in lines)
            both = f"{group[0].label} (there) and {run.label} (here)"
            raise UserError(f"{both} differ in more than their seeds, so they are no group:\n{listed}")
        for other in group[:place]:
            if _seeds(other) == _seeds(run):
                raise UserError(f"{other.label} and {run.label}: the same seeds {_seeds(run)}, so not two of a group")


def _seeds(run: Run) -> tuple[Any, Any]:
    """Seeds of the run and of its data."""
    return run.seed, (run.config.get("data") or {}).get("seed")


def _tasks(runs: list[Run], tasks: Sequence[str] | None) -> list[str]:
    """The tasks named, on which every run must have been evaluated; or all such tasks."""
    known = task_names(runs)
    common = [task for task in known if all(task in run.evaluations for run in runs)]
    if tasks is None and not common:
        lists = "; ".join(f"{run.label}: {', '.join(task_names([run])) or 'none'}" for run in runs)
        raise UserError(f"no task on which all were evaluated ({lists}); palenka evaluate does that")
    for task in tasks or []:
        absent = [run.label for run in runs if task not in run.evaluations]
        if absent:
            raise UserError(f"not evaluated on {task!r}: {', '.join(absent)}{did_you_mean(task, common)}")
    return list(dict.fromkeys(tasks)) if tasks is not None else common


def _check_same_items(runs: list[Run], task: str) -> None:
    first = runs[0].evaluations[task]
    for run in runs[1:]:
        if not comparable(first, run.evaluations[task]):
            reason = _what_differs(first, run.evaluations[task])
            raise UserError(f"{task}: {runs[0].label} and {run.label} cannot be compared: {reason}")
    for run in runs:
        path = items_path(run.evaluations[task].path or run.folder)
        if not path.exists():
            raise UserError(f"{path}: missing; a comparison needs the score of each item (re-evaluate it)")


def _what_differs(first: Evaluation, second: Evaluation) -> str:
    if str(first.protocol) != str(second.protocol):
        return f"evaluated under the protocols {first.protocol} and {second.protocol}"
    for name in [*first.subtasks, *(name for name in second.subtasks if name not in first.subtasks)]:
        one, other = (found.subtasks[name].n if name in found.subtasks else 0 for found in (first, second))
        if one != other:
            return f"subtask {name} with {one:,} and {other:,} items"
    digests = [str(found.identity.get("items", "unknown"))[:12] for found in (first, second)]
    return f"items of the same number but other content (digests {' and '.join(digests)})"


def _compare_task(a: list[Run], b: list[Run], task: str) -> TaskComparison:
    first, second = (mean_outcomes([run.outcomes[task] for run in group]) for group in (a, b))
    drawn = resampled(first, second)
    single = len(a) == len(b) == 1

    def over(subtasks: Sequence[str]) -> ItemDifference:
        return compare_items(first, second, drawn, subtasks, single)

    evaluation = a[0].evaluations[task]
    groups = {kind: _members(evaluation, label) for kind, label in KINDS.items()}
    parts = {kind: {name: over(names) for name, names in members.items()} for kind, members in groups.items()}
    parts["subtasks"] = {name: over([name]) for name in first}
    accuracies = [[run.evaluations[task].accuracy for run in group] for group in (a, b)]
    return TaskComparison(
        task=task,
        protocol=str(evaluation.protocol),
        items=evaluation.identity.get("items"),
        a=accuracies[0],
        b=accuracies[1],
        whole=over(list(first)),
        parts={kind: found for kind, found in parts.items() if found},
        seeds=compare_seeds(*accuracies),
    )


def _members(evaluation: Evaluation, label: str) -> dict[str, list[str]]:
    """Subtasks by what they are labelled; empty where that would only repeat the whole or the subtasks."""
    members: dict[str, list[str]] = defaultdict(list)
    for name, subtask in evaluation.subtasks.items():
        group = getattr(subtask, label)
        if group is not None:
            members[group].append(name)
    return dict(members) if 1 < len(members) < len(evaluation.subtasks) else {}
