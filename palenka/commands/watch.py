"""Where the runs stand, drawn anew until none goes on."""

import argparse
import math

from palenka.cluster.watch import watch
from palenka.util.errors import UserError

SECONDS = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="*", metavar="RUN", help="runs, or folders of runs (default: all)")
    parser.add_argument("--every", type=float, default=SECONDS, metavar="SECONDS", help="between two looks")


def run(arguments: argparse.Namespace) -> None:
    if not 0 < arguments.every < math.inf:
        raise UserError(f"--every {arguments.every:g}: expected the seconds between two looks, more than 0, such as 2")
    watch(arguments.runs, arguments.every)
