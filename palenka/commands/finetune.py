"""Fine-tune models on (Super)GLUE, by the recipe of a year."""

import argparse
from pathlib import Path

from palenka.finetuning.finetune import finetune
from palenka.report.model_card import write_model_cards
from palenka.util.errors import UserError
from palenka.util.paths import ROOT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words", nargs="+", metavar="RUN",
        help="a run's name, a model folder, or hf:OWNER/NAME@REV; then key.path=value overrides a key of the recipe",
    )  # fmt: skip
    parser.add_argument(
        "--recipe", type=Path, default=ROOT / "config" / "finetuning" / "2025.yaml", metavar="FILE",
        help="tasks and settings (default: config/finetuning/2025.yaml)",
    )  # fmt: skip
    parser.add_argument("--tasks", metavar="TASK,…", help="tasks of the recipe (default: all)")
    parser.add_argument("--seeds", default="0", metavar="SEED,…", help="a training for each (default 0)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="evaluation data (default: PALENKA_EVAL)")
    parser.add_argument("--from-scratch", action="store_true", help="begin with initial weights of the same shape")
    parser.add_argument("--out", type=Path, metavar="DIR", help="for results: DIR/<model>, not the model's folder")


def run(arguments: argparse.Namespace) -> None:
    models = [word for word in arguments.words if "=" not in word]
    overrides = [word for word in arguments.words if "=" in word]
    if not models:
        raise UserError("no RUN was given: palenka finetune RUN… [key.path=value …]")
    tasks = arguments.tasks.split(",") if arguments.tasks else None
    found = finetune(
        models, arguments.recipe, overrides, tasks, _seeds(arguments.seeds), arguments.data, arguments.from_scratch,
        arguments.out,
    )  # fmt: skip
    write_model_cards(model.folder for model in found if model.elsewhere is None)


def _seeds(text: str) -> list[int]:
    seeds = text.split(",")
    if not all(seed.isdecimal() for seed in seeds):
        raise UserError(f"--seeds {text}: expected whole numbers from 0, separated by commas, such as 0,1,2")
    return [int(seed) for seed in seeds]
