"""FLOPs, memory and time of runs, grids and searches, before they are submitted."""

import argparse
from pathlib import Path

from palenka.search.cost import print_cost


def add_arguments(parser: argparse.ArgumentParser) -> None:
    of = "YAML of runs, grids or searches"
    parser.add_argument("--config", nargs="+", type=Path, required=True, metavar="FILE", help=of)
    parser.add_argument("--device", metavar="NAME,…", help="devices (default: all known; `here` is this machine)")
    parser.add_argument("--words", default="10M,100M", metavar="N,…", help="sizes of text (default 10M,100M)")
    parser.add_argument("--probe", action="store_true", help="measure a few steps here, at most about a minute each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON, too")


def run(arguments: argparse.Namespace) -> None:
    devices = arguments.device.split(",") if arguments.device else []
    print_cost(arguments.config, devices, arguments.words.split(","), arguments.probe, arguments.json)
