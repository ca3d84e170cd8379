"""Record what a config's teachers predict, for its students."""

import argparse
from pathlib import Path

from palenka.training.cache_logits import cache_logits
from palenka.training.plan import load_plan
from palenka.training.schema import DistillConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, help="a student's YAML file, with cached_logits")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="override a key of the config")


def run(arguments: argparse.Namespace) -> None:
    cache_logits(load_plan(arguments.config, arguments.overrides, DistillConfig))
