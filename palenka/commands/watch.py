"""Where the runs stand, drawn anew until none goes on."""

import argparse

from palenka.cluster.watch import watch

SECONDS = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="*", metavar="RUN", help="runs, or folders of runs (default: all)")
    parser.add_argument("--every", type=float, default=SECONDS, metavar="SECONDS", help="between two looks")


def run(arguments: argparse.Namespace) -> None:
    watch(arguments.runs, arguments.every)
