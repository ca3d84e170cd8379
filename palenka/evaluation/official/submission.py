"""Submission files of the challenge, from the scores of items that `evaluate` wrote.

    2024   what the pipeline's collect_results.py makes: one .json.gz with the chosen text of each item
    2025   the folders that the pipeline leaves: <out>/<model>/main/zero_shot/causal/<task>/<dataset>/predictions.json,
    2026   and a report beside each, for its collate_preds.py; of a milestone <out>/<model>/<milestone>/…; of a model
           that is asked otherwise mlm or mntp in place of causal

Which model they are of, by which year's rules, is recorded beside them (`source.json`, `<out>.source.json`): another
model's or year's are never overwritten.

Of equals that is chosen which the year's pipeline would choose; where it chooses at random, by the seed that is
recorded there, too. The files hold the items' texts; EWoK's authors do not want theirs to stand anywhere in plain text.
"""

import gzip
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palenka.data.published import GATED, differences
from palenka.evaluation.correlation import preferences, spearman
from palenka.evaluation.items import Item, Records, Task
from palenka.evaluation.models import EvaluatedModel, run_and_milestone
from palenka.evaluation.official.pipeline_2025 import WAYS, choice_texts, group
from palenka.evaluation.protocols import PROTOCOLS, OfficialTask
from palenka.evaluation.results import read_records, read_result
from palenka.evaluation.tasks import EvaluationTask, read_task
from palenka.evaluation.tasks.reading import READING
from palenka.evaluation.ways import Way, ways_of
from palenka.paradigms._learned import learned
from palenka.util.errors import UserError
from palenka.util.files import make_folder, read_json, write_bytes, write_json, write_text
from palenka.util.paths import evaluation_root

GROUPS = {"supplement": "blimp", "wug_adj_nominalization": "wug_adj", "wug_past_tense": "wug_past"}
"""The pipelines' names of tasks that are not the names of their folders, but for `_filtered` and `_fast`."""
TIES_SEED = 0

Found = Sequence[tuple[EvaluationTask, Records]]


@dataclass(frozen=True)
class Written:
    """What was written of a model, or one of its milestones.

    name: of the model there.
    folder: of its predictions.
    tasks: that are in it.
    missing: what a complete submission needs besides, a line each.
    """

    name: str
    folder: Path
    tasks: list[str]
    missing: list[str]


class NothingToSubmitError(UserError):
    """None of a model's tasks can be submitted; `reason` says why."""

    def __init__(self, model: EvaluatedModel, reason: str) -> None:
        self.reason = reason
        where = "" if model.elsewhere else ". Where results lie elsewhere (--out DIR), give DIR/<model> in its place"
        super().__init__(f"{model.folder}: nothing to submit: {reason}{where}")


def write_2024(model: EvaluatedModel, out: Path, data: Path | None = None, way: str | None = None) -> Written:
    """Write the file of predictions of 2024; arguments and errors are those of `write_predictions`."""
    found, missing = _collect(model, "2024", data, asked_way(model, way), PROTOCOLS["2024"].tasks)
    claim(out, out.with_name(f"{out.name}.source.json"), model, "2024")
    _write_2024(out, found)
    return Written(model.folder.name, out, [task.name for task, _ in found], missing)


def write_predictions(
    model: EvaluatedModel, form: str, out: Path, data: Path | None = None, way: str | None = None, fast: bool = False
) -> Written:
    """Write the predictions of a model, or of a milestone, as the pipeline of 2025 or of 2026 leaves them.

    Args:
        model: whose they are.
        form: the year; the scores are those of its protocol.
        out: the folder to write into.
        data: folder of tasks; default `PALENKA_EVAL`.
        way: of asking; default the first that the model learned.
        fast: the fast sets, in place of the whole ones.

    Raises:
        UserError: no pipeline asks in that way, nothing of the model was evaluated by that protocol, or another
            submission is in its place.
    """
    asked = asked_way(model, way)
    rules = PROTOCOLS[form]
    found, missing = _collect(model, form, data, asked, rules.fast if fast else rules.tasks)
    name, revision = submission_name(model.folder)
    folder = out / name / revision / "zero_shot" / asked.name
    claim(folder, out / name / revision / "source.json", model, form)
    for task, records in found:
        _write_task(folder, task, records, form)
    return Written(name, folder, [task.name for task, _ in found], missing)


def asked_way(model: EvaluatedModel, way: str | None) -> Way:
    """How a submitted model is asked. Raises UserError: no pipeline asks so."""
    asked = ways_of(model.folder, learned(model.folder).part_names, way and [way])[0]
    if asked.name not in WAYS:
        raise UserError(f"{model.folder}: nothing is submitted of the way {asked.name}: no pipeline asks so")
    return asked


def submission_name(folder: Path) -> tuple[str, str]:
    """The names of a model and its milestone in a submission: of `runs/grid/L0.1/revisions/chck_1M`, grid-L0_1 and
    chck_1M.

    A run's whole name counts, and no dot is left: the pipeline cuts the name that it is given at the last one.
    """
    run, milestone = run_and_milestone(folder)
    return run.replace(os.sep, "-").replace(".", "_"), milestone or "main"


def claim(place: Path, record: Path, model: EvaluatedModel, form: str) -> None:
    """Record that what goes to `place` is this model's, of this year; refuse a place that holds another's."""
    source = {
        "model": str(model.folder.resolve()), "fingerprint": model.fingerprint, "format": form,
        **({"ties_seed": TIES_SEED} if PROTOCOLS[form].ties == "random" else {}),
    }  # fmt: skip
    found = read_json(record) if record.exists() else None
    if found and found.get("format", form) != form:
        raise UserError(
            f"{place}: holds a submission of {found['format']}, whose rules differ from those of {form}; nothing was "
            "overwritten. Give another --out"
        )
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
    model: EvaluatedModel, form: str, data: Path | None, way: Way, tasks: Mapping[str, OfficialTask]
) -> tuple[Found, list[str]]:
    """The tasks that can be submitted, and why others cannot. Raises NothingToSubmitError where that is none."""
    root, found, missing, not_evaluated = data or evaluation_root(), [], [], []
    for name, published in tasks.items():
        path = model.results(form, way.folder) / f"{name}.json"
        items = root / PROTOCOLS[form].folder(name)
        if not items.is_dir():
            advice = f" ({GATED[items.name]})" if items.name in GATED else ""
            missing.append(f"{name}: there is no folder {items}{advice}")
            continue
        if not path.exists():
            not_evaluated.append(name)
            continue
        task = read_task(items, form)
        try:
            records = _records(model, path, task)
        except UserError as problem:
            missing.append(f"{name}: {problem}")
            continue
        found.append((task, records))
        wrong = differences(items)
        if wrong or len(records) != published.items:
            missing.append(f"{name}: {len(records):,} items, of {published.items:,}{f' ({wrong})' if wrong else ''}")
    if not_evaluated:
        fast = "" if tasks is PROTOCOLS[form].tasks else " --fast"
        command = f"palenka evaluate {run_and_milestone(model.folder)[0]} --protocol {form}{fast}"
        missing.append(f"not evaluated: {', '.join(not_evaluated)}; {command} does that")
    if not found:
        raise NothingToSubmitError(model, "; ".join(missing))
    return found, missing


def _records(model: EvaluatedModel, path: Path, task: EvaluationTask) -> Records:
    """What is known of a task's items. Raises UserError where that cannot be submitted."""
    result = read_result(path)
    if result["identity"].get("model") != model.fingerprint:
        raise UserError(f"{path} is of other weights, or another tokenizer")
    if result["identity"].get("items") != task.digest:
        raise UserError(f"{path} is of another version of the items")
    return read_records(path, result, task.derive)


def _choices(task: Task, records: Records, form: str) -> Iterator[tuple[Item, list[float], int]]:
    """Each item, its scores, and which choice is taken by the year's rule."""
    for item, record in zip(task.items, records, strict=True):
        scores = record["scores"]
        yield item, scores, PROTOCOLS[form].chosen(scores, TIES_SEED, task.name, item.subtask, item.line)


def _write_2024(out: Path, found: Found) -> None:
    predictions: dict[str, dict[str, Any]] = {"glue": {}, **{task.key: {} for task in PROTOCOLS["2024"].tasks.values()}}
    for task, records in found:
        assert isinstance(task, Task)  # reading is of 2025
        subtasks = predictions[PROTOCOLS["2024"].tasks[task.name].key]
        for item, _, chosen in _choices(task, records, "2024"):
            context, text = item.choices[chosen]
            record = {"id": f"{item.subtask}_{item.line - 1}", "pred": text if context else f" {text}"}
            subtasks.setdefault(item.subtask, {"predictions": []})["predictions"].append(record)
    write_bytes(out, gzip.compress(json.dumps(predictions).encode(), mtime=0))


def _write_task(out: Path, task: EvaluationTask, records: Records, form: str) -> None:
    items = PROTOCOLS[form].folder(task.name)
    name = items.removesuffix("_filtered").removesuffix("_fast")
    folder = out / GROUPS.get(name, name) / (items if isinstance(task, Task) else "")
    make_folder(folder)
    predictions = _predictions(task, records, form) if isinstance(task, Task) else _reading(records)
    write_text(folder / "predictions.json", json.dumps(predictions))
    if isinstance(task, Task):
        write_text(folder / "best_temperature_report.txt", _report(task, records, form))


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


def _predictions(task: Task, records: Records, form: str) -> dict[str, Any]:
    predictions: dict[str, Any] = {}
    for item, scores, chosen in _choices(task, records, form):
        name = group(task, item)
        made = predictions.setdefault(name, {"predictions": []})["predictions"]
        record: dict[str, Any] = {"id": f"{name}_{len(made)}", "pred": choice_texts(task, item)[chosen]}
        made.append(record | ({"prob": _preference(scores)} if task.has_ratios else {}))
    return predictions


def _preference(scores: list[float]) -> float:
    return float(preferences(np.array([scores]))[0])


def _report(task: Task, records: Records, form: str) -> str:
    if task.has_ratios:
        pairs = np.array([(_preference(scores), item.ratio) for item, scores, _ in _choices(task, records, form)])
        metric, figures = "SPEARMAN'S RHO", {"avg": spearman(*pairs.T).value}
    else:
        right: dict[str, list[bool]] = {}
        for item, _, chosen in _choices(task, records, form):
            right.setdefault(item.subtask, []).append(chosen == 0)
        metric, figures = "ACCURACY", {name: 100 * float(np.mean(of_subtask)) for name, of_subtask in right.items()}
    lines = "\n".join(f"{name}: {figure:.2f}" for name, figure in figures.items())
    average = np.mean(list(figures.values()))
    return f"TEMPERATURE: 1.00\n\n### UID {metric}\n{lines}\n\n### AVERAGE {metric}\n{average:.2f}\n\n"
