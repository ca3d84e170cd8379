"""Write the challenge's submission files from an evaluated model."""

import argparse
from pathlib import Path

from palenka.evaluation.official.submission import write_submission


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="RUN", help="a run's name, or a model folder")
    parser.add_argument("--format", required=True, choices=("2024", "2025"), help="of which year's challenge")
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="2024: a .json.gz file; 2025: a folder")
    parser.add_argument("--way", metavar="WAY", help="of asking: causal, mlm or mntp (default: the first it learned)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="evaluation data (default: PALENKA_EVAL)")


def run(arguments: argparse.Namespace) -> None:
    write_submission(arguments.model, arguments.format, arguments.out, arguments.data, arguments.way)
