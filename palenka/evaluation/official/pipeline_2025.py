"""The pipeline of 2025 (babylm/evaluation-pipeline-2025): its zero-shot tasks, which need nothing but their packages.

It keeps which choice it takes of each item, not the scores. So ties do not show here: it takes the first of equals, the
right one, and accuracies, its own and those read from its choices, count a tie as right. It loads weights in the
precision of their file: in bfloat16 ties are frequent.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from palenka.evaluation.correlation import spearman
from palenka.evaluation.items import Item, Task
from palenka.evaluation.official.checkout import Found, Job, Pipeline
from palenka.evaluation.official.found import accuracies, difference, of_choices
from palenka.evaluation.protocols import PROTOCOLS
from palenka.evaluation.tasks.reading import EYE_TRACKING, SELF_PACED
from palenka.util.files import read_json

RESULTS = "results/model/main/zero_shot"
PRINTED = 0.5001e-2
"""Percents, and correlations, are printed with two decimals."""
PACKAGES = ("torch", "transformers", "datasets", "aiohttp", "scipy", "pandas", "statsmodels")
WAYS = ("causal", "mlm", "mntp")
FAST = {
    "blimp_fast": "blimp", "supplement_fast": "blimp", "ewok_fast": "ewok", "entity_tracking_fast": "entity_tracking",
}  # fmt: skip


def run(job: Job) -> Found:
    """The choices of all items with their accuracies, or what was predicted of people."""
    return _run_choices(job, job.task) if isinstance(job.task, Task) else _run_reading(job)


def _run_choices(job: Job, task: Task) -> Found:
    name = job.checkout.pipeline.tasks[task.name]
    job.run(
        "evaluation_pipeline.sentence_zero_shot.run", "--model_path_or_name", "model", "--backend", job.way,
        "--task", name, "--data_path", f"evaluation_data/{job.items}", "--output_dir", "results", "--save_predictions",
    )  # fmt: skip
    folder = job.folder / RESULTS / job.way / name / job.items
    items = list(_records(job, task, read_json(folder / "predictions.json")))
    printed = _printed(folder / "best_temperature_report.txt")
    if task.has_ratios:
        shares = np.array([[item["probability"], of.ratio] for item, of in zip(items, task.items, strict=True)])
        estimate = spearman(*shares.T)
        _check(job, {"avg": estimate.value}, printed)
        return Found({"n": len(items), "scores": {"spearman": asdict(estimate)}}, items)
    result = accuracies(task, of_choices(task, [item["chosen"] for item in items]), ties_show=False)
    shown = result["subtasks"].keys() - _blurred(job, task)
    ours = {name: 100 * result["subtasks"][name]["accuracy"] for name in shown}
    if task.is_per_token:  # whose groups are single items
        ours, printed = {"AVERAGE": 100 * result["accuracy"]}, {"AVERAGE": printed["AVERAGE"]}
    _check(job, ours, printed)
    return Found(result, items)


def _blurred(job: Job, task: Task) -> set[str]:
    """Subtasks with items whose choices are the same text: which is taken at random does not show in predictions."""
    if PROTOCOLS[job.checkout.pipeline.year].ties == "first":
        return set()
    return {item.subtask for item in task.items if len({*choice_texts(task, item)}) < len(item.choices)}


def _check(job: Job, ours: dict[str, float], printed: dict[str, float]) -> None:
    if differing := difference(ours, {name: printed[name] for name in ours.keys() & printed.keys()}, PRINTED):
        raise job.problem(f"contradicts itself ({differing})")


def _records(job: Job, task: Task, predictions: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Which choice was taken of each item; of a wug's, also the probability of the first."""
    left = {name: iter(found["predictions"]) for name, found in predictions.items()}
    for item in task.items:
        prediction = next(left.get(group(task, item), iter(())), {"pred": None})
        texts = choice_texts(task, item)
        if prediction["pred"] not in texts:
            raise job.problem(f"chose none of the texts of {item.subtask}, line {item.line}")
        record = {"subtask": item.subtask, "item": item.line, "chosen": texts.index(prediction["pred"])}
        yield record | ({"probability": prediction["prob"]} if task.has_ratios else {})


def group(task: Task, item: Item) -> str:
    """The name under which the pipeline keeps an item's prediction."""
    return PIPELINE.tasks[task.name] if task.has_ratios else item.name or item.subtask


def choice_texts(task: Task, item: Item) -> list[str]:
    """The choices as the pipeline writes them: the scored texts alone, or, where contexts are compared, with these."""
    whole = len({choice.text for choice in item.choices}) == 1
    return [choice.context + choice.text if whole else choice.text for choice in item.choices]


def _printed(path: Path) -> dict[str, float]:
    """Figures of the report's part on groups of items, lines "name: figure", and their AVERAGE."""
    _, _, text = path.read_text(encoding="utf-8").partition("### UID")
    groups, _, average = text.partition("### AVERAGE")
    figures = re.findall(r"^(.+): (\S+)$", groups.partition("###")[0], re.MULTILINE)
    return {name: float(figure) for name, figure in figures} | {"AVERAGE": float(average.split()[-1])}


def _run_reading(job: Job) -> Found:
    """Surprisals of words, and which share of what a baseline leaves unexplained of reading times they explain."""
    job.run(
        "evaluation_pipeline.reading.run", "--model_path_or_name", "model", "--backend", job.way,
        "--data_path", "evaluation_data/reading/reading_data.csv", "--output_dir", "results",
    )  # fmt: skip
    folder = job.folder / RESULTS / job.way / "reading"
    words = read_json(folder / "predictions.json")["reading"]["predictions"]
    gains, behind_spillover = (_gains(folder / f"predictive_power{part}.jsonl") for part in ("", "_spillover"))
    values = {
        "eye_tracking": float(np.mean([gains[name] for name in EYE_TRACKING])),
        "self_paced": behind_spillover[SELF_PACED[0]],
    }
    report = (folder / "report.txt").read_text(encoding="utf-8")
    printed = dict(zip(values, map(float, re.findall(r"SCORE: (\S+)", report)), strict=True))
    _check(job, {name: 100 * value for name, value in values.items()}, printed)
    items = [
        {
            "item": word["id"] + 1, "surprisal": word["pred"],
            "prev_surprisal": None if math.isnan(word["prev_pred"]) else word["prev_pred"],
        }
        for word in words
    ]  # fmt: skip
    return Found({"n": len(items), "scores": {name: {"value": value} for name, value in values.items()}}, items)


def _gains(path: Path) -> dict[str, float]:
    """(R² − R²_baseline) / (1 − R²_baseline) of each predicted variable."""
    gains = {}
    for record in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        gain = record["Change in R2 from baseline"]
        gains[record["Predicted variable"]] = gain / (1 - record["R2"] + gain)
    return gains


PIPELINE = Pipeline(
    year="2025",
    repository="https://github.com/babylm/evaluation-pipeline-2025",
    marker="eval_zero_shot.sh",
    packages=PACKAGES,
    tasks={
        "blimp_filtered": "blimp",
        "supplement_filtered": "blimp",
        "ewok_filtered": "ewok",
        "entity_tracking": "entity_tracking",
        "wug_adj_nominalization": "wug_adj",
        "wug_past_tense": "wug_past",
        "comps": "comps",
        "reading": "reading",
        **FAST,
    },
    run=run,
    ways=WAYS,
)
