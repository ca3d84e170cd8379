"""Evaluation data for tests: the smallest tasks that are still whole."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tiny

from palenka.evaluation.learning_curves import sigmoid
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
SOCIAL = [
    {"Context1": "The cat sees a dog.", "Context2": "It sees a boat.", "Target1": one, "Target2": other}
    for one, other in (("It is a cat.", "It is a boat."), ("It is a boat.", "It is a cat."))
]
BOXES = [
    {"input_prefix": "Box 1 contains", "numops": 0, "options": [" a cat.", option, " it."]}
    for option in (" a boat.", " nothing.")
]
WUGS = [{"sentences": f"The {one}ness.\tThe {one}ity.", "ratio": ratio} for one, ratio in (("wug", 0.2), ("dax", 0.7))]
COMPS = {"prefix_acceptable": "A dog", "prefix_unacceptable": "A boat", "property_phrase": "likes a child."}
PIQA = {"prompt": "The cat sees", "solution0": "a dog.", "solution1": "every boat.", "label": 1, "example_id": "en_7"}


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


def write_official(root: Path) -> Path:
    """The tasks of all years but GLUE and ages of acquisition, and their fast sets."""
    for task in ("blimp_filtered", "blimp_fast", "supplement_filtered", "supplement_fast"):
        write_pairs(root / task)
    for task in ("ewok_filtered", "ewok_fast"):
        write_lines(root / task / "social.jsonl", SOCIAL)
    for task in ("entity_tracking", "entity_tracking_fast"):
        write_lines(root / task / "regular.jsonl", BOXES)
    write_lines(root / "comps" / "comps_base.jsonl", [COMPS])
    for task in ("global_piqa_parallel", "global_piqa_nonparallel"):
        write_lines(root / task / "eng_latn.jsonl", [PIQA])
    for task in ("wug_adj_nominalization", "wug_past_tense"):
        write_lines(root / task / f"{task}.jsonl", WUGS)
    write_reading(root / "reading", rows=40)
    return root


def write_words(root: Path, contexts: Mapping[str, Any], month: float = 22.0) -> Path:
    """`aoa`: words in contexts, of which half of the children know each a month later than the one before."""
    folder = root / "aoa"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cdi_childes.json").write_text(json.dumps(contexts), encoding="utf-8")
    months = np.arange(16.0, 31.0)
    with (folder / "cdi_human.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "word", "category", *map(int, months)])
        for number, word in enumerate(contexts):
            shares = sigmoid(months, 1.0, 0.7, month + number, 0.0).round(4)
            writer.writerow([number, word, "animals", *shares])
    return root
