"""GLUE's files in small, made up: what is true of an item stands in its text, so that a model can learn it."""

import json
from pathlib import Path
from typing import Any

NOUNS = ("cat", "dog", "child", "teacher", "boat", "garden", "river", "letter", "window", "farmer")
KEYS = {
    "boolq": ("question", "passage"), "cola": ("sentence",), "mnli": ("premise", "hypothesis"),
    "mnli-mm": ("premise", "hypothesis"), "mrpc": ("sentence1", "sentence2"),
    "multirc": ("question", "answer", "paragraph"), "qnli": ("question", "sentence"), "qqp": ("question1", "question2"),
    "rte": ("sentence1", "sentence2"), "sst2": ("sentence",), "wsc": ("text", "span1_text", "span2_text"),
}  # fmt: skip


def items(task: str, count: int, classes: int = 2) -> list[dict[str, Any]]:
    """Items whose first noun says the label; they are of different lengths."""
    found = []
    for number in range(count):
        label, noun = number % classes, NOUNS[number % len(NOUNS)]
        texts = [f"{NOUNS[label]} {place} " + f"the {noun} sees it " * (1 + number * 7 % 5) for place in KEYS[task]]
        found.append(dict(zip(KEYS[task], texts, strict=True)) | {"label": label, "idx": number})
    return found


def write(folder: Path, name: str, content: list[dict[str, Any]]) -> Path:
    """`<folder>/glue_filtered/<name>.jsonl`."""
    path = folder / "glue_filtered" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(item) + "\n" for item in content), encoding="utf-8")
    return path


def write_tasks(folder: Path, *tasks: str, train: int = 20, valid: int = 11) -> Path:
    """Both files of tasks; that of mnli-mm is a valid file alone."""
    for task in tasks:
        classes = 3 if task.startswith("mnli") else 2
        write(folder, f"{task}.valid", items(task, valid, classes))
        if task != "mnli-mm":
            write(folder, f"{task}.train", items(task, train, classes))
    return folder
