"""Items in the shapes and numbers of the challenge's, for tasks of a year that are not at hand.

EWoK is for those who accept its terms, and other tasks have to be fetched; how long an evaluation takes depends on how
many texts there are, how long they are and what they begin with in common, not on whether they make sense. So made
items repeat themselves as the published ones do: COMPS asks for each property of a concept beside four other concepts,
and of the same with made-up words; boxes of one story are asked for one after the other, as more of it is told; EWoK
compares two contexts that differ in a word, with two targets, twice.
"""

import csv
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from palenka.data.published import FILES
from palenka.evaluation.protocols import PROTOCOLS
from palenka.evaluation.tasks import reading
from palenka.util.errors import UserError

Records = Iterator[dict[str, Any]]
NONSENSE = ("wug", "dax", "fep", "blicket", "toma", "zarp")
CONCEPTS = 521
COMPS = {
    "comps_base": "A {one}",
    "comps_wugs": "A {known} is a {one}. Therefore, a {known}",
    "comps_wugs_dist-before": "A {unknown} is a {other}. A {known} is a {one}. Therefore, a {known}",
    "comps_wugs_dist-in-between": "A {known} is a {one}. A {unknown} is a {other}. Therefore, a {known}",
}
BOXES, STORIES, OBJECTS = 7, 2200, 100
TOLD = {0: 0, 1: 5, 2: 12, 3: 12, 4: 12}
"""How many operations are told before a box is asked for, by how many of them are with that box."""
SENTENCES, OTHERS = 205, ("ELAN", "LAN", "N400", "P600", "EPNP", "PNP")
"""Of the reading times; and columns that only the pipelines look at."""
FEWEST_LINES, FEWEST_ROWS = 20, 0.1  # correlations and regressions need some


def write_year(year: str, data: Path, folder: Path, share: float = 1.0) -> list[str]:
    """Write a year's tasks into a folder, and say which of them were made.

    Args:
        year: of the protocol, "2025" or "2026".
        data: where those tasks lie that are at hand, BLiMP at least: its words make the others.
        folder: for the items.
        share: of each file, taken evenly: of a hundred lines in a row the first `100 · share`, twenty at least.

    Raises:
        UserError: there is no BLiMP.
    """
    rules, make = PROTOCOLS[year], Maker(_words(data / "blimp_filtered"))
    made = []
    for task in rules.tasks:
        name = rules.folder(task)
        if not (data / name).is_dir():
            made.append(task)
        if task == reading.READING:
            _write_rows(data / name / reading.FILE, folder / name / reading.FILE, make, share)
            continue
        for file, lines in _lines(data / name, make):
            target = folder / name / f"{file}.jsonl"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("".join(f"{line}\n" for line in _taken(lines, share)), encoding="utf-8")
    return made


def _lines(task: Path, make: "Maker") -> Iterator[tuple[str, list[str]]]:
    """Name and lines of each of a task's files; made where it has no folder."""
    if task.is_dir():
        for path in sorted(task.glob("*.jsonl")):
            yield path.stem, path.read_text(encoding="utf-8").splitlines()
        return
    for file, count in FILES[task.name].items():
        yield file, [json.dumps(record) for record in islice(make.of(task.name, file), count)]


def _taken(lines: list[Any], share: float) -> list[Any]:
    """Stretches of lines, not single ones: neighbours have most in common."""
    taken = [line for number, line in enumerate(lines) if number % 100 < round(100 * share)]
    return taken if len(taken) >= FEWEST_LINES else lines[:FEWEST_LINES]


def _words(blimp: Path) -> list[str]:
    """Words of BLiMP without a capital, the most frequent first."""
    texts = [line for path in sorted(blimp.glob("*.jsonl")) for line in path.read_text(encoding="utf-8").splitlines()]
    if not texts:
        raise UserError(f"{blimp}: no items there; --data names a folder with blimp_filtered in it")
    counts = Counter(word for line in texts for word in json.loads(line)["sentence_good"].rstrip(".?").split())
    return [word for word, _ in counts.most_common() if word.isalpha() and word.islower()]


class Maker:
    """Made items of all shapes, of these words."""

    def __init__(self, words: list[str]) -> None:
        self.random = random.Random(0)
        self.common, self.nouns = words[:200], words[200:]

    def of(self, folder: str, file: str) -> Records:
        """Items of a file without an end."""
        makers: dict[str, Callable[[], Records]] = {
            "ewok_filtered": lambda: self.ewok(file), "entity_tracking": self.boxes, "comps": lambda: self.comps(file),
            "wug_adj_nominalization": self.wugs, "wug_past_tense": self.wugs,
            "global_piqa_parallel": lambda: self.solutions(4), "global_piqa_nonparallel": lambda: self.solutions(2),
        }  # fmt: skip
        return makers[folder]()

    def phrase(self, words: int) -> str:
        return " ".join(self.random.choice(self.common if place % 2 else self.nouns) for place in range(words))

    def ewok(self, domain: str) -> Records:
        labels = {"Domain": domain, "ContextType": "direct", "ContextDiff": "word", "TargetDiff": "word"}
        while True:
            contexts, targets = self.twins(3, 5), self.twins(2, 3)
            for one, other in ((0, 1), (1, 0)):
                yield {
                    **labels, "Context1": contexts[one], "Context2": contexts[other],
                    "Target1": targets[one], "Target2": targets[other],
                }  # fmt: skip

    def twins(self, before: int, behind: int) -> list[str]:
        """Two sentences that differ in a word, with so many before and behind it."""
        start, end = self.phrase(before), self.phrase(behind)
        return [f"The {start} {word} {end}." for word in self.random.sample(self.nouns, 2)]

    def boxes(self) -> Records:
        stories = [self.story() for _ in range(STORIES)]
        while True:
            story, operations = self.random.choice(stories), self.random.choice(list(TOLD))
            told = " ".join(story[: 1 + TOLD[operations]])
            options: list[str] = []  # no two alike: the pipeline's figure and its items would say different things
            while len(options) < 5:
                content = "nothing" if self.random.random() < 0.06 else self.things(self.random.randint(1, 3))
                options += [f"{content}."] if f"{content}." not in options else []
            yield {"input_prefix": f"{told} Box {self.random.randrange(BOXES)} contains ", "numops": operations,
                   "options": options}  # fmt: skip

    def story(self) -> list[str]:
        """What the boxes contain, and the operations that follow."""
        contents = [self.things(self.random.choice((0, 1, 1, 2, 2, 3))) or "nothing" for _ in range(BOXES)]
        operations = []
        for _ in range(max(TOLD.values())):
            one, other = self.random.sample(range(BOXES), 2)
            things = self.things(self.random.choice((1, 1, 1, 2)))
            operations.append(self.random.choice((
                f"Move {things} from Box {one} to Box {other}.", f"Remove {things} from Box {one}.",
                f"Put {things} into Box {one}.",
            )))  # fmt: skip
        return [", ".join(f"Box {box} contains {what}" for box, what in enumerate(contents)) + ".", *operations]

    def things(self, count: int) -> str:
        return " and ".join(f"the {thing}" for thing in self.random.sample(self.nouns[:OBJECTS], count))

    def comps(self, file: str) -> Records:
        concepts = self.nouns[:CONCEPTS]
        while True:
            right, phrase = self.random.choice(concepts), f"{self.phrase(self.random.choice((2, 3, 4, 5)))}."
            for wrong in self.random.choices(concepts, k=4):
                known, unknown = self.random.sample(NONSENSE, 2)
                acceptable, unacceptable = (
                    COMPS[file].format(known=known, unknown=unknown, one=one, other=other)
                    for one, other in ((right, wrong), (wrong, right))
                )
                yield {"prefix_acceptable": acceptable, "prefix_unacceptable": unacceptable, "property_phrase": phrase}

    def wugs(self) -> Records:
        while True:
            start, stem = self.phrase(6), self.random.choice(NONSENSE)
            yield {"sentences": f"The {start} {stem}ness.\tThe {start} {stem}ity.", "ratio": self.random.random()}

    def solutions(self, count: int) -> Records:
        number = 0
        while True:
            solutions = {f"solution{choice}": f"{self.phrase(10)}." for choice in range(count)}
            yield {"prompt": f"To {self.phrase(9)},", "label": 0, "example_id": f"eng_latn_{number}", **solutions}
            number += 1

    def rows(self) -> Iterator[dict[str, Any]]:
        """A row for each word of a sentence behind its first."""
        for _ in range(SENTENCES):
            words = ["The", *self.phrase(self.random.choice((8, 9))).split()]
            for place in range(1, len(words)):
                has_previous = place > 1
                numbers = (*reading.NUMBERS, *OTHERS)
                yield {
                    "item": " ".join(words[:place]), "word": words[place],
                    "prev_item": " ".join(words[: place - 1]) if has_previous else "",
                    "prev_word": words[place - 1] if has_previous else "",
                    **{name: round(self.random.gauss(0, 1), 3) for name in numbers},
                }  # fmt: skip


def _write_rows(source: Path, target: Path, make: Maker, share: float) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.exists():
        with source.open(encoding="utf-8-sig", newline="") as file:
            rows: Iterable[dict[str, Any]] = list(csv.DictReader(file))
    else:
        rows = make.rows()
    taken = _taken(list(rows), max(share, FEWEST_ROWS))
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(taken[0]))
        writer.writeheader()
        writer.writerows(taken)
