"""A grid of students over objective weights and seeds: trained as cohorts, ranked by dev cross-entropy, the best kept.

    runs/<grid>/<trial>/             each trial's run, `L0.1-H0.5` say: the same as if it had been trained alone
    runs/<grid>/grid.json            the selection
    runs/<grid>/finalists/<trial>/   the best trials, retrained on everything

All trials see the same windows in the same order: `data.seed` is one for all of them, the base's `seed` unless given.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from palenka.cost import estimate
from palenka.evaluation.evaluate import evaluate, result_files
from palenka.evaluation.protocols import PROTOCOLS
from palenka.report.results import read_evaluations
from palenka.runs.directory import Run
from palenka.search.schema import GridConfig
from palenka.training.plan import Plan, make_plan
from palenka.util.config import load, tell_idle_keys
from palenka.util.errors import UserError
from palenka.util.files import read_json, write_json
from palenka.util.hardware import available_memory, local_device
from palenka.util.paths import ROOT, evaluation_root
from palenka.util.tables import text_table
from palenka.util.text import NOTHING, with_error

PROTOCOL = "2024"
DEV_FIGURES = ("cross_entropy", "bits_per_byte")
RULE = (
    "Ranked by dev cross-entropy alone, that of plain next tokens; accuracies are shown beside it and choose nothing.\n"
    "± is one standard error over items; each row is one seed."
)
T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """The `index`-th, from 0, of `count` shares of something."""

    index: int
    count: int

    @classmethod
    def read(cls, text: str) -> "Part":
        """A part from `I/N`. Raises UserError unless it is one."""
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise UserError(f"--part {text}: expected I/N, I from 0 to N-1, such as 0/4")
        return cls(int(index), int(count))

    def of(self, items: Sequence[T]) -> list[T]:
        """This share: consecutive items, in number alike but for one."""
        return list(items[self.index * len(items) // self.count : (self.index + 1) * len(items) // self.count])


def load_grid(path: Path, overrides: Sequence[str], dry_run: bool = False) -> "Grid":
    """Read a grid's configuration and check all of it against data, teachers and this machine.

    Raises:
        UserError: naming every problem, or a trial's name that is taken by another run.
    """
    grid = Grid(load(path, overrides, GridConfig), str(path), dry_run)
    tell_idle_keys([plan.config for plan in grid.plans.values()], str(path))
    return grid


class Grid:
    """A checked grid.

    Args:
        config: what is asked for.
        where: the config's file, for messages.
        dry_run: as in `make_plan`.
    """

    def __init__(self, config: GridConfig, where: str, dry_run: bool = False) -> None:
        self.config, self.where = config, where
        self.trials = {trial.label: trial for trial in config.trials}
        self.plans = self._make_plans(dry_run)
        self.finalist = make_plan(config.finalist_config(config.trials[0]), f"{where}, as a finalist", dry_run)
        self.folder = self.finalist.runs / config.name
        self.tasks_folder = ROOT / config.paths.evaluation if config.paths.evaluation else evaluation_root()
        for task in config.grid.tasks or ():
            if not (self.tasks_folder / task).is_dir():
                raise UserError(f"{where}: grid.tasks: there is no folder {task!r} in {self.tasks_folder}")
        if not dry_run:
            kept = [label for label in self.trials if (self.folder / "finalists" / label).is_dir()]
            for plan in (*self.plans.values(), *map(self._finalist_plan, kept)):
                if not _run(plan).find_damage():  # which a training of it will refuse, and a selection show
                    _run(plan).check_identity(plan.identity())

    def _make_plans(self, dry_run: bool) -> dict[str, Plan]:
        """By label. Trials with the same terms can share most of a plan."""
        made: dict[frozenset[str], Plan] = {}
        plans = {}
        for label, trial in self.trials.items():
            config = self.config.student_config(trial)
            terms = frozenset(config.terms)
            if terms not in made:
                made[terms] = make_plan(config, f"{self.where}, trial {label}", dry_run)
            plans[label] = replace(made[terms], config=config)
        return plans

    def to_train(self, part: Part | None = None, finalist: int | None = None) -> Iterator[list[Plan]]:
        """Cohorts of a part of the trials, or of one finalist; by default of all trials, and then of the finalists.

        Args:
            part: which trials.
            finalist: which trial of the selection, from 1.

        Raises:
            UserError: the selection has no such finalist.
        """
        if finalist is not None:
            yield [self._finalist_plan(self._selected(finalist))]
            return
        yield from _alike(self.cohorts(part))
        if part is None:  # resumed when the trials have been trained
            best = _agreed(self._ranking()[: self.config.grid.finalists.count])
            yield from _alike(self._split([self._finalist_plan(label) for label in best]))

    def cohorts(self, part: Part | None = None) -> list[list[Plan]]:
        """A part of the trials, or all of them, as they are to be trained side by side."""
        plans = list(self.plans.values())
        return self._split(part.of(plans) if part else plans)

    def _split(self, plans: Sequence[Plan]) -> list[list[Plan]]:
        """Cohorts, alike in size, of those that are not finished; those that are finished come first."""
        finished = [plan for plan in plans if _run(plan).finished]
        waiting = [plan for plan in plans if not _run(plan).finished]
        if not waiting:
            return [finished]
        size = self.config.grid.cohort_size or min(fitting_cohort(plan, len(waiting)) for plan in _kinds(waiting))
        count = -(-len(waiting) // size)
        return [finished, *(Part(number, count).of(waiting) for number in range(count))]

    def _finalist_plan(self, label: str) -> Plan:
        return make_plan(self.config.finalist_config(self.trials[label]), f"{self.where}, finalist {label}")

    def _selected(self, number: int) -> str:
        """The label of the `number`-th trial of the selection."""
        path = self.folder / "grid.json"
        if not path.exists():
            raise UserError(f"{path} is not there: rank the trials first, by the same command with --select")
        ranked = [trial["cell"] for trial in read_json(path)["cells"] if trial["rank"]]
        if not 1 <= number <= len(ranked):
            raise UserError(f"--finalist {number}: {path} ranks {len(ranked)} trials, the first is 1")
        if ranked[number - 1] not in self.trials:
            raise UserError(f"{path} ranks a trial {ranked[number - 1]} that this grid does not have; select again")
        return str(ranked[number - 1])

    def _ranking(self) -> list[str]:
        """Labels of the finished trials, lowest dev cross-entropy first, without those whose files are damaged."""
        runs = {label: _run(plan) for label, plan in self.plans.items()}
        whole = [label for label, run in runs.items() if not run.find_damage() and run.finished]
        losses = {label: _dev(runs[label])["cross_entropy"] for label in whole}
        return sorted(losses, key=lambda label: losses[label])

    def evaluate(self, folders: Sequence[Path]) -> None:
        """Evaluate finished runs on tasks they were not evaluated on yet, if the items are there."""
        default = [task for task in PROTOCOLS[PROTOCOL].tasks if (self.tasks_folder / task).is_dir()]
        tasks = default if self.config.grid.tasks is None else self.config.grid.tasks
        wanted = {folder: result_files(folder, self.tasks_folder, tasks, PROTOCOL) for folder in folders}
        waiting = [folder for folder, paths in wanted.items() if not all(path.exists() for path in paths)]
        if waiting:
            evaluate([str(folder) for folder in waiting], self.tasks_folder, tasks, PROTOCOL)

    def select(self) -> str:
        """Rank the trials by dev cross-entropy and write grid.json; the table for people.

        Raises:
            UserError: trials that have neither finished nor diverged.
        """
        runs = {label: _run(plan) for label, plan in self.plans.items()}
        damages = {label: damage for label, run in runs.items() if (damage := run.find_damage())}
        waiting = [
            label for label, run in runs.items() if label not in damages and not run.finished and not run.diverged
        ]
        if waiting:
            raise UserError(f"{self.folder}: trials that are not trained to their end: {', '.join(waiting)}")
        ranking = self._ranking()
        trials: list[dict[str, Any]] = [
            {"cell": label, "rank": place, "values": self.trials[label].values} | _outcome(runs[label])
            for place, label in enumerate(ranking, start=1)
        ]
        trials += [
            {"cell": label, "rank": None, "values": self.trials[label].values}
            | ({"damaged": damages[label]} if label in damages else {"diverged": run.diverged})
            for label, run in runs.items()
            if label not in ranking
        ]
        again = {label: self.config.finalist_config(self.trials[label]).name for label in ranking}
        trained = {label: Run(name, self.finalist.runs) for label, name in again.items()}
        finalists = [
            {"cell": label} | _outcome(run) for label, run in trained.items() if not run.find_damage() and run.finished
        ]
        selection = {
            "name": self.config.name, "axes": self.config.grid.axes, "ranked_by": "dev cross-entropy",
            "cells": trials, "finalists": finalists,
        }  # fmt: skip
        write_json(self.folder / "grid.json", selection)
        return selection_table(selection)

    def describe(self, part: Part | None = None) -> str:
        """The resolved configuration, and the cohorts with what they will cost, for people."""
        finished, *cohorts = self.cohorts(part)
        axes = ", ".join(f"{key} ({len(values)})" for key, values in self.config.grid.axes.items())
        each = cohort_flops([self.finalist])
        lines = [
            yaml.safe_dump(self.config.model_dump(mode="json", exclude_none=True), sort_keys=False),
            f"{self.config.name}: {len(self.trials)} trials over {axes}",
            *([f"  finished already: {_labels(finished)}"] if finished else []),
            *(_describe_cohort(cohort) for cohort in cohorts),
            f"  {available_memory(local_device()) / 2**30:.1f} GiB are free on {local_device()}",
            f"  {_describe_cost(cohorts)}; then {self.config.grid.finalists.count} finalists of {each:.3g} FLOPs each, "
            "less if they share a cohort",
        ]
        return "\n".join(lines)


def _run(plan: Plan) -> Run:
    return Run(plan.config.name, plan.runs)


def _dev(run: Run) -> dict[str, float]:
    dev = read_json(run.path / "result.json")["dev"]
    return {key: dev[key] for key in DEV_FIGURES if key in dev}


def _outcome(run: Run) -> dict[str, Any]:
    """What is known of a finished run: dev cross-entropy, and the accuracies that were measured, if they are whole."""
    evaluations, _, broken = read_evaluations(run.path, PROTOCOL)
    for damage in broken:
        print(damage, file=sys.stderr, flush=True)
    tasks = {task: {"accuracy": of.accuracy, "stderr": of.stderr} for task, of in evaluations.items()}
    return {"run": run.name, "dev": _dev(run), "tasks": tasks}


def selection_table(selection: Mapping[str, Any]) -> str:
    """The content of a grid.json as lines: trials by rank, those that diverged or are damaged, finalists."""
    trials, finalists = selection["cells"], selection["finalists"]
    tasks = sorted({task for row in (*trials, *finalists) for task in row.get("tasks", {})})

    def cells(row: Mapping[str, Any], rank: str) -> list[str]:
        if "dev" not in row:
            return [rank, row["cell"], "damaged" if "damaged" in row else "diverged", *[""] * (1 + len(tasks))]
        found = [row["tasks"].get(task) for task in tasks]
        accuracies = (with_error(f["accuracy"], f["stderr"]) if f else NOTHING for f in found)
        losses = (f"{row['dev'][key]:.4f}" if key in row["dev"] else NOTHING for key in DEV_FIGURES)
        return [rank, row["cell"], *losses, *accuracies]

    rows = [["rank", "trial", "nats/token", "bits/byte", *tasks]]
    rows += [cells(row, str(row["rank"] or NOTHING)) for row in trials]
    rows += [cells(row, "retrained") for row in finalists]
    damages = [f"{row['cell']}: {row['damaged']}" for row in trials if "damaged" in row]
    head = f"{selection['name']}: dev cross-entropy, and accuracies in %"
    return "\n".join([head, text_table(rows, left=2, ends=[len(trials)] if finalists else ()), *damages, RULE])


def _labels(plans: Sequence[Plan]) -> str:
    return ", ".join(plan.config.name.rpartition("/")[2] for plan in plans)


def _describe_cohort(plans: Sequence[Plan]) -> str:
    kind = estimate.kind_of(local_device())
    memory = max(estimate.memory(plan, kind, len(plans)).total for plan in _kinds(plans)) / 2**30
    return f"  a cohort of {len(plans)}, {plans[0].total_steps:,} steps, about {memory:.1f} GiB: {_labels(plans)}"


def _describe_cost(cohorts: Sequence[Sequence[Plan]]) -> str:
    together = sum(map(cohort_flops, cohorts))
    alone = sum(cohort_flops([plan]) for cohort in cohorts for plan in cohort)
    if not cohorts:
        return "no trial is left to train"
    return f"{together:.3g} FLOPs, {together / alone:.2f} of what the same runs cost one by one"


def _kinds(plans: Sequence[Plan]) -> list[Plan]:
    """One plan of each set of terms: what decides its cost."""
    return list({frozenset(plan.config.terms): plan for plan in plans}.values())


def _alike(cohorts: Sequence[Sequence[Plan]]) -> list[list[Plan]]:
    """The cohorts as the first process splits them."""
    plans = {plan.config.name: plan for cohort in cohorts for plan in cohort}
    names = _agreed([[plan.config.name for plan in cohort] for cohort in cohorts])
    return [[plans[name] for name in cohort] for cohort in names]


def _agreed(value: T) -> T:
    """The first process's value, in all: free memory and a shared disk may look different to each of them."""
    PartialState(cpu=not torch.cuda.is_available())  # as the trainings' own
    values = [value]
    broadcast_object_list(values)
    return values[0]


def fitting_cohort(plan: Plan, students: int) -> int:
    """How many of so many students the free memory of this device holds side by side, but at least one."""
    device = local_device()
    return max(1, estimate.fitting_cohort(plan, estimate.kind_of(device), available_memory(device), students))


def cohort_flops(plans: Sequence[Plan]) -> float:
    """Matrix-product FLOPs of a cohort's training; a control has no need of the teachers that others have."""
    first = plans[0]
    tokens = first.total_steps * first.tokens_per_step
    amounts = [estimate.flops_per_token(plan) for plan in plans]
    return tokens * (sum(amount.student for amount in amounts) + max(amount.teachers for amount in amounts))
