"""One page with the study's table, curves and phenomena."""

import argparse
import time
from pathlib import Path

from palenka.cluster.status import status
from palenka.commands import add_protocol
from palenka.report.write import report, write_page

SECONDS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="runs, or a folder of runs")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the HTML page to write")
    parser.add_argument(
        "--watch", action="store_true",
        help=f"write it anew, and have the browser load it, every {SECONDS} s until none of the runs goes on",
    )  # fmt: skip
    parser.add_argument(
        "--export", type=Path, metavar="FOLDER",
        help="also write charts there (SVG, PNG, PDF) and tables (Markdown, LaTeX, CSV)",
    )  # fmt: skip
    add_protocol(parser)


def run(arguments: argparse.Namespace) -> None:
    while arguments.watch and status(arguments.runs).is_moving:
        write_page(arguments.runs, arguments.out, arguments.protocol, SECONDS)
        time.sleep(SECONDS)
    report(arguments.runs, arguments.out, arguments.protocol, arguments.export)
