"""The pipeline of 2024 (babylm/evaluation-pipeline-2024, a fork of lm-eval 0.4.2), run as it needs to be today.

    metrics    at import it asks the Hub for one that none of these tasks uses: a stand-in for `evaluate` gives it none
    batches    its cache of logits makes batches of one, whatever their size should be: `logits_cache=False`. The scores
               are the same
    precision  newer versions of transformers keep that of the weights' file: `dtype=float32`

Subtasks are run by their own names, so that some can be asked about alone. What it prints for a task is their
unweighted mean, as here.
"""

from typing import Any

import numpy as np

from palenka.evaluation.items import Item, Task
from palenka.evaluation.official.checkout import Found, Job, Pipeline
from palenka.evaluation.official.found import accuracies, difference
from palenka.util.files import read_json

BATCH_SIZE = 64
NO_METRICS = "def load(*names, **options):\n    return None\n"
ROUNDING = 1e-9


def run(job: Job) -> Found:
    """The scores of all choices, and accuracies of them."""
    assert isinstance(job.task, Task)  # it has no table of reading times
    modules = job.folder / "modules"
    modules.mkdir()
    (modules / "evaluate.py").write_text(NO_METRICS, encoding="utf-8")
    pattern = PIPELINE.tasks[job.task.name]
    names = {subtask: pattern.format(subtask) for subtask in job.task.labels}
    job.run(
        "lm_eval", "--model", "hf", "--model_args", "pretrained=model,backend=causal,logits_cache=False,dtype=float32",
        "--tasks", ",".join(names.values()), "--batch_size", str(BATCH_SIZE), "--device", job.checkout.device,
        "--log_samples", "--output_path", "results/results.json",
        modules=modules,
    )  # fmt: skip
    samples = {subtask: _samples(job, name) for subtask, name in names.items()}
    items = [_record(job, item, samples[item.subtask].pop(item.line - 1, None)) for item in job.task.items]
    result = accuracies(job.task, np.array([score for item in items for score in item["scores"]]))
    ours = {subtask: found["accuracy_ties_good"] for subtask, found in result["subtasks"].items()}
    figures = read_json(job.folder / "results" / "results.json")["results"]
    theirs = {subtask: figures[name]["acc,none"] for subtask, name in names.items()}
    if differing := difference(ours, theirs, ROUNDING):
        raise job.problem(f"contradicts itself ({differing})")
    return Found(result, items)


def _samples(job: Job, name: str) -> dict[int, dict[str, Any]]:
    samples = read_json(job.folder / "results" / f"{name}_results.jsonl")  # one array, for all its name
    return {sample["doc_id"]: sample for sample in samples}


def _record(job: Job, item: Item, sample: dict[str, Any] | None) -> dict[str, Any]:
    """The item's scores, if the sample is of its texts."""
    texts = [choice.text.strip() for choice in item.choices]
    if sample is None or [text.strip() for _, text in sample["arguments"]] != texts:
        raise job.problem(f"gave no scores for the texts of {item.subtask}, line {item.line}")
    return {"subtask": item.subtask, "item": item.line, "scores": [score for [[score, _]] in sample["resps"]]}


PIPELINE = Pipeline(
    year="2024",
    repository="https://github.com/babylm/evaluation-pipeline-2024",
    marker="lm_eval/tasks/blimp_filtered/_template_yaml",
    packages=(
        "torch", "transformers", "accelerate", "datasets", "dill", "jinja2", "more-itertools", "pandas", "peft",
        "pytablewriter", "sacrebleu", "scikit-learn", "sqlitedict",
    ),
    tasks={
        "blimp_filtered": "blimp_{}_filtered",
        "supplement_filtered": "blimp_supplement_{}",
        "ewok_filtered": "ewok_{}_filtered",
    },
    run=run,
)  # fmt: skip
