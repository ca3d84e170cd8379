"""Baselines: what a task's items give away without a language model, measured on the run's own training text.

    zipf    sum of the log relative frequencies of the words: a text is good if its words are common (and few)
    ngram   a 5-gram model of the run's own tokens: good if its short stretches are common (`ngram.py`)

Words are the lower-cased runs of letters and digits, with apostrophes inside (`don't` is one word), of the cleaned
training text; every word, seen or not, is counted once more than it occurs. What both sentences share cannot
decide: permutations of the same words tie, exactly, and a tie counts half. (COMPS asks which context makes one text
likelier: there, word frequencies always tie.)

Both use the whole training split. They belong to the data, not to a run, and are kept beside it, in
`data/<name>/floors/<task>-<hash of items and data>.json`.
"""

import hashlib
import math
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palenka.data.integrity import read_prepared, verify
from palenka.data.tokenizer import load_tokenizer
from palenka.data.tokens import TokenSplit
from palenka.evaluation import ngram
from palenka.evaluation.items import Item, Task, deciding
from palenka.evaluation.results import contradictions, report_unusable
from palenka.evaluation.statistics import Accuracy, group_accuracy, task_accuracy
from palenka.evaluation.texts import Text, encode
from palenka.util.errors import UserError
from palenka.util.files import make_folder, read_json, write_json

VERSION = 1
"""To be raised when a change here changes the numbers: baselines on disk are then measured again."""
KINDS = ("zipf", "ngram")
WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def measure_baselines(prepared: Path, tasks: Sequence[Task]) -> dict[str, dict[str, float]]:
    """{task: {"zipf": accuracy, "ngram": accuracy}}, read where known, else measured (all missing ones in one go).

    Args:
        prepared: a folder of prepared data.
        tasks: with the items to decide.

    Raises:
        UserError: the data is damaged.
    """
    key = read_prepared(prepared)["key"]
    paths = {task.name: _path(prepared, task, key) for task in tasks}
    known = {task.name: _known(paths[task.name], task, key) for task in tasks}
    missing = [task for task in tasks if known[task.name] is None]
    if missing:
        verify(prepared, "tokenizer", "train", "text/train")
        names = ", ".join(task.name for task in missing)
        print(f"{names}: measuring the baselines on {prepared.name}, once for all runs", file=sys.stderr, flush=True)
        for task, measured in zip(missing, _measure(prepared, missing), strict=True):
            known[task.name] = {"task": task.name, "items": task.digest, "data": key, **measured}
            make_folder(paths[task.name].parent)
            write_json(paths[task.name], known[task.name])
    return {name: {kind: of_task[kind]["accuracy"] for kind in KINDS} for name, of_task in known.items() if of_task}


def _known(path: Path, task: Task, key: str) -> dict[str, Any] | None:
    """What was measured before, if it is of these items and this data, and its subtasks come to the whole."""
    if not path.exists():
        return None
    try:
        found = read_json(path)
        sizes = Counter(item.subtask for item in task.items)
        expected: dict[str, Any] = {"task": task.name, "items": task.digest, "data": key}
        for kind in KINDS:
            subtasks = {name: Accuracy(**found[kind]["subtasks"][name]) for name in sizes}
            expected[kind] = asdict(group_accuracy(list(subtasks.values())))
            expected[kind]["subtasks"] = {name: {"n": size} for name, size in sizes.items()}
        difference = next(contradictions(found, expected), None)
    except UserError as error:
        report_unusable(error)
        return None
    except (KeyError, TypeError) as error:
        difference = f"a figure is missing or not a number ({error})"
    if difference:
        report_unusable(UserError(f"{path}: damaged: {difference}"))
        return None
    return dict(found)


def _path(prepared: Path, task: Task, key: str) -> Path:
    digest = hashlib.sha256(f"{VERSION} {key} {task.digest}".encode()).hexdigest()
    return prepared / "floors" / f"{task.name}-{digest[:16]}.json"


def _measure(prepared: Path, tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """For each task the accuracies of both baselines, over all and per subtask."""
    items = [item for task in tasks for item in task.items]
    scores = {"zipf": word_scores(items, count_words(prepared / "text" / "train"))}
    scores["ngram"] = ngram_scores(items, prepared)
    measured = []
    start = 0
    for task in tasks:
        end = start + sum(len(item.choices) for item in task.items)
        measured.append({kind: _summary(task, found[start:end]) for kind, found in scores.items()})
        start = end
    return measured


def _summary(task: Task, scores: NDArray[np.float64]) -> dict[str, Any]:
    whole, subtasks = task_accuracy(task.items, scores)
    return {**asdict(whole), "subtasks": {name: asdict(accuracy) for name, accuracy in subtasks.items()}}


def words(text: str) -> list[str]:
    """The words of a text, lower-cased."""
    return WORD.findall(text.lower().replace("’", "'"))


def count_words(folder: Path) -> Counter[str]:
    """How often each word occurs in the text files of a folder."""
    counts: Counter[str] = Counter()
    for path in sorted(folder.glob("*.txt")):
        with path.open(encoding="utf-8") as file:
            for line in file:
                counts.update(words(line))
    return counts


def word_scores(items: Sequence[Item], counts: Counter[str]) -> NDArray[np.float64]:
    """Σ log frequency of the words of each choice's text, in nats: (choices,); their mean where items ask so.

    The sums are exact to the last bit, so that the order of the words does not matter.
    """
    total = math.log(counts.total() + len(counts) + 1)

    texts = [words(choice.text) for item in items for choice in item.choices]
    sums = [math.fsum(math.log(counts[word] + 1) - total for word in text) for text in texts]
    return deciding(items, np.array(sums), [len(text) for text in texts])


def ngram_scores(items: Sequence[Item], prepared: Path) -> NDArray[np.float64]:
    """log-probability of each choice's text under the 5-gram model, in nats: (choices,); a mean where items ask so."""
    tokenizer = load_tokenizer(prepared / "tokenizer")
    split = TokenSplit.open(prepared / "train")
    texts = encode(items, tokenizer)
    tokens = np.array([token for text in texts for token in text.context + text.continuation], np.uint16)
    lengths = np.array([len(text.context) + len(text.continuation) for text in texts])
    lines = _line_starts(tokens, lengths, tokenizer)
    log_probs = ngram.log_probs(split.tokens, np.asarray(split.lines), len(tokenizer), tokens, lines)
    return deciding(items, _sums(log_probs, texts, lengths), [len(text.continuation) for text in texts])


def _line_starts(tokens: NDArray[np.uint16], lengths: NDArray[np.int64], tokenizer: Any) -> NDArray[np.int64]:
    """Where lines start: with each text, and after each token that holds a newline (a dialogue's turns)."""
    newlines = [token for token in np.unique(tokens) if "\n" in tokenizer.decode([int(token)])]
    after_newlines = np.flatnonzero(np.isin(tokens, newlines)) + 1
    starts = np.concatenate([np.cumsum(lengths) - lengths, after_newlines[after_newlines < len(tokens)]])
    return np.unique(starts)


def _sums(
    log_probs: NDArray[np.float64], texts: Sequence[Text], lengths: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Sum of each text's continuation: (texts,)."""
    contexts = np.array([len(text.context) for text in texts])
    owner = np.repeat(np.arange(len(texts)), lengths)
    place = np.arange(len(log_probs)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    scored = np.where(place >= contexts[owner], log_probs, 0.0)
    return np.bincount(owner, scored, len(texts)).astype(np.float64)
