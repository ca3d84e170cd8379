"""Write the challenge's submission files from an evaluated model."""

import argparse
from pathlib import Path

from palenka.evaluation.protocols import PROTOCOLS
from palenka.publish.entry import Entry, submit
from palenka.runs.milestones import TRACKS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="RUN", help="a run's name, or a model folder")
    parser.add_argument("--format", required=True, choices=PROTOCOLS, help="of which year's challenge")
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="2024: a .json.gz file; else a folder")
    parser.add_argument("--track", choices=TRACKS, help="whose milestones are wanted")
    parser.add_argument("--way", metavar="WAY", help="of asking: causal, mlm or mntp (default: the first it learned)")
    parser.add_argument("--recipe", metavar="NAME", help="of fine-tuning (default: the year's)")
    parser.add_argument("--seed", type=int, default=0, help="of fine-tuning (default 0)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="evaluation data (default: PALENKA_EVAL)")


def run(arguments: argparse.Namespace) -> None:
    given = arguments
    submit(Entry(given.model, given.format, given.out, given.data, given.way, given.track, given.recipe, given.seed))
