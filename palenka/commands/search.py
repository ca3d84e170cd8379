"""Try values of any keys of a run's config, trial by trial, from one process or many."""

import argparse
import os
import sys
from pathlib import Path

from palenka.cost.dry_run import describe
from palenka.cost.record import record_cost
from palenka.report.model_card import write_model_cards
from palenka.search.search import Search, load_search
from palenka.training.cohort import train_cohorts
from palenka.training.session import Diverged


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the search's YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="override a key of the config")
    parser.add_argument("--dry-run", action="store_true", help="print the run, the axes and the cost, train nothing")


def run(arguments: argparse.Namespace) -> None:
    search = load_search(arguments.config, arguments.overrides, arguments.dry_run)
    if arguments.dry_run:
        print(describe(search.base), search.describe(), sep="\n\n")
    else:
        _work(search)


def _work(search: Search) -> None:
    """Train trials until none is left, and say how they came out; one that diverges is an outcome like another."""
    if os.environ.get("RANK", "0") == "0":
        search.open()
    try:
        train_cohorts(search.to_train(), judge=search.halving)
    except Diverged as diverged:
        print(diverged, file=sys.stderr)
    if os.environ.get("RANK", "0") == "0":
        search.measure()
        for plan in search.trained:
            record_cost(plan)
        write_model_cards([plan.folder for plan in search.trained])
        print(search.finish())
