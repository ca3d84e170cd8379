"""Evaluation data for tests: the smallest tasks that are still whole."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tiny

from palenka.evaluation.tasks import reading

Pairs = Sequence[tuple[str, str]]
PAIRS: Mapping[str, Pairs] = {
    "agreement": [
        ("The cat sees a dog.", "The cat see a dog."), ("A boat.", "A boat."), ("Every child.", "Every childs."),
    ],
    "order": [("One farmer likes the river.", "Farmer one likes the river.")],
}  # fmt: skip
EWOK = [
    {"Context1": "The cat sees a dog.", "Target1": one, "Target2": other}
    for one, other in (("It is a cat.", "It is a boat."), ("It is a boat.", "It is a cat."))
]


def write_lines(path: Path, records: Iterable[Any]) -> Path:
    """A file of JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def write_pairs(folder: Path, pairs: Mapping[str, Pairs] = PAIRS, **labels: str) -> Path:
    """A task of minimal pairs, a file for each name, which is each item's phenomenon, too."""
    for name, of_file in pairs.items():
        items = [{"sentence_good": good, "sentence_bad": bad, "linguistics_term": name} for good, bad in of_file]
        write_lines(folder / f"{name}.jsonl", [item | labels for item in items])
    return folder


def write_reading(folder: Path, rows: int, others: Sequence[str] = ()) -> None:
    """The task `reading`, with twice so many words; `others` are columns that only the pipelines look at."""
    random = np.random.default_rng(0)
    folder.mkdir()
    with (folder / "reading_data.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item", "word", "prev_item", "prev_word", *reading.NUMBERS, *others])
        for _ in range(rows):
            words = [str(noun) for noun in random.choice(tiny.NOUNS, 3)]
            for place in (1, 2):
                before = " ".join(words[:place])
                previous = [words[0], words[1]] if place == 2 else ["", ""]
                numbers = random.normal(size=len(reading.NUMBERS) + len(others)).round(3)
                writer.writerow([before, words[place], *previous, *numbers])
