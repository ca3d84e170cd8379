"""What PyPI's lm-eval says of minimal pairs under the 2024 protocol; it runs in an environment of its own.

    python -m venv .venv-lm-eval
    .venv-lm-eval/bin/python -m pip install lm-eval==0.4.13 accelerate==1.15.0 transformers==5.23.0 \\
        torch==2.13.0 numpy==2.4.6

Each line of standard input asks for one whole call: model load, task set-up, scores, accuracies.

    {"model": FOLDER, "data": FOLDER, "tasks": [NAME, …], "batch_size": 64, "threads": 1,
     "clock": "perf_counter"}

and is answered by a line of standard output, in which lm-eval's imports do not count:

    {"seconds": …, "scores": {TASK: {SUBTASK: [[good, bad], …]}}, "groups": {TASK: {"accuracy": …, "stderr": …}}}

The task files are made here, one for each `.jsonl` file. lm-eval's own default would be to begin a context with the
tokenizer's special tokens, which the 2024 pipeline did not: hence `add_bos_token=False`.
"""

import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lm_eval
import torch
import yaml
from lm_eval.tasks import TaskManager

PAIR = {"doc_to_text": "", "doc_to_choice": "{{[sentence_good, sentence_bad]}}"}
EWOK = {"doc_to_text": "Context1", "doc_to_choice": "{{[Target1, Target2]}}"}


def main() -> None:
    for line in sys.stdin:
        with contextlib.redirect_stdout(sys.stderr):
            answer = call(**json.loads(line))
        print(json.dumps(answer), flush=True)


def call(model: str, data: str, tasks: list[str], batch_size: int, threads: int, clock: str) -> dict[str, Any]:
    torch.set_num_threads(threads)
    now = getattr(time, clock)
    started = now()
    with tempfile.TemporaryDirectory() as folder:
        for task in tasks:
            write_task(Path(data, task), Path(folder))
        found = lm_eval.simple_evaluate(
            model="hf",
            model_args={"pretrained": model, "dtype": "float32", "add_bos_token": False},
            tasks=tasks,
            batch_size=batch_size,
            device="cpu",
            task_manager=TaskManager(include_path=folder, include_defaults=False),
        )
    seconds = now() - started
    scores: dict[str, dict[str, list[list[float]]]] = {task: {} for task in tasks}
    for name, samples in found["samples"].items():
        task, subtask = name.split("/")
        ordered = sorted(samples, key=lambda sample: sample["doc_id"])
        scores[task][subtask] = [[score for score, _ in sample["filtered_resps"]] for sample in ordered]
    groups = {
        task: {"accuracy": found["groups"][task]["acc,none"], "stderr": found["groups"][task]["acc_stderr,none"]}
        for task in tasks
    }
    return {"seconds": seconds, "scores": scores, "groups": groups}


def write_task(items: Path, folder: Path) -> None:
    """A task file for each file of items, and one for their group, whose accuracy is the unweighted mean."""
    names = []
    for path in sorted(items.glob("*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            fields = PAIR if "sentence_good" in json.loads(next(lines)) else EWOK
        names.append(f"{items.name}/{path.stem}")
        write_yaml(folder / f"{items.name}-{path.stem}.yaml", {
            "task": names[-1],
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(path)}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "num_fewshot": 0,
            **fields,
            "doc_to_target": 0,
            "target_delimiter": " ",
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        })  # fmt: skip
    mean = {"metric": "acc", "aggregation": "mean", "weight_by_size": False}
    group = {"group": items.name, "task": names, "aggregate_metric_list": [mean]}
    write_yaml(folder / f"{items.name}.yaml", group)


def write_yaml(path: Path, content: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    main()
