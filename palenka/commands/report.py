"""One page with the study's table, curves and phenomena."""

import argparse
from pathlib import Path

from palenka.commands import add_protocol
from palenka.report.write import report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="runs, or a folder of runs")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the HTML page to write")
    add_protocol(parser)


def run(arguments: argparse.Namespace) -> None:
    report(arguments.runs, arguments.out, arguments.protocol)
