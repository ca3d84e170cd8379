"""Choices: of the texts of an item the right one should be the likeliest; or people's preferences are predicted."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palenka.evaluation.correlation import preferences, spearman
from palenka.evaluation.items import LABELS, Item, Records, Task, deciding
from palenka.evaluation.results import is_finite
from palenka.evaluation.statistics import Accuracy, chance, group_accuracy, outcomes, task_accuracy
from palenka.evaluation.task_files import read_choice_task
from palenka.evaluation.tasks import AskedModel, EvaluationTask
from palenka.util.errors import UserError


class Choices(Task, EvaluationTask):
    """Texts to choose among, by how likely they are; or, where items have ratios, how much more likely one is."""

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return any(folder.glob("*.jsonl"))

    @classmethod
    def read(cls, folder: Path, protocol: str = "2024") -> "Choices":
        task = read_choice_task(folder, protocol)
        return cls(task.name, task.items, task.labels)

    def measure(self, model: AskedModel, label: str) -> tuple[Iterable[dict[str, Any]], dict[str, Any]]:
        sums, tokens = model.score_choices(self, label)
        scores = deciding(self.items, sums, tokens)
        return records_of(self, scores, tokens), self._summary(scores, tokens)

    def derive(self, records: Records) -> dict[str, Any]:
        scores, tokens = scores_in(self, records), np.array(_numbers(self, records, "tokens"))
        for item, record in zip(self.items, records, strict=True):
            if record.get("cluster") != item.cluster:
                raise UserError(f"{_place(item)}: its cluster is {record.get('cluster')!r}, not {item.cluster!r}")
        return self._summary(scores, tokens)

    def _summary(self, scores: NDArray[np.float64], tokens: NDArray[np.int64]) -> dict[str, Any]:
        return ratio_summary(self, scores) if self.has_ratios else summary(self, scores, tokens)


def records_of(task: Task, scores: NDArray[np.float64], tokens: NDArray[np.int64]) -> Iterable[dict[str, Any]]:
    """Of each item: which it is, the scores of its choices, and of how many tokens each is the sum, or the mean."""
    ends = np.cumsum([len(item.choices) for item in task.items])
    for item, end in zip(task.items, ends, strict=True):
        choices = slice(end - len(item.choices), end)
        cluster = {"cluster": item.cluster} if item.cluster else {}
        yield {
            "subtask": item.subtask, "item": item.line, "scores": scores[choices].tolist(),
            "tokens": tokens[choices].tolist(), **cluster,
        }  # fmt: skip


def scores_in(task: Task, records: Records) -> NDArray[np.float64]:
    """The scores of all choices, in order, of records of the task's items: (choices,). Raises UserError as `derive`."""
    return np.array(_numbers(task, records, "scores"), np.float64)


def summary(task: Task, scores: NDArray[np.float64], tokens: NDArray[np.int64]) -> dict[str, Any]:
    """Accuracies over all, per phenomenon, field and subtask, and which items tie.

    `accuracy_per_token` takes the choice with the highest mean score per token: sums favour few tokens.
    """
    whole, subtasks = task_accuracy(task.items, scores)
    means = scores if task.is_per_token else scores / np.maximum(tokens, 1)
    whole_per_token, per_token = task_accuracy(task.items, means)
    return {
        **asdict(whole),
        "accuracy_per_token": whole_per_token.accuracy,
        "chance": chance(task.items),
        "subtasks": {
            name: {**asdict(found), "accuracy_per_token": per_token[name].accuracy, **task.labels[name]}
            for name, found in subtasks.items()
        },
        "groups": {label: _groups(task, subtasks, label) for label in LABELS},
        "tie_items": _tie_items(task, scores),
    }


def ratio_summary(task: Task, scores: NDArray[np.float64]) -> dict[str, Any]:
    """Correlation of the share of people and of the model's probability that the first of two forms has."""
    ratios = np.array([item.ratio for item in task.items])
    found = spearman(preferences(scores.reshape(-1, 2)), ratios)
    return {"n": len(task.items), "scores": {"spearman": asdict(found)}}


def _groups(task: Task, subtasks: dict[str, Accuracy], label: str) -> dict[str, dict[str, Any]]:
    """Accuracy over the subtasks of each phenomenon, or of each field."""
    members: dict[str, list[Accuracy]] = {}
    for name, found in subtasks.items():
        if label in task.labels[name]:
            members.setdefault(task.labels[name][label], []).append(found)
    return {name: asdict(group_accuracy(found)) for name, found in members.items()}


def _tie_items(task: Task, scores: NDArray[np.float64]) -> dict[str, list[int]]:
    """Lines of the items that tie, by subtask."""
    found: dict[str, list[int]] = {}
    for item, tie in zip(task.items, outcomes(task.items, scores)[1], strict=True):
        if tie:
            found.setdefault(item.subtask, []).append(item.line)
    return found


def check_records(task: Task, records: Records) -> None:
    """Raise UserError unless there is a record of each item, in order."""
    if len(records) != len(task.items):
        raise UserError(f"{len(records):,} records of {len(task.items):,} items")
    for item, record in zip(task.items, records, strict=True):
        if (record.get("subtask"), record.get("item")) != (item.subtask, item.line):
            raise UserError(f"{_place(item)}: has no record in its place")


def _numbers(task: Task, records: Records, key: str) -> list[float]:
    """What each record has for its item's choices, one after the other."""
    check_records(task, records)
    for item, record in zip(task.items, records, strict=True):
        values = record.get(key)
        if not isinstance(values, list) or len(values) != len(item.choices) or not all(map(is_finite, values)):
            raise UserError(f"{_place(item)}: {key} are {values!r}; expected {len(item.choices)} numbers")
    return [value for record in records for value in record[key]]


def _place(item: Item) -> str:
    return f"{item.subtask}, line {item.line}"
