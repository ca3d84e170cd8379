"""Score models on minimal pairs, other choices and held-out text."""

import argparse
from pathlib import Path

from palenka.commands import add_protocol
from palenka.evaluation.evaluate import SCORERS, evaluate
from palenka.evaluation.official.pipelines import evaluate_officially
from palenka.evaluation.protocols import PROTOCOLS
from palenka.report.model_card import write_model_cards
from palenka.util.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="+", metavar="RUN", help="a run's name, a model folder, or hf:OWNER/NAME@REV")
    parser.add_argument("--data", type=Path, metavar="DIR", help="evaluation data (default: PALENKA_EVAL)")
    parser.add_argument("--tasks", metavar="TASK,…", help="tasks (default: the protocol's, and cross_entropy)")
    add_protocol(parser)
    parser.add_argument("--fast", action="store_true", help="each milestone of the runs, on the year's fast sets")
    parser.add_argument("--details", action="store_true", help="show phenomena, fields and subtasks, too")
    parser.add_argument("--out", type=Path, metavar="DIR", help="for results: DIR/<model>, not the model's folder")
    parser.add_argument(
        "--scorer", default=SCORERS[0], choices=SCORERS,
        help="minicons: a second opinion on every item, kept apart and compared with our own",
    )  # fmt: skip
    parser.add_argument(
        "--ways", metavar="WAY,…", help="of asking: causal, mlm, mntp, fused, …_within_word (default: each it learned)"
    )
    parser.add_argument("--pipeline", choices=PROTOCOLS, help="run that year's official pipeline instead")
    parser.add_argument("--checkout", type=Path, metavar="DIR", help="its folder (default: PALENKA_PIPELINE_<year>)")
    parser.add_argument(
        "--pipeline-python", metavar="PYTHON", help="its interpreter (default: PALENKA_PIPELINE_<year>_PYTHON, or ours)"
    )


def run(arguments: argparse.Namespace) -> None:
    tasks = arguments.tasks.split(",") if arguments.tasks else None
    ways = arguments.ways.split(",") if arguments.ways else None
    data, python = arguments.data, arguments.pipeline_python
    if not arguments.pipeline and (arguments.checkout or python):
        raise UserError("--checkout and --pipeline-python belong to --pipeline 2024, 2025 or 2026")
    if arguments.pipeline and arguments.out:
        raise UserError("--out is not for --pipeline, whose results are in the model's own folder")
    if arguments.pipeline and arguments.fast:
        raise UserError("--fast is not for --pipeline, whose own scripts go over milestones")
    if arguments.pipeline:
        evaluate_officially(arguments.models, arguments.pipeline, data, tasks, arguments.checkout, python, ways)
        return
    evaluated = evaluate(
        arguments.models, data, tasks, arguments.protocol, arguments.details, arguments.scorer, arguments.out, ways,
        arguments.fast,
    )  # fmt: skip
    write_model_cards(model.folder for model in evaluated if model.elsewhere is None)
