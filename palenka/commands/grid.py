"""Train many students on one teacher pass, rank them, retrain the best."""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from palenka.commands import FROM_LAST_GOOD
from palenka.cost.record import record_cost
from palenka.report.model_card import write_model_cards
from palenka.runs.directory import Run
from palenka.search.grid import Grid, Part, load_grid
from palenka.training.cohort import train_cohorts
from palenka.training.plan import Plan
from palenka.training.session import Diverged


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the grid's YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="override a key of the config")
    parser.add_argument("--dry-run", action="store_true", help="print trials, cohorts, memory and cost, train nothing")
    parser.add_argument("--from-last-good", action="store_true", help=FROM_LAST_GOOD)
    step = parser.add_mutually_exclusive_group()
    step.add_argument("--part", metavar="I/N", help="only the I-th, from 0, of N shares of the trials; no selection")
    step.add_argument("--select", action="store_true", help="rank trained trials and write grid.json, train nothing")
    step.add_argument("--finalist", type=int, metavar="K", help="only retrain the K-th best of the selection, from 1")


def run(arguments: argparse.Namespace) -> None:
    part = Part.read(arguments.part) if arguments.part else None
    grid = load_grid(arguments.config, arguments.overrides, arguments.dry_run)
    if arguments.dry_run:
        print(grid.describe(part))
    elif arguments.select:
        print(grid.select())
    else:
        _train(grid, part, arguments.finalist, arguments.from_last_good)


def _train(grid: Grid, part: Part | None, finalist: int | None, from_last_good: bool) -> None:
    """Train what is asked for, evaluate it, and, where that is the whole grid, rank it.

    Raises:
        Diverged: as the last thing, naming all that did.
    """
    plans: list[Plan] = []

    def noted() -> Iterator[list[Plan]]:
        for cohort in grid.to_train(part, finalist):
            plans.extend(cohort)
            yield cohort

    failure = None
    try:
        train_cohorts(noted(), from_last_good)
    except Diverged as diverged:
        failure = diverged
    if os.environ.get("RANK", "0") != "0":
        return  # without reporting those that diverged: torchrun would kill the first process during its evaluation
    for plan in plans:
        record_cost(plan)
    runs = [Run(plan.config.name, plan.runs) for plan in plans]
    finished = [run.path for run in runs if run.finished]
    grid.evaluate(finished)
    write_model_cards(finished)
    if part is None and finalist is None:
        print(grid.select())
    if failure:
        raise failure
