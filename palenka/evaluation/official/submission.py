"""Submission files of the challenge, from the scores of items that `evaluate` wrote.

    2024   what the pipeline's collect_results.py makes: one .json.gz with the chosen text of each item
    2025   the folders that the pipeline leaves: <out>/<model>/main/zero_shot/causal/<task>/<dataset>/predictions.json,
           and a report beside each, for its collate_preds.py; of a milestone <out>/<model>/<milestone>/…; of a model
           that is asked otherwise mlm or mntp in place of causal

Which model they are of is recorded beside them (`source.json`, `<out>.source.json`): another model's are never
overwritten.

Of equals the first is chosen, as both pipelines do. The files hold the items' texts; EWoK's authors do not want theirs
to stand anywhere in plain text.
"""

import gzip
import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from palenka.evaluation.correlation import preferences, spearman
from palenka.evaluation.items import Item, Records, Task
from palenka.evaluation.models import EvaluatedModel
from palenka.evaluation.official.pipeline_2025 import choice_texts, group
from palenka.evaluation.official.pipelines import PIPELINES
from palenka.evaluation.protocols import PROTOCOLS
from palenka.evaluation.results import read_records, read_result
from palenka.evaluation.tasks import EvaluationTask, read_task
from palenka.evaluation.tasks.reading import READING
from palenka.evaluation.ways import Way, ways_of
from palenka.paradigms._learned import learned
from palenka.util.errors import UserError
from palenka.util.files import make_folder, read_json, require_writable, write_bytes, write_json, write_text
from palenka.util.paths import evaluation_root, runs_root

NOT_MADE = {
    "2024": "GLUE (fine-tuning)",
    "2025": "GLUE (fine-tuning), age of acquisition, and the fast evaluations of checkpoints",
}


def write_submission(model: str, form: str, out: Path, data: Path | None = None, way: str | None = None) -> None:
    """Write what can be submitted of a model, and say what a complete submission still needs.

    Args:
        model: a run's name, or another model folder.
        form: "2024" or "2025"; the scores are those of the protocol of this name.
        out: the file to write for 2024, the folder to write into for 2025.
        data: folder of tasks; default `PALENKA_EVAL`.
        way: of asking; default the first that the model learned.

    Raises:
        UserError: there is no such model, no pipeline asks in that way, nothing of it was evaluated by that protocol,
            or another model's submission is in its place.
    """
    if form == "2024" and not out.name.endswith(".json.gz"):
        raise UserError(f"--out {out}: a submission of 2024 is a file; its name ends in .json.gz")
    require_writable(out.parent if form == "2024" else out)
    evaluated = EvaluatedModel.find(model)
    asked = ways_of(evaluated.folder, learned(evaluated.folder).part_names, way and [way])[0]
    if asked.name not in PIPELINES["2025"].ways:
        raise UserError(f"{evaluated.folder}: nothing is submitted of the way {asked.name}: no pipeline asks so")
    found, missing = _collect(evaluated, form, data or evaluation_root(), asked)
    if not found:
        raise UserError(
            f"{evaluated.folder}: nothing to submit: {'; '.join(missing)}. First: "
            f"palenka evaluate {model} --protocol {form}"
        )
    if form == "2024":
        _claim(out, out.with_name(f"{out.name}.source.json"), evaluated)
        written = _write_2024(out, found)
    else:
        name, revision = submission_name(evaluated.folder)
        folder = out / name / revision
        _claim(folder / "zero_shot" / asked.name, folder / "source.json", evaluated)
        written = _write_2025(folder / "zero_shot" / asked.name, found)
    print(f"{written}: {', '.join(task.name for task, _ in found)}")
    if form == "2025":
        print(f"  for the pipeline's collate_preds: --results_dir {out} --model_path_or_name {name}")
    for what in (*missing, f"not made here: {NOT_MADE[form]}"):
        print(f"  incomplete: {what}")


def submission_name(folder: Path) -> tuple[str, str]:
    """The names of a model and its milestone in a submission: of `runs/grid/L0.1/revisions/chck_1M`, grid-L0_1 and
    chck_1M.

    A run's whole name counts, and no dot is left: the pipeline cuts the name that it is given at the last one.
    """
    folder, revision = folder.resolve(), "main"
    if folder.parent.name == "revisions":
        folder, revision = folder.parent.parent, folder.name
    root = runs_root().resolve()
    name = str(folder.relative_to(root)) if folder.is_relative_to(root) else folder.name
    return name.replace(os.sep, "-").replace(".", "_"), revision


def _claim(place: Path, record: Path, model: EvaluatedModel) -> None:
    """Record that what goes to `place` is this model's; refuse a place that holds another one's."""
    source = {"model": str(model.folder.resolve()), "fingerprint": model.fingerprint}
    found = read_json(record) if record.exists() else None
    if found and found["fingerprint"] != source["fingerprint"]:
        raise UserError(
            f"{place}: holds the submission of {found['model']}, with other weights or another tokenizer than "
            f"{source['model']} has now; nothing was overwritten. Move it away, or give another --out"
        )
    if not found and (place.is_file() or any(place.rglob("predictions.json"))):
        raise UserError(
            f"{place}: already holds predictions, and no {record.name} says of which model; nothing was overwritten. "
            "Move it away, or give another --out"
        )
    make_folder(record.parent)
    write_json(record, source)


def _collect(
    model: EvaluatedModel, form: str, root: Path, way: Way
) -> tuple[list[tuple[EvaluationTask, Records]], list[str]]:
    """The tasks that can be submitted, and why others cannot."""
    found, missing = [], []
    for name in PROTOCOLS[form].tasks:
        path = model.results(form, way.folder) / f"{name}.json"
        items = root / PROTOCOLS[form].folder(name)
        if not items.is_dir():
            missing.append(f"{name}: there is no folder {items}")
            continue
        task = read_task(items, form)
        try:
            records = _records(model, path, task)
        except UserError as problem:
            missing.append(f"{name}: {problem}")
            continue
        found.append((task, records))
        if len(records) != (published := PROTOCOLS[form].tasks[name].items):
            missing.append(f"{name}: {len(records):,} items, of {published:,}")
    return found, missing


def _records(model: EvaluatedModel, path: Path, task: EvaluationTask) -> Records:
    """What is known of a task's items. Raises UserError where that cannot be submitted."""
    if not path.exists():
        raise UserError(f"not evaluated: there is no {path}")
    result = read_result(path)
    if result["identity"].get("model") != model.fingerprint:
        raise UserError(f"{path} is of other weights, or another tokenizer")
    if result["identity"].get("items") != task.digest:
        raise UserError(f"{path} is of another version of the items")
    return read_records(path, result, task.derive)


def _choices(task: Task, records: Records) -> Iterator[tuple[Item, list[float], int]]:
    """Each item, its scores, and which choice is taken: the first of the best."""
    for item, record in zip(task.items, records, strict=True):
        yield item, record["scores"], record["scores"].index(max(record["scores"]))


def _write_2024(out: Path, found: Sequence[tuple[EvaluationTask, Records]]) -> Path:
    predictions: dict[str, dict[str, Any]] = {"glue": {}, **{task.key: {} for task in PROTOCOLS["2024"].tasks.values()}}
    for task, records in found:
        assert isinstance(task, Task)  # reading is of 2025
        subtasks = predictions[PROTOCOLS["2024"].tasks[task.name].key]
        for item, _, chosen in _choices(task, records):
            context, text = item.choices[chosen]
            record = {"id": f"{item.subtask}_{item.line - 1}", "pred": text if context else f" {text}"}
            subtasks.setdefault(item.subtask, {"predictions": []})["predictions"].append(record)
    write_bytes(out, gzip.compress(json.dumps(predictions).encode(), mtime=0))
    return out


def _write_2025(out: Path, found: Sequence[tuple[EvaluationTask, Records]]) -> Path:
    for task, records in found:
        folder = out / PIPELINES["2025"].tasks[task.name]
        if isinstance(task, Task):
            folder = folder / task.name
        make_folder(folder)
        predictions = _predictions(task, records) if isinstance(task, Task) else _reading(records)
        write_text(folder / "predictions.json", json.dumps(predictions))
        if isinstance(task, Task):
            write_text(folder / "best_temperature_report.txt", _report(task, records))
    return out


def _reading(records: Records) -> dict[str, Any]:
    """Surprisals of each word and of the word before; NaN, as the pipeline writes it, where there is none."""
    predictions = [
        {
            "id": record["item"] - 1, "pred": record["surprisal"],
            "prev_pred": math.nan if record["prev_surprisal"] is None else record["prev_surprisal"],
        }
        for record in records
    ]  # fmt: skip
    return {READING: {"predictions": predictions}}


def _predictions(task: Task, records: Records) -> dict[str, Any]:
    predictions: dict[str, Any] = {}
    for item, scores, chosen in _choices(task, records):
        name = group(task, item)
        made = predictions.setdefault(name, {"predictions": []})["predictions"]
        record: dict[str, Any] = {"id": f"{name}_{len(made)}", "pred": choice_texts(task, item)[chosen]}
        made.append(record | ({"prob": _preference(scores)} if task.has_ratios else {}))
    return predictions


def _preference(scores: list[float]) -> float:
    return float(preferences(np.array([scores]))[0])


def _report(task: Task, records: Records) -> str:
    if task.has_ratios:
        pairs = np.array([(_preference(scores), item.ratio) for item, scores, _ in _choices(task, records)])
        metric, figures = "SPEARMAN'S RHO", {"avg": spearman(*pairs.T).value}
    else:
        right: dict[str, list[bool]] = {}
        for item, _, chosen in _choices(task, records):
            right.setdefault(item.subtask, []).append(chosen == 0)
        metric, figures = "ACCURACY", {name: 100 * float(np.mean(of_subtask)) for name, of_subtask in right.items()}
    lines = "\n".join(f"{name}: {figure:.2f}" for name, figure in figures.items())
    average = np.mean(list(figures.values()))
    return f"TEMPERATURE: 1.00\n\n### UID {metric}\n{lines}\n\n### AVERAGE {metric}\n{average:.2f}\n\n"
