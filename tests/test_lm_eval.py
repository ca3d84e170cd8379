"""Our scores against those of PyPI's lm-eval, item by item, and its accuracies and errors against ours.

It runs in an environment of its own; PALENKA_LM_EVAL names its Python, as `.ci/run` makes it.
"""

import json
import os
import subprocess
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from palenka.evaluation.items import Task
from palenka.evaluation.scoring import Scorer
from palenka.evaluation.statistics import group_accuracy, outcomes, subtask_accuracy
from palenka.evaluation.tasks.choices import Choices
from palenka.evaluation.texts import encode
from palenka.util.paths import ROOT

SECONDS = 300
OF_EACH_FILE = 2
PAIRS = {
    "agreement": [
        ("The cat sees a dog.", "The cat see a dog."),
        ("Every child likes it.", "Every child like it."),
        ("This farmer's boat paints.", "This farmers' boat paint."),
    ],
    "dialogue": [
        ("A: Who likes the boat?\nB: Every farmer.", "A: Who likes the boat?\nB: Every river."),
        ('A: "Who?"\nB: {{One}} café.', 'A: "Who?"\nB: {{One}} boat.'),
    ],
}
CONTEXTS = {
    "social": [("The cat sees a dog.", "It is a cat."), ("The cat sees a boat.", "It carries a letter.")],
    "space": [("One farmer is in the garden. ", "The river watches."), ("A child", "remembers the teacher")],
}


@pytest.fixture(scope="module")
def python(processes: None) -> str:
    python = os.environ.get("PALENKA_LM_EVAL")
    if not python:
        pytest.skip("PALENKA_LM_EVAL names no Python with lm-eval")
    return python


def write(path: Path, records: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Made items; and the first of each official file, where these are."""
    for name, pairs in PAIRS.items():
        records = ({"sentence_good": good, "sentence_bad": bad} for good, bad in pairs)
        write(tmp_path / "data" / "pairs" / f"{name}.jsonl", records)
    for name, rows in CONTEXTS.items():
        (one, its), (other, others) = rows
        twins = [(one, its, others), (one, others, its), (other, others, its), (other, its, others)]
        records = ({"Context1": context, "Target1": a, "Target2": b} for context, a, b in twins)
        write(tmp_path / "data" / "contexts" / f"{name}.jsonl", records)
    shared = os.environ.get("PALENKA_SHARED_DATA")
    for task in ("blimp_filtered", "supplement_filtered") if shared else ():
        for path in Path(shared or "", task).glob("*.jsonl"):
            with path.open(encoding="utf-8") as lines:
                write(tmp_path / "data" / task / path.name, map(json.loads, islice(lines, OF_EACH_FILE)))
    return tmp_path / "data"


def test_lm_eval_agrees_item_by_item(
    python: str, data: Path, prepared: Path, runs_folder: Path, tmp_path: Path
) -> None:
    runs = [
        tiny.write_finished_run(runs_folder / keys["architecture"], keys, prepared / "tokenizer")
        for keys in (tiny.GPT2, tiny.LLAMA)
    ]
    tasks = sorted(folder.name for folder in data.iterdir())
    options = {"batch_size": 16, "threads": 1, "clock": "perf_counter"}
    requests = [{"model": str(run), "data": str(data), "tasks": tasks, **options} for run in runs]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(tmp_path / "datasets"),
    }  # fmt: skip
    called = subprocess.run(
        [python, ROOT / "benchmarks" / "lm_eval_scores.py"], env=environment, capture_output=True, text=True,
        input="".join(json.dumps(request) + "\n" for request in requests), timeout=SECONDS,
    )  # fmt: skip
    assert called.returncode == 0, called.stderr
    for run, answer in zip(runs, map(json.loads, called.stdout.splitlines()), strict=True):
        scorer = Scorer.load(run)
        for name in tasks:
            task = Choices.read(data / name)
            scores = scorer.score(encode(task.items, scorer.tokenizer))
            theirs = np.array([pair for pairs in answer["scores"][name].values() for pair in pairs]).ravel()
            assert list(answer["scores"][name]) == list(task.labels)
            np.testing.assert_allclose(scores, theirs, atol=1e-4)
            assert (outcomes(task.items, scores)[0] > 0).tolist() == (theirs[::2] >= theirs[1::2]).tolist()
            expected = answer["groups"][name]
            accuracy, stderr = as_lm_eval_counts(task, scores)
            assert accuracy == pytest.approx(expected["accuracy"], abs=1e-9)
            assert stderr == pytest.approx(expected["stderr"], abs=1e-9)


def as_lm_eval_counts(task: Task, scores: np.ndarray) -> tuple[float, float]:
    """Accuracy and standard error with ties for right, and with EWoK's twins for independent items."""
    right = np.ceil(outcomes(task.items, scores)[0])
    subtasks = np.array([item.subtask for item in task.items])
    each = [subtask_accuracy(right[subtasks == name], np.zeros((subtasks == name).sum(), bool)) for name in task.labels]
    return group_accuracy(each).accuracy, group_accuracy(each).stderr
