"""Evaluation of finished models: minimal pairs against their floors, and cross-entropy on held-out text.

    items.py          reading and checking items          scoring.py   items → token sequences → log-probabilities
    statistics.py     accuracies, ties, standard errors   floors.py    what the items give away, with ngram.py
    cross_entropy.py  dev and test text, per domain       comparison.py  two models, with distributions.py
    token_tree.py, fast_layers.py                         what makes scoring fast
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from palenka.config import UserError
from palenka.evaluation.items import DEFAULT_TASKS, Task, read_task
from palenka.evaluation.statistics import CHANCE, task_accuracy
from palenka.files import read_json, write_json, write_text
from palenka.paths import ROOT, data_root, evaluation_root
from palenka.runs import find_run

if TYPE_CHECKING:
    from palenka.evaluation.scoring import Scorer

CROSS_ENTROPY = "cross_entropy"
CONVENTIONS = ("2024",)
NO_FLOORS = {"zipf": None, "ngram": None}
VERSION = 1
"""Raise it when a change to the scoring changes numbers: what was evaluated before is then evaluated anew."""


def evaluate(
    runs: Sequence[str], data: Path | None = None, tasks: Sequence[str] | None = None, convention: str = "2024"
) -> None:
    """Evaluate models, write `<model>/evaluation/<task>.json` and `.items.jsonl`, and print a table for each.

    What was evaluated before, with the same weights and items, is only shown.

    Args:
        runs: names of runs, run directories, or other Hugging Face causal model folders.
        data: folder of tasks; default `PALENKA_EVAL`.
        tasks: which of them; default BLiMP, its supplement, EWoK and cross-entropy, as far as they are there.
        convention: how items become token sequences; see `scoring.py`.

    Raises:
        UserError: anything of this that is not there or cannot be used.
    """
    if convention not in CONVENTIONS:
        raise UserError(f"convention {convention!r} is not known; known: {', '.join(CONVENTIONS)}")
    subjects = [Subject.find(run) for run in runs]
    pairs = _read_tasks(data or evaluation_root(), tasks)
    text = tasks is None or CROSS_ENTROPY in tasks
    if tasks is not None and text:
        for subject in subjects:
            subject.require_prepared_data()
    for subject in subjects:
        floors = _floors(subject, pairs)
        results = [_minimal_pairs(subject, task, convention, floors[task.name]) for task in pairs]
        cross_entropy = _cross_entropy(subject) if text and subject.prepared else None
        print(table(subject, results, cross_entropy, convention), flush=True)
        subject.unload()


@dataclass
class Subject:
    """A model folder; `prepared` is the data it was trained on, where that is here."""

    folder: Path
    config: dict[str, Any]
    prepared: Path | None

    @classmethod
    def find(cls, run: str) -> "Subject":
        """Raise UserError unless `run` names a folder with a model in it."""
        folder = find_run(run)
        for pattern in ("config.json", "model*.safetensors"):
            if not list(folder.glob(pattern)):
                raise UserError(f"{folder}: no model to evaluate: there is no {pattern} (is the run finished?)")
        path = folder / "config.yaml"
        config = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}
        return cls(folder, config, _prepared_data(config))

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of what decides the scores: weights, configuration and tokenizer."""
        from palenka.models import weights_sha256

        digest = hashlib.sha256(weights_sha256(self.folder).encode())
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json"):
            path = self.folder / name
            digest.update(path.read_bytes() if path.exists() else b"")
        return digest.hexdigest()

    @cached_property
    def scorer(self) -> "Scorer":
        """The model, loaded when it is needed first."""
        from palenka.evaluation.scoring import Scorer

        return Scorer.load(self.folder)

    def unload(self) -> None:
        self.__dict__.pop("scorer", None)

    def require_prepared_data(self) -> None:
        if self.prepared is None:
            name = self.config.get("data", {}).get("name")
            where = f"its data, {name!r}, is not prepared" if name else "no config.yaml there names its data"
            raise UserError(f"{self.folder}: cannot measure {CROSS_ENTROPY}: {where}")

    def path(self, task: str) -> Path:
        return self.folder / "evaluation" / f"{task}.json"

    def known(self, task: str, identity: dict[str, Any]) -> dict[str, Any] | None:
        """An earlier result of a task, if it is of the same identity."""
        path = self.path(task)
        result = read_json(path) if path.exists() else {}
        return result if result.get("identity") == identity else None


def _prepared_data(config: dict[str, Any]) -> Path | None:
    name = config.get("data", {}).get("name")
    if name is None:
        return None
    root = (config.get("paths") or {}).get("data")
    folder = (ROOT / root if root else data_root()) / name
    return folder if (folder / "prepared.json").exists() else None


def _read_tasks(root: Path, names: Sequence[str] | None) -> list[Task]:
    """The tasks named, which must be there; or the default ones that are there, saying which are not."""
    if names is not None:
        return [read_task(root / name) for name in dict.fromkeys(names) if name != CROSS_ENTROPY]
    for name in DEFAULT_TASKS:
        if not (root / name).is_dir():
            print(f"{name}: skipped, there is no folder {root / name}", flush=True)
    return [read_task(root / name) for name in DEFAULT_TASKS if (root / name).is_dir()]


def _floors(subject: Subject, tasks: list[Task]) -> dict[str, dict[str, Any]]:
    if not subject.prepared:
        return {task.name: NO_FLOORS for task in tasks}
    from palenka.evaluation.floors import floors

    return floors(subject.prepared, tasks)


def _minimal_pairs(subject: Subject, task: Task, convention: str, floors: dict[str, Any]) -> dict[str, Any]:
    """Score a task's items, unless that was done before, and write the two files of the task."""
    identity = {
        "model": subject.fingerprint, "items": task.digest, "convention": convention, "version": VERSION,
    }  # fmt: skip
    path = subject.path(task.name)
    result = subject.known(task.name, identity)
    if result is None or not path.with_suffix(".items.jsonl").exists():
        records = _score(subject, task)
        path.parent.mkdir(exist_ok=True)
        write_text(path.with_suffix(".items.jsonl"), "".join(json.dumps(record) + "\n" for record in records))
        result = {"task": task.name, "convention": convention, **_summary(task, records), "identity": identity}
    result["floors"] = floors
    write_json(path, result)
    return result


def _score(subject: Subject, task: Task) -> list[dict[str, Any]]:
    """A record of each item: which it is, its two scores, and how many tokens each is the sum of."""
    from palenka.evaluation.scoring import encode

    texts = encode(task.items, subject.scorer.tokenizer)
    subject.scorer.check(task.items, texts, task.name)
    scores = subject.scorer.score(texts, label=f"{subject.folder.name}, {task.name}").reshape(-1, 2).tolist()
    tokens = [len(text.continuation) for text in texts]
    return [
        {
            "subtask": item.subtask, "item": item.line, "good": good, "bad": bad,
            "good_tokens": good_tokens, "bad_tokens": bad_tokens,
        }
        for item, (good, bad), good_tokens, bad_tokens in zip(
            task.items, scores, tokens[::2], tokens[1::2], strict=True
        )
    ]  # fmt: skip


def _summary(task: Task, records: list[dict[str, Any]]) -> dict[str, Any]:
    """Accuracies over all and per subtask, and which items tie."""
    scores = np.array([[record["good"], record["bad"]] for record in records])
    whole, subtasks = task_accuracy(task.items, scores)
    ties: dict[str, list[int]] = {}
    for record in records:
        if record["good"] == record["bad"]:
            ties.setdefault(record["subtask"], []).append(record["item"])
    return {
        **asdict(whole),
        "chance": CHANCE,
        "subtasks": {name: {**asdict(accuracy), **task.labels[name]} for name, accuracy in subtasks.items()},
        "tie_items": ties,
    }


def _cross_entropy(subject: Subject) -> dict[str, Any]:
    """Measure dev and test text, unless that was done before, and write the file."""
    from palenka.evaluation.cross_entropy import cross_entropy, window_settings

    assert subject.prepared is not None
    settings = window_settings(subject.config)
    key = read_json(subject.prepared / "prepared.json")["key"]
    identity = {"model": subject.fingerprint, "data": key, "windows": settings, "version": VERSION}
    known = subject.known(CROSS_ENTROPY, identity)
    if known:
        return known
    splits = cross_entropy(subject.scorer, subject.prepared, settings)
    result = {"task": CROSS_ENTROPY, "splits": splits, "identity": identity}
    subject.path(CROSS_ENTROPY).parent.mkdir(exist_ok=True)
    write_json(subject.path(CROSS_ENTROPY), result)
    return result


def table(
    subject: Subject, results: Sequence[dict[str, Any]], cross_entropy: dict[str, Any] | None, convention: str
) -> str:
    """What a person reads: accuracies in percent beside chance and the floors, then cross-entropies."""
    lines = [f"{subject.folder}   ({convention} convention; % right ± standard error, ties count half)"]
    if results:
        heads = ("accuracy", "ties = right", "ties", "items", "chance", "Zipf", "5-gram")
        lines.append(f"  {'task':22}" + "".join(f"{head:>14}" for head in heads))
    for result in results:
        floors = [result["floors"][kind] for kind in ("zipf", "ngram")]
        cells = [
            f"{100 * result['accuracy']:.2f} ± {100 * result['stderr']:.2f}",
            f"{100 * result['accuracy_ties_good']:.2f}",
            f"{result['ties']:,}",
            f"{result['n']:,}",
            f"{100 * result['chance']:.0f}",
            *("none" if floor is None else f"{100 * floor:.2f}" for floor in floors),
        ]
        lines.append(f"  {result['task']:22}" + "".join(f"{cell:>14}" for cell in cells))
    if results and not subject.prepared:
        lines.append("  no floors: the text that this model was trained on is not prepared here")
    for name, split in (cross_entropy or {"splits": {}})["splits"].items():
        lines.append(
            f"  {'cross-entropy, ' + name:22}{split['cross_entropy']:>14.4f} nats per token"
            f"{split['bits_per_byte']:>10.4f} bits per byte   {split['tokens']:,} tokens"
        )
    return "\n".join(lines)
