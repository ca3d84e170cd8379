"""Evaluation by the official pipelines themselves, for numbers that need not be taken on trust.

    pipeline_2024.py, …_2025.py, …_2026.py   how each is run, and what its results mean
    checkout.py   where it is and what runs it          found.py   results in our schema, checked against its figures
"""

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from palenka.evaluation.models import EvaluatedModel
from palenka.evaluation.official import pipeline_2024, pipeline_2025, pipeline_2026
from palenka.evaluation.official.checkout import Checkout, Job, Pipeline
from palenka.evaluation.official.found import derive
from palenka.evaluation.protocols import PROTOCOLS
from palenka.evaluation.results import known_result, write_records
from palenka.evaluation.tasks import EvaluationTask, read_task
from palenka.evaluation.ways import CAUSAL, Way, ways_of
from palenka.paradigms._learned import holds_masked_model, learned
from palenka.util.errors import UserError
from palenka.util.files import make_folder, read_json, require_writable, write_json
from palenka.util.paths import evaluation_root
from palenka.util.processes import process_count
from palenka.util.tables import text_table
from palenka.util.text import percent, with_error

PIPELINES = {module.PIPELINE.year: module.PIPELINE for module in (pipeline_2024, pipeline_2025, pipeline_2026)}
VERSION = 1
"""To be raised when a change to how a pipeline is run or read changes numbers."""


def evaluate_officially(
    models: Sequence[str],
    year: str,
    data: Path | None = None,
    tasks: Sequence[str] | None = None,
    checkout: Path | None = None,
    python: str | None = None,
    ways: Sequence[str] | None = None,
) -> None:
    """Run a pipeline on models, write its results into `<model>/evaluation/pipeline-<year>/`, and print them.

    What it found before, with the same weights, items, commit and packages, is only shown. Its output is kept beside a
    task's result, in `<task>.log`.

    Args:
        models: names of runs, or other model folders.
        year: of the pipeline, "2024", "2025" or "2026".
        data: folder of tasks; default `PALENKA_EVAL`.
        tasks: which of them; default those of the pipeline that are there.
        checkout: folder of the pipeline; default `PALENKA_PIPELINE_<year>`.
        python: interpreter to run it with; default `PALENKA_PIPELINE_<year>_PYTHON`, else this one.
        ways: of asking, its back-ends; default the first that each model learned.

    Raises:
        UserError: anything of this is missing or unusable, or the pipeline fails.
    """
    pipeline = PIPELINES[year]
    if process_count() > 1:
        raise UserError(f"the {year} pipeline is run by one process: start it without torchrun or srun")
    named = os.environ.get(pipeline.variable)
    interpreter = python or os.environ.get(f"{pipeline.variable}_PYTHON") or sys.executable
    found = Checkout.find(pipeline, checkout or (Path(named) if named else None), interpreter)
    evaluated = [EvaluatedModel.find(name) for name in dict.fromkeys(models)]
    asked = {str(model.folder): _ways(pipeline, model, ways) for model in evaluated}
    for model in evaluated:
        _refuse_code(model)
        require_writable(model.results(f"pipeline-{year}"), "nothing was scored")
    root = (data or evaluation_root()).absolute()
    rules = PROTOCOLS[year]
    read = [read_task(root / rules.folder(name), year) for name in _names(pipeline, root, tasks)]
    for model in evaluated:
        for way in asked[str(model.folder)]:
            results = [_result(found, model, root, task, way) for task in read]
            print(table(model, results, year, way.name), flush=True)


def _ways(pipeline: Pipeline, model: EvaluatedModel, names: Sequence[str] | None) -> list[Way]:
    """How a model is asked, if the pipeline can ask so and load the model for it."""
    known = ways_of(model.folder, learned(model.folder).part_names, names)
    ways = known if names else known[:1]
    for way in ways:
        if way.name not in pipeline.ways:
            raise UserError(
                f"{model.folder}: the {pipeline.year} pipeline cannot ask in the way {way.name}, only "
                f"{' or '.join(pipeline.ways)}; choose with --ways, or leave --pipeline out"
            )
        if way.name != CAUSAL and not holds_masked_model(model.folder):
            raise UserError(
                f"{model.folder}: for {way.name} the pipeline loads a masked model, and this is one of a causal class "
                "that learned to be one; leave --pipeline out, or run the pipeline by hand on what palenka export "
                "--with-code writes"
            )
    return ways


def _names(pipeline: Pipeline, root: Path, names: Sequence[str] | None) -> list[str]:
    """The tasks named, if the pipeline has them; or its tasks that exist, reporting those that do not."""
    rules = PROTOCOLS[pipeline.year]
    if names is not None:
        asked = list(dict.fromkeys(map(rules.task, names)))
        for name in asked:
            if name not in pipeline.tasks:
                known = ", ".join(pipeline.tasks)
                raise UserError(f"the {pipeline.year} pipeline has no task {name!r}; it has {known}")
        return asked
    absent = [name for name in rules.tasks if not (root / rules.folder(name)).is_dir()]
    if absent:
        print(f"skipped, no such folders in {root}: {', '.join(absent)}", flush=True)
    return [name for name in rules.tasks if name not in absent]


def _refuse_code(model: EvaluatedModel) -> None:
    """The pipelines run code from a model folder; nothing else here does."""
    for name in ("config.json", "tokenizer_config.json"):
        path = model.folder / name
        if path.exists() and "auto_map" in read_json(path):
            raise UserError(f"{path}: names its own code (auto_map), which the pipeline would run; remove that")


def _result(
    checkout: Checkout, model: EvaluatedModel, root: Path, task: EvaluationTask, way: Way
) -> dict[str, Any]:
    """What the pipeline finds, or found before."""
    year = checkout.pipeline.year
    identity = {
        "model": model.fingerprint, "items": task.digest, "convention": f"pipeline-{year}", "version": VERSION,
        "commit": checkout.commit, "packages": checkout.versions, **way.said,
    }  # fmt: skip
    path = model.results(f"pipeline-{year}", way.folder) / f"{task.name}.json"
    if known := known_result(path, identity, partial(derive, task)):
        return known
    make_folder(path.parent)
    log = path.with_suffix(".log")
    print(f"{model.folder.name}, {task.name}: the {year} pipeline is running; it writes to {log}", flush=True)
    with TemporaryDirectory(prefix="palenka-") as folder:
        work = Path(folder)
        (work / "model").symlink_to(model.folder.absolute(), target_is_directory=True)
        (work / "evaluation_data").symlink_to(root, target_is_directory=True)
        found = checkout.pipeline.run(Job(checkout, work, task, log, way.name))
    write_records(path, found.items)
    result = {"task": task.name, "convention": f"pipeline-{year}", **way.said, **found.result, "identity": identity}
    write_json(path, result)
    return result


def table(model: EvaluatedModel, results: Sequence[dict[str, Any]], year: str, way: str = CAUSAL) -> str:
    """The result as users read it: percents, with the standard errors of these means."""
    ties = {
        "2024": "ties count half; in brackets: as right", "2025": "ties count as right",
        "2026": "ties are broken at random, by no seed",
    }[year]  # fmt: skip
    rows = [["task", "%", "items"]]
    for result in results:
        if "accuracy" in result:
            rows.append([result["task"], _accuracy(result), f"{result['n']:,}"])
        for name, score in result.get("scores", {}).items():
            rows.append([f"{result['task']}, {name.replace('_', ' ')}", percent(score["value"]), f"{result['n']:,}"])
    asked = "" if way == CAUSAL else f", asked in the way {way}"
    return f"{model.folder}{asked}   (the {year} pipeline; % right ± standard error, {ties})\n\n{text_table(rows)}"


def _accuracy(result: dict[str, Any]) -> str:
    cell = with_error(result["accuracy"], result["stderr"])
    return f"{cell} ({percent(result['accuracy_ties_good'])})" if "accuracy_ties_good" in result else cell
