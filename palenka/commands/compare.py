"""What the scores of the same items say of two evaluated models."""

import argparse
from pathlib import Path

from palenka.commands import add_protocol
from palenka.report.compare import compare


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for side in "AB":
        parser.add_argument(side.lower(), metavar=side, help="an evaluated run, or RUN,RUN,… that differ in seed only")
    parser.add_argument("--tasks", metavar="TASK,…", help="tasks (default: all on which both sides were evaluated)")
    parser.add_argument("--all", action="store_true", help="show what is not significant, too")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write everything as JSON")
    parser.add_argument(
        "--ways", metavar="WAY[,WAY]", help="of asking A and B: mntp,causal (default: each that both were asked in)"
    )
    add_protocol(parser)


def run(arguments: argparse.Namespace) -> None:
    tasks = arguments.tasks.split(",") if arguments.tasks else None
    sides = arguments.a.split(","), arguments.b.split(",")
    compare(*sides, tasks, arguments.all, arguments.out, arguments.protocol, _ways(arguments.ways))


def _ways(given: str | None) -> tuple[str, str] | None:
    if given is None:
        return None
    of_a, _, of_b = given.partition(",")
    return of_a, of_b or of_a
