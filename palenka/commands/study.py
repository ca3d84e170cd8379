"""Submit what is missing of a study to SLURM, in the right order."""

import argparse
import sys

from palenka.cluster import slurm
from palenka.cluster.study import DEMO_PAIRS, DEMO_TEXT, Study, StudyData, submit_study
from palenka.data.demo.grammar import write_demo
from palenka.data.prepare import prepare
from palenka.report.write import report
from palenka.util.paths import corpora_root, data_root, evaluation_root


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", nargs="?", default="strict-small", help="in config/study/ (default strict-small)")
    parser.add_argument("--only", nargs="+", default=[], metavar="RUN", help="these runs and what they need")
    parser.add_argument("--dry-run", action="store_true", help="show what would be submitted, submit nothing")
    parser.add_argument("--step", choices=("data", "report"), help="do this step here and now: what its job calls")


def run(arguments: argparse.Namespace) -> None:
    study = Study(arguments.study)
    if arguments.step == "data":
        _prepare(study.config.data)
    elif arguments.step == "report":
        _report(study)
    else:
        submit_study(study, arguments.only, arguments.dry_run)


def _prepare(data: StudyData) -> None:
    texts = {split: getattr(data, split) for split in ("train", "dev", "test")}
    folders = {split: corpora_root() / text if text else None for split, text in texts.items()}
    if data.demo_text:
        folder = data_root() / DEMO_TEXT
        write_demo(folder, evaluation_root() / DEMO_PAIRS)
        folders = {split: folder / split for split in folders}
    assert folders["train"] is not None
    prepare(
        folders["train"], folders["dev"], folders["test"], data.name, data.vocab_size,
        dev_fraction=data.dev_fraction, dev_from=data.dev_from,
    )  # fmt: skip


def _report(study: Study) -> None:
    """Raises SystemExit where the report is written, but something of the study is missing; it is named."""
    if shown := study.shown():
        report(shown, study.report)
    missing = [each for each in study.steps()[:-1] if not each.done]
    if missing:
        jobs = slurm.Jobs(must_answer=False)
        print("\nmissing:", *(f"  {each.name}{jobs.hint(each.name)}" for each in missing), sep="\n", flush=True)
        sys.exit(1)
