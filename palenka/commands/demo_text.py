"""Write the demo's corpus and minimal pairs."""

import argparse
from pathlib import Path

from palenka.data.demo.grammar import write_demo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for train/, dev/ and test/")
    parser.add_argument("--pairs", type=Path, required=True, metavar="DIR", help="folder for the minimal pairs")


def run(arguments: argparse.Namespace) -> None:
    write_demo(arguments.out, arguments.pairs)
