"""Follow the surprisal of words over a run's milestones: ages of acquisition, and how they go with children's."""

import argparse
from pathlib import Path

from palenka.evaluation.acquisition import Followed, follow, table
from palenka.runs.milestones import TRACKS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's name or folder, with milestones in revisions/")
    parser.add_argument("--track", choices=TRACKS, help="whose milestones are followed (default: all there are)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="evaluation data, with aoa/ (default: PALENKA_EVAL)")
    parser.add_argument("--protocol", default="2026", choices=("2025", "2026"), help="year of the challenge (2026)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="for results: DIR/<model>, not the model's folder")
    parser.add_argument("--way", metavar="WAY", help="of asking: causal, mlm or mntp (default: the first it learned)")


def run(arguments: argparse.Namespace) -> None:
    given = arguments
    followed = Followed.find(given.run, given.protocol, given.data, given.way, given.track, given.out)
    print(table(followed, follow(followed)))
