"""A year's whole zero-shot evaluation by its official pipeline and by ours: how long each takes, with equal decisions.

    python benchmarks/official.py cpu/teacher-gpt2-6M --checkout evaluation-pipeline-2025 --python PYTHON --share 0.1

`--python` is an interpreter with what the pipeline needs (docs/pipelines.md). A call is whole: it loads the model,
reads the items, tokenises, scores, averages and writes predictions; imports count for nobody. The pipeline is called
once a task, as its script does (`eval_zero_shot.sh`), at its own batch size; ours once for all tasks, and also once a
task, which shows how much of a difference is a task's. All score causally, in float32, on as many threads, and take
turns within each round, in reverse order in every second. On a machine that others use, too, `--clock process_time`
counts the seconds of the process alone, those of its threads added up.

Tasks that are not in --data are made, in the shapes and numbers of the challenge's (`year_items.py`). In every round
each item must be decided alike, but for scores that rounding alone keeps apart; nothing is shown otherwise. Each call
is a JSON line in --out as soon as it ends; a table follows.
"""

import argparse
import contextlib
import io
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evaluate import CLOCKS, Elsewhere, recorder
from year_items import write_year

from palenka.cli import command
from palenka.evaluation.evaluate import evaluate
from palenka.evaluation.items import Records
from palenka.evaluation.models import HUB_FILES
from palenka.evaluation.official.checkout import OFFLINE, Checkout, Job
from palenka.evaluation.official.pipelines import PIPELINES
from palenka.evaluation.protocols import PROTOCOLS
from palenka.evaluation.tasks import EvaluationTask, read_task
from palenka.runs.directory import find_run
from palenka.util.errors import UserError
from palenka.util.paths import evaluation_root
from palenka.util.tables import text_table

ROUNDING = 1e-4
"""Nats between the scores of a long text in two orders of summation; and, relatively, between surprisals."""
OURS, APART, THEIRS = "one call", "a call a task", "pipeline"
WHOLE = "all"
Seconds = dict[str, float]
"""By task."""
Found = dict[str, Records]


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a run or a model folder")
    parser.add_argument("--checkout", type=Path, required=True, help="folder of the pipeline")
    parser.add_argument("--python", required=True, help="a Python with what the pipeline needs")
    parser.add_argument("--year", choices=["2025", "2026"], default="2025", help="of the pipeline")
    parser.add_argument("--data", type=Path, default=evaluation_root(), help="items (default: PALENKA_EVAL)")
    parser.add_argument("--share", type=float, default=1.0, help="of each file's items")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=CLOCKS, default=CLOCKS[0])
    parser.add_argument("--out", type=Path, default=Path("official.jsonl"), help="where each call is written")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    year, now = arguments.year, getattr(time, arguments.clock)
    checkout = Checkout.find(PIPELINES[year], arguments.checkout, arguments.python)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = alone(find_run(arguments.model), folder / "model")
        made = write_year(year, arguments.data, folder / "items", arguments.share)
        items = read_tasks(year, folder / "items")
        process = PipelineProcess(checkout, arguments.threads, arguments.clock)
        callers = {
            OURS: lambda said: ours(model, year, folder / "items", [list(items)], now, said),
            APART: lambda said: ours(model, year, folder / "items", [[task] for task in items], now, said),
            THEIRS: lambda said: theirs(process, checkout, model, folder / "items", items, folder / "log", said),
        }
        record = recorder(arguments.out, model=arguments.model, year=year, share=arguments.share)
        taken: dict[str, list[Seconds]] = {caller: [] for caller in callers}
        for number in range(arguments.rounds):
            found = {}
            for caller in list(callers)[:: -1 if number % 2 else 1]:
                said = partial(record, caller=caller, round=number + 1)
                seconds, found[caller] = callers[caller](said)
                taken[caller].append(seconds)
            for caller in (APART, THEIRS):
                check(items, found[OURS], found[caller])
        print(f"{arguments.model}, {year}, {arguments.share:.0%} of the items; made: {', '.join(made) or 'none'}")
        print(table(items, taken))


def alone(run: Path, folder: Path) -> Path:
    """A model's files without those of its run, so that no baselines are measured, which the pipeline does not do."""
    folder.mkdir()
    for path in {path for pattern in HUB_FILES for path in run.glob(pattern)}:
        shutil.copy(path, folder)
    return folder


def read_tasks(year: str, data: Path) -> dict[str, EvaluationTask]:
    rules = PROTOCOLS[year]
    return {name: read_task(data / rules.folder(name), year) for name in rules.tasks}


def ours(
    model: Path, year: str, data: Path, calls: list[list[str]], now: Any, said: Callable[..., None]
) -> tuple[Seconds, Found]:
    """Seconds of calls for some tasks each, and the records of all items."""
    seconds = {}
    with tempfile.TemporaryDirectory() as out:
        for tasks in calls:
            started = now()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                evaluate([str(model)], data, tasks, year, out=Path(out))
            name = tasks[0] if len(tasks) == 1 else WHOLE
            seconds[name] = now() - started
            said(task=name, seconds=round(seconds[name], 2))
        results = Path(out, model.name, "evaluation", year)
        return seconds, {
            task: [json.loads(line) for line in (results / f"{task}.items.jsonl").read_text().splitlines()]
            for tasks in calls for task in tasks
        }  # fmt: skip


class PipelineProcess(Elsewhere):
    """The pipeline, in one process for all calls."""

    def __init__(self, checkout: Checkout, threads: int, clock: str) -> None:
        root = str((checkout.folder / checkout.pipeline.root).absolute())
        environment = {**OFFLINE, "PYTHONPATH": root, "PYTHONDONTWRITEBYTECODE": "1"}
        super().__init__(checkout.python, "official_calls.py", threads, clock, **environment)


@dataclass(frozen=True)
class TimedJob(Job):
    """A job that is done in that process; `taken` gets the seconds of each call."""

    process: PipelineProcess | None = None
    taken: list[float] = field(default_factory=list)

    def run(self, *arguments: str, modules: Path | None = None) -> None:
        assert self.process
        module, *others = arguments
        try:
            answer = self.process.ask(module=module, arguments=others, folder=str(self.folder), log=str(self.log))
        except RuntimeError:
            raise self.problem("ended") from None
        self.taken.append(answer["seconds"])


def theirs(
    process: PipelineProcess, checkout: Checkout, model: Path, data: Path, tasks: dict[str, EvaluationTask], log: Path,
    said: Callable[..., None],
) -> tuple[Seconds, Found]:  # fmt: skip
    """Seconds of each task, and the records of all items, of which the pipeline's own figures are checked."""
    seconds, found = {}, {}
    for name, task in tasks.items():
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            (work / "model").symlink_to(model, target_is_directory=True)
            (work / "evaluation_data").symlink_to(data, target_is_directory=True)
            job = TimedJob(checkout, work, task, log, process=process)
            found[name] = checkout.pipeline.run(job).items
            seconds[name] = sum(job.taken)
            said(task=name, seconds=round(seconds[name], 2))
    return seconds, found


def check(tasks: dict[str, EvaluationTask], ours: Found, others: Found) -> None:
    """Raise UserError where an item is decided differently."""
    for name in tasks:
        assert len(ours[name]) == len(others[name])
        for mine, other in zip(ours[name], others[name], strict=True):
            if not all(_are_alike(mine, other)):
                raise UserError(f"{name}: decided differently: {mine} and {other}")


def _are_alike(mine: dict[str, Any], other: dict[str, Any]) -> Iterator[bool]:
    for key in ("surprisal", "prev_surprisal"):
        if mine.get(key) is not None:
            yield bool(np.isclose(mine[key], other[key], rtol=ROUNDING))
    if "scores" in other:
        yield bool(np.allclose(mine["scores"], other["scores"], atol=ROUNDING))
    if "chosen" in other:
        yield mine["scores"][other["chosen"]] >= max(mine["scores"]) - ROUNDING


def table(tasks: dict[str, EvaluationTask], taken: dict[str, list[Seconds]]) -> str:
    """Seconds of each task and of all, medians and ranges."""
    rows = [["", *taken, "×"]]
    for name in tasks:
        of_task = {caller: [seconds[name] for seconds in of] for caller, of in taken.items() if name in of[0]}
        rows.append([name, "", *map(_spread, of_task.values()), _times(of_task[THEIRS], of_task[APART])])
    whole = {caller: [sum(seconds.values()) for seconds in of] for caller, of in taken.items()}
    rows.append([WHOLE, *map(_spread, whole.values()), _times(whole[THEIRS], whole[OURS])])
    return text_table(rows)


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.1f} ({min(seconds):.1f}–{max(seconds):.1f})"


def _times(others: list[float], own: list[float]) -> str:
    return f"{statistics.median(others) / statistics.median(own):.2f}"


if __name__ == "__main__":
    main()
