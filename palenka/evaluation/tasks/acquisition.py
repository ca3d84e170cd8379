"""Ages of acquisition, asked of one model: the surprisal of words in contexts of theirs.

The folder `aoa` of BabyLM 2025 and 2026 holds `cdi_childes.json`, {word: [{"context": text}, …]}, what was said to
children before a word; and `cdi_human.csv`, which share of children of 16 to 30 months produce it, from Wordbank (Frank
et al., Journal of Child Language 44, 2017). Words of one letter are left out, as by the pipeline.

A word's surprisal is −log P of its tokens behind "context ", summed, in nats. `evaluation/acquisition.py` follows
it over a run's milestones.
"""

import csv
import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palenka.evaluation.items import Choice, Item, Records, Task
from palenka.evaluation.results import is_finite
from palenka.evaluation.tasks import AskedModel, EvaluationTask
from palenka.evaluation.tasks.reading import MISSING
from palenka.util.errors import UserError
from palenka.util.files import read_object, require_file

CONTEXTS, CHILDREN = "cdi_childes.json", "cdi_human.csv"
MONTHS = range(16, 31)
PUBLISHED = 504, 8_005
"""Words and contexts of the challenge's file; nothing else is accepted there."""


@dataclass(frozen=True)
class Acquisition(EvaluationTask):
    """Words in contexts: an item for each context, whose one choice is the word and whose subtask is its name.

    contexts: as the file has them, in order.
    children: shares of children who produce a word, at each age of `months`; NaN where that is not known.
    """

    only_own_scorer = True

    words: Task
    contexts: list[str]
    months: list[int]
    children: dict[str, list[float]]

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.words.name

    @cached_property
    def digest(self) -> str:
        """sha256 of all words and contexts; what children know decides nothing here."""
        rows = [[item.subtask, context] for item, context in zip(self.words.items, self.contexts, strict=True)]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    @cached_property
    def vocabulary(self) -> list[str]:
        """The words, in order."""
        return list(dict.fromkeys(item.subtask for item in self.words.items))

    @property
    def difference(self) -> str | None:
        """How far it is not the challenge's file; None where it has as much."""
        if (found := (len(self.vocabulary), len(self.contexts))) == PUBLISHED:
            return None
        (words, contexts), (all_words, all_contexts) = found, PUBLISHED
        return f"{contexts:,} contexts of {words:,} words, where the challenge has {all_contexts:,} of {all_words:,}"

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return (folder / CONTEXTS).exists()

    @classmethod
    def read(cls, folder: Path, protocol: str = "2024") -> "Acquisition":
        path = folder / CONTEXTS
        content = read_object(path)
        items, contexts = [], []
        for word, uses in content.items():
            if not isinstance(uses, list):
                raise UserError(f"{path}: {word!r}: expected a list of contexts, found {type(uses).__name__}")
            for number, use in enumerate(uses if len(word) > 1 else ()):
                context = use.get("context") if isinstance(use, dict) else None
                if not isinstance(context, str):
                    raise UserError(f'{path}: {word!r}, number {number}: no text at "context"')
                items.append(Item(word, number, (Choice(f"{context.strip()} ", word.strip()),)))
                contexts.append(context)
        if not items:
            raise UserError(f"{path}: no word in it has a context")
        months, children = _read_children(folder / CHILDREN)
        return cls(Task(folder.name, items, {}), contexts, months, children)

    def measure(self, model: AskedModel, label: str) -> tuple[Iterable[dict[str, Any]], dict[str, Any]]:
        scores, tokens = model.score_choices(self.words, label)
        records = [
            {"word": item.subtask, "context": item.line, "surprisal": -score, "tokens": count}
            for item, score, count in zip(self.words.items, scores.tolist(), tokens.tolist(), strict=True)
        ]
        return records, self.derive(records)

    def derive(self, records: Records) -> dict[str, Any]:
        means = self.means(records)
        error = float(means.std(ddof=1) / math.sqrt(len(means))) if len(means) > 1 else math.nan
        return {"n": len(records), "scores": {}, "surprisal": {"value": float(means.mean()), "stderr": error}}

    def means(self, records: Records) -> NDArray[np.float64]:
        """Mean surprisal of each word over its contexts, in nats: (words,).

        Raises:
            UserError: the records are not of these words and contexts.
        """
        if len(records) != len(self.contexts):
            raise UserError(f"{len(records):,} records of {len(self.contexts):,} contexts")
        for item, record in zip(self.words.items, records, strict=True):
            known = record.get("word") == item.subtask and record.get("context") == item.line
            if not known or not is_finite(record.get("surprisal")):
                raise UserError(f"{item.subtask!r}, context {item.line}: has no surprisal in its place")
        numbers = {word: number for number, word in enumerate(self.vocabulary)}
        owners = [numbers[item.subtask] for item in self.words.items]
        return np.bincount(owners, [record["surprisal"] for record in records]) / np.bincount(owners)


def _read_children(path: Path) -> tuple[list[int], dict[str, list[float]]]:
    """Months, and of each word the share of children at each of them. Of rows for one word the first counts."""
    if not path.exists():
        raise UserError(f"{path}: missing: the shares of children who know the words, which are published beside them")
    require_file(path)
    children: dict[str, list[float]] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        try:
            columns = [str(month) for month in MONTHS if str(month) in (reader.fieldnames or ())]
            if "word" not in (reader.fieldnames or ()) or not columns:
                raise UserError(f"{path}: no column 'word', or none for an age from 16 to 30 (months)")
            for row in reader:
                children.setdefault(row["word"], _numbers(row, columns, f"{path}, line {reader.line_num}"))
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{path}, line {reader.line_num + 1}: not CSV in UTF-8 ({error})") from None
    return list(map(int, columns)), children


def _numbers(row: dict[str, str], columns: Sequence[str], where: str) -> list[float]:
    try:
        return [math.nan if row[name] in MISSING else float(row[name]) for name in columns]
    except (TypeError, ValueError):
        raise UserError(f"{where}: a share of children is no number: {[row[name] for name in columns]}") from None
