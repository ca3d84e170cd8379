"""Where the runs stand, and their jobs and logs."""

import argparse

from palenka.cluster.status import status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="*", metavar="RUN", help="runs, or folders of runs (default: all)")


def run(arguments: argparse.Namespace) -> None:
    print(status(arguments.runs))
