"""What the numbers allow one to say: differences with their standard errors, leaders, baselines, seeds."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from statistics import mean
from typing import Any

from palenka.evaluation.comparison import paired_stderr
from palenka.evaluation.statistics import mean_error
from palenka.report.results import Evaluation, Run, Subtask

FIRST_TASKS = ("supplement_filtered", "blimp_filtered", "ewok_filtered")
BASELINES = {"chance": "chance", "zipf": "word frequency", "ngram": "5-gram"}


@dataclass(frozen=True)
class Difference:
    """Accuracy of one run minus that of another (0…1), with the standard error over items."""

    value: float
    stderr: float
    paired: bool

    @property
    def clear(self) -> bool:
        """Whether the difference exceeds twice its standard error."""
        return abs(self.value) > 2 * self.stderr

    @property
    def sureness(self) -> float:
        """Its size in standard errors."""
        return abs(self.value) / self.stderr


@dataclass(frozen=True)
class Group:
    """Accuracy (0…1) over the subtasks of one phenomenon."""

    name: str
    accuracy: float
    stderr: float
    baselines: dict[str, float]


def task_names(runs: Iterable[Run]) -> list[str]:
    """Tasks that any run was evaluated on, the study's three first."""
    return in_order({task for run in runs for task in run.evaluations})


def in_order(tasks: set[str]) -> list[str]:
    """The study's three tasks, then others by name."""

    def place(task: str) -> tuple[int, str]:
        name = task.partition(" (")[0]  # without the way of asking
        return FIRST_TASKS.index(name) if name in FIRST_TASKS else len(FIRST_TASKS), task

    return sorted(tasks, key=place)


def comparable(first: Evaluation, second: Evaluation) -> bool:
    """Whether two evaluations have the same protocol and the same items."""

    def shape(found: Evaluation) -> tuple[str, Any, dict[str, int]]:
        sizes = {name: subtask.n for name, subtask in found.subtasks.items()}
        return str(found.protocol), found.identity.get("items"), sizes

    return shape(first) == shape(second)


def all_comparable(runs: list[Run], task: str) -> bool:
    """Whether all runs that were evaluated on the task may be compared on it."""
    found = [run.evaluations[task] for run in runs if task in run.evaluations]
    return all(comparable(found[0], other) for other in found)


def difference(first: Run, second: Run, task: str) -> Difference | None:
    """Accuracy of `first` minus `second`; None where one is missing or they are not comparable.

    The standard error is that of the paired difference where both runs kept their items (both saw the
    same pairs, so their errors are correlated), else the root of the summed squares.
    """
    if task not in first.evaluations or task not in second.evaluations:
        return None
    one, other = first.evaluations[task], second.evaluations[task]
    if not comparable(one, other):
        return None
    value = one.accuracy - other.accuracy
    both = task in first.outcomes and task in second.outcomes
    paired = paired_stderr(first.outcomes[task], second.outcomes[task]) if both else None
    return Difference(value, paired if paired is not None else math.hypot(one.stderr, other.stderr), paired is not None)


def subtask_differences(first: Run, second: Run, task: str) -> dict[str, Difference]:
    """The same of each subtask, paired over its items; empty where a run has not kept them, or they cannot be compared.
    """
    if task not in first.outcomes or task not in second.outcomes or not all_comparable([first, second], task):
        return {}
    one, other = first.outcomes[task], second.outcomes[task]
    return {name: Difference(float((one[name] - other[name]).mean()), paired, True) for name in one
            if (paired := paired_stderr({name: one[name]}, {name: other[name]})) is not None}  # fmt: skip


def ranking(runs: list[Run], task: str) -> list[Run]:
    """Runs evaluated on the task, best first."""
    return sorted((run for run in runs if task in run.evaluations), key=lambda run: -run.evaluations[task].accuracy)


def leader(runs: list[Run], task: str) -> Run | None:
    """The best run, if it is ahead of the second by more than twice the standard error of the difference.

    None also where the runs are not all comparable on this task.
    """
    ranked = ranking(runs, task)
    if len(ranked) < 2 or not all_comparable(runs, task):
        return None
    ahead = difference(ranked[0], ranked[1], task)
    return ranked[0] if ahead is not None and ahead.clear else None


def differences(runs: list[Run], task: str) -> dict[tuple[str, str], Difference]:
    """All pairwise differences on a task, keyed by the labels of (first, second)."""
    pairs = {(a.label, b.label): difference(a, b, task) for a, b in combinations(runs, 2)}
    return {pair: found for pair, found in pairs.items() if found is not None}


def baselines(evaluation: Evaluation) -> dict[str, float]:
    """Chance and the baselines that were measured, 0…1."""
    known = {"chance": evaluation.chance} | evaluation.baselines
    return {name: value for name, value in known.items() if value is not None}


def below(evaluation: Evaluation) -> list[str]:
    """Names of the baselines that the accuracy does not reach."""
    return [BASELINES.get(name, name) for name, value in baselines(evaluation).items() if evaluation.accuracy < value]


def phenomena(evaluation: Evaluation) -> dict[str, Group]:
    """Accuracy per phenomenon: the unweighted mean over its subtasks (a subtask without one stands for itself)."""
    members: dict[str, list[Subtask]] = defaultdict(list)
    for name, subtask in evaluation.subtasks.items():
        members[subtask.phenomenon or name].append(subtask)
    return {name: _group(name, subtasks) for name, subtasks in members.items()}


def _group(name: str, subtasks: list[Subtask]) -> Group:
    known = set.intersection(*({k for k, v in sub.baselines.items() if v is not None} for sub in subtasks))
    return Group(
        name=name,
        accuracy=mean(sub.accuracy for sub in subtasks),
        stderr=mean_error([sub.stderr for sub in subtasks]),
        baselines={name: mean(sub.baselines[name] or 0.0 for sub in subtasks) for name in sorted(known)},
    )


def control_of(run: Run, runs: list[Run]) -> Run | None:
    """The undistilled run of the same architecture, size, data and paradigm; of several, one that does not teach it."""
    if not run.distilled or run.result is None:
        return None
    alike = [
        other
        for other in runs
        if not other.distilled
        and other.result is not None
        and (other.architecture, other.result.parameters, other.data_name, other.paradigm)
        == (run.architecture, run.result.parameters, run.data_name, run.paradigm)
    ]
    return min(alike, key=lambda other: (other.is_among(run.teachers), other.seed != run.seed), default=None)


def seed_groups(runs: list[Run]) -> list[list[Run]]:
    """Groups of runs, of at least two seeds, whose configs differ in nothing but name and seed."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[json.dumps(without_seed(run), sort_keys=True, default=str)].append(run)
    return [group for group in groups.values() if len({run.seed for run in group}) > 1]


def without_seed(run: Run) -> dict[str, Any]:
    """The config of a run without its name, seeds and places."""
    kept = {key: value for key, value in run.config.items() if key not in ("name", "seed", "paths")}
    if isinstance(kept.get("data"), dict):
        kept["data"] = {key: value for key, value in kept["data"].items() if key != "seed"}
    return kept


def same_dev_text(runs: list[Run]) -> bool:
    """Whether nats per token may be compared: same data, paradigm and number of dev tokens in each finished run."""
    asked = [(run.data_name, run.paradigm, run.result.dev.tokens) for run in runs if run.result]
    return all(other == asked[0] for other in asked)
