"""Evaluation of finished models: choices against their floors, predictions of people, cross-entropy on held-out text.

    items.py, reading.py     tasks, read and checked         subjects.py       what is evaluated
    scoring.py               tokens, log-probabilities; fast by token_tree.py
    statistics.py            accuracies, ties, errors        correlation.py    predictions of people
    floors.py, ngram.py      what the items give away        cross_entropy.py  dev and test text, per domain
    comparison.py            two models, with distributions.py
    minicons_scorer.py       scores by somebody else, and by second_opinion.py how far they are from ours
    display.py               what is shown
    pipelines.py             the official ones themselves    submission.py     files for the challenge
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from palenka.config import UserError
from palenka.evaluation import reading
from palenka.evaluation.correlation import preferences, spearman
from palenka.evaluation.display import table
from palenka.evaluation.items import LABELS, Task, read_task
from palenka.evaluation.reading import READING, ReadingTask, read_reading
from palenka.evaluation.second_opinion import agreement
from palenka.evaluation.statistics import Accuracy, chance, group_accuracy, outcomes, task_accuracy
from palenka.evaluation.subjects import Subject, known_result
from palenka.files import make_folder, read_json, write_json, write_text
from palenka.paths import evaluation_root

if TYPE_CHECKING:
    from palenka.evaluation.scoring import Text

AnyTask = Task | ReadingTask
CROSS_ENTROPY = "cross_entropy"
TASKS = {
    "2024": ("blimp_filtered", "supplement_filtered", "ewok_filtered"),
    "2025": (
        "blimp_filtered", "supplement_filtered", "ewok_filtered", "entity_tracking", "wug_adj_nominalization",
        "wug_past_tense", "comps", READING,
    ),
}  # fmt: skip
"""The conventions, with the tasks of the pipelines that they are of."""
SHORT_NAMES = {"wug_adj": "wug_adj_nominalization", "wug_past": "wug_past_tense"}
NO_FLOORS = {"zipf": None, "ngram": None}
OWN_SCORER = "palenka"
SCORERS = (OWN_SCORER, "minicons")
OWN_TASKS = (CROSS_ENTROPY, READING)
"""What no other scorer does."""
VERSION = 2
"""Raise it when a change to the scoring changes numbers: what was evaluated before is then evaluated anew."""


def evaluate(
    models: Sequence[str],
    data: Path | None = None,
    tasks: Sequence[str] | None = None,
    convention: str = "2024",
    details: bool = False,
    scorer: str = OWN_SCORER,
) -> None:
    """Evaluate models, write a result and the scores of all items for each task, and print a table for each model.

    What was evaluated before, with the same weights and items, is only shown.

    Args:
        models: names of runs, run directories, other Hugging Face causal model folders, or `hf:owner/name@revision`.
        data: folder of tasks; default `PALENKA_EVAL`.
        tasks: which of them; default those of the convention's pipeline and cross-entropy, as far as they are there.
        convention: how items become token sequences; see `scoring.py`.
        details: also show phenomena, fields and subtasks.
        scorer: whose log-probabilities; those of another than our own are kept apart and compared with ours.

    Raises:
        UserError: anything of this that is not there or cannot be used.
    """
    if convention not in TASKS:
        raise UserError(f"convention {convention!r} is not known; known: {', '.join(TASKS)}")
    if scorer not in SCORERS:
        raise UserError(f"scorer {scorer!r} is not known; known: {', '.join(SCORERS)}")
    for name in OWN_TASKS if scorer != OWN_SCORER else ():
        if name in (tasks or ()):
            raise UserError(f"--scorer {scorer}: scores choices alone; leave {name} out of --tasks")
    subjects = [Subject.find(model) for model in dict.fromkeys(models)]
    read = _read_tasks(data or evaluation_root(), tasks, convention)
    if scorer != OWN_SCORER:
        read = [task for task in read if task.name not in OWN_TASKS]
    text = scorer == OWN_SCORER and (tasks is None or CROSS_ENTROPY in tasks)
    if tasks is not None and text:
        for subject in subjects:
            _require_prepared_data(subject)
    evaluator = Evaluator(convention, scorer)
    for subject in subjects:
        results = evaluator.results(subject, read)
        cross_entropy = _cross_entropy(subject) if text and subject.prepared else None
        print(table(subject, results, cross_entropy, convention, details), flush=True)
        if scorer != OWN_SCORER:
            print(evaluator.agreement(subject, read), flush=True)
        subject.unload()


def _read_tasks(root: Path, names: Sequence[str] | None, convention: str) -> list[AnyTask]:
    """The tasks named, which must be there; or the default ones that are there, saying which are not."""
    if names is not None:
        folders = [SHORT_NAMES.get(name, name) for name in names if name != CROSS_ENTROPY]
        return [read_any_task(root / name) for name in dict.fromkeys(folders)]
    absent = [name for name in TASKS[convention] if not (root / name).is_dir()]
    if absent:
        print(f"skipped, there are no such folders in {root}: {', '.join(absent)}", flush=True)
    return [read_any_task(root / name) for name in TASKS[convention] if name not in absent]


def read_any_task(folder: Path) -> AnyTask:
    """A task of choices, or that of reading times."""
    return read_reading(folder) if folder.name == READING else read_task(folder)


def _require_prepared_data(subject: Subject) -> None:
    if subject.prepared is None:
        name = subject.config.get("data", {}).get("name")
        where = f"its data, {name!r}, is not prepared" if name else "no config.yaml there names its data"
        raise UserError(f"{subject.folder}: cannot measure {CROSS_ENTROPY}: {where}")


@dataclass
class Evaluator:
    """Scores the items of tasks; it keeps their tokens, for models with the same tokenizer."""

    convention: str
    scorer: str = OWN_SCORER
    texts: dict[tuple[str, str], "list[Text]"] = field(default_factory=dict)

    def results(self, subject: Subject, tasks: Sequence[AnyTask]) -> list[dict[str, Any]]:
        """The result of each task, from its file or measured and written."""
        floors = _floors(subject, [task for task in tasks if isinstance(task, Task) and not task.has_ratios])
        results = [self._result(subject, task) for task in tasks]
        for task, result in zip(tasks, results, strict=True):
            if task.name in floors:
                result["floors"] = floors[task.name]
            write_json(self._path(subject, task), result)
        return results

    def agreement(self, subject: Subject, tasks: Sequence[AnyTask]) -> str:
        """Lines on how far the scores of another scorer are from our own."""
        own = subject.results(self.convention)
        lines = [
            agreement(task, own / f"{task.name}.json", self._path(subject, task))
            for task in tasks
            if isinstance(task, Task)
        ]
        return "\n".join([f"  scored by {self.scorer}:", *lines])

    def _path(self, subject: Subject, task: AnyTask) -> Path:
        """Our own results, or, in a folder of its name below, those of another scorer."""
        folder = "" if self.scorer == OWN_SCORER else self.scorer
        return subject.results(self.convention) / folder / f"{task.name}.json"

    def _result(self, subject: Subject, task: AnyTask) -> dict[str, Any]:
        """Score a task's items, unless that was done before, and keep the score of each."""
        identity = {
            "model": subject.fingerprint, "items": task.digest, "convention": self.convention, "version": VERSION,
        }  # fmt: skip
        if self.scorer != OWN_SCORER:
            identity["scorer"] = self.scorer
        path = self._path(subject, task)
        known = known_result(path, identity)
        if known and path.with_suffix(".items.jsonl").exists():
            return known
        records, found = self._measure(subject, task)
        make_folder(path.parent)
        write_text(path.with_suffix(".items.jsonl"), "".join(json.dumps(record) + "\n" for record in records))
        return {"task": task.name, "convention": self.convention, **found, "identity": identity}

    def _measure(self, subject: Subject, task: AnyTask) -> tuple[Iterable[dict[str, Any]], dict[str, Any]]:
        """Records of the items, and what they come to."""
        if isinstance(task, ReadingTask):
            surprisals = reading.score(task, subject.scorer, _label(subject, task))
            return surprisals, reading.summary(task, surprisals)
        scores, tokens = self._score(subject, task)
        found = ratio_summary(task, scores) if task.has_ratios else summary(task, scores, tokens)
        return _records(task, scores, tokens), found

    def _score(self, subject: Subject, task: Task) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Score of each choice, in order, and how many tokens it is the sum of."""
        from palenka.evaluation.scoring import check_texts

        label = _label(subject, task)
        if self.scorer == "minicons":
            return subject.minicons_scorer.score_items(task.items, self.convention, label)
        texts = self._texts(subject, task)
        check_texts(task.items, texts, task.name, subject.scorer.limits)
        scores = subject.scorer.score(texts, label=label)
        return scores, np.array([len(text.continuation) for text in texts])

    def _texts(self, subject: Subject, task: Task) -> "list[Text]":
        from palenka.evaluation.scoring import encode

        key = subject.tokenizer_fingerprint, task.name
        if key not in self.texts:
            self.texts[key] = encode(task.items, subject.scorer.tokenizer, self.convention)
        return self.texts[key]


def _label(subject: Subject, task: AnyTask) -> str:
    return f"{subject.folder.name}, {task.name}"


def _floors(subject: Subject, tasks: list[Task]) -> dict[str, dict[str, Any]]:
    if not subject.prepared:
        return {task.name: NO_FLOORS for task in tasks}
    from palenka.evaluation.floors import floors

    return floors(subject.prepared, tasks)


def _records(
    task: Task, scores: NDArray[np.float64], tokens: NDArray[np.int64]
) -> Iterable[dict[str, Any]]:
    """Of each item: which it is, the scores of its choices, and how many tokens each is the sum of."""
    ends = np.cumsum([len(item.choices) for item in task.items])
    for item, end in zip(task.items, ends, strict=True):
        choices = slice(end - len(item.choices), end)
        cluster = {"cluster": item.cluster} if item.cluster else {}
        yield {
            "subtask": item.subtask, "item": item.line, "scores": scores[choices].tolist(),
            "tokens": tokens[choices].tolist(), **cluster,
        }  # fmt: skip


def summary(task: Task, scores: NDArray[np.float64], tokens: NDArray[np.int64]) -> dict[str, Any]:
    """Accuracies over all, per phenomenon, field and subtask, and which items tie.

    `accuracy_per_token` takes the choice with the highest mean score per token: sums favour few tokens.
    """
    whole, subtasks = task_accuracy(task.items, scores)
    whole_per_token, per_token = task_accuracy(task.items, scores / np.maximum(tokens, 1))
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


def _cross_entropy(subject: Subject) -> dict[str, Any]:
    """Measure dev and test text, unless that was done before, and write the file."""
    from palenka.evaluation.cross_entropy import cross_entropy, window_settings

    assert subject.prepared is not None
    settings = window_settings(subject.config)
    key = read_json(subject.prepared / "prepared.json")["key"]
    identity = {"model": subject.fingerprint, "data": key, "windows": settings, "version": VERSION}
    path = subject.folder / "evaluation" / f"{CROSS_ENTROPY}.json"
    known = known_result(path, identity)
    if known:
        return known
    splits = cross_entropy(subject.scorer, subject.prepared, settings)
    result = {"task": CROSS_ENTROPY, "splits": splits, "identity": identity}
    make_folder(path.parent)
    write_json(path, result)
    return result
