"""The commands: `palenka …`, and what `train.py` and `distill.py` share."""

import argparse
import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from palenka.util.errors import Stopped, UserError
from palenka.util.paths import ROOT
from palenka.util.system_errors import refusal
from palenka.util.terminal import prepare_streams

RENAMED = {"--convention": "--protocol", "teacher-signal": "cache-logits"}
"""Former words of the command line: they are refused by the present ones."""
FROM_LAST_GOOD = "a run that diverged resumes from its last checkpoint"
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141  # what a shell reports of a program ended by SIGPIPE
BUG = "This is a bug in Palenka. What was written before is whole; please report this with the command and its config."


def command(function: Callable[..., None]) -> Callable[..., None]:
    """A command line's main(): errors that users can fix end it with a message and an exit code, without a traceback.

    Bad input has exit code 2, and what the system refuses those of `system_errors`. Anything else is our own fault, and
    keeps its traceback.
    """

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> None:
        prepare_streams()
        try:
            function(*args, **kwargs)
            sys.stdout.flush()
        except UserError as error:
            _end(str(error), EXIT_BAD_INPUT)
        except Stopped as stopped:
            if str(stopped):
                print(stopped, file=sys.stderr)
            sys.exit(stopped.code)
        except BrokenPipeError:  # the reader, `head` say, has seen enough
            _drop_output()
            sys.exit(EXIT_BROKEN_PIPE)
        except KeyboardInterrupt:
            print("\ninterrupted; the same command resumes from the last checkpoint", file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)
        except Exception as error:
            found = refusal(error)
            if found is None:
                error.add_note(BUG)
                raise
            _end(found.message, found.code)

    return guarded


def _end(message: str, code: int) -> NoReturn:
    rank = os.environ.get("RANK", "0")
    print(f"error: {message}" if rank == "0" else f"error in process {rank}: {message}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:  # the output itself goes to the full disk
        _drop_output()
    sys.exit(code)


def _drop_output() -> None:
    """Discard what is still to be printed, so that the interpreter does not fail over it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def read_arguments(description: str | None, default_config: str | None = None) -> argparse.Namespace:
    """--config FILE [key.path=value …] [--dry-run]"""
    parser = _parser(description)
    parser.add_argument(
        "--config", type=Path, required=default_config is None,
        default=ROOT / default_config if default_config else None,
        help=f"the run's YAML file{f' (default: {default_config})' if default_config else ''}",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print the resolved config and the plan, train nothing")
    parser.add_argument("--from-last-good", action="store_true", help=FROM_LAST_GOOD)
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="override a key of the config")
    return parser.parse_intermixed_args()


def _parser(description: str | None, **options: Any) -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(description=description, formatter_class=formatter, **options)


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the subcommands."""
    arguments = sys.argv[1:] if arguments is None else arguments
    _refuse_former_words(arguments)
    description = "A laboratory for training small language models from scratch and distilling them."
    parser = _parser(description, prog="palenka")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        _add_download, _add_prepare, _add_demo_text, _add_cost, _add_cache_logits, _add_grid, _add_evaluate,
        _add_submission, _add_compare, _add_report, _add_study, _add_status,
    ):  # fmt: skip
        add(commands)
    parsed = parser.parse_args(arguments)
    parsed.run(parsed)


def _refuse_former_words(arguments: Sequence[str]) -> None:
    for word in arguments:
        name = word.partition("=")[0]
        if name in RENAMED and (name.startswith("-") or word is arguments[0]):
            raise UserError(f"{name} is called {RENAMED[name]} now")


def _add_download(commands: Any) -> None:
    parser = commands.add_parser("download", help="fetch official texts and evaluation items, checked")
    parser.add_argument("items", nargs="*", metavar="WHAT", help="items by name; --list shows them")
    parser.add_argument("--out", type=Path, metavar="DIR", help="another folder than the item's own (one item only)")
    parser.add_argument("--list", action="store_true", help="list the items: size, folder, licence, citation")

    def run(parsed: argparse.Namespace) -> None:
        from palenka.data.fetch.download import download, list_items

        if parsed.list:
            return list_items()
        try:
            return download(parsed.items, parsed.out)
        except KeyboardInterrupt:
            print("\ninterrupted; complete files are kept, and the same command fetches the rest", file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)

    parser.set_defaults(run=run)


def _add_prepare(commands: Any) -> None:
    parser = commands.add_parser("prepare", help="clean text, train a tokenizer, write memory-mapped tokens")
    source = "folder of <domain>.{0} files, .txt, .jsonl or .parquet file or a folder of those, or hf:OWNER/NAME"
    for split, note in (("train", ""), ("dev", ", to measure on"), ("test", " (optional)")):
        parser.add_argument(f"--{split}", required=split == "train", metavar="TEXT", help=source.format(split) + note)
    parser.add_argument("--dev-fraction", type=float, metavar="F", help="hold out this part of --train, without --dev")
    parser.add_argument("--text-column", default="text", metavar="NAME", help="column of rows (default: text)")
    parser.add_argument("--domain-column", metavar="NAME", help="column that names a row's domain (default: none)")
    parser.add_argument("--boundary", action="append", default=[], metavar="MARK",
                        help="a mark at which documents end, such as '<|endoftext|>' (repeatable)")  # fmt: skip
    parser.add_argument("--name", required=True, help="the prepared data's name; a config's data.name")
    parser.add_argument("--vocab-size", type=int, default=16_000, help="entries of the tokenizer (default 16000)")

    def run(parsed: argparse.Namespace) -> None:
        from palenka.data.prepare import prepare
        from palenka.data.rows import Columns

        prepare(
            parsed.train, parsed.dev, parsed.test, parsed.name, parsed.vocab_size,
            dev_fraction=parsed.dev_fraction, columns=Columns(parsed.text_column, parsed.domain_column),
            boundaries=parsed.boundary,
        )  # fmt: skip

    parser.set_defaults(run=run)


def _add_demo_text(commands: Any) -> None:
    parser = commands.add_parser("demo-text", help="write the demo's corpus and minimal pairs")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for train/, dev/ and test/")
    parser.add_argument("--pairs", type=Path, required=True, metavar="DIR", help="folder for the minimal pairs")

    def run(parsed: argparse.Namespace) -> None:
        from palenka.data.demo.grammar import write_demo

        write_demo(parsed.out, parsed.pairs)

    parser.set_defaults(run=run)


def _add_cost(commands: Any) -> None:
    parser = commands.add_parser("cost", help="FLOPs, memory and time of runs and grids, before they are submitted")
    parser.add_argument("--config", nargs="+", type=Path, required=True, metavar="FILE", help="YAML of runs or grids")
    parser.add_argument("--device", metavar="NAME,…", help="devices (default: all known; `here` is this machine)")
    parser.add_argument("--words", default="10M,100M", metavar="N,…", help="sizes of text (default 10M,100M)")
    parser.add_argument("--probe", action="store_true", help="measure a few steps here, at most about a minute each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON, too")

    def run(parsed: argparse.Namespace) -> None:
        from palenka.search.cost import print_cost

        devices = parsed.device.split(",") if parsed.device else []
        print_cost(parsed.config, devices, parsed.words.split(","), parsed.probe, parsed.json)

    parser.set_defaults(run=run)


def _add_grid(commands: Any) -> None:
    parser = commands.add_parser("grid", help="train many students on one teacher pass, rank them, retrain the best")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the grid's YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="override a key of the config")
    parser.add_argument("--dry-run", action="store_true", help="print trials, cohorts, memory and cost, train nothing")
    parser.add_argument("--from-last-good", action="store_true", help=FROM_LAST_GOOD)
    step = parser.add_mutually_exclusive_group()
    step.add_argument("--part", metavar="I/N", help="only the I-th, from 0, of N shares of the trials; no selection")
    step.add_argument("--select", action="store_true", help="rank trained trials and write grid.json, train nothing")
    step.add_argument("--finalist", type=int, metavar="K", help="only retrain the K-th best of the selection, from 1")

    def run(parsed: argparse.Namespace) -> None:
        from palenka.report.model_card import write_model_card
        from palenka.search.grid import Part, load_grid

        part = Part.read(parsed.part) if parsed.part else None
        grid = load_grid(parsed.config, parsed.overrides, parsed.dry_run)
        if parsed.dry_run:
            print(grid.describe(part))
            return
        if parsed.select:
            print(grid.select())
            return
        folders, diverged = grid.train(part, parsed.finalist, parsed.from_last_good)
        if os.environ.get("RANK", "0") != "0":
            return  # without reporting those that diverged: torchrun would kill the first process during its evaluation
        grid.evaluate(folders)
        for folder in folders:
            write_model_card(folder)
        if not parsed.part and parsed.finalist is None:
            print(grid.select())
        if diverged:
            raise diverged

    parser.set_defaults(run=run)


def _add_cache_logits(commands: Any) -> None:
    parser = commands.add_parser("cache-logits", help="record what a config's teachers predict, for its students")
    parser.add_argument("--config", type=Path, required=True, help="a student's YAML file, with cached_logits")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="override a key of the config")

    def run(parsed: argparse.Namespace) -> None:
        from palenka.training.cache_logits import cache_logits
        from palenka.training.plan import load_plan
        from palenka.training.schema import DistillConfig

        cache_logits(load_plan(parsed.config, parsed.overrides, DistillConfig))

    parser.set_defaults(run=run)


def _add_evaluate(commands: Any) -> None:
    parser = commands.add_parser("evaluate", help="score models on minimal pairs, other choices and held-out text")
    parser.add_argument("models", nargs="+", metavar="RUN", help="a run's name, a model folder, or hf:OWNER/NAME@REV")
    parser.add_argument("--data", type=Path, metavar="DIR", help="evaluation data (default: PALENKA_EVAL)")
    parser.add_argument("--tasks", metavar="TASK,…", help="tasks (default: the protocol's, and cross_entropy)")
    _add_protocol(parser)
    parser.add_argument("--details", action="store_true", help="show phenomena, fields and subtasks, too")
    parser.add_argument("--out", type=Path, metavar="DIR", help="for results: DIR/<model>, not the model's folder")
    parser.add_argument(
        "--scorer", default="palenka", choices=("palenka", "minicons"),
        help="minicons: a second opinion on every item, kept apart and compared with our own",
    )  # fmt: skip
    parser.add_argument("--pipeline", choices=("2024", "2025"), help="run that official pipeline instead")
    parser.add_argument("--checkout", type=Path, metavar="DIR", help="its folder (default: PALENKA_PIPELINE_<year>)")
    parser.add_argument(
        "--pipeline-python", metavar="PYTHON", help="its interpreter (default: PALENKA_PIPELINE_<year>_PYTHON, or ours)"
    )

    def run(parsed: argparse.Namespace) -> None:
        from palenka.evaluation.evaluate import evaluate
        from palenka.report.model_card import write_model_card

        tasks = parsed.tasks.split(",") if parsed.tasks else None
        if not parsed.pipeline and (parsed.checkout or parsed.pipeline_python):
            raise UserError("--checkout and --pipeline-python belong to --pipeline 2024 or 2025")
        if parsed.pipeline and parsed.out:
            raise UserError("--out is not for --pipeline, whose results are in the model's own folder")
        if parsed.pipeline:
            from palenka.evaluation.official.pipelines import evaluate_officially

            python = parsed.pipeline_python
            evaluate_officially(parsed.models, parsed.pipeline, parsed.data, tasks, parsed.checkout, python)
            return
        evaluated = evaluate(
            parsed.models, parsed.data, tasks, parsed.protocol, parsed.details, parsed.scorer, parsed.out
        )
        for model in evaluated:
            is_run = all((model.folder / name).exists() for name in ("config.yaml", "result.json"))
            if is_run and model.elsewhere is None:
                write_model_card(model.folder)

    parser.set_defaults(run=run)


def _add_protocol(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--protocol", default="2024", choices=("2024", "2025"),
        help="the pipeline whose rule makes items tokens (default 2024)",
    )  # fmt: skip


def _add_submission(commands: Any) -> None:
    parser = commands.add_parser("submission", help="write the challenge's submission files from an evaluated model")
    parser.add_argument("model", metavar="RUN", help="a run's name, or a model folder")
    parser.add_argument("--format", required=True, choices=("2024", "2025"), help="of which year's challenge")
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="2024: a .json.gz file; 2025: a folder")
    parser.add_argument("--data", type=Path, metavar="DIR", help="evaluation data (default: PALENKA_EVAL)")

    def run(parsed: argparse.Namespace) -> None:
        from palenka.evaluation.official.submission import write_submission

        write_submission(parsed.model, parsed.format, parsed.out, parsed.data)

    parser.set_defaults(run=run)


def _add_compare(commands: Any) -> None:
    parser = commands.add_parser("compare", help="what the scores of the same items say of two evaluated models")
    for side in "AB":
        parser.add_argument(side.lower(), metavar=side, help="an evaluated run, or RUN,RUN,… that differ in seed only")
    parser.add_argument("--tasks", metavar="TASK,…", help="tasks (default: all on which both sides were evaluated)")
    parser.add_argument("--resamples", type=int, metavar="N", help="resamples of the bootstrap (default 10000)")
    parser.add_argument("--all", action="store_true", help="show what is not significant, too")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write everything as JSON")
    _add_protocol(parser)

    def run(parsed: argparse.Namespace) -> None:
        from palenka.evaluation.comparison import RESAMPLES
        from palenka.report.compare import compare

        resamples = RESAMPLES if parsed.resamples is None else parsed.resamples
        tasks = parsed.tasks.split(",") if parsed.tasks else None
        compare(parsed.a.split(","), parsed.b.split(","), tasks, resamples, parsed.all, parsed.out, parsed.protocol)

    parser.set_defaults(run=run)


def _add_report(commands: Any) -> None:
    parser = commands.add_parser("report", help="one page with the study's table, curves and phenomena")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="runs, or a folder of runs")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the HTML page to write")
    _add_protocol(parser)

    def run(parsed: argparse.Namespace) -> None:
        from palenka.report.write import report

        report(parsed.runs, parsed.out, parsed.protocol)

    parser.set_defaults(run=run)


def _add_study(commands: Any) -> None:
    parser = commands.add_parser("study", help="submit what is missing of a study to SLURM, in the right order")
    parser.add_argument("study", nargs="?", default="strict-small", help="in config/study/ (default strict-small)")
    parser.add_argument("--only", nargs="+", default=[], metavar="RUN", help="these runs and what they need")
    parser.add_argument("--dry-run", action="store_true", help="show what would be submitted, submit nothing")
    parser.add_argument("--step", choices=("data", "report"), help="do this step here and now: what its job calls")

    def run(parsed: argparse.Namespace) -> None:
        from palenka.cluster.study import Study, do_step, submit_study

        study = Study(parsed.study)
        if parsed.step:
            do_step(study, parsed.step)
        else:
            submit_study(study, parsed.only, parsed.dry_run)

    parser.set_defaults(run=run)


def _add_status(commands: Any) -> None:
    parser = commands.add_parser("status", help="where the runs stand, and their jobs and logs")
    parser.add_argument("runs", nargs="*", metavar="RUN", help="runs, or folders of runs (default: all)")

    def run(parsed: argparse.Namespace) -> None:
        from palenka.cluster.status import status

        print(status(parsed.runs))

    parser.set_defaults(run=run)
